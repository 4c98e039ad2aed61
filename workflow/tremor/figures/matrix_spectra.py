"""Figures of exp9 from its arrays: how the weights of a matrix are distributed, and its singular values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tremor.figures import style

COLUMNS = 4
FLOOR = 1e-8  # of sigma_1: below, singular values are the rounding of the weights


def _inside(table: pd.DataFrame) -> pd.DataFrame:
    """Matrices inside blocks; of several experts the first."""
    kept = table["block"].notna() & table["inputs"].notna() & ~table["fused"].astype(bool)
    return table[kept & (table["expert"].isna() | (table["expert"] == 0))]


def _grid(inside: pd.DataFrame) -> tuple[Figure, Sequence[Axes], list[str]]:
    components = list(dict.fromkeys(inside["component"]))
    rows = -(-len(components) // COLUMNS)
    figure = style.new_figure(width="page", height=0.4 + 1.4 * rows)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in panels[len(components) :]:
        axes.set_axis_off()
    for axes, component in zip(panels, components, strict=False):
        expert = inside.loc[inside["component"] == component, "expert"].notna().any()
        axes.set_title(f"{component}, expert 0" if expert else component)
    return figure, list(panels[: len(components)]), components


def _depth_colours(blocks: int) -> tuple[Any, Normalize]:
    """Darker is earlier; the brightest end of the map is too pale for a line."""
    whole = matplotlib.colormaps["viridis"]
    colours = matplotlib.colors.ListedColormap(whole(np.linspace(0.0, 0.88, 256)))
    return colours, Normalize(0, max(blocks - 1, 1))


def shown_blocks(blocks: int) -> list[int]:
    """Five blocks over the depth: first, quarters, last."""
    return sorted({0, blocks // 4, blocks // 2, 3 * blocks // 4, blocks - 1})


@style.styled
def distributions(table: pd.DataFrame, arrays: Mapping[str, npt.NDArray[Any]], *, title: str | None = None) -> Figure:
    """Histograms of the weights at five depths, a panel for each component, density on a log axis.

    Args:
        table: Table matrices.csv of exp9.
        arrays: Datasets histogram_counts and histogram_edges, rows as in the table.
        title: Text above the figure.
    """
    inside = _inside(table)
    blocks = int(inside["block"].max()) + 1
    figure, panels, components = _grid(inside)
    colours, scale = _depth_colours(blocks)
    for axes, component in zip(panels, components, strict=True):
        densities = []
        for block in shown_blocks(blocks):
            for row in inside.index[(inside["component"] == component) & (inside["block"] == block)]:
                counts, edges = arrays["histogram_counts"][row], arrays["histogram_edges"][row]
                density = counts / (counts.sum() * np.diff(edges))
                densities.append(density)
                axes.stairs(
                    density,
                    edges,
                    baseline=None,
                    color=colours(scale(block)),
                    linewidth=0.8,
                    label=f"block {block}",
                    gid=f"{component}-{block}",
                )
        style.log_axis(axes.yaxis, style.log_limits(*densities))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=3))
        axes.set_xlabel("weight")
    for axes in panels[::COLUMNS]:
        axes.set_ylabel("density (1/weight)")
    style.set_title(figure, title)
    style.outside_legend(figure, *panels, columns=5)
    return figure


@style.styled
def spectra(table: pd.DataFrame, arrays: Mapping[str, npt.NDArray[Any]], *, title: str | None = None) -> Figure:
    """Singular values of every matrix over its largest one, a panel for each component and a line for each block.

    Args:
        table: Table matrices.csv of exp9.
        arrays: Datasets singular_values and offsets, rows as in the table.
        title: Text above the figure.
    """
    inside = _inside(table)
    blocks = int(inside["block"].max()) + 1
    figure, panels, components = _grid(inside)
    colours, scale = _depth_colours(blocks)
    for axes, component in zip(panels, components, strict=True):
        lowest = [np.ones(1)]
        for row in inside.index[inside["component"] == component]:
            start, stop = arrays["offsets"][row : row + 2]
            values = arrays["singular_values"][start:stop]
            if not len(values) or values[0] == 0:
                continue
            relative = values / values[0]
            lowest.append(relative[relative > FLOOR])
            block = int(inside.loc[row, "block"])
            axes.plot(
                (np.arange(len(values)) + 0.5) / len(values),
                np.where(relative > FLOOR, relative, np.nan),
                color=colours(scale(block)),
                linewidth=0.8,
                gid=f"{component}-{block}",
            )
        style.log_axis(axes.yaxis, style.log_limits(*lowest))
        axes.set_xlim(0, 1)
        axes.set_xlabel("rank i, relative")
    for axes in panels[::COLUMNS]:
        axes.set_ylabel("σᵢ / σ₁")
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=list(panels), label="block", shrink=0.8, pad=0.01)
    bar.locator = MaxNLocator(nbins=6, integer=True)
    bar.update_ticks()
    style.set_title(figure, title)
    return figure


FROM_ARRAYS: tuple[Callable[..., Figure], ...] = (distributions, spectra)
