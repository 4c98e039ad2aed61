/* Figures to move about in: maps, the boundary, the regimes. Second of three parts of one program. */

const BLUE = "#0072B2", ORANGE = "#E69F00", GREEN = "#009E73", VERMILLION = "#D55E00", PURPLE = "#CC79A7", SKY = "#56B4E9";
const FORMATS = { float32: BLUE, bfloat16: VERMILLION, float16: ORANGE, float64: GREEN };
const DIVERGING = [[0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#f7f7f7"], [0.75, "#f4a582"], [1, "#b2182b"]];
const css = (name) => {
  const probe = el("span", { style: `color: var(--${name})`, hidden: true });
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
};

function look(plot) {
  const narrow = plot.clientWidth < 520;
  const ink = css("ink"), line = css("line"), card = css("card"), soft = css("soft");
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: soft, tickcolor: soft, exponentformat: "power", automargin: true, ...(narrow ? { nticks: 4, tickangle: 0 } : {}) };
  const bar = { thickness: 12, outlinewidth: 0, ...(narrow ? { orientation: "h", y: 1.02, yanchor: "bottom", nticks: 4 } : {}) };
  return {
    axis, bar,
    layout: {
      paper_bgcolor: card, plot_bgcolor: card, font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
      margin: narrow ? { l: 50, r: 15, t: 20, b: 50 } : { l: 70, r: 20, t: 30, b: 60 }, hoverlabel: { font: { family: getComputedStyle(document.body).fontFamily } },
      legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0.5, xanchor: "center", font: { size: 11 } }, dragmode: "zoom", autosize: true,
    },
  };
}

const power = (value) => { const [m, e] = value.toExponential(2).split("e"); return `${Number(m)}e${Number(e)}`; };
/* Text of plotly may hold some tags; names of tokens must not become any. */
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("%{", "% {");

