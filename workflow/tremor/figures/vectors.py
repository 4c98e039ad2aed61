"""Figure of exp13: the stability boundary along the singular vectors of the Jacobian, beside random directions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from tremor.figures import style

Array = npt.NDArray[Any]

SIGNS = ((1, "+", "o", style.BLUE), (-1, "−", "^", style.VERMILLION))
RESOLUTION = 1e-7  # share of sigma_1 below which a float32 Jacobian does not resolve a singular value


def _mask(data: Mapping[str, Array], name: str, *, default: bool) -> Array:
    return np.asarray(data.get(name, np.full(len(data["max_s"]), default)), dtype=bool)


def _control(axes: Axes, values: Array) -> None:
    """The random directions as a band from the 5 % to the 95 % quantile, and their median."""
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    axes.axhspan(low, high, color=style.GREY, alpha=0.22, linewidth=0, label="random directions: 5–95 %", gid="control")
    text = f"random directions: median {style.number(float(middle))} ({values.size} rays)"
    axes.axhline(middle, color=style.INK, linewidth=0.8, linestyle="--", label=text, gid="control_median")


def _points(axes: Axes, x: Array, data: Mapping[str, Array], shown: Array, low: float) -> None:
    """Boundaries of +v and -v, censored rays open, uncertified ones ringed; zeros on the lower edge.

    Args:
        axes: Where to draw.
        x: [n] position of each ray.
        data: Datasets of all rays.
        shown: [n] the rays to draw.
        low: Lower edge of the axis.
    """
    max_s = np.asarray(data["max_s"], dtype=np.float64)
    sign = np.asarray(data["sign"])
    censored, certified = _mask(data, "censored", default=False), _mask(data, "certified", default=True)
    size = 3.2 if shown.sum() <= 300 else 1.8 if shown.sum() <= 3000 else 1.0
    plain: dict[str, Any] = {"linestyle": "none", "clip_on": False}
    for value, name, marker, colour in SIGNS:
        rays = shown & (sign == value) & ~censored & (max_s > 0)
        if rays.any():
            look: dict[str, Any] = {
                "marker": marker,
                "color": colour,
                "markersize": size,
                "markeredgewidth": 0,
                "alpha": 0.75,
            }
            text = f"along {name}vₖ"
            axes.plot(x[rays], max_s[rays], label=text, gid=f"sign{value:+d}", **look, **plain)
    for rays, marker, colour, name in (
        (shown & censored, "o", style.PURPLE, "censored: no change up to s_max"),
        (shown & ~certified, "D", style.ORANGE, "not certified: the search jumped"),
        (shown & (max_s == 0), "v", style.INK, "max_s = 0"),
    ):
        if rays.any():
            axes.plot(
                x[rays],
                np.maximum(max_s[rays], low),
                marker=marker,
                markersize=size + 2,
                markerfacecolor="none",
                markeredgewidth=0.7,
                color=colour,
                label=f"{name} ({rays.sum()} of {shown.sum()} rays)",
                **plain,
            )


def _sigma_axis(axes: Axes, sigma: Array, singular_sigma: Array) -> Array:
    """Log axis of sigma; gives [n] positions, where a sigma of 0 stands on the left edge."""
    left, right = style.log_limits(sigma)
    style.log_axis(axes.xaxis, (left, right))
    axes.xaxis.set_minor_formatter(NullFormatter())
    top = float(singular_sigma.max()) if singular_sigma.size else 0.0
    if top * RESOLUTION > left:
        axes.axvspan(
            left, top * RESOLUTION, color=style.ORANGE, alpha=0.18, linewidth=0, gid="unresolved",
            label="σ not resolved by a float32 Jacobian",
        )  # fmt: skip
    if (singular_sigma <= 0).any():
        axes.annotate(
            f"σ = 0 on this edge ({(singular_sigma <= 0).sum()} rays)", (0.0, 0.0), xycoords="axes fraction",
            xytext=(3, 3), textcoords="offset points", fontsize=6,
        )  # fmt: skip
    return np.where(sigma > 0, sigma, left)


@style.styled
def stability(
    data: Mapping[str, Array], *, spearman: float | None = None, p_value: float | None = None, title: str | None = None
) -> Figure:
    """Boundaries along singular vectors against their rank and against sigma, with random directions as control.

    Args:
        data: ``kind`` ("singular" or "random"), ``vector`` (index from 0), ``sign``, ``sigma`` (a random ray's own
            gain, or NaN) and ``max_s``, each [n]; also ``censored`` and ``certified`` where they are there.
        spearman: Rank correlation of max_s with sigma over the singular vectors; None: not defined.
        p_value: Its p value.
        title: Text above the figure.
    """
    kind = np.asarray(data["kind"]).astype(str)
    max_s = np.asarray(data["max_s"], dtype=np.float64)
    sigma = np.asarray(data["sigma"], dtype=np.float64)
    singular = kind == "singular"
    if not singular.any():
        raise ValueError("no ray of kind 'singular' to draw")
    control = (kind == "random") & ~_mask(data, "censored", default=False)
    low, high = style.log_limits(max_s)
    figure = style.new_figure(width="page", height=3.1)
    by_rank, by_sigma = figure.subplots(1, 2, sharey=True)
    style.log_axis(by_rank.yaxis, (low, high))
    rank = np.asarray(data["vector"], dtype=np.float64) + 1
    position = _sigma_axis(by_sigma, sigma, sigma[singular])
    for axes, x in ((by_rank, rank), (by_sigma, position)):
        if control.any():
            _control(axes, max_s[control])
        _points(axes, x, data, singular, low)
    dots = control & np.isfinite(sigma) & (max_s > 0)
    if dots.any():  # under the singular vectors, each at its own gain
        text = "random directions, each at its own gain ‖J d‖"
        by_sigma.plot(
            sigma[dots], max_s[dots], linestyle="none", marker=".", markersize=2, color=style.INK, alpha=0.5,
            markeredgewidth=0, zorder=1.5, label=text, gid="random",
        )  # fmt: skip
    by_rank.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    by_rank.set_xlim(*style.rank_limits(int(rank[singular].max())))
    by_rank.set_xlabel(style.label("rank k of the right singular vector vₖ", "largest σ first", wrap=True))
    by_sigma.set_xlabel(style.label("singular value σₖ", f"{style.HIDDEN_UNITS} per embedding unit", wrap=True))
    by_rank.set_ylabel(style.label(style.STEP, style.STEP_UNITS, wrap=True))
    relation = (
        "Spearman ρ(max_s, σ) not defined"
        if spearman is None
        else f"Spearman ρ(max_s, σ) = {style.minus(f'{spearman:+.3f}')}"
    )
    if spearman is not None and p_value is not None:
        relation += f", p = {style.number(p_value, 2)}" if p_value > 0 else ", p < 10⁻³⁰⁰"
    by_sigma.set_title(relation, fontsize=7, loc="right")
    style.set_title(figure, title)
    style.outside_legend(figure, by_sigma, columns=3)
    return figure
