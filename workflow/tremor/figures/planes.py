"""Figures of exp7: maps of the gap over planes through a tie, their signs, and how random they are.

Maps are drawn as they are stored: one cell for one input, axis e1 to the right, axis e2 up, cell centres at the
nominal coordinates. ``enlarged`` alone is a rendering and says so.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from scipy import ndimage

from tremor.figures import style
from tremor.figures.ties import GAP_UNITS, quoted
from tremor.statistics.planes import EQUAL, FIRST, OTHER, SECOND, classes
from tremor.statistics.spatial import gradient_magnitude, local_entropy

Array = npt.NDArray[Any]
KINDS = (SECOND, EQUAL, FIRST, OTHER)
COLOURS = {SECOND: style.INK, EQUAL: style.ORANGE, FIRST: "white", OTHER: style.PURPLE}
_SIGNS = ListedColormap([COLOURS[kind] for kind in KINDS])
_BORDERS = BoundaryNorm([-1.5, -0.5, 0.5, 1.5, 2.5], 4)


def extent(e1: Array, e2: Array) -> tuple[float, float, float, float]:
    """Borders of an image whose cell centres are at the coordinates: half a cell beyond the first and the last."""
    half = ((e1[-1] - e1[0]) / (len(e1) - 1) / 2, (e2[-1] - e2[0]) / (len(e2) - 1) / 2)
    return (e1[0] - half[0], e1[-1] + half[0], e2[0] - half[1], e2[-1] + half[1])


def _image(axes: Axes, values: Array, e1: Array, e2: Array, ranks: Array, **look: Any) -> AxesImage:
    """Draw one map, its axes labelled with the singular vectors and the power of ten of the steps."""
    borders = extent(e1, e2)
    image = axes.imshow(values.T, origin="lower", extent=borders, aspect="auto", interpolation="nearest", **look)
    exponent = style.exponent_of(1.2 * float(max(abs(b) for b in borders)))  # a cropped map keeps the power
    for axis, rank, letter in ((axes.xaxis, ranks[0], "x"), (axes.yaxis, ranks[1], "y")):
        style.scale_ticks(axis, exponent)
        label = f"along v{rank} ({style.power(exponent)})"
        axes.set(**{f"{letter}label": label})
    axes.locator_params(nbins=3)
    axes.spines[["top", "right"]].set_visible(True)
    return image


def _panels(data: Mapping[str, Array]) -> tuple[Figure, list[tuple[int, int, Axes]]]:
    """A figure with a panel for each plane (rows) and zoom level (columns)."""
    planes, levels = data["gap"].shape[:2]
    figure = style.new_figure(width="page", height=2.05 * planes)
    panels = figure.subplots(planes, levels, squeeze=False)
    return figure, [(plane, level, panels[plane, level]) for plane in range(planes) for level in range(levels)]


@style.styled
def maps(data: Mapping[str, Array], *, title: str | None = None) -> Figure:
    """The gap over every plane (rows) at every zoom level (columns), each map with its own symmetric colours.

    Args:
        data: Datasets of ``planes.h5`` or ``zoom.h5``.
        title: Text above the figure.
    """
    figure, panels = _panels(data)
    for plane, level, axes in panels:
        gap = data["gap"][plane, level]
        largest = float(np.abs(gap).max()) or 1.0
        image = _image(
            axes, gap, data["e1"][plane, level], data["e2"][plane, level], data["ranks"][plane],
            cmap="RdBu_r", vmin=-largest, vmax=largest,
        )  # fmt: skip
        bar = figure.colorbar(image, ax=axes, pad=0.02)
        bar.outline.set_visible(False)
        exponent = style.exponent_of(largest)
        style.scale_ticks(bar.ax.yaxis, exponent)
        bar.set_label(style.label("L₁ − L₂", GAP_UNITS, exponent=exponent), fontsize=6)
        off = float(np.median(data["off_plane"][plane, level]))
        axes.set_title(f"median distance from the plane {style.number(off, 2)}", fontsize=5.5, pad=3)
    style.set_title(figure, title)
    return figure


def _legend(figure: Figure, kinds: Mapping[int, str]) -> None:
    handles = [
        Patch(facecolor=COLOURS[kind], edgecolor=style.INK, linewidth=0.5, label=text) for kind, text in kinds.items()
    ]
    figure.set_figheight(figure.get_figheight() + style.LEGEND_ROW * 2)
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


def _kinds(data: Mapping[str, Array], attributes: Mapping[str, Any]) -> tuple[Array, dict[int, str]]:
    """Classes of all cells, and what each class is called."""
    pair = (int(attributes["first_token"]), int(attributes["second_token"]))
    first, second = quoted(str(attributes["first_text"])), quoted(str(attributes["second_text"]))
    names = {
        FIRST: f"L₁ > L₂: {first} ahead",
        SECOND: f"L₁ < L₂: {second} ahead",
        EQUAL: "L₁ = L₂ exactly",
        OTHER: "a token outside the pair is chosen",
    }
    return classes(data["gap"], data["token"], pair), names


@style.styled
def signs(data: Mapping[str, Array], attributes: Mapping[str, Any], *, title: str | None = None) -> Figure:
    """Which token is ahead in every cell; exact ties and other tokens are classes of their own.

    Args:
        data: Datasets of ``planes.h5``.
        attributes: Its attributes.
        title: Text above the figure.
    """
    kinds, names = _kinds(data, attributes)
    figure, panels = _panels(data)
    for plane, level, axes in panels:
        own = kinds[plane, level]
        _image(
            axes, own, data["e1"][plane, level], data["e2"][plane, level], data["ranks"][plane],
            cmap=_SIGNS, norm=_BORDERS,
        )  # fmt: skip
        shares = f"L₁ > L₂ {np.mean(own == FIRST):.1%}, L₁ = L₂ {np.mean(own == EQUAL):.1%}"
        axes.set_title(shares, fontsize=6, pad=3)
    _legend(figure, names)
    style.set_title(figure, title)
    return figure


def boundary_cells(kinds: Array) -> npt.NDArray[np.bool_]:
    """Cells [n1, n2] that have a 4-neighbour of another class."""
    found = np.zeros(kinds.shape, dtype=bool)
    down, right = kinds[1:] != kinds[:-1], kinds[:, 1:] != kinds[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= right
    found[:, :-1] |= right
    return found


@style.styled
def enlarged(
    data: Mapping[str, Array], attributes: Mapping[str, Any], *, cells: int = 1, title: str | None = None
) -> Figure:
    """The boundaries between classes, widened to be seen in print. A rendering: its areas are not data.

    Args:
        data: Datasets of ``planes.h5``.
        attributes: Its attributes.
        cells: Cells by which boundaries are widened, in all eight directions.
        title: Text above the figure.
    """
    kinds, _ = _kinds(data, attributes)
    figure, panels = _panels(data)
    square = np.ones((3, 3), dtype=bool)
    for plane, level, axes in panels:
        wide = ndimage.binary_dilation(boundary_cells(kinds[plane, level]), structure=square, iterations=cells)
        _image(
            axes, wide.astype(float), data["e1"][plane, level], data["e2"][plane, level], data["ranks"][plane],
            cmap=ListedColormap(["white", style.VERMILLION]), vmin=0, vmax=1,
        )  # fmt: skip
    note = f"RENDERING, NOT DATA: boundaries between classes widened by {cells} cell{'s' if cells > 1 else ''}"
    style.set_title(figure, f"{title}\n{note}" if title else note)
    return figure


@style.styled
def zoom(data: Mapping[str, Array], attributes: Mapping[str, Any], *, title: str | None = None) -> Figure:
    """The zoom window of every plane: gap (upper row) and classes (lower row).

    Args:
        data: Datasets of ``zoom.h5``.
        attributes: Its attributes.
        title: Text above the figure.
    """
    kinds, names = _kinds(data, attributes)
    count = len(data["ranks"])
    figure = style.new_figure(width="page", height=4.2)
    panels = figure.subplots(2, count, squeeze=False)
    for plane in range(count):
        gap, e1, e2 = data["gap"][plane, 0], data["e1"][plane, 0], data["e2"][plane, 0]
        largest = float(np.abs(gap).max()) or 1.0
        ranks = data["ranks"][plane]
        image = _image(panels[0, plane], gap, e1, e2, ranks, cmap="RdBu_r", vmin=-largest, vmax=largest)
        bar = figure.colorbar(image, ax=panels[0, plane], pad=0.02)
        bar.outline.set_visible(False)
        exponent = style.exponent_of(largest)
        style.scale_ticks(bar.ax.yaxis, exponent)
        bar.set_label(style.label("L₁ − L₂", GAP_UNITS, exponent=exponent), fontsize=6)
        _image(panels[1, plane], kinds[plane, 0], e1, e2, ranks, cmap=_SIGNS, norm=_BORDERS)
    _legend(figure, names)
    style.set_title(figure, title)
    return figure


@style.styled
def texture(data: Mapping[str, Array], *, window: int = 5, title: str | None = None) -> Figure:
    """Slope of the gap and local entropy of its sign, for the widest and the finest map of each plane.

    Args:
        data: Datasets of ``planes.h5``.
        window: Width of the window of the entropy, cells.
        title: Text above the figure.
    """
    count, radii = len(data["ranks"]), data["radii"]
    levels = sorted({int(np.argmax(radii)), int(np.argmin(radii))})
    figure = style.new_figure(width="page", height=2.0 * count)
    panels = figure.subplots(count, 2 * len(levels), squeeze=False)
    for plane in range(count):
        for column, level in enumerate(levels):
            gap, e1, e2 = data["gap"][plane, level], data["e1"][plane, level], data["e2"][plane, level]
            ranks, edge = data["ranks"][plane], window // 2
            spacing = (float(e1[1] - e1[0]), float(e2[1] - e2[0]))
            slope = gradient_magnitude(gap, spacing)
            entropy = local_entropy(np.sign(gap).astype(np.int8), window)
            inner = (e1[edge : len(e1) - edge], e2[edge : len(e2) - edge])
            left, right = panels[plane, 2 * column], panels[plane, 2 * column + 1]
            image = _image(left, slope, e1, e2, ranks, cmap="viridis")
            exponent = style.exponent_of(float(slope.max()))
            bar = figure.colorbar(image, ax=left, pad=0.02)
            style.scale_ticks(bar.ax.yaxis, exponent)
            bar.set_label(style.label("|∇(L₁ − L₂)|", "logits per unit", exponent=exponent), fontsize=5.5)
            shown = _image(right, entropy, *inner, ranks, cmap="magma", vmin=0, vmax=np.log2(3))
            bar = figure.colorbar(shown, ax=right, pad=0.02)
            bar.set_label(f"entropy of {window}×{window} signs (bits)", fontsize=5.5)
    style.set_title(figure, title)
    return figure


NULL_COLOURS = {"iid": style.GREY, "permutation": style.SKY, "straight": style.GREEN}
LABELS = {
    "flip_ratio": "flip ratio",
    "components": "components",
    "moran_i": "Moran's I",
    "local_entropy_bits": "local entropy\n(bits)",
    "crossings_per_line": "crossings\nper line",
    "gradient_mean": "slope, mean",
    "gradient_std": "slope, std",
    "gradient_max": "slope, largest",
    "gradient_cv": "slope, std / mean",
}


@style.styled
def nulls(tests: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Every statistic of every map beside the central 95 % of three null models.

    Args:
        tests: Table ``randomness.csv``.
        title: Text above the figure.
    """
    where = tests[["rank_1", "rank_2", "radius"]].drop_duplicates().reset_index(drop=True)
    figure = style.new_figure(width="page", height=5.6)
    panels = figure.subplots(3, 3, sharex=True)
    for axes, (name, text) in zip(panels.ravel(), LABELS.items(), strict=True):
        own = tests[tests["statistic"] == name].merge(where.reset_index(names="map"))
        for shift, (null, colour) in zip((-0.22, 0.0, 0.22), NULL_COLOURS.items(), strict=True):
            drawn = own[own["null"] == null]
            axes.vlines(
                drawn["map"] + shift, drawn["null_low"], drawn["null_high"], color=colour, linewidth=2.5,
                label=f"{null}: central 95 %", gid=null,
            )  # fmt: skip
            axes.plot(drawn["map"] + shift, drawn["null_mean"], "_", color=colour, markersize=4)
        once = own[own["null"] == "iid"]
        axes.plot(once["map"], once["value"], "D", color=style.VERMILLION, markersize=2.8, label="the map", gid="map")
        shown = np.concatenate([once["value"], own["null_low"], own["null_high"]])
        exponent = 0
        if name != "moran_i" and style.decades(shown) > 1.2:
            style.log_axis(axes.yaxis, style.log_limits(shown))
        else:
            exponent = style.exponent_of(float(np.nanmax(np.abs(shown), initial=0.0)))
            style.scale_ticks(axes.yaxis, exponent)
        axes.set_ylabel(text + (f" ({style.power(exponent)})" if exponent else ""), fontsize=6.5)
        axes.set_xlim(-0.6, len(where) - 0.4)
    names = [f"v{row.rank_1}, v{row.rank_2}: {style.number(row.radius, 2)}" for row in where.itertuples(index=False)]
    for axes in panels[-1]:
        axes.set_xticks(range(len(where)), names, fontsize=5.5, rotation=90)
        axes.set_xlabel("plane: radius", fontsize=6.5)
    style.set_title(figure, title)
    style.outside_legend(figure, panels[0, 0], columns=4)
    return figure