const VIEWS = {
  maps: {
    title: "Map",
    controls: (own) => [
      ["map", own.panels.map((p) => `v${p.ranks[0]}, v${p.ranks[1]}, radius ${power(p.radius)}`)],
      ["shows", ["L₁ − L₂", "which token is ahead"]],
    ],
    draw(own, { map, shows }, { axis, bar }) {
      const panel = own.panels[map], x = unpacked(panel.x), y = unpacked(panel.y);
      const shape = [y.length, x.length];
      const gap = rows(unpacked(panel.gap), shape), kinds = rows(unpacked(panel.class), shape);
      const names = [`${own.first} ahead`, `${own.second} ahead`, "equal, bit for bit", "another token is chosen"];
      let key = [];
      const texts = gap.map((line, i) => Array.from(line, (value, j) => `L₁ − L₂ = ${digits(value, false)}<br>${plain(names[kinds[i][j]])}`));
      const trace = {
        type: "heatmap", x, y, text: texts, xgap: 0, ygap: 0, zsmooth: false,
        hovertemplate: `along v${panel.ranks[0]}: %{x:.5g}<br>along v${panel.ranks[1]}: %{y:.5g}<br>%{text}<extra></extra>`,
      };
      if (shows === 0) {
        const finite = gap.flatMap((line) => Array.from(line, Math.abs)).filter(Number.isFinite);
        const most = finite.reduce((a, b) => Math.max(a, b), 0) || 1;
        Object.assign(trace, { z: gap, zmin: -most, zmax: most, colorscale: DIVERGING, colorbar: { ...bar, title: { text: "logits", side: "top" }, exponentformat: "power" } });
      } else {
        const colours = [SKY, VERMILLION, "#1d2226", PURPLE];
        const scale = colours.flatMap((colour, i) => [[i / 4, colour], [(i + 1) / 4, colour]]);
        Object.assign(trace, { z: kinds, zmin: -0.5, zmax: 3.5, colorscale: scale, showscale: false });
        key = colours.map((colour, i) => [colour, names[i]]);
      }
      const note = panel.every > 1 ? `Every ${panel.every}th cell of ${panel.cells[0]} × ${panel.cells[1]} is shown, its value as measured; the file has them all.` : "";
      return {
        note, key, traces: [trace], kind: "cartesian",
        layout: {
          xaxis: { ...axis, title: { text: `along v${panel.ranks[0]} (embedding units)` }, constrain: "domain" },
          yaxis: { ...axis, title: { text: `along v${panel.ranks[1]} (embedding units)` }, scaleanchor: "x", constrain: "domain" },
        },
      };
    },
  },

  boundary: {
    title: "Boundary",
    controls: () => [["radius", ["radius as it is", "log radius"]]],
    start: (own) => { const r = Array.from(unpacked(own.max_s)).filter((v) => v > 0); return [Math.max(...r) > 10 * Math.min(...r) ? 1 : 0]; },
    draw(own, { radius }, { axis, layout }) {
      const names = ["theta", "max_s", "first_breakpoint", "evaluations", "censored", "certified"];
      const [theta, most, first, calls, censored, certified] = names.map((name) => Array.from(unpacked(own[name])));
      const single = own.max_s.type === "f4", angle = theta.map((t) => (t * 180) / Math.PI);
      const seen = (r) => (radius === 1 && !(r > 0)) || Number.isNaN(r) ? null : r;
      const texts = theta.map((_, i) => `${digits(angle[i], false)}°<br>max_s = ${digits(most[i], single)}<br>first breakpoint ${digits(first[i], single)}<br>${calls[i]} evaluations${censored[i] ? "<br>censored: no change up to s_max" : ""}${certified[i] ? "" : "<br>not certified"}`);
      const close = (list) => [...list, list[0]];
      const base = { type: "scatterpolar", theta: close(angle), text: close(texts), hovertemplate: "%{text}<extra></extra>" };
      const traces = [
        { ...base, name: "max_s", r: close(most.map(seen)), mode: theta.length > 60 ? "lines" : "lines+markers", line: { color: BLUE, width: 1.3 }, fill: "toself", fillcolor: "rgba(86,180,233,0.25)", hoveron: "points" },
      ];
      if (first.some((r) => !Number.isNaN(r))) traces.push({ ...base, name: "first breakpoint: the input moves", r: close(first.map(seen)), mode: "lines", line: { color: layout.font.color, width: 0.8 } });
      const marks = [[censored, "censored: no change up to s_max", PURPLE, "circle-open"], [certified.map((c) => !c), "not certified", ORANGE, "diamond-open"]];
      for (const [mask, name, colour, symbol] of marks) {
        const at = theta.map((_, i) => i).filter((i) => mask[i]);
        if (at.length) traces.push({ ...base, name: `${name} (${at.length})`, mode: "markers", theta: at.map((i) => angle[i]), r: at.map((i) => seen(most[i])), text: at.map((i) => texts[i]), marker: { color: colour, symbol, size: 7 } });
      }
      const zeros = most.filter((r) => r === 0).length;
      const lost = radius === 1 && zeros ? ` ${zeros} of ${most.length} rays have a boundary of 0, which a log radius cannot show.` : "";
      const note = `Radius: largest stable step, embedding units; e1 = v${own.plane[0]}, e2 = v${own.plane[1]}.${lost}`;
      return {
        note, traces, kind: "polar",
        layout: {
          margin: { ...layout.margin, l: 45, r: 45 }, // room for +e1 and −e1 in a narrow window
          polar: {
            bgcolor: layout.plot_bgcolor,
            angularaxis: { ...axis, automargin: undefined, direction: "counterclockwise", rotation: 0, tickvals: [0, 45, 90, 135, 180, 225, 270, 315], ticktext: ["+e1", "45°", "+e2", "135°", "−e1", "225°", "−e2", "315°"] },
            radialaxis: { ...axis, automargin: undefined, type: radius === 1 ? "log" : "linear", angle: 0, tickangle: 0, dtick: radius === 1 ? 1 : undefined, nticks: 4, tickformat: radius === 1 ? undefined : ".2~e", rangemode: "tozero" },
          },
        },
      };
    },
  },

  regimes: {
    title: "Regimes",
    controls: (own) => [
      ["direction", [...new Set(own.curves.map((c) => c.direction))]],
      ["shows", ["gain over step", ...new Set(own.curves.map((c) => `coordinates changed, ${c.precision}`))]],
    ],
    draw(own, { direction, shows }, { axis, bar }) {
      const name = [...new Set(own.curves.map((c) => c.direction))][direction];
      const curves = own.curves.filter((c) => c.direction === name);
      const step = { ...axis, type: "log", title: { text: "realised step (embedding units)" }, dtick: undefined };
      if (shows > 0) return avalanche(curves[shows - 1], step, axis, bar);
      const traces = [];
      for (const curve of curves) {
        const x = Array.from(unpacked(curve.realised)), gain = Array.from(unpacked(curve.gain)), regime = unpacked(curve.regime);
        const colour = FORMATS[curve.precision];
        traces.push({
          type: "scatter", mode: "markers", name: curve.precision, x, y: gain.map((g) => (g > 0 ? g : null)), marker: { color: colour, size: 4, opacity: 0.7 },
          text: x.map((s, i) => `step ${digits(s, false)}<br>gain ${digits(gain[i], false)}<br>${own.regimes[regime[i]]}`), hovertemplate: `${curve.precision}<br>%{text}<extra></extra>`,
        });
        const ends = [Math.min(...x), Math.max(...x)];
        const line = { type: "scatter", mode: "lines", x: ends, hoverinfo: "skip" };
        if (curve.sigma) traces.push({ ...line, name: "‖J d‖ (dots)", showlegend: curve === curves[0], y: ends.map(() => curve.sigma), line: { color: colour, dash: "dot", width: 1 } });
        if (curve.noise_floor) traces.push({ ...line, name: "noise floor / step (dashes)", showlegend: curve === curves[0], y: ends.map((s) => curve.noise_floor / s), line: { color: colour, dash: "dash", width: 1 } });
      }
      const silent = curves.reduce((n, c) => n + Array.from(unpacked(c.gain)).filter((g) => g === 0).length, 0);
      const note = silent ? `${silent} steps moved the input and left every bit of the answer: their gain of 0 has no place on a log axis.` : "";
      const all = traces.filter((t) => t.mode === "markers").flatMap((t) => t.y).filter((v) => v > 0);
      const low = Math.log10(Math.min(...all)), high = Math.log10(Math.max(...all));
      return { note, traces, kind: "cartesian", layout: { xaxis: step, yaxis: { ...axis, type: "log", title: { text: "gain (hidden / embedding units)" }, range: [low - 0.5, high + 0.5] }, hovermode: "closest" } };
    },
  },
};

