"""Figures of exp8: where two platforms part inside the model, by how much, and what becomes of it."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tremor.figures import style

QUESTION_COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.PURPLE, style.SKY)
MAX_COLOURED = len(QUESTION_COLOURS)
MEASURES = (  # columns of values.csv that have a panel each
    ("percent_changed", "coordinates whose\nbits differ (%)", False),
    ("relative_l2", "relative L2 of\nthe difference", True),
    ("ulp_median", "median lattice\nsteps", True),
)
RUNS = {"a": ("o", "-"), "b": ("s", "--")}


def _forward(table: pd.DataFrame) -> list[str]:
    """All stages in forward order. Some questions may lack some (recorder.tap_questions), so their lists are merged."""
    lists = [list(dict.fromkeys(own["stage"])) for _, own in table.groupby("question", sort=False)]
    merged: list[str] = []
    for names in sorted(lists, key=len, reverse=True):
        place = -1
        for name in names:
            place = merged.index(name) if name in merged else place + 1
            if name not in merged:
                merged.insert(place, name)
    return merged


def _order(table: pd.DataFrame) -> pd.DataFrame:
    """Stages once each, in forward order, with their places on the axis."""
    named = table.sort_values("order", kind="stable")
    stages = named.drop_duplicates("stage").set_index("stage").loc[_forward(named), ["block", "part"]]
    return stages.reset_index()


def _block_ticks(axes: Axes, stages: pd.DataFrame) -> None:
    """One tick where a block begins; what stands before and after the blocks is named."""
    blocks = stages["block"].astype("float64")
    starts = [int(np.flatnonzero(blocks == k)[0]) for k in sorted(blocks.dropna().unique())]
    step = max(1, int(np.ceil(len(starts) / 12)))
    axes.set_xticks(starts[::step], [str(int(blocks.iloc[i])) for i in starts[::step]])
    axes.set_xlim(-0.5, len(stages) - 0.5)
    for start in starts:
        axes.axvline(start - 0.5, color=style.PALE, linewidth=0.4, zorder=0)


def _questions(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Questions with a colour each; where there are more than colours, all of one."""
    names = list(dict.fromkeys(table["question"]))
    if len(names) > MAX_COLOURED:
        return [(name, style.BLUE) for name in names]
    return list(zip(names, QUESTION_COLOURS, strict=False))


