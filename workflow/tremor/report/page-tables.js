/* Tables that sort, choices among cases, pictures. First of three parts of one program (build.py joins them). */

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const ROWS = 12; // of a table before its button is pressed
const PLACES = ["pair", "platform", "platform_a", "platform_b"];
const state = { terms: [], model: "", prompt: "", platform: "", digits: false };

/* An element; text always goes in as text, never as HTML. */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/* ---- numbers ---------------------------------------------------------------------------------------------------- */

const TYPES = { f8: Float64Array, f4: Float32Array, u2: Uint16Array, u1: Uint8Array };
const LITTLE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

function unpacked(stored) {
  if (stored.values) {
    const distinct = unpacked(stored.values);
    return Float64Array.from(unpacked(stored.index), (place) => distinct[place]);
  }
  const text = atob(stored.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const size = TYPES[stored.type].BYTES_PER_ELEMENT;
  if (!LITTLE) for (let i = 0; i < bytes.length; i += size) bytes.subarray(i, i + size).reverse();
  return new TYPES[stored.type](bytes.buffer);
}

/* Shortest digits that read back to the same bits, of a float32 or a float64. */
function digits(value, single) {
  if (!single || !Number.isFinite(value)) return Number.isNaN(value) ? "nan" : String(value).replace("Infinity", "inf");
  for (let n = 1; n < 10; n++) {
    const text = value.toPrecision(n);
    if (Math.fround(Number(text)) === value) return String(Number(text));
  }
  return String(value);
}

function rows(flat, shape) {
  return Array.from({ length: shape[0] }, (_, i) => flat.subarray(i * shape[1], (i + 1) * shape[1]));
}

/* ---- what is shown ---------------------------------------------------------------------------------------------- */

/* Whether results under these names belong to the chosen model, prompt and platform; a name they lack excludes nothing. */
function chosen(names) {
  for (const key of ["model", "prompt"]) {
    if (state[key] && names[key] != null && names[key] !== state[key]) return false;
  }
  if (!state.platform) return true;
  const places = PLACES.map((key) => names[key]).filter((name) => name != null);
  places.push(...(data.pairs[names.pair] || []));
  return !places.length || places.includes(state.platform);
}

class Table {
  constructor(table) {
    this.title = table.title;
    this.columns = table.columns;
    this.length = table.columns.length ? table.columns[0].full.length : 0;
    this.order = Array.from({ length: this.length }, (_, i) => i);
    this.sorted = null;
    this.all = false;
    const named = this.columns.filter((c) => ["model", "prompt", ...PLACES].includes(c.name));
    this.names = this.order.map((row) => Object.fromEntries(named.map((c) => [c.name, c.full[row]])));
    const texts = this.columns.filter((c) => c.kind === "text");
    this.words = this.order.map((row) => texts.map((c) => c.full[row] ?? "").join("\n").toLowerCase());
    this.build();
  }

  build() {
    this.heads = this.columns.map((column, place) => {
      const parts = column.name.split(/(?<=_)(?=[^_]{3})/).flatMap((part) => [el("wbr"), part]); // long names may break there
      const button = el("button", { type: "button" }, ...parts);
      button.addEventListener("click", () => this.sort(place));
      return el("th", { scope: "col", class: column.kind === "number" ? "number" : null }, button);
    });
    this.body = el("tbody");
    const table = el("table", {}, el("thead", {}, el("tr", {}, ...this.heads)), this.body);
    this.scroll = el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `Table ${this.title}` }, table);
    this.more = el("button", { type: "button" });
    this.more.addEventListener("click", () => { this.all = !this.all; this.show(); });
    this.said = el("span");
    this.element = el("div", {}, this.scroll, el("div", { class: "under" }, this.said, this.more));
  }

  /* Up, down, and as in the file; what has no value (NaN, missing) stays below. */
  sort(place) {
    const now = this.sorted && this.sorted.place === place ? this.sorted.up : null;
    this.sorted = now === null ? { place, up: true } : now ? { place, up: false } : null;
    this.order.sort((a, b) => a - b);
    if (this.sorted) {
      const rank = this.columns[place].rank, sign = this.sorted.up ? 1 : -1;
      this.order.sort((a, b) => (rank[a] < 0) - (rank[b] < 0) || sign * (rank[a] - rank[b]));
    }
    this.heads.forEach((head, i) => {
      if (this.sorted && i === place) head.setAttribute("aria-sort", this.sorted.up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    this.show();
  }

  /* Choose rows; the words of the search may stand in the row or in the head of the experiment. */
  filter(head) {
    const missing = state.terms.filter((term) => !head.includes(term));
    this.kept = this.names.map((names, row) => chosen(names) && missing.every((term) => this.words[row].includes(term)));
    this.count = this.kept.filter(Boolean).length;
    return this.count;
  }

  show() {
    const kept = this.order.filter((row) => this.kept[row]);
    const shown = this.all ? kept : kept.slice(0, ROWS);
    this.body.replaceChildren(...shown.map((row) => el("tr", {}, ...this.columns.map((c, i) => this.cell(c, row, i)))));
    const few = kept.length < this.length ? ` (of ${this.length})` : "";
    this.said.textContent = `${shown.length < kept.length ? `${shown.length} of ` : ""}${kept.length} row${kept.length === 1 ? "" : "s"}${few}, ${this.columns.length} columns`;
    this.more.hidden = kept.length <= ROWS;
    this.more.textContent = this.all ? `Show ${ROWS} rows` : `Show all ${kept.length} rows`;
    this.scroll.hidden = !kept.length;
  }

  cell(column, row, place) {
    const full = column.full[row];
    const short = column.shown ? column.shown[row] : full;
    const number = column.kind === "number";
    const long = !number && full != null && full.length > 48;
    const kinds = [number && "number", full == null && "missing", long && "long"].filter(Boolean).join(" ");
    const title = full == null ? "no value" : short !== full || long ? full : null;
    const made = el(place ? "td" : "th", { class: kinds || null, title, scope: place ? null : "row" });
    made.textContent = full == null ? "–" : state.digits ? full : short;
    return made;
  }
}

/* A choice among the cases (model, prompt, ...) that the filter leaves. */
class Chooser {
  constructor(cases, label, changed) {
    this.cases = cases;
    this.select = el("select", { "aria-label": label });
    this.select.addEventListener("change", () => { this.at = Number(this.select.value); changed(); });
    this.at = 0;
  }

  static name(labels) { return Object.values(labels).join(" · ") || "all models"; }

  filter() {
    const left = this.cases.map((_, i) => i).filter((i) => chosen(this.cases[i].labels));
    if (!left.includes(this.at)) this.at = left.length ? left[0] : -1;
    this.select.replaceChildren(...left.map((i) => el("option", { value: i, selected: i === this.at }, Chooser.name(this.cases[i].labels))));
    this.select.hidden = left.length < 2;
    return left.length;
  }
}

class Pictures {
  constructor(experiment) {
    this.experiment = experiment;
    this.chooser = new Chooser(experiment.cases, `Which ${experiment.figure} of ${experiment.name}`, () => this.show());
    this.caption = el("b");
    this.image = el("img", { loading: "lazy", decoding: "async" });
    this.link = el("a", { class: "paper" }, this.image);
    this.element = el("figure", {}, el("figcaption", {}, this.caption, this.chooser.select), this.link);
  }

  show() {
    this.element.hidden = this.chooser.at < 0;
    if (this.chooser.at < 0) return;
    const own = this.experiment.cases[this.chooser.at], name = Chooser.name(own.labels);
    this.caption.textContent = this.chooser.select.hidden ? `${this.experiment.figure}: ${name}` : this.experiment.figure;
    this.image.width = own.size[0];
    this.image.height = own.size[1];
    this.image.style.maxWidth = `${own.size[0]}px`;
    this.image.alt = `Figure ${this.experiment.figure} of ${this.experiment.name}: ${name}`;
    this.image.src = `data:image/png;base64,${own.png}`;
    this.link.href = own.file.split("/").map(encodeURIComponent).join("/");
    this.link.title = `Open ${own.file}`;
  }
}
