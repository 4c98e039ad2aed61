"""Figures of critical_weights: what changing weights costs beside controls, how metrics agree, where weights lie."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, SymmetricalLogLocator

from tremor.figures import style

LOOKS = tuple(
    zip(
        (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.PURPLE, style.SKY, style.INK) * 3,
        ("o", "s", "^", "D", "v", "P", "X", "s", "^", "D", "v", "P", "X", "o", "^", "D", "v", "P", "X", "o", "s"),
        strict=True,
    )
)
NLL = "ΔNLL (nats per token)"
AGREE = LinearSegmentedColormap.from_list("tremor_agree", ["#FFFFFF", style.SKY, style.BLUE])
SIGNED = LinearSegmentedColormap.from_list("tremor_signed", [style.VERMILLION, "#FFFFFF", style.BLUE])
VARIED = {"seed": "seeds", "half": "halves of the texts", "domain": "domains"}


def looks(metrics: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each metric, in the order of the tables."""
    return dict(zip(metrics, LOOKS, strict=False))


def symmetric_log(axes: Axes, which: str, values: npt.ArrayLike) -> None:
    """A log axis through zero: linear within the power of ten below the typical size of the values.

    Effects are of both signs and of many sizes; a plain log axis would hide those below zero.
    """
    sizes = style.positive(np.abs(np.asarray(values, dtype=np.float64)))
    top = float(sizes.max()) if sizes.size else 1.0
    low = float(np.quantile(sizes, 0.3)) if sizes.size else 0.1
    linear = 10.0 ** np.floor(np.log10(max(low, top * 1e-5)))
    getattr(axes, f"set_{which}scale")("symlog", linthresh=linear)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(SymmetricalLogLocator(linthresh=linear, base=10))

    def text(value: float, _: int | None) -> str:
        if value == 0:
            return "0"
        power = style.power(round(np.log10(abs(value))))
        return power if value > 0 else f"\N{MINUS SIGN}{power}"

    axis.set_major_formatter(FuncFormatter(text))
    getattr(axes, f"ax{'v' if which == 'x' else 'h'}line")(0, color=style.GREY, linewidth=0.6)
    low, high = getattr(axes, f"get_{which}lim")()
    room = (3.0 if low < -linear else 1.0, 3.0 if high > linear else 1.0)  # markers at the ends stay whole
    getattr(axes, f"set_{which}lim")(low * room[0], high * room[1])


def _counts(axes: Axes, counts: npt.ArrayLike) -> None:
    style.log_axis(axes.xaxis, style.log_limits(counts))
    axes.set_xlabel("weights changed, best first")


