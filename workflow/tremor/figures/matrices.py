"""Figures of exp9 from its table: norms, moments, shapes, magnitudes by block; maps of block by component."""

import math
from collections.abc import Callable

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tremor.figures import style

COLOURS = (
    style.BLUE,
    style.ORANGE,
    style.GREEN,
    style.VERMILLION,
    style.PURPLE,
    style.SKY,
    style.INK,
    style.GREY,
)
MARKERS = ("o", "s", "^", "v", "D", "P", "X", "*")
MAPS = (  # column, what it is called
    ("spectral_norm", "spectral norm"),
    ("frobenius_norm", "Frobenius norm"),
    ("std", "standard deviation"),
    ("max_abs", "largest |weight|"),
    ("stable_rank", "stable rank"),
    ("kurtosis", "excess kurtosis"),
)
SYMLOG_FROM = 50.0  # a kurtosis above this hides the others on a linear axis
LOG_DECADES = 1.0  # a colour scale is logarithmic from here
COLUMNS = 4


def by_block(table: pd.DataFrame) -> pd.DataFrame:
    """The matrices inside blocks, one row for each block and component: over experts the mean.

    Args:
        table: Table matrices.csv of exp9.

    Returns:
        Columns block, component and all real numbers, components in the order of the computation.
    """
    inside = table[table["block"].notna() & table["inputs"].notna() & ~table["fused"].astype(bool)]
    order = list(dict.fromkeys(inside["component"]))
    numbers = [name for name in inside.columns if inside[name].dtype == "float64"]
    means = inside.groupby(["component", "block"], sort=False)[numbers].mean().reset_index()
    means["component"] = pd.Categorical(means["component"], categories=order, ordered=True)
    return means.sort_values(["component", "block"]).reset_index(drop=True)