function avalanche(curve, step, axis, bar) {
  const x = unpacked(curve.steps), taps = curve.taps.map(plain), share = rows(unpacked(curve.share), [taps.length, x.length]);
  const texts = share.map((line, i) => Array.from(line, (value, j) => `${taps[i]}<br>step ${digits(x[j], false)}<br>share of coordinates changed ${digits(value, false)}`));
  const mark = (at, dash, colour) => (at ? [{ type: "line", x0: at, x1: at, y0: 0, y1: 1, yref: "paper", line: { dash, color: colour, width: 1.5 } }] : []);
  return {
    note: "Dashes: first change of the answer; line: noise = signal.", kind: "cartesian",
    traces: [{ type: "heatmap", x, y: taps, z: share, zmin: 0, zmax: 1, colorscale: "Viridis", text: texts, hovertemplate: "%{text}<extra></extra>", colorbar: { ...bar, title: { text: "share", side: "top" } } }],
    layout: { xaxis: step, yaxis: { ...axis, autorange: "reversed", type: "category" }, shapes: [...mark(curve.first_change, "dash", "white"), ...mark(curve.crossover_seen, "solid", VERMILLION)] },
  };
}

class View {
  constructor(experiment) {
    this.experiment = experiment;
    this.kind = VIEWS[experiment.views[0].kind];
    this.chooser = new Chooser(experiment.views, `Which results of ${experiment.name}`, () => this.choose());
    this.bar = el("div", { class: "bar" });
    this.said = el("p", { class: "note", hidden: true });
    this.plot = el("div", { class: "plot", tabindex: "0", role: "group", "aria-label": `Interactive figure of ${experiment.name}. Arrow keys move, plus and minus zoom, 0 resets.` });
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.legend = el("p", { class: "key" });
    this.element = el("figure", { class: "interactive" }, this.bar, this.plot, this.legend, this.said);
    this.near = false;
    new IntersectionObserver((found) => {
      this.near = found[0].isIntersecting;
      if (this.near && this.stale && window.Plotly) this.draw();
    }, { rootMargin: "400px" }).observe(this.plot);
  }

