"""Figures of exp12: the stability boundary around a prompt, angle by angle, in the plane of two singular vectors.

Every function takes the datasets of ``boundary.h5`` that it needs, by name: ``theta`` [n] radians, ``max_s`` [n], and
where they are there ``first_breakpoint`` [n] (NaN: none), ``censored`` [n] and ``certified`` [n].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes
from matplotlib.ticker import MaxNLocator, NullLocator

from tremor.figures import style

Array = npt.NDArray[Any]

CARDINALS = ((0.0, "+e₁"), (90.0, "+e₂"), (180.0, "−e₁"), (270.0, "−e₂"))
SPARSE = 60  # up to so many angles each gets a marker


@dataclass(frozen=True)
class _Circle:
    """Rays sorted by angle."""

    theta: Array  # [n] float64, radians
    max_s: Array  # [n] float64
    first: Array  # [n] float64, NaN where the input never moved
    censored: Array  # [n] bool
    certified: Array  # [n] bool

    @property
    def known(self) -> Array:
        """max_s where it is a boundary, NaN where the ray is censored."""
        return np.where(self.censored, np.nan, self.max_s)

    @property
    def degrees(self) -> Array:
        return np.degrees(self.theta)

    @property
    def logarithmic(self) -> bool:
        return style.decades(self.max_s) > 1.0


def _circle(data: Mapping[str, Array]) -> _Circle:
    theta = np.asarray(data["theta"], dtype=np.float64)
    max_s = np.asarray(data["max_s"], dtype=np.float64)
    first = np.asarray(data.get("first_breakpoint", np.full(theta.shape, np.nan)), dtype=np.float64)
    censored = np.asarray(data.get("censored", np.zeros(theta.shape)), dtype=bool)
    certified = np.asarray(data.get("certified", np.ones(theta.shape)), dtype=bool)
    if theta.ndim != 1 or not theta.size:
        raise ValueError(f"theta must be [n] with n >= 1, got {theta.shape}")
    for name, array in (
        ("max_s", max_s),
        ("first_breakpoint", first),
        ("censored", censored),
        ("certified", certified),
    ):
        if array.shape != theta.shape:
            raise ValueError(f"{name} must be {theta.shape} as theta is, got {array.shape}")
    if not (np.isfinite(max_s) & (max_s >= 0)).all():
        raise ValueError("max_s must be finite and not negative; censored rays have max_s = s_max")
    order = np.argsort(theta % (2 * np.pi), kind="stable")
    return _Circle(theta[order] % (2 * np.pi), max_s[order], first[order], censored[order], certified[order])


def _closed(values: Array, *, turn: float = 0.0) -> Array:
    """The values with the first one again at the end (plus ``turn``), so that a line closes."""
    return np.append(values, values[0] + turn)


def _extremes(circle: _Circle) -> list[tuple[int, str, str, str]]:
    """Index, marker, colour and legend of the smallest and the largest boundary among rays that have one."""
    known = circle.known
    if np.isnan(known).all():
        return []
    low, high = int(np.nanargmin(known)), int(np.nanargmax(known))
    note = " of uncensored rays" if circle.censored.any() else ""

    def text(name: str, i: int) -> str:
        return f"{name}{note} {style.number(known[i])} at {circle.degrees[i]:.4g}°"

    if known[low] == known[high]:
        return [(low, "s", style.INK, f"all{note or ' rays'} {style.number(known[low])}")]
    return [
        (low, "v", style.VERMILLION, text("min", low)),
        (high, "^", style.GREEN, text("max", high)),
    ]


def _marks(axes: Axes, x: Array, y: Array, circle: _Circle, *, extremes: bool = True) -> None:
    """Mark smallest and largest boundary, censored and uncertified rays; a legend entry only for what there is."""
    plain: dict[str, Any] = {"linestyle": "none", "zorder": 4, "clip_on": False}
    for index, marker, colour, text in _extremes(circle) if extremes else []:
        axes.plot(x[[index]], y[[index]], marker=marker, color=colour, markersize=5, label=text, gid="extreme", **plain)
    for mask, marker, size, colour, name in (
        (circle.censored, "o", 3.6, style.PURPLE, "censored: no change up to s_max"),
        (~circle.certified, "D", 4.6, style.ORANGE, "not certified: the search jumped"),
    ):
        if mask.any():
            axes.plot(
                x[mask],
                y[mask],
                marker=marker,
                markersize=size,
                markerfacecolor="none",
                markeredgewidth=0.8,
                color=colour,
                label=f"{name} ({mask.sum()} of {mask.size} rays)",
                **plain,
            )


def _line(circle: _Circle) -> dict[str, Any]:
    """Line of the boundary: markers where there are few rays, a thin line where there are many."""
    look: dict[str, Any] = {"color": style.BLUE, "label": "max_s", "gid": "boundary"}
    if circle.theta.size <= SPARSE:
        return {**look, "marker": "o", "markersize": 2.4, "linewidth": 0.9, "clip_on": False}
    return {**look, "linewidth": 0.9 if circle.theta.size < 400 else 0.6}


def _round_axes(figure: Figure, circle: _Circle) -> PolarAxes:
    """Polar axes with East as 0, counter-clockwise, and a radius that fits: linear, or log beyond one decade."""
    axes = figure.add_subplot(projection="polar")
    assert isinstance(axes, PolarAxes)
    axes.set_theta_zero_location("E")
    axes.set_theta_direction(1)
    axes.grid(True)
    axes.set_axisbelow(True)
    axes.spines["polar"].set_visible(True)
    axes.spines["polar"].set_color(style.GREY)
    top = float(circle.max_s.max()) or 1.0
    if circle.logarithmic:
        centre = np.floor(np.log10(style.positive(circle.max_s, circle.first).min() / 1.5))
        exponent, kind = 0, f"log radius, {style.power(int(centre))} at the centre"
        axes.set_rscale("log")
        axes.set_rlim(10.0**centre, top * 1.25)
        powers = np.arange(centre + 1, np.floor(np.log10(top * 1.25)) + 1)
        ticks = {10.0**power: style.power(int(power)) for power in powers}
    else:
        exponent, kind = style.exponent_of(top), "radius"
        axes.set_rlim(0.0, top * 1.12)
        places = MaxNLocator(4).tick_values(0.0, top * 1.12)
        ticks = {r: f"{r / 10.0**exponent:.6g}" for r in places if 0 < r <= top * 1.12}
    axes.set_yticks(list(ticks), labels=[""] * len(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    for radius, text in ticks.items():  # written by hand: tick labels would lie under the curve
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
        place = (np.radians(_quiet_angle(circle)), radius)
        axes.annotate(text, place, ha="center", va="center", fontsize=6, bbox=box, zorder=5)
    axes.set_xlabel(style.label(f"{kind}: {style.STEP}", style.STEP_UNITS, exponent=exponent, wrap=True))
    return axes


def _quiet_angle(circle: _Circle) -> float:
    """Where to write the radial ticks: the middle of the eighth with the smallest boundary, off the cardinals."""
    angles = np.arange(22.5, 360.0, 45.0)
    gaps = np.abs((circle.degrees[None, :] - angles[:, None] + 180.0) % 360.0 - 180.0)
    near = gaps <= 12.0
    if not near.any(axis=1).all():
        return 22.5
    return float(angles[int(np.argmin([np.mean(circle.max_s[row]) for row in near]))])


def _draw_round(axes: PolarAxes, circle: _Circle, *, fill: bool) -> None:
    turn = _closed(circle.theta, turn=2 * np.pi)
    radius = np.maximum(circle.max_s, axes.get_rmin())  # a boundary of 0 is the centre, also on a log radius
    if fill and circle.theta.size > 2:
        axes.fill(turn, _closed(radius), color=style.SKY, alpha=0.3, linewidth=0)
    axes.plot(turn, _closed(radius), **_line(circle))
    if np.isfinite(circle.first).any():
        axes.plot(
            turn,
            _closed(np.maximum(circle.first, axes.get_rmin())),
            color=style.INK,
            linewidth=0.5,
            label="first breakpoint: the input moves",
            gid="first_breakpoint",
        )
    _marks(axes, circle.theta, radius, circle)


@style.styled
def polar(data: Mapping[str, Array], *, title: str | None = None) -> Figure:
    """Boundary as radius over the angle, filled, with the smallest and the largest one marked.

    Args:
        data: See the module.
        title: Text above the figure.
    """
    circle = _circle(data)
    figure = style.new_figure(height=3.5)
    axes = _round_axes(figure, circle)
    _draw_round(axes, circle, fill=True)
    axes.set_thetagrids(range(0, 360, 45))
    style.set_title(figure, title)
    style.outside_legend(figure, axes, columns=1)
    return figure


@style.styled
def radar(data: Mapping[str, Array], *, title: str | None = None) -> Figure:
    """Boundary as a closed curve with its values at the angles nearest +-e1 and +-e2.

    Args:
        data: See the module.
        title: Text above the figure.
    """
    circle = _circle(data)
    figure = style.new_figure(height=3.5)
    axes = _round_axes(figure, circle)
    _draw_round(axes, circle, fill=False)
    labels = []
    nearest: list[int] = []
    exponent = style.exponent_of(float(circle.max_s.max()))
    for angle, name in CARDINALS:
        gap = np.abs((circle.degrees - angle + 180.0) % 360.0 - 180.0)  # circular: 359.9 degrees is near 0
        nearest.append(int(np.argmin(gap)))
        bound = "≥ " if circle.censored[nearest[-1]] else ""
        if gap[nearest[-1]] > 22.5:  # too few rays to have one there
            nearest.pop()
            labels.append(name)
            continue
        where = "" if gap[nearest[-1]] < 0.05 else f"\nat {circle.degrees[nearest[-1]]:.4g}°"
        labels.append(f"{name}\n{bound}{circle.max_s[nearest[-1]] / 10.0**exponent:.3g}{where}")
    axes.set_thetagrids([angle for angle, _ in CARDINALS], labels)
    for tick, (angle, _) in zip(axes.get_xticklabels(), CARDINALS, strict=True):
        tick.set_horizontalalignment("left" if angle == 0 else "right" if angle == 180 else "center")
    axes.plot(
        circle.theta[nearest],
        np.maximum(circle.max_s[nearest], axes.get_rmin()),
        linestyle="none",
        marker="o",
        markersize=4,
        color=style.INK,
        label=style.label("nearest to ±e₁, ±e₂: values", "", exponent=exponent),
        gid="cardinal",
        clip_on=False,
    )
    style.set_title(figure, title)
    style.outside_legend(figure, axes, columns=1)
    return figure


@style.styled
def cartesian(data: Mapping[str, Array], *, title: str | None = None) -> Figure:
    """Boundary over the angle in degrees, log if it spans more than a decade, with mean and median.

    Args:
        data: See the module.
        title: Text above the figure.
    """
    circle = _circle(data)
    figure = style.new_figure(width="page", height=2.85)
    axes = figure.add_subplot()
    for angle, name in CARDINALS:
        axes.axvline(angle, color=style.PALE, linewidth=0.8, zorder=0)
        axes.annotate(
            name, (angle, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2),
            textcoords="offset points", ha="center", va="bottom", fontsize=7,
        )  # fmt: skip
    exponent = 0
    shown = circle.max_s
    if circle.logarithmic:
        low, high = style.log_limits(circle.max_s, circle.first)
        style.log_axis(axes.yaxis, (low, high))
        shown = np.maximum(shown, low)
        zero = circle.max_s == 0
        if zero.any():
            axes.plot(
                circle.degrees[zero], shown[zero], linestyle="none", marker="v", color=style.INK, clip_on=False,
                label=f"max_s = 0 ({zero.sum()} rays)",
            )  # fmt: skip
    else:
        top = float(circle.max_s.max()) or 1.0
        exponent = style.exponent_of(top)
        axes.set_ylim(0.0, 1.1 * top)
        style.scale_ticks(axes.yaxis, exponent)
    axes.plot(circle.degrees, shown, **_line(circle))
    if np.isfinite(circle.first).any():
        axes.plot(
            circle.degrees, circle.first, color=style.INK, linewidth=0.5, gid="first_breakpoint",
            label="first breakpoint: the input moves",
        )  # fmt: skip
    if not circle.censored.all():
        note = " of uncensored rays" if circle.censored.any() else ""
        for name, value, dashes in (
            ("mean", float(np.nanmean(circle.known)), "--"),
            ("median", float(np.nanmedian(circle.known)), ":"),
        ):
            text = f"{name}{note} {style.number(value)}"
            axes.axhline(value, color=style.VERMILLION, linestyle=dashes, label=text, gid=name)
    _marks(axes, circle.degrees, shown, circle)
    axes.set_xlim(0, 360)
    axes.set_xticks(range(0, 361, 45))
    axes.set_xlabel(style.label("direction θ in the plane of e₁, e₂", "degrees"))
    axes.set_ylabel(style.label(style.STEP, style.STEP_UNITS, exponent=exponent, wrap=True))
    style.set_title(figure, title)
    style.outside_legend(figure, axes, columns=3)
    return figure


@style.styled
def plane(data: Mapping[str, Array], *, title: str | None = None) -> Figure:
    """The stable region itself, in the plane of e1 and e2: its outline, and its points coloured by angle.

    Args:
        data: See the module.
        title: Text above the figure.
    """
    circle = _circle(data)
    x, y = circle.max_s * np.cos(circle.theta), circle.max_s * np.sin(circle.theta)
    reach = 1.3 * (float(circle.max_s.max()) or 1.0)
    exponent = style.exponent_of(reach / 1.3)
    figure = style.new_figure(width="page", height=3.4)
    left, right = figure.subplots(1, 2)
    if circle.theta.size > 2:
        left.fill(x, y, color=style.SKY, alpha=0.3, linewidth=0)
    left.plot(_closed(x), _closed(y), **_line(circle))
    if np.isfinite(circle.first).any():
        fx, fy = circle.first * np.cos(circle.theta), circle.first * np.sin(circle.theta)
        left.plot(
            _closed(fx), _closed(fy), color=style.INK, linewidth=0.5, gid="first_breakpoint",
            label="first breakpoint: the input moves",
        )  # fmt: skip
    left.plot([0.0], [0.0], marker="+", color=style.INK, linestyle="none", label="unperturbed input")
    _marks(left, x, y, circle)
    points = right.scatter(
        x, y, c=circle.degrees, cmap=style.CYCLE, vmin=0, vmax=360, s=6 if circle.theta.size > SPARSE else 14,
        linewidths=0, zorder=3,
    )  # fmt: skip
    for angle, name in CARDINALS:
        along = reach * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        arrow = {"arrowstyle": "-|>", "color": style.GREY, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
        right.annotate("", tuple(0.8 * along), (0.0, 0.0), arrowprops=arrow)
        right.annotate(name, tuple(0.87 * along), ha="center", va="center", fontsize=7)
    bar = figure.colorbar(points, ax=right, ticks=[0, 90, 180, 270, 360], shrink=0.8, pad=0.02)
    bar.set_label(style.label("θ", "degrees"))
    bar.outline.set_visible(False)
    for axes in (left, right):
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        axes.set_aspect("equal")
        axes.locator_params(nbins=5)
        style.scale_ticks(axes.xaxis, exponent)
        style.scale_ticks(axes.yaxis, exponent)
        axes.set_xlabel(style.label("along e₁: max_s cos θ", style.EMBEDDING_UNITS, exponent=exponent))
    left.set_ylabel(style.label("along e₂: max_s sin θ", style.EMBEDDING_UNITS, exponent=exponent))
    style.set_title(figure, title)
    style.outside_legend(figure, left, columns=3)
    return figure