def block_axis(axes: Axes, blocks: int) -> None:
    """An x axis of block numbers."""
    axes.set_xlim(-0.5, blocks - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.set_xlabel("block")


def _lines(axes: Axes, means: pd.DataFrame, column: str) -> None:
    for number, component in enumerate(means["component"].cat.categories):
        own = means[means["component"] == component]
        turn, index = divmod(number, len(COLOURS))
        axes.plot(
            own["block"].to_numpy(dtype=float),
            own[column].to_numpy(dtype=float),
            color=COLOURS[index],
            marker=MARKERS[index],
            linestyle=("-", "--", ":")[turn % 3],
            label=component,
            gid=f"{column}-{component}",
        )
    block_axis(axes, int(means["block"].max()) + 1)


def _finish(figure: Figure, panels: npt.NDArray[np.object_], title: str | None) -> Figure:
    style.set_title(figure, title)
    style.outside_legend(figure, *panels, columns=8)
    return figure


@style.styled
def norms(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Frobenius, spectral and nuclear norm of every matrix, by block.

    Args:
        table: Table matrices.csv of exp9.
        title: Text above the figure.
    """
    means = by_block(table)
    figure = style.new_figure(width="page", height=2.3)
    panels = figure.subplots(1, 3)
    for axes, name in zip(panels, ("Frobenius", "spectral", "nuclear"), strict=True):
        column = f"{name.lower()}_norm"
        style.log_axis(axes.yaxis, style.log_limits(means[column].to_numpy(dtype=float)))
        _lines(axes, means, column)
        axes.set_ylabel(f"{name} norm")
    return _finish(figure, panels, title)


@style.styled
def moments(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Mean and standard deviation of the weights of every matrix, by block.

    Args:
        table: Table matrices.csv of exp9.
        title: Text above the figure.
    """
    means = by_block(table)
    figure = style.new_figure(width="page", height=2.3)
    panels = figure.subplots(1, 2)
    panels[0].axhline(0.0, color=style.GREY, linewidth=0.6)
    _lines(panels[0], means, "mean")
    largest = float(np.nanmax(np.abs(means["mean"].to_numpy(dtype=float))))
    exponent = style.exponent_of(largest)
    style.scale_ticks(panels[0].yaxis, exponent)
    panels[0].set_ylabel(style.label("mean weight", "", exponent=exponent))
    style.log_axis(panels[1].yaxis, style.log_limits(means["std"].to_numpy(dtype=float)))
    _lines(panels[1], means, "std")
    panels[1].set_ylabel("standard deviation")
    return _finish(figure, panels, title)


@style.styled
def shapes(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Skewness and excess kurtosis of the weights of every matrix, by block; a normal distribution has 0 and 0.

    Args:
        table: Table matrices.csv of exp9.
        title: Text above the figure.
    """
    means = by_block(table)
    figure = style.new_figure(width="page", height=2.3)
    panels = figure.subplots(1, 2)
    for axes, (column, name) in zip(panels, (("skewness", "skewness"), ("kurtosis", "excess kurtosis")), strict=True):
        axes.axhline(0.0, color=style.GREY, linewidth=0.6)
        _lines(axes, means, column)
        if float(np.nanmax(np.abs(means[column].to_numpy(dtype=float)), initial=0.0)) > SYMLOG_FROM:
            axes.set_yscale("symlog", linthresh=1.0)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.number(value, 4)))
            name += "\n(linear from −1 to 1)"
        axes.set_ylabel(name)
    return _finish(figure, panels, title)


@style.styled
def magnitudes(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Mean |weight| by block, a panel for each component; bars beyond one standard deviation of the blocks stand out.

    Args:
        table: Table matrices.csv of exp9.
        title: Text above the figure.
    """
    means = by_block(table)
    components = list(means["component"].cat.categories)
    rows = -(-len(components) // COLUMNS)
    figure = style.new_figure(width="page", height=0.4 + 1.35 * rows)
    panels = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in panels.ravel()[len(components) :]:
        axes.set_axis_off()
    for axes, component in zip(panels.ravel(), components, strict=False):
        own = means[means["component"] == component]
        values = own["mean_abs"].to_numpy(dtype=float)
        middle, spread = float(values.mean()), float(values.std())
        colours = np.where(values > middle + spread, style.VERMILLION, style.SKY)
        colours = np.where(values < middle - spread, style.BLUE, colours)
        axes.bar(own["block"].to_numpy(dtype=float), values, color=list(colours), width=0.8, gid=component)
        axes.axhline(middle, color=style.INK, linewidth=0.7, label="mean of the blocks")
        for edge in (middle - spread, middle + spread):
            axes.axhline(edge, color=style.INK, linewidth=0.6, linestyle=":", label="± one standard deviation")
        exponent = style.exponent_of(float(values.max()))
        style.scale_ticks(axes.yaxis, exponent)
        axes.set_ylim(0.0, 1.12 * max(float(values.max()), middle + spread))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.set_title(component)
        axes.set_ylabel(style.label("mean |weight|", "", exponent=exponent))
        block_axis(axes, int(means["block"].max()) + 1)
    for colour, name in ((style.VERMILLION, "above"), (style.BLUE, "below"), (style.SKY, "within")):
        panels[0, 0].plot([], [], color=colour, linewidth=4, label=name)
    return _finish(figure, panels[0, :1], title)


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in sight of a log scale; with 2 and 5 between where they are few, some of them where many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    powers = [10.0**decade for decade in decades if low <= 10.0**decade <= high]
    if len(powers) >= 3:
        return powers[:: -(-len(powers) // 5)]
    finer = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    return [tick for tick in finer if low <= tick <= high]


@style.styled
def heatmaps(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Maps of block by component: norms, spread, largest weight, stable rank and kurtosis; a grey cell: no such matrix.

    Args:
        table: Table matrices.csv of exp9.
        title: Text above the figure.
    """
    means = by_block(table)
    components = list(means["component"].cat.categories)
    blocks = int(means["block"].max()) + 1
    height = 0.55 + 0.155 * len(components)
    figure = style.new_figure(width="page", height=0.3 + 2 * height)
    panels = figure.subplots(2, 3)
    for axes, (column, name) in zip(panels.ravel(), MAPS, strict=True):
        grid = np.full((len(components), blocks), np.nan)
        grid[means["component"].cat.codes, means["block"].to_numpy(dtype=int)] = means[column].to_numpy(dtype=float)
        shown = np.ma.masked_invalid(grid)
        whole = bool((shown > 0).all()) and style.decades(grid) > LOG_DECADES
        low, high = float(shown.min()), float(shown.max())
        scale: Normalize = LogNorm(low, high) if whole else Normalize(low, high)
        colours = matplotlib.colormaps["cividis"].with_extremes(bad=style.PALE)
        image = axes.imshow(shown, aspect="auto", cmap=colours, norm=scale, interpolation="none", gid=column)
        bar = figure.colorbar(image, ax=axes, pad=0.02)
        bar.outline.set_linewidth(0.4)
        ticks = (
            log_ticks(low, high) if whole else [t for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high]
        )
        bar.set_ticks(ticks, labels=[style.number(tick) for tick in ticks])
        bar.minorticks_off()
        axes.set_title(name)
        left = axes.get_subplotspec().is_first_col()
        axes.set_yticks(range(len(components)), components if left else [""] * len(components))
        axes.tick_params(axis="y", length=0)
        block_axis(axes, blocks)
    style.set_title(figure, title)
    return figure


FROM_TABLE: tuple[Callable[..., Figure], ...] = (norms, moments, shapes, magnitudes, heatmaps)
