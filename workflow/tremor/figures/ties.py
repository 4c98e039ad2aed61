"""Figures of exp6: how a tie was found, and how the chosen token changes around it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tremor.figures import style

Array = npt.NDArray[Any]
STAGE_COLOURS = {
    "start": style.INK, "newton": style.ORANGE, "regula falsi": style.BLUE, "bisection": style.GREEN,
}  # fmt: skip
GAP_UNITS = "logits"


def quoted(text: str) -> str:
    """A token for a label: spaces stay visible, control characters do not break the line."""
    return "“" + text.replace("\n", "\\n").replace("\t", "\\t") + "”"


@style.styled
def search(history: pd.DataFrame, tie: Mapping[str, Any], *, title: str | None = None) -> Figure:
    """Size of the gap at every evaluation of the search, and the floor below which logits resolve nothing.

    Args:
        history: Table ``history.csv``.
        tie: Statistics ``tie.json``.
        title: Text above the figure.
    """
    gap = np.abs(history["gap"].to_numpy())
    ulp = float(tie["logit_ulp"])
    low, high = style.log_limits(gap, np.array([ulp]))
    figure = style.new_figure(height=2.5)
    axes = figure.add_subplot()
    style.log_axis(axes.yaxis, (low, high))
    axes.axhspan(low, ulp, color=style.ORANGE, alpha=0.18, linewidth=0, label="below one ulp of the logits", gid="ulp")
    number = history["evaluation"].to_numpy()
    axes.plot(number, np.where(gap > 0, gap, np.nan), color=style.GREY, linewidth=0.6)
    for stage, colour in STAGE_COLOURS.items():
        own = (history["stage"] == stage).to_numpy()
        positive = own & (history["gap"].to_numpy() > 0)
        negative = own & (history["gap"].to_numpy() < 0)
        axes.plot(number[positive], gap[positive], "o", color=colour, label=stage if own.any() else None, gid=stage)
        axes.plot(number[negative], gap[negative], "o", color=colour, markerfacecolor="white", gid=f"{stage} below")
    zero = gap == 0
    if zero.any():
        axes.plot(number[zero], np.full(zero.sum(), low), "v", color=style.INK, clip_on=False, label="exactly 0")
    axes.plot([], [], "o", color=style.GREY, markerfacecolor="white", label="open: the second token leads")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"evaluation (and {tie['gradients']} gradients)")
    axes.set_ylabel(style.label("|gap|", GAP_UNITS))
    axes.set_title(
        f"{quoted(tie['first_text'])} = {quoted(tie['second_text'])} at distance {style.number(tie['distance_l2'])}",
        fontsize=6.5,
        loc="right",
    )
    style.set_title(figure, title)
    style.outside_legend(figure, axes, columns=3)
    return figure


def _strip(axes: Axes, steps: Array, token: Array, pair: tuple[int, int], scale: float) -> None:
    """Which token is chosen at each step, as a band below the curve."""
    colours = np.array([to_rgba(style.GREY), to_rgba(style.BLUE), to_rgba(style.VERMILLION)])
    kind = np.where(token == pair[0], 1, np.where(token == pair[1], 2, 0))
    half = (steps[1] - steps[0]) / 2
    axes.imshow(
        colours[kind][None],
        extent=((steps[0] - half) / scale, (steps[-1] + half) / scale, 0.0, 0.09),
        transform=axes.get_xaxis_transform(),
        aspect="auto",
        interpolation="nearest",
        zorder=3,
    )


@style.styled
def flips(table: pd.DataFrame, nearest: pd.DataFrame, tie: Mapping[str, Any], *, title: str | None = None) -> Figure:
    """The gap of the tied tokens along each direction, the chosen token as a band, and the exact nearest flips.

    Args:
        table: Table ``flips.parquet``.
        nearest: Table ``nearest.csv``.
        tie: Statistics ``tie.json``.
        title: Text above the figure.
    """
    pair = (int(tie["first_token"]), int(tie["second_token"]))
    directions = sorted(table["direction"].unique())
    figure = style.new_figure(width="page", height=0.6 + 1.0 * len(directions))
    panels = figure.subplots(len(directions), 1, sharex=True, squeeze=False)[:, 0]
    exponent = style.exponent_of(float(table["epsilon"].max()))
    for axes, direction in zip(panels, directions, strict=True):
        own = table[table["direction"] == direction]
        steps, gap = own["epsilon"].to_numpy(), own["gap"].to_numpy()
        axes.axhline(0.0, color=style.PALE, linewidth=0.6, zorder=0)
        axes.plot(
            steps, own["gap_float64"], color=style.SKY, linewidth=0.5, label="h · (v₁ − v₂) in float64", gid="smooth"
        )
        axes.plot(steps, gap, ".", markersize=1.6, color=style.INK, label="difference of the model's logits", gid="gap")
        exact = []
        for _, flip in nearest[nearest["direction"] == direction].sort_values("sign").iterrows():
            exact.append("none" if flip["censored"] else style.number(float(flip["step"])))
            if not flip["censored"]:
                axes.axvline(
                    flip["step"], color=style.PURPLE, linewidth=0.8, linestyle="-" if flip["certified"] else ":",
                    label="nearest flip, exact" if flip["certified"] else "flip, not certified", gid="flip",
                )  # fmt: skip
        low, high = min(gap.min(), own["gap_float64"].min()), max(gap.max(), own["gap_float64"].max())
        space = 0.08 * (high - low) or 1.0
        axes.set_ylim(low - 2.5 * space, high + space)
        _strip(axes, steps, own["token"].to_numpy(), pair, 1.0)
        axes.set_xlim(steps[0], steps[-1])
        style.scale_ticks(axes.yaxis, style.exponent_of(float(np.abs(gap).max())))
        unit = style.exponent_of(float(np.abs(gap).max()))
        axes.set_ylabel(f"v{direction}: gap\n({style.power(unit) + ' ' if unit else ''}{GAP_UNITS})", fontsize=6.5)
        axes.locator_params(axis="y", nbins=4)
        flipped = int(np.sum(np.diff(own["token"].to_numpy()) != 0))
        note = f"{flipped} flips on the grid; nearest {' and '.join(exact)}"
        axes.set_title(note, fontsize=6, loc="right", pad=2)
    names = ((style.BLUE, tie["first_text"]), (style.VERMILLION, tie["second_text"]), (style.GREY, None))
    for colour, text in names:
        name = "band: another token" if text is None else f"band: {quoted(text)} is chosen"
        panels[0].plot([], [], color=colour, linewidth=4, label=name)
    style.scale_ticks(panels[-1].xaxis, exponent)
    panels[-1].set_xlabel(style.label("nominal step ε from the tie", style.EMBEDDING_UNITS, exponent=exponent))
    style.set_title(figure, title)
    style.outside_legend(figure, *panels, columns=3)
    return figure
