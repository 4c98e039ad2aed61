"""Figures of exp1: differences through the layers, where in the state they are, the sweep of jumps, the walk.

The layer axis names its taps. Everything up to ``final_prenorm`` is the raw residual stream; ``final`` has passed the
final norm, so it stands apart and no line leads to it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tremor.figures import style

Array = npt.NDArray[Any]
BINS = 200  # columns of a heat map
COLUMNS = 4  # jumps of the heat maps
ROWS = 3  # directions of the heat maps
PANELS = (
    ("mean_absolute_diff", "mean |Δ|", "units of the state"),
    ("max_absolute_diff", "largest |Δ|", "units of the state"),
    ("l2_distance", "‖Δ‖₂", "units of the state"),
    ("cosine_distance", "1 − cosine", ""),
    ("gain", "gain ‖Δ‖₂ / ‖Δ input‖₂", ""),
)
REFERENCES = (
    ("base", "x₀, the unperturbed input"),
    ("first", "the walk's first point"),
    ("previous", "the step before"),
)


def sequence(count: int) -> list[Any]:
    """Colours of an ordered series, dark to light, none too light for paper."""
    return list(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, max(count, 1))))


def whole(number: float) -> str:
    """A whole number for a legend: a power of ten as such, others with their digits grouped."""
    digits = f"{int(number)}"
    if len(digits) > 3 and digits.strip("0") == "1":
        return style.power(len(digits) - 1)
    return f"{int(number):,}".replace(",", "\N{THIN SPACE}")


def short(tap: str) -> str:
    """Label of a tap on an axis: the number of blocks passed, or its name."""
    return {"embedding": "emb.", "final_prenorm": "pre-norm", "final": "normed"}.get(tap, tap.removeprefix("residual."))


def _tap_axis(axes: Axes, taps: Sequence[str], *, label: bool = True) -> None:
    """Ticks that name the taps, thinned where they are many; the normed state behind a line of its own."""
    count = len(taps)
    every = max(1, round(count / 12))
    shown = [i for i, tap in enumerate(taps) if not tap.startswith("residual.") or (i - 1) % every == 0]
    axes.set_xticks(shown, [short(taps[i]) for i in shown], rotation=90, fontsize=6)
    axes.set_xlim(-0.4, count - 0.6)
    if taps[-1] == "final":
        axes.axvspan(count - 1.5, count - 0.6, color=style.ORANGE, alpha=0.13, linewidth=0, gid="normed")
    if label:
        axes.set_xlabel("tap")


def _lead(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["vector"] == frame["vector"].iloc[0]]


def _series(
    axes: Axes, taps: Sequence[str], rows: pd.DataFrame, metric: str, look: Mapping[str, Any], log: bool
) -> None:
    """One line over the raw taps, and a marker of its own at the normed one; zeros have no place on a log axis."""
    values = rows.set_index("tap")[metric].reindex(taps).to_numpy(dtype=np.float64)
    if log:
        values = np.where(values > 0, values, np.nan)
    raw = len(taps) - (taps[-1] == "final")
    axes.plot(np.arange(raw), values[:raw], **look)
    axes.plot(np.arange(raw, len(taps)), values[raw:], **{**look, "label": "_", "linestyle": "none", "marker": "D"})


@style.styled
def layers(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
    """The metrics over the taps, one line for each jump along the first direction.

    Args:
        frame: layers.csv.
        title: Text above the figure.
    """
    rows = _lead(frame)
    taps = list(dict.fromkeys(rows["tap"]))
    jumps = sorted(rows["jump"].unique())
    colours = dict(zip(jumps, sequence(len(jumps)), strict=True))
    figure = style.new_figure(width="page", height=4.3)
    panels = figure.subplots(2, 3, sharex=True).ravel()
    equal = set(rows[(rows["tap"] == "embedding") & (rows["l2_distance"] == 0)]["jump"])
    for jump in jumps:
        own = rows[rows["jump"] == jump]
        text = f"jump {whole(jump)}" + (": inputs equal in every bit" if jump in equal else "")
        look = {"color": colours[jump], "marker": ".", "markersize": 2.5, "label": text, "gid": f"jump{jump}"}
        _series(panels[0], taps, own, "percent_changed", look, log=False)
        for axes, (metric, _, _) in zip(panels[1:], PANELS, strict=True):
            _series(axes, taps, own, metric, look, log=True)
    panels[0].set_ylim(-3, 103)
    panels[0].set_ylabel("changed coordinates\n(% of the state)")
    for axes, (metric, name, unit) in zip(panels[1:], PANELS, strict=True):
        style.log_axis(axes.yaxis, style.log_limits(rows[metric].to_numpy()))
        axes.set_ylabel(style.label(name, unit, wrap=True))
    sigma = float(rows["sigma"].iloc[0])
    panels[5].axhline(
        sigma, color=style.VERMILLION, linewidth=0.8, linestyle="--", label="σ of the direction, input to normed"
    )
    for number, axes in enumerate(panels):
        _tap_axis(axes, taps, label=number >= 3)
    first = f"along v{rows['vector'].iloc[0]}, from e₁ = {_plain(float(rows['e1'].iloc[0]))}"
    style.set_title(figure, f"{title}; {first}" if title else first)
    style.outside_legend(
        figure,
        panels[5],
        columns=4,
        title="tap k: raw residual stream after k blocks; shaded: behind the final norm, "
        "not comparable with the raw states",
    )
    return figure


def _plain(value: float) -> str:
    """A number with the digits it was given with, as 1.000363×10⁻⁶."""
    digits = len(f"{value:.12e}".partition("e")[0].rstrip("0").rstrip(".").replace(".", ""))
    return style.number(value, max(digits, 1))


def binned(difference: Array, bins: int = BINS) -> Array:
    """The largest of each of at most ``bins`` equal stretches of a state: no coordinate is left out."""
    edges = np.linspace(0, len(difference), min(bins, len(difference)) + 1).astype(int)[:-1]
    largest: Array = np.maximum.reduceat(difference, edges)
    return largest


@style.styled
def heatmap(data: Mapping[str, Array], taps: Sequence[str], *, title: str | None = None) -> Figure:
    """|difference| by tap and coordinate, for a few directions and jumps.

    Args:
        data: ``rank`` [k], ``jump`` [1 + j] (the first 0), ``jump_index`` [k, 1 + j], ``jump_states/<tap>`` [n, width].
        taps: In order.
        title: Text above the figure.
    """
    index, rank = np.asarray(data["jump_index"]), np.asarray(data["rank"])
    moving = [j for j in range(1, index.shape[1]) if (index[:, j] != index[:, 0]).any()]
    chosen = (
        [moving[i] for i in np.unique(np.linspace(0, len(moving) - 1, COLUMNS).round().astype(int))] if moving else [1]
    )
    shown = min(len(rank), ROWS)
    maps = [
        [_map(data, taps, int(index[row, 0]), int(index[row, column])) for column in chosen] for row in range(shown)
    ]
    values = style.positive(*[m for row in maps for m in row])
    low, high = (values.min(), values.max()) if values.size else (0.1, 1.0)
    figure = style.new_figure(width="page", height=0.7 + 1.75 * shown)
    grid = figure.subplots(shown, len(chosen), squeeze=False, sharex=True, sharey=True)
    colours = matplotlib.colormaps["magma"].with_extremes(bad=style.PALE)
    image: Any = None
    for row in range(shown):
        for column, number in enumerate(chosen):
            axes = grid[row, column]
            matrix = maps[row][column]
            norm = LogNorm(low, max(high, low * 1.001))
            image = axes.imshow(
                np.ma.masked_where(~(matrix > 0), matrix), aspect="auto", norm=norm, cmap=colours,
                interpolation="nearest", extent=(0.0, 1.0, len(taps) - 0.5, -0.5),
            )  # fmt: skip
            if taps[-1] == "final":
                axes.axhline(len(taps) - 1.5, color="white", linewidth=2.5)
            if row == 0:
                axes.set_title(f"jump {whole(data['jump'][number])}", fontsize=7)
            if column == 0:
                every = max(1, round(len(taps) / 12))
                ticks = [i for i, t in enumerate(taps) if not t.startswith("residual.") or (i - 1) % every == 0]
                axes.set_yticks(ticks, [short(taps[i]) for i in ticks], fontsize=6)
                axes.set_ylabel(f"along v{rank[row]}: tap")
            if row == shown - 1:
                axes.set_xlabel("coordinate / width")
    bar = figure.colorbar(image, ax=grid, pad=0.01, aspect=30)
    bar.set_label("largest |Δ| in a bin (units of the state); grey: equal")
    style.log_axis(bar.ax.yaxis, (low, max(high, low * 1.001)))
    bar.outline.set_visible(False)
    style.set_title(figure, title)
    return figure


def _map(data: Mapping[str, Array], taps: Sequence[str], before: int, after: int) -> Array:
    rows = []
    for tap in taps:
        states = np.asarray(data[f"jump_states/{tap}"])
        row = binned(np.abs(states[after].astype(np.float64) - states[before].astype(np.float64)))
        rows.append(row[np.arange(BINS) * len(row) // BINS])  # narrow states: a coordinate fills several columns
    return np.array(rows)


@style.styled
def sweep(frame: pd.DataFrame, *, width: int, title: str | None = None) -> Figure:
    """Counts and largest differences over the jump, of the input and behind the first block.

    Args:
        frame: sweep.csv.
        width: Coordinates of a state.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=3.4)
    grid = figure.subplots(2, 2, sharex=True)
    jump = frame["jump"].to_numpy()
    places = (("embedding", "input embedding"), ("first_block", "behind the first block"))
    for column, (name, text) in enumerate(places):
        count, largest = grid[0, column], grid[1, column]
        dots: dict[str, Any] = {"linestyle": "none", "marker": ".", "markersize": 2, "markeredgewidth": 0}
        count.plot(jump, frame[f"{name}_count"], color=style.BLUE, gid=f"{name}_count", **dots)
        values = frame[f"{name}_max_diff"].to_numpy(dtype=np.float64)
        style.log_axis(largest.yaxis, style.log_limits(values))
        low = largest.get_ylim()[0]
        zero = values == 0
        largest.plot(jump[~zero], values[~zero], color=style.BLUE, gid=f"{name}_max_diff", **dots)
        if zero.any():
            largest.plot(
                jump[zero], np.full(zero.sum(), low), linestyle="none", marker="|", markersize=4, color=style.INK,
                clip_on=False, label=f"no difference ({zero.sum()} jumps)",
            )  # fmt: skip
            largest.legend(loc="lower right")
        count.set_title(text, fontsize=7)
        count.set_ylim(-0.03 * width, 1.03 * width)
        count.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        largest.set_xlabel("jump from the walk's first point (steps)")
    grid[0, 0].set_ylabel(f"changed coordinates\n(of {width})")
    grid[1, 0].set_ylabel(style.label("largest |Δ|", "units of the state", wrap=True))
    style.set_title(figure, title)
    return figure