  show() {
    this.element.hidden = this.chooser.at < 0;
    if (this.chooser.at >= 0 && this.shown !== this.chooser.at) this.choose();
  }

  choose() {
    this.shown = this.chooser.at;
    const own = this.experiment.views[this.shown];
    const start = this.kind.start ? this.kind.start(own) : [];
    this.selects = this.kind.controls(own).map(([name, options], place) => {
      const select = el("select", {}, ...options.map((text, i) => el("option", { value: i, selected: i === (start[place] || 0) }, text)));
      select.addEventListener("change", () => this.redraw());
      return [name, select];
    });
    const button = (text, act) => { const made = el("button", { type: "button" }, text); made.addEventListener("click", act); return made; };
    this.bar.replaceChildren(
      el("b", {}, this.chooser.select.hidden ? `Interactive: ${Chooser.name(own.labels)}` : "Interactive"), this.chooser.select,
      ...this.selects.map(([name, select]) => el("label", {}, name, select)),
      button("Zoom in", () => this.zoom(0.5)), button("Zoom out", () => this.zoom(2)), button("Reset", () => this.draw()),
    );
    this.redraw();
  }

  redraw() {
    this.stale = true;
    if (this.near && window.Plotly) this.draw();
  }

  draw() {
    this.stale = false;
    const style = look(this.plot);
    const picked = Object.fromEntries(this.selects.map(([name, select]) => [name, Number(select.value)]));
    const { traces, layout, note, kind, key = [] } = this.kind.draw(this.experiment.views[this.shown], picked, style);
    this.polar = kind === "polar";
    this.said.textContent = note;
    this.said.hidden = !note;
    this.legend.replaceChildren(...key.map(([colour, text]) => el("span", {}, el("i", { style: `background: ${colour}` }), text)));
    Plotly.newPlot(this.plot, traces, { ...style.layout, ...layout }, { responsive: true, displaylogo: false, displayModeBar: "hover", modeBarButtonsToRemove: ["select2d", "lasso2d", "toImage", "zoomIn2d", "zoomOut2d", "resetScale2d", "autoScale2d"] });
  }

  /* Ranges as the axes hold them now: powers of ten on a log axis. */
  ranges() {
    const full = this.plot._fullLayout;
    return this.polar ? { "polar.radialaxis.range": full.polar.radialaxis.range } : { "xaxis.range": full.xaxis.range, "yaxis.range": full.yaxis.range };
  }

  zoom(factor) {
    const changed = {};
    for (const [name, [low, high]] of Object.entries(this.ranges())) {
      const middle = (Number(low) + Number(high)) / 2, half = ((high - low) / 2) * factor;
      changed[name] = this.polar ? [low, low + (high - low) * factor] : [middle - half, middle + half];
    }
    Plotly.relayout(this.plot, changed);
  }

  move(right, up) {
    if (this.polar) return;
    const changed = {};
    for (const [name, [low, high]] of Object.entries(this.ranges())) {
      const by = 0.2 * (high - low) * (name[0] === "x" ? right : up);
      changed[name] = [low + by, high + by];
    }
    Plotly.relayout(this.plot, changed);
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (event.target !== this.plot || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) this.move(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(0.5);
    else if (event.key === "-") this.zoom(2);
    else if (event.key === "0") this.draw();
    else return;
    event.preventDefault();
  }
}
