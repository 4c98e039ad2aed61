/* The page: experiments, search, light and dark. Last of three parts of one program. */

class Experiment {
  constructor(own) {
    this.section = find(own.id);
    this.entry = document.querySelector(`nav a[href="#${CSS.escape(own.id)}"]`);
    this.tables = own.tables.map((table) => new Table(table));
    this.figures = [];
    if (own.views.length) this.figures.push(new View(own));
    if (own.cases.length) this.figures.push(new Pictures(own));
    this.head = [own.name, own.question, ...own.tables.flatMap((t) => t.columns.map((c) => c.name))].join("\n").toLowerCase();
    this.section.querySelector(".tables").append(...this.tables.map((table) => table.element));
    this.section.querySelector(".pictures").append(...this.figures.map((figure) => figure.element));
  }

  /* Whether anything of it is left, and how many rows. */
  filter() {
    const rowsLeft = this.tables.reduce((n, table) => n + table.filter(this.head), 0);
    const casesLeft = this.figures.reduce((n, figure) => n + figure.chooser.filter(), 0);
    const found = state.terms.every((term) => this.head.includes(term));
    const left = rowsLeft > 0 || (found && casesLeft > 0);
    this.section.hidden = !left;
    this.entry.parentElement.hidden = !left;
    if (left) for (const part of [...this.tables, ...this.figures]) part.show();
    return [left, left ? rowsLeft : 0];
  }
}

const experiments = data.experiments.map((own) => new Experiment(own));
const total = experiments.reduce((n, each) => n + each.tables.reduce((m, table) => m + table.length, 0), 0);

function apply() {
  const found = experiments.map((each) => each.filter());
  const count = found.filter(([left]) => left).length, left = found.reduce((n, [, own]) => n + own, 0);
  const all = count === experiments.length && left === total;
  find("count").textContent = all ? `${count} experiments, ${total} rows` : `${count} of ${experiments.length} experiments, ${left} of ${total} rows`;
  find("nothing").hidden = count > 0;
  for (const chapter of document.querySelectorAll(".chapter")) chapter.hidden = !chapter.querySelector(".experiment:not([hidden])");
  for (const list of document.querySelectorAll("nav ul")) list.hidden = list.previousElementSibling.hidden = !list.querySelector("li:not([hidden])");
}

function options(select, names) {
  const ordered = [...new Set(names.filter((name) => name != null))].sort();
  select.append(...ordered.map((name) => el("option", { value: name }, name)));
  select.disabled = !ordered.length;
}

const named = (keys) => [
  ...experiments.flatMap((each) => each.tables.flatMap((table) => table.names.flatMap((names) => keys.map((key) => names[key])))),
  ...data.experiments.flatMap((own) => [...own.cases, ...own.views].flatMap((each) => keys.map((key) => each.labels[key]))),
];
options(find("model"), named(["model"]));
options(find("prompt"), named(["prompt"]));
options(find("platform"), named(PLACES));

const form = find("filter");
form.addEventListener("input", () => {
  state.terms = find("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const key of ["model", "prompt", "platform"]) state[key] = find(key).value;
  apply();
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => { Object.assign(state, { terms: [], model: "", prompt: "", platform: "" }); apply(); });

find("digits").addEventListener("click", () => {
  state.digits = !state.digits;
  find("digits").setAttribute("aria-pressed", state.digits);
  for (const each of experiments) if (!each.section.hidden) for (const table of each.tables) table.show();
});

/* Light or dark: as the system says until the button is pressed; what was pressed is remembered where that is allowed. */
const system = matchMedia("(prefers-color-scheme: dark)");
let asked = null;
try { asked = localStorage.getItem("tremor-theme"); } catch { /* files may have no storage */ }
const dark = () => (asked ? asked === "dark" : system.matches);

function theme() {
  if (asked) document.documentElement.dataset.theme = asked;
  find("theme").setAttribute("aria-pressed", dark());
  views((view) => { if (view.selects) view.redraw(); });
}
find("theme").addEventListener("click", () => {
  asked = dark() ? "light" : "dark";
  try { localStorage.setItem("tremor-theme", asked); } catch { /* it holds for this visit */ }
  theme();
});
system.addEventListener("change", theme);

const narrow = matchMedia("(max-width: 62rem)");
const fold = () => { find("contents").open = !narrow.matches; };
narrow.addEventListener("change", fold);
fold();

/* Which experiment is being read, in the list beside it. */
const seen = new IntersectionObserver((found) => {
  for (const each of found) {
    const own = experiments.find((other) => other.section === each.target);
    own.entry.classList.toggle("here", each.isIntersecting);
    if (each.isIntersecting) own.entry.setAttribute("aria-current", "true");
    else own.entry.removeAttribute("aria-current");
  }
}, { rootMargin: "-20% 0px -70% 0px" });
for (const each of experiments) seen.observe(each.section);

/* plotly lies packed in the page, a third of its size; the page's policy lets it run by the digest of its text. */
async function unpack() {
  const bytes = Uint8Array.from(atob(find("plotly").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.head.append(el("script", {}, await new Response(stream).text()));
}

function views(act) {
  for (const each of experiments) for (const figure of each.figures) if (figure instanceof View) act(figure);
}

apply();
theme();
unpack()
  .then(() => views((view) => { if (view.near && view.stale) view.draw(); }))
  .catch((error) => views((view) => {
    view.said.textContent = `This browser cannot draw interactive figures (${error.message}); a newer one can.`;
    view.said.hidden = false;
  }))
  .finally(() => { document.documentElement.dataset.ready = ""; });
