"""Figures of exp11: how many coordinates change along turned directions, and which."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tremor.figures import style
from tremor.figures.propagation import sequence, whole

Array = npt.NDArray[Any]
BINS = 50
TAPS = (("embedding", "input"), ("first_block", "behind a block"))
KINDS = (
    ("shift", "cyclic shifts", "shift n (coordinates)"),
    ("plane", "rotations in a plane", "angle (degrees)"),
    ("random", "random rotations (Haar)", "number of the draw"),
)


def _position(rows: pd.DataFrame, kind: str) -> Array:
    return np.asarray(rows["number" if kind == "random" else "parameter"], dtype=np.float64)


@style.styled
def counts(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Changed coordinates over the turn, by kind of turn and by gap.

    Args:
        frame: changes.csv.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=3.6)
    grid = figure.subplots(len(TAPS), len(KINDS), sharey="row", sharex="col")
    jumps = sorted(frame["jump"].unique())
    colours = sequence(len(jumps))
    for column, (kind, name, unit) in enumerate(KINDS):
        for row, (tap, place) in enumerate(TAPS):
            axes = grid[row, column]
            for jump, colour in zip(jumps, colours, strict=True):
                own = frame[(frame["kind"] == kind) & (frame["jump"] == jump)]
                x = _position(own, kind)
                axes.plot(
                    x, own[f"{tap}_changed"], color=colour, marker=".", markersize=3, linestyle="none",
                    markeredgewidth=0, label=f"gap {whole(jump)} steps", gid=f"{kind}_{tap}_{jump}",
                )  # fmt: skip
                if tap == "embedding" and jump == jumps[-1]:
                    text = f"expected of the lattice alone (gap {whole(jump)})"
                    look: dict[str, Any] = {"linewidth": 0.8, "linestyle": "--", "label": text}
                    gid = f"{kind}_expected"
                    axes.plot(x, own["embedding_expected"], color=style.VERMILLION, gid=gid, **look)
            axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
            if row == 0:
                axes.set_title(name, fontsize=7)
            else:
                axes.set_xlabel(unit)
            if column == 0:
                axes.set_ylabel(f"changed coordinates,\n{place}")
    for axes in grid[:, 0]:  # the rows share their axis: only now is all drawn
        axes.set_ylim(bottom=0)
    style.set_title(figure, title)
    style.outside_legend(figure, grid[0, 0], columns=4)
    return figure


def pooled(data: Mapping[str, Array], tap: str, kind: str, jump: int) -> Array:
    """All indices that changed at a tap along the directions of one kind, for the jump of that number."""
    flat, offsets, sizes = (np.asarray(data[f"{tap}/{name}"]) for name in ("indices", "offsets", "counts"))
    rays = np.flatnonzero(np.asarray(data["kind"]).astype(str) == kind)
    parts = [flat[offsets[jump, ray] : offsets[jump, ray] + sizes[jump, ray]] for ray in rays]
    found: Array = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
    return found


def _histogram(axes: Axes, values: Array, width: int, rays: int, look: Mapping[str, Any]) -> None:
    edges = np.linspace(0, width, min(BINS, width) + 1).round()  # whole: a share is then at most 1
    heights, _ = np.histogram(values, bins=edges)
    share = heights / np.diff(edges) / max(rays, 1)
    axes.stairs(share, edges, **look)


@style.styled
def indices(data: Mapping[str, Array], *, title: str | None = None) -> Figure:
    """How often a coordinate changes, by its index: share of the directions, in bins of indices.

    Args:
        data: ``kind`` [n], ``jump`` [j], and ``<tap>/indices``, ``offsets`` and ``counts`` of changes.h5; ``width``.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=3.4)
    grid = figure.subplots(len(TAPS), len(KINDS), sharex=True, sharey="row")
    jumps = np.asarray(data["jump"])
    order = np.argsort(jumps)
    colours = sequence(len(jumps))
    for column, (kind, name, _) in enumerate(KINDS):
        rays = int(np.sum(np.asarray(data["kind"]).astype(str) == kind))
        for row, (tap, place) in enumerate(TAPS):
            axes = grid[row, column]
            empty = True
            for number, colour in zip(order, colours, strict=True):
                found = pooled(data, tap, kind, int(number))
                empty &= not found.size
                text = f"gap {whole(jumps[number])} steps"
                look = {"color": colour, "label": text, "gid": f"{kind}_{tap}_{jumps[number]}", "linewidth": 0.8}
                _histogram(axes, found, int(data["width"]), rays, look)
            if empty:
                axes.annotate("nothing changed", (0.5, 0.5), xycoords="axes fraction", ha="center", color=style.GREY)
            if row == 0:
                axes.set_title(f"{name} ({rays})", fontsize=7)
            else:
                axes.set_xlabel("index of the coordinate")
            if column == 0:
                axes.set_ylabel(f"share of directions,\n{place}")
    for axes in grid[:, 0]:  # the rows share their axis: only now is all drawn
        axes.set_ylim(bottom=0)
    style.set_title(figure, title)
    style.outside_legend(figure, grid[0, 0], columns=5)
    return figure
