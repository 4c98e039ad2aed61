"""Figures of the regimes: gain over the size of the realised step, and the avalanche through the layers."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tremor.figures import style

COLOURS = {"float32": style.BLUE, "bfloat16": style.VERMILLION, "float16": style.ORANGE, "float64": style.GREEN}
SHADES = {  # regime: colour and what it says
    "stable": (style.GREY, "stable: nothing changes"),
    "chaotic": (style.ORANGE, "chaotic: rounding answers"),
    "signal": (style.SKY, "signal: the derivative answers"),
    "nonlinear": (style.PURPLE, "nonlinear"),
}
STEP_LABEL = style.label("realised step ‖δx‖", style.EMBEDDING_UNITS)
GAIN_LABEL = style.label("gain ‖δh‖ / ‖δx‖", f"{style.HIDDEN_UNITS} per embedding unit")
FULL = 100.0


def _order(frame: pd.DataFrame, column: str) -> list[str]:
    return [str(value) for value in dict.fromkeys(frame[column])]


def _row(crossovers: pd.DataFrame, precision: str, direction: str) -> pd.Series:
    found = (crossovers["precision"] == precision) & (crossovers["direction"] == direction)
    return crossovers[found].iloc[0]


def _borders(row: pd.Series, low: float, high: float) -> list[tuple[str, float, float]]:
    """The regimes a row has, each with the interval of realised steps it fills."""
    first = row["first_change"] if np.isfinite(row["first_change"]) else low
    ends = [("stable", first)]
    if row["has_signal_regime"]:
        ends.append(("chaotic", row["crossover_seen"] if np.isfinite(row["crossover_seen"]) else first))
        ends.append(("signal", row["signal_end"] if np.isfinite(row["signal_end"]) else high))
    elif np.isfinite(row["curvature"]):
        ends.append(("chaotic", row["curvature"]))
    else:
        ends.append(("chaotic", high))
    ends.append(("nonlinear", high))
    spans, start = [], low
    for name, end in ends:
        end = float(min(max(end, start), high))
        if end > start:
            spans.append((name, start, end))
        start = end
    return spans


def _lines(axes: Axes, row: pd.Series, colour: str, step: npt.NDArray[np.float64], name: str, silent: bool) -> None:
    """The noise floor divided by the step with its band, and the gain of the smooth map."""
    noise = (row["noise_floor"], row["noise_floor_low"], row["noise_floor_high"])
    if np.isfinite(noise[0]):
        axes.plot(step, noise[0] / step, color=colour, linestyle="--", linewidth=0.8, gid=f"noise-{name}",
                  label=None if silent else f"noise floor / step, N = {style.number(noise[0])} ({name})")  # fmt: skip
        axes.fill_between(step, noise[1] / step, noise[2] / step, color=colour, alpha=0.25, linewidth=0)
    axes.axhline(row["sigma"], color=colour, linestyle=":", linewidth=0.9, gid=f"sigma-{name}",
                 label=None if silent else f"‖J d‖ = {style.number(row['sigma'])} ({name})")  # fmt: skip


@style.styled
def regimes(
    steps: pd.DataFrame,
    bands: pd.DataFrame,
    crossovers: pd.DataFrame,
    *,
    dtype: str,
    direction: str | None = None,
    title: str | None = None,
) -> Figure:
    """Gain over realised step in every number format, with the regimes of the model's own format shaded.

    Args:
        steps: Table steps.parquet.
        bands: Table bands.csv.
        crossovers: Table crossovers.csv.
        dtype: The model's own format.
        direction: One of the directions; the first by default.
        title: Text above the figure.
    """
    direction = direction or _order(steps, "direction")[0]
    chosen = steps[(steps["direction"] == direction) & (steps["realised"] > 0)]
    changed = chosen[chosen["gain_realised"] > 0]
    gains = changed["gain_realised"].to_numpy(dtype=float)
    low, high = style.log_limits(chosen["realised"].to_numpy(dtype=float), margin=0.02)
    sigmas = crossovers[crossovers["direction"] == direction]["sigma"].to_numpy(dtype=float)
    bottom, top = style.log_limits(gains, sigmas)
    bottom /= 4  # room for the steps that leave the answer
    figure = style.new_figure(width="page", height=3.2)
    axes = figure.add_subplot()
    style.log_axis(axes.xaxis, (low, high))
    style.log_axis(axes.yaxis, (bottom, top))
    own = _row(crossovers, dtype, direction)
    for name, start, end in _borders(own, low, high):
        colour, text = SHADES[name]
        axes.axvspan(start, end, color=colour, alpha=0.13, linewidth=0, label=f"{text} ({dtype})", gid=f"regime-{name}")
    for name in ("first_change", "crossover"):
        if np.isfinite(own[f"{name}_low"]) and own["has_signal_regime"]:
            axes.axvspan(own[f"{name}_low"], own[f"{name}_high"], color=style.INK, alpha=0.35, linewidth=0,
                         gid=f"band-{name}", label="borders with their 95 % bands")  # fmt: skip
    others = [precision for precision in _order(steps, "precision") if precision != dtype]
    for precision in (*others, dtype):  # where curves lie on each other, the model's own is to be seen
        colour, rows = COLOURS[precision], changed[changed["precision"] == precision]
        axes.plot(rows["realised"], rows["gain_realised"], linestyle="none", marker=".", markersize=1.6, color=colour,
                  alpha=0.5, gid=f"steps-{precision}")  # fmt: skip
        final = bands[(bands["precision"] == precision) & (bands["direction"] == direction) & (bands["tap"] == "final")]
        final = final[final["gain_realised_q05"] > 0]
        axes.fill_between(final["realised"], final["gain_realised_q05"], final["gain_realised_q95"], color=colour,
                          alpha=0.25, linewidth=0)  # fmt: skip
        axes.plot(final["realised"], final["gain_realised_q50"], color=colour, label=f"{precision}: median, 5–95 %",
                  gid=f"median-{precision}")  # fmt: skip
        row = _row(crossovers, precision, direction)
        reach = np.geomspace(low, high, 60)
        _lines(axes, row, colour, reach, precision, silent=False)
        unchanged = chosen[(chosen["precision"] == precision) & (chosen["gain_realised"] == 0)]
        axes.plot(unchanged["realised"], np.full(len(unchanged), bottom * 1.5), linestyle="none", marker="|",
                  color=colour, gid=f"unchanged-{precision}")  # fmt: skip
    axes.plot([], [], linestyle="none", marker="|", color=style.INK, label="the input moved, the answer did not")
    axes.set_xlabel(STEP_LABEL)
    axes.set_ylabel(style.label("gain ‖δh‖ / ‖δx‖", f"{style.HIDDEN_UNITS}\nper embedding unit", wrap=True))
    style.set_title(figure, f"{title}, direction {direction}" if title else None)
    style.outside_legend(figure, axes, columns=3)
    return figure


@style.styled
def directions(steps: pd.DataFrame, crossovers: pd.DataFrame, *, title: str | None = None) -> Figure:
    """One panel for each direction: gain over realised step in every number format.

    Args:
        steps: Table steps.parquet.
        crossovers: Table crossovers.csv.
        title: Text above the figure.
    """
    names = _order(steps, "direction")
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    seen = steps[steps["realised"] > 0]
    limits = style.log_limits(seen["realised"].to_numpy(dtype=float), margin=0.02)
    gain_limits = style.log_limits(seen["gain_realised"].to_numpy(dtype=float))
    figure = style.new_figure(width="page", height=1.9 * rows)
    panels: Any = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, direction in zip(panels, names, strict=False):
        style.log_axis(axes.xaxis, limits)
        style.log_axis(axes.yaxis, gain_limits)
        for precision in _order(steps, "precision"):
            colour, row = COLOURS[precision], _row(crossovers, precision, direction)
            own = seen[(seen["direction"] == direction) & (seen["precision"] == precision)]
            own = own[own["gain_realised"] > 0]
            for regime, marker in (("chaotic", "."), ("signal", "o"), ("nonlinear", "x")):
                part = own[own["regime"] == regime]
                axes.plot(part["realised"], part["gain_realised"], linestyle="none", marker=marker, markersize=2.2,
                          markeredgewidth=0.5, markerfacecolor="none" if regime == "signal" else colour, color=colour,
                          label=f"{precision}, {regime}", gid=f"{direction}-{precision}-{regime}")  # fmt: skip
            _lines(axes, row, colour, np.geomspace(*limits, 60), f"{direction}-{precision}", silent=True)
        sigma = _row(crossovers, _order(steps, "precision")[0], direction)["sigma"]
        axes.set_title(f"{direction}, ‖J d‖ = {style.number(sigma)}", fontsize=7, loc="left")
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(names) - columns) : len(names)]:
        axes.set_xlabel(STEP_LABEL)
    figure.supylabel(GAIN_LABEL, fontsize=7.5)
    panels[0].plot([], [], color=style.INK, linestyle="--", label="noise floor / step")
    panels[0].plot([], [], color=style.INK, linestyle=":", label="‖J d‖")
    style.set_title(figure, title)
    style.outside_legend(figure, panels[0], columns=4)
    return figure


@style.styled
def avalanche(table: pd.DataFrame, crossovers: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Which share of the coordinates changes at each tap, over realised step, in every number format.

    Args:
        table: Table avalanche.parquet.
        crossovers: Table crossovers.csv.
        title: Text above the figure.
    """
    direction = _order(table, "direction")[0]
    own = table[table["direction"] == direction]
    taps, precisions = _order(own, "tap"), _order(own, "precision")
    figure = style.new_figure(width="page", height=1.1 + 0.13 * max(6, min(len(taps), 40)))
    panels = figure.subplots(1, len(precisions), sharey=True, squeeze=False)[0]
    image: Any = None
    for axes, precision in zip(panels, precisions, strict=True):
        rows = own[own["precision"] == precision]
        realised = np.sort(rows[rows["tap"] == taps[0]]["realised"].to_numpy(dtype=float))
        exponents = np.arange(np.floor(4 * np.log10(realised[0])), np.ceil(4 * np.log10(realised[-1])) + 1)
        edges = 10.0 ** (exponents / 4)
        share = np.full((len(taps), len(edges) - 1), np.nan)
        for number, tap in enumerate(taps):
            part = rows[rows["tap"] == tap]
            place = np.digitize(part["realised"].to_numpy(dtype=float), edges) - 1
            values = part["changed_share"].to_numpy(dtype=float)
            for column in np.unique(place[place < len(edges) - 1]):
                share[number, column] = FULL * np.median(values[place == column])
        image = axes.pcolormesh(edges, np.arange(len(taps) + 1) - 0.5, share, vmin=0, vmax=FULL, cmap="viridis",
                                gid=f"avalanche-{precision}")  # fmt: skip
        style.log_axis(axes.xaxis, (edges[0], edges[-1]))
        row = _row(crossovers, precision, direction)
        for name, colour in (("first_change", "white"), ("crossover_seen", style.VERMILLION)):
            if np.isfinite(row[name]):
                axes.axvline(row[name], color=colour, linewidth=1.0, linestyle="--" if name == "first_change" else "-")
        axes.set_title(precision, fontsize=7, loc="left")
    shown = np.unique(np.linspace(0, len(taps) - 1, min(len(taps), 16)).round().astype(int))
    panels[0].set_yticks(shown, [taps[k] for k in shown])
    panels[0].set_ylim(len(taps) - 0.5, -0.5)
    panels[len(panels) // 2].set_xlabel(STEP_LABEL)
    figure.colorbar(image, ax=list(panels), label="coordinates\nchanged (%)")
    note = f"direction {direction}; white dashes: first change of the answer; red: noise = signal"
    style.set_title(figure, f"{title}, {note}" if title else note)
    return figure