@style.styled
def overview(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """All stages in forward order at the row that decided: how many coordinates differ and by how much.

    Args:
        table: Table values.csv of exp8.
        title: Text above the figure.
    """
    stages = _order(table)
    place = {name: number for number, name in enumerate(stages["stage"])}
    figure = style.new_figure(width="page", height=4.0)
    panels = figure.subplots(len(MEASURES), 1, sharex=True)
    many = table["question"].nunique() > MAX_COLOURED
    for axes, (column, text, log) in zip(panels, MEASURES, strict=True):
        shown = table[column].to_numpy(dtype=float)
        if log:
            style.log_axis(axes.yaxis, style.log_limits(shown))
            if not style.positive(shown).size:
                axes.text(0.5, 0.5, "all zero", ha="center", transform=axes.transAxes)
        else:
            axes.set_ylim(-4, 104)
        for question, colour in _questions(table):
            rows = table[table["question"] == question].sort_values("order")
            values = rows[column].to_numpy(dtype=float)
            values = np.where(values > 0, values, np.nan) if log else values
            label = "a question each" if many else question
            x = [place[name] for name in rows["stage"]]
            axes.plot(
                x, values, color=colour, marker=".", markersize=2.5, linewidth=0.7, alpha=0.5 if many else 0.9,
                label=label, gid=f"{column}-{question}",
            )  # fmt: skip
        axes.set_ylabel(text)
    _block_ticks(panels[-1], stages)
    panels[-1].set_xlabel("stages in forward order (numbers: where a block begins)")
    style.set_title(figure, title)
    style.outside_legend(figure, panels[0], columns=6)
    return figure


@style.styled
def heatmaps(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Block by sub-stage: median over the questions of the three numbers.

    Args:
        table: Table values.csv of exp8.
        title: Text above the figure.
    """
    inside = table[table["block"].notna()]
    # Block 0 reads the embedding, so its own list lacks the stream: places are compared over all blocks.
    ordered = _order(inside)
    place = ordered.groupby("block").cumcount()
    parts = [str(part) for part in place.groupby(ordered["part"]).median().sort_values(kind="stable").index]
    blocks = sorted(int(k) for k in inside["block"].unique())
    figure = style.new_figure(width="page", height=max(2.2, 0.9 + 0.17 * len(parts)))
    panels = figure.subplots(1, len(MEASURES), sharey=True)
    for axes, (column, text, log) in zip(panels, MEASURES, strict=True):
        grid = np.full((len(parts), len(blocks)), np.nan)
        for (part, block), rows in inside.groupby(["part", "block"]):
            grid[parts.index(str(part)), blocks.index(int(block))] = float(rows[column].median())
        drawn, label = grid, text.replace("\n", " ")
        if log:
            with np.errstate(divide="ignore"):
                drawn = np.where(grid > 0, np.log10(grid), np.nan)
            label = f"log₁₀ {label}"
        colours = matplotlib.colormaps["cividis"].with_extremes(bad=style.PALE)
        limits = (0.0, 100.0) if not log else _limits(drawn)
        image = axes.imshow(drawn, aspect="auto", cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest")
        figure.colorbar(image, ax=axes, location="top", label=label, shrink=0.9)
        axes.set_xlabel("block")
        axes.set_xticks(range(len(blocks)), [str(k) for k in blocks])
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.tick_params(length=0)
    panels[0].set_yticks(np.arange(len(parts)), parts)
    note = "grey: no difference" if (table["relative_l2"] > 0).any() else "grey: no difference, all bits are equal"
    figure.supxlabel(f"{note}, or the block has no such stage", fontsize=6.5)
    style.set_title(figure, title)
    return figure


def _limits(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return -1.0, 0.0
    low, high = float(known.min()), float(known.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


MOST_LABELS = 20


@style.styled
def decades(
    counts: npt.NDArray[np.int64], names: Sequence[str], ulps: npt.NDArray[np.int64], *, title: str | None = None
) -> Figure:
    """All coordinates of all stages, each in one class: by the decade of the difference, and by lattice steps.

    Args:
        counts: [rows, classes] of values.h5.
        names: Their names.
        ulps: [rows, classes] by lattice steps.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.7)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    total = counts.sum(axis=0)
    _bars(left, total, [_decade(name) for name in names])
    left.set_xlabel("size of the difference |a − b|, from this power of ten on")
    left.set_ylabel("coordinates")
    by_ulp = ulps.sum(axis=0)
    last = int(np.flatnonzero(by_ulp)[-1]) if by_ulp.any() else 0
    _bars(right, by_ulp[: last + 1], [_steps(k) for k in range(last + 1)])
    right.set_xlabel("lattice steps apart, from this number on")
    percent = 100.0 * total[1:].sum() / max(1, total.sum())
    left.set_title(f"{style.number(percent)} % of {total.sum():,} coordinates differ in bits")
    style.set_title(figure, title)
    return figure


def _bars(axes: Axes, counts: npt.NDArray[np.int64], names: Sequence[str]) -> None:
    style.log_axis(axes.yaxis, (0.5, max(10.0, 2.0 * float(counts.max(initial=1)))))
    colours = [style.GREY if number == 0 else style.BLUE for number in range(len(counts))]
    axes.bar(np.arange(len(counts)), np.maximum(counts, 0.5) - 0.5, bottom=0.5, color=colours, gid="bars")
    shown = slice(None, None, -(-len(counts) // MOST_LABELS))  # more would run into each other at this width
    axes.set_xticks(np.arange(len(counts))[shown], names[shown], rotation=90)


def _decade(name: str) -> str:
    if name.startswith("below_"):
        return f"<{style.power(int(name.removeprefix('below_1e')))}"
    if name.startswith("1e"):
        return style.power(int(name.removeprefix("1e")))
    return {"equal_bits": "equal bits", "zero": "±0", "not_finite": "not finite"}[name]


def _steps(place: int) -> str:
    return str(place) if place < 2 else f"2{style.power(place - 1)[2:]}"


@style.styled
def path(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """How far both runs' projections on the two tokens lie from a tie, stage by stage, and from each other.

    Args:
        table: Table path.csv of exp8.
        title: Text above the figure.
    """
    rows = table[table["which"] == "decision"]
    stages = _order(rows)
    place = {name: number for number, name in enumerate(stages["stage"])}
    # Questions that really parted come first.
    named = dict.fromkeys([*rows[rows["decided"]]["question"], *rows["question"]])
    chosen = list(named)[:MAX_COLOURED]
    figure = style.new_figure(width="page", height=2.6)
    axes = figure.add_subplot()
    shown = np.abs(rows[["gap_a", "gap_difference"]].to_numpy(dtype=float))
    style.log_axis(axes.yaxis, style.log_limits(shown))
    for question, colour in zip(chosen, QUESTION_COLOURS, strict=False):
        own = rows[rows["question"] == question].sort_values("order")
        x = [place[name] for name in own["stage"]]
        gap, apart = np.abs(own["gap_a"].to_numpy(dtype=float)), np.abs(own["gap_difference"].to_numpy(dtype=float))
        axes.plot(
            x,
            np.where(gap > 0, gap, np.nan),
            color=colour,
            linewidth=0.8,
            label=f"{question}: from a tie",
            gid=f"gap-{question}",
        )
        axes.plot(
            x, np.where(apart > 0, apart, np.nan), ".", color=colour, markersize=3,
            label=f"{question}: of the two runs", gid=f"apart-{question}",
        )  # fmt: skip
    _block_ticks(axes, stages)
    axes.set_xlabel("stages of the stream's width, in forward order (numbers: where a block begins)")
    axes.set_ylabel("distance of projections")
    style.set_title(figure, title)
    note = "stage · (vector of one token − vector of the other)"
    if len(named) > len(chosen):
        note += f"; {len(chosen)} of {len(named)} questions"
    style.outside_legend(figure, axes, columns=4, title=note)
    return figure


@style.styled
def growth(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """How the difference of the residual stream grows from block to block, a line for each question.

    Args:
        table: Table growth.csv of exp8.
        title: Text above the figure.
    """
    names = _forward(table)
    figure = style.new_figure(width="page", height=2.4)
    panels = figure.subplots(1, 2)
    measures = (("relative_l2", "relative L2"), ("ulp_median", "median lattice steps"))
    many = table["question"].nunique() > MAX_COLOURED
    for axes, (column, text) in zip(panels, measures, strict=True):
        shown = table[column].to_numpy(dtype=float)
        style.log_axis(axes.yaxis, style.log_limits(shown))
        if not style.positive(shown).size:
            axes.text(0.5, 0.5, "all zero", ha="center", transform=axes.transAxes)
        for question, colour in _questions(table):
            own = table[table["question"] == question]
            values = own[column].to_numpy(dtype=float)
            x = [names.index(name) for name in own["stage"]]
            label = "a question each" if many else question
            axes.plot(
                x,
                np.where(values > 0, values, np.nan),
                color=colour,
                marker=".",
                label=label,
                gid=f"{column}-{question}",
            )
        ticks = np.unique(np.linspace(0, len(names) - 1, min(len(names), 10)).round().astype(int))
        axes.set_xticks(ticks, [_short(names[i]) for i in ticks])
        axes.set_xlabel("residual stream at the input of block")
        axes.set_ylabel(f"difference, {text}")
    style.set_title(figure, title)
    style.outside_legend(figure, panels[0], columns=6)
    return figure


def _short(name: str) -> str:
    return {"embedding": "in", "final_prenorm": "end"}.get(name, name.rsplit(".", 1)[-1])


@style.styled
def norm(table: pd.DataFrame, *, kind: str, title: str | None = None) -> Figure:
    """What the final norm does to the angle between a state and a token's vector, with its gain and without.

    Args:
        table: Table angles.csv of exp8.
        kind: Class of the norm.
        title: Text above the figure.
    """
    rows = table[table["which"] == "decision"]
    figure = style.new_figure(height=2.6)
    axes = figure.add_subplot()
    axes.axhline(0, color=style.GREY, linewidth=0.6)
    for column, text, colour, shift in (
        ("change_degrees", "norm with its gain", style.BLUE, -0.12),
        ("change_gain_free_degrees", "norm without its gain", style.ORANGE, 0.12),
    ):
        for run, (marker, _) in RUNS.items():
            own = rows[rows["run"] == run]
            axes.plot(
                own["rank"] + shift, own[column], marker, color=colour, markersize=3, alpha=0.7,
                markerfacecolor=colour if run == "a" else "none", label=f"{text}, run {run}", gid=f"{column}-{run}",
            )  # fmt: skip
    axes.set_xlabel("rank of the token")
    axes.set_ylabel("change of the angle (degrees)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.set_title(figure, title)
    style.outside_legend(figure, axes, columns=2, title=kind)
    return figure