@style.styled
def effects(table: pd.DataFrame, controls: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Effect against the number of weights changed: NLL with intervals over texts, KL, and changed predictions.

    Args:
        table: perturbation_results.csv.
        controls: controls.csv.
        title: Text above the figure.
    """
    top = table[table["selection"] == "top"]
    figure = style.new_figure(width="page", height=2.6)
    panels = figure.subplots(1, 3)
    for axes, (column, text) in zip(
        panels,
        (("delta_nll", NLL), ("kl", "KL (nats per token)"), ("flip_rate", "changed predictions (%)")),
        strict=True,
    ):
        scale = 100 if column == "flip_rate" else 1
        grey = controls[np.isfinite(controls[column].astype(float))]
        axes.plot(
            grey["weights"], scale * grey[column], "x", color=style.GREY, markersize=2.5, label="random controls",
            gid=f"{column}-controls",
        )  # fmt: skip
        for metric, (colour, marker) in looks(list(dict.fromkeys(top["metric"]))).items():
            rows = top[(top["metric"] == metric) & (top["status"] == "ok")]
            rows = rows.drop_duplicates("weights_requested").sort_values("weights_requested")
            x, y = rows["weights_requested"], scale * rows[column]
            axes.plot(x, y, color=colour, marker=marker, label=metric, gid=f"{column}-{metric}")
            if column == "delta_nll":
                axes.vlines(x, rows["delta_nll_low"], rows["delta_nll_high"], color=colour, linewidth=0.8)
        _counts(axes, table["weights_requested"])
        axes.set_ylabel(text)
        if column == "delta_nll":
            symmetric_log(axes, "y", top[column])
        elif column == "kl":
            style.log_axis(axes.yaxis, style.log_limits(top[column], grey[column]))
        else:
            axes.set_ylim(-2, max(10.0, 105 * float(top[column].max())))
    _destroyed(panels[0], top)
    style.set_title(figure, title)
    style.outside_legend(figure, *panels, columns=6)
    return figure


def _destroyed(axes: Axes, top: pd.DataFrame) -> None:
    """Say how many sets have no finite likelihood and so no point; equal sets of several K are one."""
    count = int((top.drop_duplicates(["metric", "weights_requested"])["status"] != "ok").sum())
    if count:
        axes.text(0.02, 0.98, f"{count} sets without finite NLL", va="top", transform=axes.transAxes, fontsize=6.5)


@style.styled
def controls(table: pd.DataFrame, draws: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Every set with random controls: the controls, the effect with its interval, and how far it lies from them.

    Args:
        table: perturbation_results.csv.
        draws: controls.csv.
        title: Text above the figure.
    """
    tested = table[(table["selection"] == "top") & (table["controls"] > 0)]
    tested = tested.drop_duplicates(["metric", "weights_requested"]).reset_index(drop=True)
    names = looks(list(dict.fromkeys(table["metric"])))
    figure = style.new_figure(width="page", height=0.7 + 0.17 * max(len(tested), 3))
    figure.get_layout_engine().set(w_pad=0.2)  # type: ignore[union-attr,call-arg]  # long labels need more than is reckoned
    axes = figure.add_subplot()
    for place, row in tested.iterrows():
        own = draws[(draws["metric"] == row["metric"]) & (draws["weights"] == row["weights_requested"])]
        colour, marker = names[row["metric"]]
        y = float(str(place))
        axes.plot(own["delta_nll"], np.full(len(own), y), "|", color=style.GREY, markersize=5, label="random controls")
        axes.plot([row["delta_nll_low"], row["delta_nll_high"]], [y, y], color=colour, linewidth=1.4)
        axes.plot([row["delta_nll"]], [y], marker, color=colour, label=row["metric"], gid=f"effect-{place}")
    symmetric_log(axes, "x", np.concatenate([tested["delta_nll"], draws["delta_nll"]]))
    labels = [f"{row['metric']}, {row['weights_requested']}  ({_judged(row)})" for _, row in tested.iterrows()]
    axes.set_yticks(np.arange(len(tested)), labels)
    axes.set_ylim(len(tested) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{NLL}; rows: metric, weights changed")
    style.set_title(figure, title)
    style.outside_legend(figure, axes, columns=6)
    return figure


def _judged(row: "pd.Series[Any]") -> str:
    sigma = "" if pd.isna(row["z"]) else f"z = {style.minus(f'{row.z:.2f}' if abs(row.z) < 10 else f'{row.z:.0f}')}, "
    return f"{sigma}p = {style.number(float(row['p']), 2)}"


def _matrix(axes: Axes, values: npt.NDArray[np.float64], names: Sequence[str], *, signed: bool, title: str) -> None:
    low, cmap = (-1.0, SIGNED) if signed else (0.0, AGREE)
    axes.imshow(values, vmin=low, vmax=1.0, cmap=cmap)
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        text = "n/a" if np.isnan(value) else f"{value:.2f}"
        colour = "white" if np.isfinite(value) and abs(value) > 0.7 else style.INK
        axes.text(column, row, style.minus(text), ha="center", va="center", fontsize=6, color=colour)
    axes.set_xticks(np.arange(len(names)), names, rotation=35, ha="right")
    axes.set_yticks(np.arange(len(names)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title)


@style.styled
def overlap(table: pd.DataFrame, *, topk: int, title: str | None = None) -> Figure:
    """Agreement of metrics: shared weights among the K best, and rank correlation of all scores.

    Args:
        table: overlap.csv.
        topk: K of the left panel.
        title: Text above the figure.
    """
    rows = table[table["topk"] == topk]
    names = list(dict.fromkeys([*rows["first"], *rows["second"]]))
    size = 0.75 + 0.45 * max(len(names), 2)
    figure = style.new_figure(width="page", height=size)
    panels = figure.subplots(1, 2)
    chance = style.number(float(rows["chance_jaccard"].max()), 2)
    for axes, column, text in (
        (panels[0], "jaccard", f"Jaccard index, K = {topk} (chance {chance})"),
        (panels[1], "spearman", "Spearman correlation of all common scores"),
    ):
        values = np.eye(len(names))
        for first, second, value in zip(rows["first"], rows["second"], rows[column], strict=True):
            i, j = names.index(first), names.index(second)
            values[i, j] = values[j, i] = value
        _matrix(axes, values, names, signed=column == "spearman", title=text)
    style.set_title(figure, title)
    return figure


@style.styled
def stability(table: pd.DataFrame, *, topk: int, title: str | None = None) -> Figure:
    """Jaccard index of the K best under other seeds, other halves of the texts, and other domains.

    Args:
        table: stability.csv.
        topk: K of the figure.
        title: Text above the figure.
    """
    rows = table[table["topk"] == topk]
    metrics = list(dict.fromkeys(rows["metric"]))
    kinds = [kind for kind in VARIED if kind in set(rows["varied"])]
    figure = style.new_figure(width="page", height=2.3)
    axes = figure.add_subplot()
    for number, (kind, (colour, marker)) in enumerate(zip(kinds, LOOKS, strict=False)):
        for place, metric in enumerate(metrics):
            own = rows[(rows["metric"] == metric) & (rows["varied"] == kind)]
            if not len(own):
                continue
            x = place + (number - (len(kinds) - 1) / 2) * 0.26
            spread = np.linspace(-0.07, 0.07, len(own)) if len(own) > 1 else np.zeros(1)
            sure = bool((own["label"] == "deterministic").all())
            axes.plot(
                x + spread, own["jaccard"], marker, color=colour, markersize=3, alpha=0.8, linestyle="none",
                markerfacecolor="none" if sure else colour, label=VARIED[kind], gid=f"{kind}-{metric}",
            )  # fmt: skip
            axes.plot([x - 0.1, x + 0.1], [own["jaccard"].mean()] * 2, color=colour)
    chance = float(rows["chance_jaccard"].max())
    axes.axhline(chance, color=style.GREY, linestyle=":", label=f"chance, {style.number(chance, 2)}")
    axes.set_xticks(np.arange(len(metrics)), metrics)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, len(metrics) - 0.5)
    axes.set_ylim(-0.04, 1.06)
    axes.set_ylabel(f"Jaccard index of the {topk} best")
    style.set_title(figure, title)
    style.outside_legend(figure, axes, columns=4, title="hollow: deterministic, the seed has no influence")
    return figure


@style.styled
def depth(table: pd.DataFrame, *, topk: int, title: str | None = None) -> Figure:
    """Mean score by block, and how often components are among the K best compared with chance.

    Args:
        table: depth.csv.
        topk: K of the right panel.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.7)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    metrics = list(dict.fromkeys(table["metric"]))
    inside = table[table["block"] >= 0]
    relative = []
    for metric, (colour, marker) in looks(metrics).items():
        rows = inside[inside["metric"] == metric]
        total = (rows["mean_score"] * rows["weights"]).groupby(rows["block"]).sum()
        means = total / rows.groupby("block")["weights"].sum()
        whole = float(total.sum() / rows["weights"].sum())
        values = means / whole if whole > 0 else means * np.nan
        relative.append(values.to_numpy(dtype=float))
        left.plot(means.index, values, color=colour, marker=marker, label=metric, gid=f"depth-{metric}")
    style.log_axis(left.yaxis, style.log_limits(*relative))
    left.set_xlabel("block")
    left.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    left.set_ylabel("mean score over that of all blocks")
    components = list(dict.fromkeys(table["component"]))
    shares = table.groupby(["metric", "component"], sort=False)[[f"top_{topk}", "weights"]].sum().reset_index()
    everything = shares.groupby("metric")["weights"].transform("sum")
    shares["enrichment"] = shares[f"top_{topk}"] / topk / (shares["weights"] / everything)
    grid = shares.pivot(index="metric", columns="component", values="enrichment").loc[metrics, components]
    values = grid.to_numpy(dtype=float)
    shown = np.log10(np.where(values > 0, values, np.nan))
    right.set_facecolor(style.PALE)  # none among the best, or no score
    right.imshow(np.clip(shown, -2, 2), vmin=-2, vmax=2, cmap=SIGNED, aspect="auto")
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        text = "n/a" if np.isnan(value) else "0" if value == 0 else f"{value:.2g}"
        strong = value > 0 and abs(np.log10(value)) > 1.4
        colour = "white" if strong else style.INK
        right.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
    right.set_xticks(np.arange(len(components)), components, rotation=35, ha="right")
    right.set_yticks(np.arange(len(metrics)), metrics)
    right.tick_params(length=0)
    right.spines[:].set_visible(False)
    right.set_title(f"enrichment among the {topk} best (1: chance)")
    style.set_title(figure, title)
    style.outside_legend(figure, left, columns=6)
    return figure


@style.styled
def tails(
    scores: Mapping[str, npt.NDArray[np.float32]], fits: Mapping[str, Any], *, title: str | None = None
) -> Figure:
    """How many scores exceed a value, and the power law fitted to the tail.

    Args:
        scores: Sampled scores by metric; NaN where a metric has none.
        fits: overlap.json, block `metrics`.
        title: Text above the figure.
    """
    figure = style.new_figure(height=2.7)
    axes = figure.add_subplot()
    lines: list[npt.NDArray[np.float64]] = []
    for metric, (colour, _) in looks(list(scores)).items():
        known = np.sort(scores[metric][np.isfinite(scores[metric])].astype(np.float64))
        known = known[known > 0]
        if not known.size:
            continue
        whole = known[-1]
        place = np.unique(np.geomspace(1, len(known), 400).astype(int))
        x, y = known[-place] / whole, place / len(known)
        fit = fits[metric]["tail"]["power_law"]
        name = metric
        if fit is not None:
            name += f": index {fit['alpha']:.2f}, KS {fit['ks']:.3f}, p = {style.number(fit['p'], 2)}"
        axes.plot(x, y, color=colour, label=name, gid=f"tail-{metric}")
        lines.append(x[y < 0.9])
        if fit is not None:
            ends = np.array([fit["x_min"], whole])
            share = fit["count"] / len(known)
            law = share * (ends / ends[0]) ** -fit["alpha"]
            axes.plot(ends / whole, law, color=style.INK, linestyle=":", linewidth=1.6, label="power law",
                      gid=f"fit-{metric}")  # fmt: skip
    low = max(style.log_limits(*lines)[0], 1e-5)
    style.log_axis(axes.xaxis, (low, 2.0))
    count = max((len(v) for v in scores.values()), default=1)
    style.log_axis(axes.yaxis, (0.5 / count, 2.0))
    axes.set_xlabel("score over the largest score")
    axes.set_ylabel("share of positive scores as large")
    style.set_title(figure, title)
    style.outside_legend(figure, axes, columns=1)
    return figure


def middle(topk: Sequence[int]) -> int:
    """The K that figures of one K show: the third quarter's, 100 of (10, 50, 100, 500)."""
    ordered = sorted(topk)
    return ordered[(2 * len(ordered)) // 3 if len(ordered) > 1 else 0]
