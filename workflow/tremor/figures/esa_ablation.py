"""Figures of the esa analyses that remove weights: parts of blocks, rising shares, selections, pruning."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, SymmetricalLogLocator

from tremor.figures import style
from tremor.figures.critical import LOOKS, symmetric_log

DELTA = style.label("change of held-out NLL", "nats per token")
BAND = "#DDDDDD"
SHADES = LinearSegmentedColormap.from_list("tremor_cost", [style.BLUE, "#FFFFFF", style.VERMILLION])
SHOWN = 20  # parts in the ranking
ROW = 0.17  # inches
Floats = npt.NDArray[np.float64]


def _floats(rows: pd.DataFrame, name: str) -> Floats:
    return np.asarray(rows[name], dtype=np.float64)


@style.styled
def components(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Change of NLL by block and component, one panel a mode; heads are left to the ranking.

    Args:
        table: Table effects.csv of esa/sensitivity.
        title: Text above the figure.
    """
    shown = table[table["level"] != "head"]
    modes = list(dict.fromkeys(shown["mode"]))
    names = list(dict.fromkeys(shown["component"]))
    blocks = sorted(set(shown["block"]))
    figure = style.new_figure(width="page", height=1.2 + ROW * len(names))
    style.set_title(figure, title)
    panels = figure.subplots(1, len(modes), squeeze=False)[0]
    largest = float(np.abs(_floats(shown, "delta_nll")[np.isfinite(_floats(shown, "delta_nll"))]).max(initial=1e-3))
    linear = 10.0 ** np.floor(np.log10(largest) - 2)
    norm = SymLogNorm(linthresh=linear, vmin=-largest, vmax=largest, base=10)
    for axes, mode in zip(panels, modes, strict=True):
        rows = shown[shown["mode"] == mode]
        grid = np.full((len(names), len(blocks)), np.nan)
        for name, block, value in zip(rows["component"], rows["block"], _floats(rows, "delta_nll"), strict=True):
            grid[names.index(name), blocks.index(block)] = value
        axes.set_facecolor(BAND)
        image = axes.imshow(grid, cmap=SHADES, norm=norm, aspect="auto", interpolation="nearest")
        if len(blocks) <= 10:
            _numbers(axes, grid, largest)
        step = max(1, len(blocks) // 12)
        axes.set_xticks(range(0, len(blocks), step), [str(block) for block in blocks[::step]])
        axes.set_yticks(range(len(names)), names if axes is panels[0] else [""] * len(names))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("block")
        axes.set_title({"zero": "set to zero", "mean": "output set to its mean"}.get(mode, mode))
    bar = figure.colorbar(image, ax=list(panels), pad=0.02, aspect=30)
    bar.set_label(DELTA)
    bar.ax.yaxis.set_major_locator(SymmetricalLogLocator(linthresh=linear, base=10))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(_signed_power))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)
    return figure


def _signed_power(value: float, _: int | None) -> str:
    if value == 0:
        return "0"
    power = style.power(round(np.log10(abs(value))))
    return power if value > 0 else f"\N{MINUS SIGN}{power}"


def _numbers(axes: Axes, grid: Floats, largest: float) -> None:
    for row, column in zip(*np.nonzero(np.isfinite(grid)), strict=True):
        value = float(grid[row, column])
        text = style.minus(f"{value:.2f}" if abs(value) < 9.995 else f"{value:.0f}")
        text = text if float(f"{value:.2f}") else "0"
        colour = "white" if abs(value) > 0.3 * largest else style.INK
        axes.text(column, row, text, ha="center", va="center", fontsize=5.5, color=colour)


