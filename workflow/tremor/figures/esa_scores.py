"""Figures of esa/super-weights and esa/compare-sensitivity: effects, peaks, other changes, agreement, run time."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tremor.figures import style
from tremor.figures.critical import symmetric_log
from tremor.figures.propagation import sequence

LIGHT = "#BBBBBB"
ROW = 0.17  # inches for a method
NEEDS = {  # what a score is computed from: text, colour
    "weights": ("weights alone", style.BLUE),
    "activations": ("forward passes", style.GREEN),
    "gradients": ("backward passes", style.ORANGE),
    "curvature": ("second derivatives", style.VERMILLION),
}


def _methods(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.set_axisbelow(True)


@style.styled
def effects(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Change of held-out NLL when a method's weights are zero, beside random weights of the same tensors.

    Args:
        table: Table effects.csv of esa/super-weights.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=max(1.7, 0.9 + ROW * len(table)))
    style.set_title(figure, title)
    axes = figure.subplots()
    rows = np.arange(len(table))
    values = table["delta_nll"].to_numpy(dtype=np.float64)
    finite = np.isfinite(values)
    mean, std = (table[name].to_numpy(dtype=np.float64) for name in ("control_mean", "control_std"))
    highest = table["control_highest"].to_numpy(dtype=np.float64)
    axes.hlines(rows, mean - 2 * std, mean + 2 * std, color=LIGHT, lw=5, label="controls, mean ± 2 std")
    axes.plot(highest, rows, "|", color=style.INK, ms=7, label="highest control")
    low, high = (table[f"delta_nll_{end}"].to_numpy(dtype=np.float64) for end in ("low", "high"))
    axes.hlines(rows, low, high, color=style.BLUE, lw=1)
    axes.plot(
        values[finite], rows[finite], "o", color=style.BLUE, label="all its weights zero, 95 % interval over texts"
    )
    first = table["first_delta_nll"].to_numpy(dtype=np.float64)
    axes.plot(first, rows, "D", color=style.ORANGE, ms=3, label="first weight alone zero")
    axes.axvline(0, color=style.INK, lw=0.6)
    counts = table["weights"].to_numpy(dtype=np.int64)
    _methods(axes, [f"{name} ({count})" for name, count in zip(table["method"], counts, strict=True)])
    for row in rows[~finite]:
        text = "found none" if counts[row] == 0 else str(table["status"].iloc[row])
        axes.annotate(text, (0, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=6.5)
    axes.set_xlabel(style.label("change of held-out NLL", "nats per token"))
    axes.set_ylabel("method\n(number of weights)" if len(table) < 8 else "method (number of weights)")
    style.outside_legend(figure, axes, columns=4)
    return figure


@style.styled
def peaks(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Largest activations into and out of each block's projection into the stream, for every prompt.

    Args:
        table: Table peaks.csv of esa/super-weights.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.5)
    style.set_title(figure, title)
    panels = figure.subplots(1, 2)
    for axes, side in zip(panels, ("input", "output"), strict=True):
        for bos, colour, marker in ((True, style.BLUE, "o"), (False, style.ORANGE, "s")):
            name = "with begin token" if bos else "without begin token"
            for number, (_, rows) in enumerate(table[table["bos"] == bos].groupby("prompt")):
                size = rows[f"{side}_value"].abs()
                label = name if number == 0 else None
                axes.plot(rows["block"], size, color=colour, marker=marker, ms=2.5, lw=0.7, alpha=0.7, label=label)
        scale = table.groupby("block")[f"{side}_scale"].median()
        axes.plot(scale.index, scale, color=style.GREY, ls="--", label="median |activation|")
        marked = table[table["spikes"] & table["originates"]]
        if len(marked):
            axes.plot(
                marked["block"],
                marked[f"{side}_value"].abs(),
                "x",
                color=style.VERMILLION,
                ms=6,
                label="origin of a spike",
            )
        style.log_axis(axes.yaxis, style.log_limits(table[f"{side}_value"].abs(), scale))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
        axes.set_xlabel("block")
        axes.set_ylabel(f"largest |activation|, {side}")
    style.outside_legend(figure, *panels, columns=4)
    return figure


@style.styled
def changes(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Change of held-out NLL when a method's weights are scaled, and when all others are quantised.

    Args:
        table: Table changes.csv of esa/super-weights.
        title: Text above the figure.
    """
    alone = table["method"] == "none"  # all selected weights on the grid
    names = list(dict.fromkeys(table.loc[~alone, "method"]))
    place = {name: row for row, name in enumerate(names)}
    figure = style.new_figure(width="page", height=max(1.9, 1.0 + ROW * len(names)))
    style.set_title(figure, title)
    panels = figure.subplots(1, 2, sharey=True)
    scaled, quantised = table[table["study"] == "scaled"], table[table["study"] == "quantised"]
    factors = sorted(scaled["factor"].unique())
    for factor, colour in zip(factors, sequence(len(factors)), strict=True):
        rows = scaled[scaled["factor"] == factor]
        panels[0].plot(
            rows["delta_nll"], rows["method"].map(place), "o", color=colour, ms=3, label=f"weights times {factor:g}"
        )
    grids = quantised.groupby(["grid", "group"], sort=False)
    for ((grid, group), rows), colour in zip(grids, sequence(len(grids)), strict=True):
        whole = rows.loc[alone.loc[rows.index], "delta_nll"]
        panels[1].axvline(
            float(whole.iloc[0]), color=colour, lw=0.8, ls="--", label=f"{grid} in groups of {group}, all"
        )
        kept = rows[~alone.loc[rows.index]]
        label = f"{grid} in groups of {group}, the method's weights held out"
        panels[1].plot(kept["delta_nll"], kept["method"].map(place), "D", color=colour, ms=3, label=label)
    for axes, part in zip(panels, (scaled, quantised), strict=True):
        _methods(axes, names)
        values = part["delta_nll"].dropna()
        if len(values) and (values.min() < 0 or style.decades(values) > 1.5):
            symmetric_log(axes, "x", values)
        axes.set_xlabel(style.label("change of held-out NLL", "nats per token"))
    panels[0].set_ylabel("method")
    style.outside_legend(figure, *panels, columns=3)
    return figure


