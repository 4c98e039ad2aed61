"""Figures of the cross-examination: what changed weights do to spectrum, noise floor, boundary and likelihood."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from tremor.figures import style
from tremor.figures.critical import NLL, looks, symmetric_log

QUANTITIES = {
    "sigma_1_change": "σ₁",
    "floor_change": "noise floor",
    "boundary_change": "boundary",
    "delta_nll": "NLL",
}
VERBS = {"zero": "removed", "halve": "× 0.5", "double": "× 2", "sign": "sign flipped", "mean": "set to the mean"}


def _finite(values: "pd.Series[float]") -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def _label(score: str) -> str:
    return "super weights" if score == "spikes" else score


def _places(sizes: Sequence[int], score: int, scores: int) -> npt.NDArray[np.float64]:
    """Places of a score's sets: log10 K, scores side by side."""
    return np.log10(np.asarray(sizes, dtype=np.float64)) + (score - (scores - 1) / 2) * 0.13


@style.styled
def changes(table: pd.DataFrame, controls: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Every quantity against the number of weights changed: a column for each operation, a row for each quantity.

    Args:
        table: cross.csv.
        controls: controls.csv.
        title: Text above the figure.
    """
    operations = [name for name in VERBS if name in set(table["operation"])]
    scores = looks(list(dict.fromkeys(table["score"])))
    figure = style.new_figure(width="page", height=0.4 + 1.35 * len(QUANTITIES))
    panels = figure.subplots(len(QUANTITIES), len(operations), squeeze=False, sharex=True, sharey="row")
    for row, (column, quantity) in enumerate(QUANTITIES.items()):
        for place, operation in enumerate(operations):
            axes = panels[row, place]
            own, drawn = table[table["operation"] == operation], controls[controls["operation"] == operation]
            for number, (score, (colour, marker)) in enumerate(scores.items()):
                sets = own[own["score"] == score].sort_values("topk")
                x = _places(sets["topk"].tolist(), number, len(scores))
                for at, k in zip(x, sets["topk"], strict=True):
                    random = _finite(drawn[(drawn["score"] == score) & (drawn["topk"] == k)][column])
                    if random.size:
                        axes.plot(
                            [at, at], [random.min(), random.max()], color=style.GREY, linewidth=3.5, alpha=0.45,
                            solid_capstyle="butt", label="range of random controls",
                            gid=f"{column}-{operation}-{score}-controls",
                        )  # fmt: skip
                        axes.plot([at], [np.median(random)], "_", color=style.GREY, markersize=5)
                axes.plot(
                    x, sets[column], color=colour, marker=marker, markersize=3, linewidth=0.7, label=_label(score),
                    gid=f"{column}-{operation}-{score}",
                )  # fmt: skip
            if row == 0:
                axes.set_title(VERBS[operation])
            _axis_of_sizes(axes, sorted(set(table["topk"])))
        values = np.concatenate([_finite(table[column]), _finite(controls[column])])
        symmetric_log(panels[row, 0], "y", values)
        for axes in panels[row, 1:]:
            axes.axhline(0, color=style.GREY, linewidth=0.6)
        unit = "nats per token" if column == "delta_nll" else "relative"
        panels[row, 0].set_ylabel(f"Δ{quantity}\n({unit})")
    for axes in panels[-1]:
        axes.set_xlabel("weights changed, best first")
    missing = int((~np.isfinite(table["sigma_1_change"])).sum())
    if missing:
        panels[0, 0].text(0.02, 0.98, f"{missing} sets without a finite state", va="top",
                          transform=panels[0, 0].transAxes, fontsize=6)  # fmt: skip
    style.set_title(figure, title)
    style.outside_legend(figure, *panels.flat, columns=6)
    return figure


def _axis_of_sizes(axes: Axes, sizes: Sequence[int]) -> None:
    places = np.log10(sizes)
    axes.xaxis.set_major_locator(FixedLocator(list(places)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(places, [str(k) for k in sizes])
    axes.set_xlim(places.min() - 0.4, places.max() + 0.4)


@style.styled
def effects(table: pd.DataFrame, controls: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Change of the geometry against the change of the likelihood: do weights that cost the one move the other?

    Args:
        table: cross.csv.
        controls: controls.csv.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.4)
    panels = figure.subplots(1, 3)
    grey = controls[np.isfinite(controls["delta_nll"].astype(float))]
    for axes, (column, quantity) in zip(panels, list(QUANTITIES.items())[:3], strict=True):
        axes.plot(
            grey["delta_nll"].abs(), grey[column].abs(), "x", color=style.GREY, markersize=2.5, label="random controls",
            gid=f"{column}-controls",
        )  # fmt: skip
        for score, (colour, marker) in looks(list(dict.fromkeys(table["score"]))).items():
            sets = table[table["score"] == score]
            axes.plot(
                sets["delta_nll"].abs(), sets[column].abs(), marker, color=colour, markersize=3, label=_label(score),
                gid=f"{column}-{score}",
            )  # fmt: skip
        both = pd.concat([table[["delta_nll", column]], grey[["delta_nll", column]]]).abs()
        style.log_axis(axes.xaxis, style.log_limits(both["delta_nll"]))
        style.log_axis(axes.yaxis, style.log_limits(both[column]))
        none = int(((both[column] == 0) | (both["delta_nll"] == 0)).sum())
        if none:
            axes.set_title(f"{none} of {len(both)} at zero, not shown", fontsize=6.5)
        axes.set_xlabel(f"|{NLL.partition(' (')[0]}| (nats per token)")
        axes.set_ylabel(f"|Δ{quantity}| (relative)")
    style.set_title(figure, title)
    style.outside_legend(figure, *panels, columns=6)
    return figure