@style.styled
def ranking(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """The parts whose removal costs most, with intervals over texts: components, norms and heads in one list.

    Args:
        table: Table effects.csv of esa/sensitivity.
        title: Text above the figure.
    """
    mode = "zero" if "zero" in set(table["mode"]) else str(table["mode"].iloc[0])
    rows = table[(table["mode"] == mode) & ~table["level"].isin(["block", "branch"])]
    rows = rows.assign(cost=_floats(rows, "delta_nll")).fillna({"cost": np.inf})
    rows = rows.sort_values("cost", ascending=False, kind="stable").head(SHOWN)
    figure = style.new_figure(width="column", height=0.8 + ROW * len(rows))
    style.set_title(figure, title)
    axes = figure.subplots()
    places = np.arange(len(rows))
    looks = {"component": (style.BLUE, "o"), "norm": (style.ORANGE, "s"), "head": (style.GREEN, "^")}
    for level, (colour, marker) in looks.items():
        mine = np.asarray(rows["level"] == level) & np.isfinite(rows["cost"])
        if mine.any():
            own = rows[mine]
            axes.hlines(places[mine], own["delta_nll_low"], own["delta_nll_high"], color=colour, lw=1)
            axes.plot(own["delta_nll"], places[mine], marker, color=colour, label=f"{level}, 95 % interval over texts")
    for place in places[~np.isfinite(rows["cost"])]:
        axes.annotate(str(rows["status"].iloc[place]), (0, place), xytext=(4, 0), textcoords="offset points",
                      va="center", fontsize=6.5)  # fmt: skip
    axes.set_yticks(places, [f"block {b}, {c}" for b, c in zip(rows["block"], rows["component"], strict=True)])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    symmetric_log(axes, "x", rows["delta_nll"])
    axes.set_xlabel("ΔNLL (nats per token)")
    style.outside_legend(figure, axes, columns=1, title=f"{mode} ablation")
    return figure


@style.styled
def response(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Change of NLL by share of weights: the most and the least important, and the range of random sets.

    Args:
        table: Table effects.csv of esa/targeted-perturbation.
        title: Text above the figure.
    """
    scores, operations = (list(dict.fromkeys(table[name])) for name in ("score", "operation"))
    across = min(3, len(scores))
    down = -(-len(scores) // across) * len(operations)
    figure = style.new_figure(width="page", height=0.5 + 1.9 * down)
    style.set_title(figure, title)
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    pairs = [(score, operation) for operation in operations for score in scores]
    for axes, (score, operation) in zip(panels, pairs, strict=False):
        rows = table[(table["score"] == score) & (table["operation"] == operation)].sort_values("fraction")
        _response(axes, rows)
        axes.set_title(score if len(operations) == 1 else f"{score}, {operation}")
    for axes in panels[len(pairs) :]:
        axes.set_visible(False)
    finite = table[np.isfinite(_floats(table, "delta_nll"))]
    symmetric_log(panels[0], "y", finite[finite["selection"] == "top"]["delta_nll"])
    style.log_axis(panels[0].xaxis, style.log_limits(table["fraction"]))
    for number, axes in enumerate(panels[: len(pairs)]):
        axes.axhline(0, color=style.GREY, lw=0.6)
        if number % across == 0:
            axes.set_ylabel("ΔNLL (nats per token)")
        if number >= len(pairs) - across:
            axes.set_xlabel("share of the weights")
            axes.tick_params(labelbottom=True)
    style.outside_legend(figure, *panels[: len(pairs)], columns=4)
    return figure


def _response(axes: Axes, rows: pd.DataFrame) -> None:
    top, bottom = rows[rows["selection"] == "top"], rows[rows["selection"] == "bottom"]
    drawn = top[_floats(top, "controls") > 0]
    counts = sorted({int(count) for count in drawn["controls"]}, reverse=True)
    many = " or ".join(map(str, counts))
    if len(drawn):
        axes.fill_between(drawn["fraction"], drawn["control_lowest"], drawn["control_highest"], color=BAND, lw=0,
                          label=f"random sets: range of {many} draws")  # fmt: skip
        axes.plot(drawn["fraction"], drawn["control_mean"], "x-", color=style.GREY, label="their mean")
    for own, colour, marker, name in (
        (top, style.VERMILLION, "o", "most important, 95 % interval over texts"),
        (bottom, style.BLUE, "s", "least important, 95 % interval over texts"),
    ):
        axes.fill_between(own["fraction"], own["delta_nll_low"], own["delta_nll_high"], color=colour, alpha=0.2, lw=0)
        axes.plot(own["fraction"], own["delta_nll"], color=colour, marker=marker, label=name)


@style.styled
def effects(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Change of NLL by each selection and fill beside random sets, and how much of the text stays the same.

    Args:
        table: Table effects.csv of esa/selective-weight-pruning.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=0.9 + ROW * len(table))
    style.set_title(figure, title)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    rows = np.arange(len(table))
    mean, std = _floats(table, "control_mean"), _floats(table, "control_std")
    left.hlines(rows, mean - 2 * std, mean + 2 * std, color="#BBBBBB", lw=5, label="random sets, mean ± 2 std")
    left.hlines(rows, table["delta_nll_low"], table["delta_nll_high"], color=style.BLUE, lw=1)
    left.plot(table["delta_nll"], rows, "o", color=style.BLUE, label="selection, 95 % interval over texts")
    left.axvline(0, color=style.INK, lw=0.6)
    for row in rows[~np.isfinite(_floats(table, "delta_nll"))]:
        left.annotate(str(table["status"].iloc[row]), (0, row), xytext=(4, 0), textcoords="offset points",
                      va="center", fontsize=6.5)  # fmt: skip
    names = [f"{s}, {f} ({w})" for s, f, w in zip(table["selection"], table["fill"], table["weights"], strict=True)]
    left.set_yticks(rows, names)
    left.set_ylim(len(table) - 0.4, -0.6)
    left.set_xlabel("ΔNLL (nats per token)")
    left.set_ylabel("selection, fill (weights)")
    for name, colour, marker, text in (
        ("greedy_kept", style.VERMILLION, "D", "greedy"),
        ("sampled_kept", style.GREEN, "^", "sampled, same seed"),
    ):
        right.plot(100 * _floats(table, name), rows, marker, color=colour, label=text)
    right.axvline(100 * float(table["other_seed_kept"].iloc[0]), color=style.GREY, ls="--",
                  label="unchanged model, other seed")  # fmt: skip
    right.set_xlim(-4, 104)
    right.set_xlabel("text kept before its first change (%)")
    for axes in (left, right):
        axes.grid(axis="x")
        axes.set_axisbelow(True)
    style.outside_legend(figure, left, right, columns=3)
    return figure


@style.styled
def curves(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Change of NLL by sparsity, one panel for each group, a line for each score; n:m patterns in a panel of their own.

    Args:
        table: Table curves.csv of esa/pruning.
        title: Text above the figure.
    """
    patterned = table["group"].str.contains(":")
    groups = list(dict.fromkeys(table[~patterned]["group"]))
    patterns = list(dict.fromkeys(table[patterned]["group"]))
    count = len(groups) + bool(patterns)
    figure = style.new_figure(width="page", height=2.5)
    style.set_title(figure, title)
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    looks = dict(zip(dict.fromkeys(table["score"]), LOOKS, strict=False))
    for axes, group in zip(panels, groups, strict=False):
        for score, (colour, marker) in looks.items():
            own = table[(table["group"] == group) & (table["score"] == score)].sort_values("sparsity")
            x = 100 * _floats(own, "sparsity")
            axes.vlines(x, own["delta_nll_low"], own["delta_nll_high"], color=colour, alpha=0.5, lw=0.7)
            axes.plot(x, own["delta_nll"], color=colour, marker=marker, ms=2.8, label=score)
        axes.set_xlabel("sparsity (%)")
        axes.set_title({"global": "of all weights", "per_tensor": "of each tensor", "per_row": "of each row"}[group])
    if patterns:
        _patterns(panels[-1], table[patterned], patterns, looks)
    symmetric_log(panels[0], "y", table["delta_nll"])
    for axes in panels:
        axes.axhline(0, color=style.GREY, lw=0.6)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
    panels[0].set_ylabel("ΔNLL (nats per token)")
    style.outside_legend(figure, *panels, columns=6)
    return figure


def _patterns(axes: Axes, rows: pd.DataFrame, patterns: Sequence[str], looks: Mapping[str, tuple[str, str]]) -> None:
    shifts = np.linspace(-0.25, 0.25, len(looks))
    for shift, (score, (colour, marker)) in zip(shifts, looks.items(), strict=True):
        own = rows[rows["score"] == score]
        x = np.array([patterns.index(group) for group in own["group"]]) + shift
        axes.vlines(x, own["delta_nll_low"], own["delta_nll_high"], color=colour, lw=1)
        axes.plot(x, own["delta_nll"], marker, color=colour, label=score)
    axes.set_xticks(range(len(patterns)), patterns)
    axes.set_xlim(-0.6, len(patterns) - 0.4)
    axes.set_xlabel("pattern")
    axes.set_title("n of every m inputs")


FIGURES: Mapping[str, Mapping[str, Callable[..., Figure]]] = {
    "sensitivity": {"components": components, "ranking": ranking},
    "targeted-perturbation": {"response": response},
    "selective-weight-pruning": {"effects": effects},
    "pruning": {"curves": curves},
}
