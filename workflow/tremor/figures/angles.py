"""Figures of exp4 part 7: how the angles between final states and unembedding vectors are distributed, by rank."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from tremor.figures import style

COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.PURPLE, style.SKY)
ANGLE = "angle to the unembedding vector (°)"
_POINTS = 400


def _by_rank(table: pd.DataFrame) -> dict[int, npt.NDArray[np.float64]]:
    found = {}
    for rank in sorted(set(table["rank"])):
        angles = table.loc[table["rank"] == rank, "angle_degrees"].to_numpy(dtype=np.float64)
        found[int(rank)] = angles[np.isfinite(angles)]
    return found


def _edges(groups: dict[int, npt.NDArray[np.float64]], bins: int) -> npt.NDArray[np.float64]:
    whole = np.concatenate(list(groups.values()))
    low, high = (float(whole.min()), float(whole.max())) if whole.size else (0.0, 180.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


def density(values: npt.NDArray[np.float64], points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Gaussian kernel density with Scott's bandwidth; None where the values have no spread to smooth."""
    if len(values) < 3 or np.ptp(values) == 0:
        return None
    return np.asarray(stats.gaussian_kde(values)(points))


@style.styled
def angles(table: pd.DataFrame, *, bins: int, title: str | None = None) -> Figure:
    """Histogram, kernel density, boxes and violins of the angles, by rank.

    Args:
        table: Table angles.parquet of exp4.
        bins: Bins of the histogram.
        title: Text above the figure.
    """
    groups = _by_rank(table)
    edges = _edges(groups, bins)
    figure = style.new_figure(width="page", height=4.2)
    (histogram, curve), (boxes, violins) = figure.subplots(2, 2)
    margin = 0.08 * (edges[-1] - edges[0])
    points = np.linspace(edges[0] - margin, edges[-1] + margin, _POINTS)
    for colour, (rank, values) in zip(_colours(groups), groups.items(), strict=True):
        histogram.hist(values, edges, histtype="step", color=colour, label=f"rank {rank}", gid=f"histogram-{rank}")
        smooth = density(values, points)
        if smooth is not None:
            curve.plot(points, smooth, color=colour, gid=f"kde-{rank}")
    histogram.set(xlabel=ANGLE, ylabel="steps")
    curve.set(xlabel=ANGLE, ylabel="density (per degree)", ylim=(0, None))
    _boxes(boxes, groups)
    shaped = {rank: values for rank, values in groups.items() if density(values, points[:1]) is not None}
    if shaped:
        places = [list(groups).index(rank) for rank in shaped]
        parts = violins.violinplot(list(shaped.values()), places, showmedians=True, widths=0.8)
        for body, place in zip(parts["bodies"], places, strict=True):
            body.set(facecolor=_colours(groups)[place], alpha=0.45)
        for name in ("cmins", "cmaxes", "cbars", "cmedians"):
            parts[name].set(color=style.INK, linewidth=0.7)
    _ranks(violins, groups)
    style.set_title(figure, title)
    style.outside_legend(figure, histogram, columns=6)
    return figure


def _colours(groups: dict[int, npt.NDArray[np.float64]]) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(len(groups))]


def _boxes(axes: Axes, groups: dict[int, npt.NDArray[np.float64]]) -> None:
    drawn = axes.boxplot(
        list(groups.values()), positions=range(len(groups)), widths=0.6, patch_artist=True,
        flierprops={"markersize": 1.5, "markeredgecolor": style.GREY}, medianprops={"color": style.INK},
        whiskerprops={"linewidth": 0.7, "color": style.INK}, capprops={"linewidth": 0.7, "color": style.INK},
    )  # fmt: skip
    for patch, colour in zip(drawn["boxes"], _colours(groups), strict=True):
        patch.set(facecolor=colour, alpha=0.45, linewidth=0.7)
    _ranks(axes, groups)


def _ranks(axes: Axes, groups: dict[int, npt.NDArray[np.float64]]) -> None:
    axes.set_xticks(range(len(groups)), [str(rank) for rank in groups])
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set(xlabel="exactly this rank among the logits", ylabel="angle (degrees)")


@style.styled
def histograms(table: pd.DataFrame, *, bins: int, title: str | None = None) -> Figure:
    """A histogram for each rank, with mean and median.

    Args:
        table: Table angles.parquet of exp4.
        bins: Bins, the same for all ranks.
        title: Text above the figure.
    """
    groups = _by_rank(table)
    edges = _edges(groups, bins)
    lines = -(-len(groups) // 3)
    figure = style.new_figure(width="page", height=0.3 + 1.75 * lines)
    grid = figure.subplots(lines, 3, squeeze=False, sharex=True)
    for axes, colour, (rank, values) in zip(grid.flat, _colours(groups), groups.items(), strict=False):
        axes.hist(values, edges, color=colour, alpha=0.45)
        if values.size:
            axes.axvline(values.mean(), color=style.INK, label="mean", gid=f"mean-{rank}")
            axes.axvline(np.median(values), color=style.INK, linestyle=":", label="median", gid=f"median-{rank}")
            text = f"rank {rank}: {values.mean():.2f}° ± {values.std():.2f}°"
            axes.set_title(text, fontsize=7, loc="left", pad=2)
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(ANGLE)
    for axes in grid.flat[len(groups) :]:
        axes.set_visible(False)
    grid[0, 0].set_ylabel("steps")
    style.set_title(figure, title)
    style.outside_legend(figure, grid.flat[0], columns=2)
    return figure


@style.styled
def questions(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Boxes of the angles by rank, for each question.

    Args:
        table: Table angles.parquet of exp4.
        title: Text above the figure.
    """
    names: Sequence[str] = list(dict.fromkeys(table["question"]))
    columns = min(5, len(names))
    lines = -(-len(names) // columns)
    figure = style.new_figure(width="page", height=0.4 + 1.5 * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes, name in zip(grid.flat, names, strict=False):
        _boxes(axes, _by_rank(table[table["question"] == name]))
        axes.set(xlabel="", ylabel="")
        axes.set_title(name, fontsize=7, loc="left", pad=2)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    figure.supylabel("angle (degrees)", fontsize=7.5)
    figure.supxlabel("exactly this rank among the logits", fontsize=7.5)
    style.set_title(figure, title)
    return figure
