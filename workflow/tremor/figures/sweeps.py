"""Figures of exp10: small maps under smaller and smaller steps, and two platforms in a chain of products."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tremor.figures import style

SUBJECTS = {
    "matrices": "chain of random matrices",
    "weight": "one weight, behind its norm",
    "mlp": "MLP, behind its norm",
}
DIRECTIONS = {"random": ("random direction", style.BLUE, "o"), "top": ("top singular direction", style.ORANGE, "s")}
TYPES = {"float32": (style.BLUE, "o"), "bfloat16": (style.ORANGE, "s"), "float16": (style.GREEN, "^")}


@style.styled
def sweeps(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Magnification by realised and by nominal step, and what the smooth map leaves unexplained, for each subject.

    Args:
        table: Table sweep.csv of exp10.
        title: Text above the figure.
    """
    names = [name for name in SUBJECTS if name in set(table["subject"])]
    figure = style.new_figure(width="page", height=3.9)
    panels = figure.subplots(2, len(names), squeeze=False, sharex="col")
    for column, name in enumerate(names):
        rows = table[table["subject"] == name]
        _magnification(panels[0, column], rows)
        _residual(panels[1, column], rows)
        panels[0, column].set_title(SUBJECTS[name])
    panels[0, 0].set_ylabel("output change over step")
    panels[1, 0].set_ylabel("length (output units)")
    style.set_title(figure, title)
    style.outside_legend(figure, panels[0, 0], panels[1, 0], columns=3)
    return figure


def _magnification(axes: Axes, rows: pd.DataFrame) -> None:
    sigma = float(rows["spectral_norm"].iloc[0])
    shown = np.concatenate([rows["magnification_realised"], rows["magnification_nominal"], [sigma]])
    style.log_axis(axes.yaxis, style.log_limits(shown))
    style.log_axis(axes.xaxis, style.log_limits(rows["epsilon"].to_numpy(dtype=float)))
    axes.axhline(sigma, color=style.GREY, linestyle=":", label="spectral norm of the Jacobian", gid="sigma")
    for direction, (text, colour, marker) in DIRECTIONS.items():
        own = rows[rows["direction"] == direction]
        moved = own[(own["moved_coordinates"] > 0) & (own["magnification_realised"] > 0)]
        axes.plot(
            moved["epsilon"], moved["magnification_realised"], color=colour, marker=marker,
            label=f"{text}, by realised step", gid=f"realised-{direction}",
        )  # fmt: skip
        nominal = own[own["magnification_nominal"] > 0]
        axes.plot(
            nominal["epsilon"], nominal["magnification_nominal"], color=colour, linestyle="--", alpha=0.6,
            label=f"{text}, by nominal step", gid=f"nominal-{direction}",
        )  # fmt: skip
        _mark_still(axes, own, text, colour)


def _mark_still(axes: Axes, own: pd.DataFrame, text: str, colour: str) -> None:
    """Steps of which nothing is left, at the foot of the panel: a zero has no place on a log axis."""
    still = own[own["moved_coordinates"] == 0]
    axes.plot(
        still["epsilon"], np.full(len(still), 0.04 if colour == style.BLUE else 0.09), "x", color=colour,
        transform=axes.get_xaxis_transform(), label=f"{text}: the input did not move", markersize=3,
    )  # fmt: skip


def _residual(axes: Axes, rows: pd.DataFrame) -> None:
    floor = float(rows["noise_floor_l2"].iloc[0])
    shown = np.concatenate([rows["residual_l2"], rows["smooth_l2"], [floor]])
    style.log_axis(axes.yaxis, style.log_limits(shown))
    style.log_axis(axes.xaxis, style.log_limits(rows["epsilon"].to_numpy(dtype=float)))
    axes.axhline(floor, color=style.INK, linestyle=":", label="rounding of the map, steps of an ulp", gid="floor")
    for direction, (text, colour, marker) in DIRECTIONS.items():
        own = rows[(rows["direction"] == direction) & (rows["moved_coordinates"] > 0)]
        axes.plot(
            own["epsilon"], own["smooth_l2"], color=colour, linestyle="-.", alpha=0.6,
            label=f"{text}: ‖J·realised step‖₂", gid=f"smooth-{direction}",
        )  # fmt: skip
        left = own[own["residual_l2"] > 0]
        axes.plot(
            left["epsilon"], left["residual_l2"], color=colour, marker=marker, linestyle="none",
            label=f"{text}: what J leaves unexplained", gid=f"residual-{direction}",
        )  # fmt: skip
    axes.set_xlabel("nominal step ε (input units)")


@style.styled
def tensors(steps: pd.DataFrame, *, names: tuple[str, str], title: str | None = None) -> Figure:
    """Two platforms along the chain: entries whose bits differ, how many lattice steps, and each one's own error.

    Args:
        steps: Table steps.csv of exp10.
        names: The two platforms.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.3)
    panels = figure.subplots(1, 3, sharex=True)  # a panel without lines has the products of the others
    _changed(panels[0], steps)
    _ulps(panels[1], steps)
    _errors(panels[2], steps, names)
    for axes in panels:
        axes.set_xlabel("product")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    style.set_title(figure, title)
    style.outside_legend(figure, *panels, columns=4)
    return figure


def _types(steps: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(name, steps[steps["dtype"] == name]) for name in dict.fromkeys(steps["dtype"])]


def _changed(axes: Axes, steps: pd.DataFrame) -> None:
    for name, rows in _types(steps):
        colour, marker = TYPES[name]
        percent = 100.0 * rows["n_changed_bits"] / rows["entries"]
        axes.plot(rows["step"], percent, color=colour, marker=marker, label=name, gid=f"changed-{name}")
    axes.set_ylim(-3, 103)
    axes.set_ylabel("entries whose bits differ (%)")


def _ulps(axes: Axes, steps: pd.DataFrame) -> None:
    shown = steps[["ulp_max", "ulp_median"]].to_numpy(dtype=float)
    if not style.positive(shown).size:
        axes.text(0.5, 0.5, "all bits are equal", ha="center", transform=axes.transAxes)
        axes.set_yticks([])
        axes.set_ylabel("lattice steps between entries")
        return
    style.log_axis(axes.yaxis, style.log_limits(shown))
    for name, rows in _types(steps):
        colour, marker = TYPES[name]
        for column, line, text in (("ulp_max", "-", "largest"), ("ulp_median", "--", "median")):
            there = rows[rows[column] > 0]
            if not len(there):
                continue
            axes.plot(
                there["step"], there[column], color=colour, marker=marker, linestyle=line, label=f"{name}: {text}",
                markerfacecolor=colour if column == "ulp_max" else "white", gid=f"{column}-{name}",
            )  # fmt: skip
    axes.set_ylabel("lattice steps between entries")


def _errors(axes: Axes, steps: pd.DataFrame, names: tuple[str, str]) -> None:
    shown: npt.NDArray[np.float64] = steps[["error_a", "error_b", "relative_l2"]].to_numpy(dtype=float)
    style.log_axis(axes.yaxis, style.log_limits(shown))
    for name, rows in _types(steps):
        colour, _ = TYPES[name]
        for column, line, text in (("error_a", "-", names[0]), ("error_b", ":", names[1])):
            axes.plot(rows["step"], rows[column], color=colour, linestyle=line, label=f"{name}: error of {text}")
        apart = rows[rows["relative_l2"] > 0]
        if len(apart):
            axes.plot(apart["step"], apart["relative_l2"], "x", color=colour, label=f"{name}: one against the other")
    axes.set_ylabel("relative L2, against float64")
