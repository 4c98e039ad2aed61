"""Figures of exp15: how far input and answer move at the first step that changes the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from tremor.figures import style

Array = npt.NDArray[Any]

SPARSE = 60
NOT_A_GAIN = (
    "Measured ‖Δh‖ over ‖Δx‖ is the rounding noise floor over the input's quantum, not a gain; "
    "the gain of the smooth map is ‖J Δx‖ / ‖Δx‖."
)


def _shown(values: Array) -> Array:
    """Values with a gap where they are 0, which has no place on a log axis and is marked at its edge."""
    return np.where(values > 0, values, np.nan)


@dataclass(frozen=True)
class _Group:
    """Rays drawn alike."""

    rays: Array  # [n] bool
    step: str  # legend of the input's distance
    answer: str  # legend of the answer's distance
    colour: str
    answer_colour: str
    marker: str = ""  # "" for a line


def _columns(data: Mapping[str, Array]) -> tuple[dict[str, Array], Array]:
    """Distances as float64 with NaN where a ray is censored, and the mask of censored rays."""
    names = ("embedding_l2", "hidden_l2", "smooth_prediction_l2", "noise_floor_l2", "embedding_ulps")
    size = len(data["embedding_l2"])
    censored = np.asarray(data.get("censored", np.zeros(size)), dtype=bool)
    found = {n: np.asarray(data[n], dtype=np.float64) for n in names if n in data}
    for name, values in found.items():
        if values.shape != (size,):
            raise ValueError(f"{name} must be ({size},) as embedding_l2 is, got {values.shape}")
    return {name: np.where(censored, np.nan, values) for name, values in found.items()}, censored


def _stacked() -> tuple[Figure, Axes, Axes]:
    figure = style.new_figure(width="page", height=4.6)
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.set_ylabel(style.label("input step ‖Δx‖₂", style.EMBEDDING_UNITS, wrap=True))
    bottom.set_ylabel(style.label("answer's change, L₂", style.HIDDEN_UNITS, wrap=True))
    return figure, top, bottom


def _look(group: _Group, count: int) -> dict[str, Any]:
    if group.marker:
        size = 3.0 if count <= 300 else 1.8
        look = {"linestyle": "none", "marker": group.marker, "markersize": size, "markeredgewidth": 0, "alpha": 0.8}
        return {"color": group.colour, **look}
    few = {"marker": "o", "markersize": 2.4, "clip_on": False, "zorder": 3} if count <= SPARSE else {}
    return {"color": group.colour, "linewidth": 0.8 if count < 400 else 0.6, **few}


def _ulps(axes: Axes, x: Array, ulps: Array) -> None:
    """Lattice steps of each input, on an axis of their own at the right."""
    if not np.isfinite(ulps).any():
        return
    other = axes.twinx()
    other.spines["right"].set_visible(True)
    other.spines["right"].set_color(style.ORANGE)
    style.log_axis(other.yaxis, style.log_limits(ulps))
    other.tick_params(axis="y", which="both", colors=style.ORANGE)
    other.set_ylabel(style.label("lattice steps moved", "ulps, summed over coordinates", wrap=True), color=style.ORANGE)
    other.plot(
        x, ulps, linestyle="none", marker="_", markersize=2.5, markeredgewidth=0.6, color=style.ORANGE, alpha=0.5,
        label="_ulps", gid="ulps",
    )  # fmt: skip
    # Its entry goes into the legend of the left axis, the values to the right one.
    axes.plot([], [], linestyle="none", marker="_", color=style.ORANGE, label="lattice steps of Δx (right axis)")
    axes.set_zorder(other.get_zorder() + 1)
    axes.patch.set_visible(False)


def _log(axes: Axes, *values: Array, edge: bool) -> tuple[float, float]:
    low, high = style.log_limits(*values)
    if edge:
        low /= 2.0  # room for what stands on the lower edge
    style.log_axis(axes.yaxis, (low, high))
    return low, high


def _draw(
    top: Axes, bottom: Axes, x: Array, columns: Mapping[str, Array], censored: Array, groups: Sequence[_Group]
) -> None:
    """Both panels.

    Args:
        top: Panel of the input step.
        bottom: Panel of the answer's change.
        x: [n] position of each ray.
        columns: From :func:`_columns`.
        censored: [n].
        groups: Rays drawn alike, the lowest first.
    """
    count = x.size
    smooth = columns["smooth_prediction_l2"]
    floor = columns.get("noise_floor_l2", np.full(count, np.nan))
    finite = floor[np.isfinite(floor)]
    level = float(np.median(finite)) if finite.size else float("nan")
    _log(top, columns["embedding_l2"], edge=bool(censored.any()))
    low, _ = _log(bottom, columns["hidden_l2"], smooth, np.array([level]), edge=bool(censored.any()))
    if "embedding_ulps" in columns:
        _ulps(top, x, columns["embedding_ulps"])
    for group in groups:
        rays = group.rays
        if not np.isfinite(columns["embedding_l2"][rays]).any():
            continue
        top.plot(x[rays], columns["embedding_l2"][rays], label=group.step, gid="embedding", **_look(group, count))
        predicted = _look(replace(group, colour=style.GREEN), count)
        bottom.plot(x[rays], _shown(smooth[rays]), label="smooth prediction ‖J Δx‖", gid="smooth", **predicted)
        look = _look(replace(group, colour=group.answer_colour), count)
        bottom.plot(x[rays], _shown(columns["hidden_l2"][rays]), label=group.answer, gid="hidden", **look)
    if not np.isfinite(columns["embedding_l2"]).any():
        for axes in (top, bottom):
            axes.annotate("no ray has a boundary", (0.5, 0.5), xycoords="axes fraction", ha="center")
            axes.yaxis.set_major_locator(NullLocator())
            axes.yaxis.set_minor_locator(NullLocator())
    if np.isfinite(level) and level > 0:
        text = f"rounding noise floor {style.number(level)} (median)"
        bottom.axhline(level, color=style.INK, linewidth=0.9, linestyle="--", label=text, gid="noise_floor")
    if censored.any():
        text = f"censored: no change up to s_max ({censored.sum()} of {count} rays)"
        for axes, name in ((top, "_censored"), (bottom, text)):
            axes.plot(
                x[censored], np.zeros(censored.sum()), transform=axes.get_xaxis_transform(), linestyle="none",
                marker="o", markersize=3.4, markerfacecolor="none", markeredgewidth=0.8, color=style.PURPLE,
                clip_on=False, label=name, gid="censored",
            )  # fmt: skip
    zero = columns["hidden_l2"] == 0
    if zero.any():
        bottom.plot(
            x[zero], np.full(zero.sum(), low), linestyle="none", marker="v", color=style.VERMILLION, clip_on=False,
            label=f"‖Δh‖ = 0 ({zero.sum()} rays)", gid="zero",
        )  # fmt: skip


def _finish(figure: Figure, top: Axes, bottom: Axes, title: str | None) -> Figure:
    style.outside_legend(figure, top, bottom, columns=3, title=NOT_A_GAIN)
    style.set_title(figure, title)
    return figure


@style.styled
def by_angle(data: Mapping[str, Array], *, title: str | None = None) -> Figure:
    """Distances at the boundary over the angle in the plane of exp12.

    Args:
        data: ``theta`` [n] radians, ``embedding_l2``, ``hidden_l2``, ``smooth_prediction_l2``, ``noise_floor_l2``,
            each [n]; also ``embedding_ulps`` and ``censored`` where they are there.
        title: Text above the figure.
    """
    order = np.argsort(np.asarray(data["theta"], dtype=np.float64), kind="stable")
    columns, censored = _columns(data)
    columns = {name: values[order] for name, values in columns.items()}
    degrees = np.degrees(np.asarray(data["theta"], dtype=np.float64)[order])
    figure, top, bottom = _stacked()
    everything = np.ones(degrees.size, dtype=bool)
    group = _Group(everything, "‖Δx‖ at min_t", "measured ‖Δh‖ at min_t", style.BLUE, style.VERMILLION)
    _draw(top, bottom, degrees, columns, censored[order], [group])
    bottom.set_xlim(0, 360)
    bottom.set_xticks(range(0, 361, 45))
    bottom.set_xlabel(style.label("direction θ in the plane of e₁, e₂", "degrees"))
    return _finish(figure, top, bottom, title)


@style.styled
def by_vector(data: Mapping[str, Array], *, title: str | None = None) -> Figure:
    """Distances at the boundary over the rank of the singular vector, both signs, beside random directions.

    Args:
        data: ``kind``, ``vector`` and ``sign`` [n] as in exp13, and the distances of :func:`by_angle`. Random
            directions have no rank; they stand at the number of their draw.
        title: Text above the figure.
    """
    columns, censored = _columns(data)
    rank = np.asarray(data["vector"], dtype=np.float64) + 1
    kind, sign = np.asarray(data["kind"]).astype(str), np.asarray(data["sign"])
    figure, top, bottom = _stacked()
    singular = kind == "singular"
    groups = [
        _Group(rays, text, text, colour, colour, marker)
        for rays, name, colour, marker in (
            (kind == "random", "random directions", style.GREY, "s"),
            (singular & (sign > 0), "along +vₖ", style.BLUE, "o"),
            (singular & (sign < 0), "along −vₖ", style.VERMILLION, "^"),
        )
        for text in [f"measured at min_t, {name}"]
    ]
    _draw(top, bottom, rank, columns, censored, groups)
    bottom.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    bottom.set_xlim(*style.rank_limits(int(rank.max())))
    bottom.set_xlabel("rank k of the right singular vector vₖ (random directions: number of the draw)")
    return _finish(figure, top, bottom, title)