@style.styled
def walk(frame: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Length of the difference along the walk, against three references, at a few taps.

    Args:
        frame: walk.parquet.
        title: Text above the figure.
    """
    taps = list(dict.fromkeys(frame["tap"]))
    names = {"embedding", "residual.1", f"residual.{max(1, (len(taps) - 3) // 2)}", "final_prenorm", "final"}
    chosen = [tap for tap in taps if tap in names]
    colours = [style.INK, *(c for c in (style.SKY, style.BLUE, style.GREEN, style.VERMILLION))]
    figure = style.new_figure(width="page", height=5.0)
    panels = figure.subplots(len(REFERENCES), 1, sharex=True)
    for axes, (reference, text) in zip(panels, REFERENCES, strict=True):
        rows = frame[frame["reference"] == reference]
        limits = style.log_limits(rows[rows["tap"].isin(chosen)]["l2_distance"].to_numpy())
        style.log_axis(axes.yaxis, limits)
        for tap, colour in zip(chosen, colours, strict=False):
            own = rows[rows["tap"] == tap]
            values = own["l2_distance"].to_numpy(dtype=np.float64)
            values = np.where(values > 0, values, np.nan)
            label = tap + (" (behind the final norm)" if tap == "final" else "")
            width = 0.0 if reference == "previous" else 0.6  # changes over single steps are no curve
            axes.plot(
                own["step"], values, color=colour, linewidth=width, marker=".", markersize=2, markeredgewidth=0,
                label=label, gid=f"{reference}_{tap}",
            )  # fmt: skip
        zero = rows[(rows["tap"] == "embedding") & (rows["l2_distance"] == 0)]
        if len(zero):
            note = f"{len(zero)} of {rows['step'].nunique()} inputs equal the reference: no point"
            axes.set_title(note, fontsize=6.5, loc="right")
        axes.set_title(f"against {text}", fontsize=7, loc="left")
        axes.set_ylabel(style.label("‖Δ‖₂", "units of the state", wrap=True))
    panels[-1].set_xlabel("step of the walk")
    style.set_title(figure, title)
    style.outside_legend(figure, panels[0], columns=5)
    return figure