def _matrix(pairs: pd.DataFrame, names: Sequence[str], column: str) -> npt.NDArray[np.float64]:
    place = {name: i for i, name in enumerate(names)}
    found = np.full((len(names), len(names)), np.nan)
    for first, second, value in zip(pairs["first"], pairs["second"], pairs[column], strict=True):
        found[place[second], place[first]] = value
    return found


@style.styled
def agreement(pairs: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Jaccard index of the top weights and rank correlation of the full scores, for each pair of methods.

    Args:
        pairs: Table pairs.csv of esa/compare-sensitivity.
        title: Text above the figure.
    """
    names = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    figure = style.new_figure(width="page", height=1.5 + 0.2 * len(names))
    style.set_title(figure, title)
    panels = figure.subplots(1, 2)
    chance = float(pairs["jaccard_chance"].median())
    top = int(pairs["k"].iloc[0])
    shown = (
        ("jaccard", f"Jaccard index of the top {top}\n(chance: {style.number(chance, 2)})", "Blues", 0.0),
        (
            "spearman",
            f"Spearman correlation of the scores\n({int(pairs['correlated'].iloc[0])} weights)",
            "PuOr_r",
            -1.0,
        ),
    )
    for axes, (column, text, colours, least) in zip(panels, shown, strict=True):
        values = _matrix(pairs, names, column)[1:, :-1]
        axes.imshow(values, cmap=colours, vmin=least, vmax=1.0, aspect="auto")
        _numbers(axes, values, least)
        axes.set_xticks(range(len(names) - 1), names[:-1], rotation=90)
        axes.set_yticks(range(len(names) - 1), names[1:])
        axes.set_title(text)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    return figure


def _numbers(axes: Axes, values: npt.NDArray[np.float64], least: float) -> None:
    for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
        value = values[row, column]
        dark = value > 0.6 or value < -0.6 if least < 0 else value > 0.55
        rounded = round(value, 2) + 0.0  # no minus before a zero
        text = style.minus(f"{rounded:.2f}".replace("0.", ".", 1) if abs(rounded) < 1 else f"{rounded:.0f}")
        axes.text(column, row, text, ha="center", va="center", fontsize=5.5, color="white" if dark else style.INK)


@style.styled
def runtime(methods: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Wall time of each method by itself, log scale.

    Args:
        methods: Table methods.csv of esa/compare-sensitivity.
        title: Text above the figure.
    """
    figure = style.new_figure(width="column", height=0.9 + ROW * len(methods))
    style.set_title(figure, title)
    axes = figure.subplots()
    seconds = methods["seconds"].to_numpy(dtype=np.float64)
    limits = style.log_limits(seconds)
    for needs, (text, colour) in NEEDS.items():
        mine = np.flatnonzero(methods["needs"] == needs)
        if len(mine):
            axes.barh(mine, seconds[mine], color=colour, height=0.7, label=text)
    style.log_axis(axes.xaxis, (limits[0], limits[1]))
    _methods(axes, list(methods["method"]))
    axes.set_xlabel(style.label("run time", "s"))
    style.outside_legend(figure, axes, columns=2, title="computed from")
    return figure
