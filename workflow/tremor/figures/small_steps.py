"""Figures of exp14: what each small step changes, how large and how far apart the jumps are, and their scaling."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tremor.figures import style
from tremor.figures.propagation import sequence

Array = npt.NDArray[Any]
AROUND = 50  # steps on each side of the first jump
BINS = 30


def _steps(axes: Axes, rows: pd.DataFrame, floor: float) -> None:
    """Differences over the step; a jump lies between step k and k + 1 and is drawn there."""
    middle = rows["step"].to_numpy(dtype=np.float64) + 0.5
    into, out = rows["input_changed"].to_numpy() > 0, rows["output_changed"].to_numpy() > 0
    value = rows["output_l2"].to_numpy(dtype=np.float64)
    axes.vlines(middle[out], 0, value[out], color=style.BLUE, linewidth=0.6)
    axes.plot(
        middle[out], value[out], linestyle="none", marker="o", markersize=3, markeredgewidth=0, color=style.BLUE,
        label=f"input and answer change ({out.sum()})", gid="jumps",
    )  # fmt: skip
    quiet = into & ~out
    axes.plot(
        middle[quiet], np.zeros(quiet.sum()), linestyle="none", marker="|", markersize=7, color=style.VERMILLION,
        label=f"input changes, answer does not ({quiet.sum()})", gid="quiet", clip_on=False,
    )  # fmt: skip
    same = ~into
    axes.plot(
        middle[same], np.zeros(same.sum()), linestyle="none", marker=".", markersize=1.5, color=style.GREY,
        label=f"same input again ({same.sum()})", gid="same", clip_on=False,
    )  # fmt: skip
    axes.axhline(floor, color=style.ORANGE, linestyle="--", linewidth=0.8, label=f"noise floor {style.number(floor)}")
    top = max(float(value.max(initial=0.0)), floor) or 1.0
    exponent = style.exponent_of(top)
    axes.set_ylim(0, 1.12 * top)
    style.scale_ticks(axes.yaxis, exponent)
    axes.set_ylabel(style.label("‖h(k + 1) − h(k)‖₂", style.HIDDEN_UNITS, exponent=exponent, wrap=True))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


@style.styled
def differences(frame: pd.DataFrame, *, floor: float, title: str | None = None) -> Figure:
    """The first walk, whole and around its first jump.

    Args:
        frame: steps.parquet.
        floor: Rounding noise floor.
        title: Text above the figure.
    """
    rows = frame[frame["walk"] == 0].reset_index(drop=True)
    jumps = np.flatnonzero(rows["output_changed"].to_numpy() > 0)
    centre = int(jumps[0]) if jumps.size else 0
    figure = style.new_figure(width="page", height=3.6)
    whole, near = figure.subplots(2, 1)
    _steps(whole, rows, floor)
    _steps(near, rows.iloc[max(0, centre - AROUND) : centre + AROUND + 1], floor)
    whole.set_title(
        f"all {len(rows)} steps of {style.number(float(rows['step_size'].iloc[0]))}", fontsize=7, loc="left"
    )
    text = (
        f"around the first jump, between steps {centre} and {centre + 1}"
        if jumps.size
        else "no step changes the answer"
    )
    near.set_title(text, fontsize=7, loc="left")
    near.set_xlabel("step k")
    style.set_title(figure, title)
    style.outside_legend(figure, whole, columns=4)
    return figure


@style.styled
def distributions(frame: pd.DataFrame, *, floor: float, title: str | None = None) -> Figure:
    """Of the first walk: sizes of the jumps, and how far apart they are, in steps and in realised units.

    Args:
        frame: steps.parquet.
        floor: Rounding noise floor.
        title: Text above the figure.
    """
    rows = frame[frame["walk"] == 0].reset_index(drop=True)
    jumps = np.flatnonzero(rows["output_changed"].to_numpy() > 0)
    panels = (
        (rows["output_l2"].to_numpy()[jumps], "size of a jump", style.HIDDEN_UNITS),
        (np.diff(jumps), "from one jump to the next", "steps"),
        (np.diff(rows["position"].to_numpy()[jumps]), "from one jump to the next", "realised, embedding units"),
    )
    figure = style.new_figure(width="page", height=2.3)
    for axes, (values, quantity, unit) in zip(figure.subplots(1, 3), panels, strict=True):
        exponent = style.exponent_of(float(np.abs(values).max(initial=0.0)))
        if values.size:
            axes.hist(values, bins=min(BINS, max(1, values.size)), color=style.BLUE, gid="histogram")
            middle = float(np.median(values))
            axes.axvline(middle, color=style.INK, linewidth=0.8, linestyle=":", label=f"median {style.number(middle)}")
        else:
            axes.annotate("too few jumps", (0.5, 0.5), xycoords="axes fraction", ha="center", color=style.GREY)
        if unit == style.HIDDEN_UNITS and values.size:
            axes.axvline(
                floor, color=style.ORANGE, linestyle="--", linewidth=0.8, label=f"noise floor {style.number(floor)}"
            )
        axes.locator_params(axis="x", nbins=5)
        style.scale_ticks(axes.xaxis, exponent)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.set_xlabel(style.label(quantity, unit, exponent=exponent, wrap=True))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=6)
    figure.axes[0].set_ylabel("jumps")
    style.set_title(figure, title)
    return figure


@style.styled
def scaling(frame: pd.DataFrame, table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Answer against realised step over all walks, and the gain over the size of a step.

    Args:
        frame: steps.parquet.
        table: scaling.csv.
        title: Text above the figure.
    """
    sigma, floor = float(table["sigma"].iloc[0]), float(table["noise_floor_l2"].iloc[0])
    figure = style.new_figure(width="page", height=2.9)
    scatter, gain = figure.subplots(1, 2)
    changed = frame[(frame["input_changed"] > 0) & (frame["output_changed"] > 0)]
    limits = style.log_limits(changed["input_l2"].to_numpy())
    style.log_axis(scatter.xaxis, limits)
    style.log_axis(scatter.yaxis, style.log_limits(changed["output_l2"].to_numpy(), np.array([floor])))
    walks = sorted(frame["walk"].unique())
    for number, colour in zip(walks, sequence(len(walks)), strict=True):
        own = changed[changed["walk"] == number]
        size = float(frame[frame["walk"] == number]["step_size"].iloc[0])
        dots: dict[str, Any] = {
            "linestyle": "none",
            "marker": ".",
            "markersize": 2.5,
            "markeredgewidth": 0,
            "alpha": 0.7,
        }
        scatter.plot(
            own["input_l2"], own["output_l2"], color=colour, gid=f"walk{number}",
            label=f"steps of {style.number(size)}", **dots,
        )  # fmt: skip
    ends = np.array(limits)
    scatter.plot(
        ends, sigma * ends, color=style.VERMILLION, linewidth=0.8, label="σ × realised step: the smooth answer"
    )
    scatter.axhline(floor, color=style.ORANGE, linestyle="--", linewidth=0.8, label="rounding noise floor")
    scatter.set_xlabel(style.label("realised step ‖Δp‖₂", style.EMBEDDING_UNITS))
    scatter.set_ylabel(style.label("jump of the answer ‖Δh‖₂", style.HIDDEN_UNITS, wrap=True))
    known = table[table["gain_rms"].notna() & (table["gain_rms"] > 0)]
    style.log_axis(gain.xaxis, style.log_limits(table["step_size"].to_numpy()))
    style.log_axis(gain.yaxis, style.log_limits(known["gain_rms"].to_numpy(), np.array([sigma])))
    gain.plot(known["step_size"], known["gain_rms"], color=style.BLUE, marker="o", gid="gain")
    gain.axhline(sigma, color=style.VERMILLION, linewidth=0.8, gid="sigma")
    gain.set_xlabel(style.label("nominal size of a step", style.EMBEDDING_UNITS))
    gain.set_ylabel("gain: rms ‖Δh‖₂ / rms ‖Δp‖₂\nover steps that change the input")
    style.set_title(figure, title)
    style.outside_legend(figure, scatter, columns=4)
    return figure
