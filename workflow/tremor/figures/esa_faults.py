"""Figures of esa/robustness and esa/adversarial: noise on weights, attacks on the input."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from tremor.figures import style

KINDS: Mapping[str, tuple[str, str, str]] = {  # kind of noise: text, colour, marker
    "gaussian": ("gaussian, all selected weights", style.BLUE, "o"),
    "uniform": ("uniform, all selected weights", style.SKY, "s"),
    "targeted": ("gaussian, most important weights", style.VERMILLION, "^"),
    "random": ("gaussian, as many random weights", style.GREY, "v"),
}
LINEAR = 0.01  # nats per token: the axis of signed changes is linear within
UNITS = {"std": "std of the tensor", "weight": "|w|", "absolute": "weight units"}
DOUBLE = float(np.log(2.0))
ROW = 0.17  # inches for an attack


@style.styled
def noise(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Change of NLL, KL divergence and flips against the level of the noise, with intervals over draws and texts.

    Args:
        table: Table levels.csv of esa/robustness.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.6)
    style.set_title(figure, title)
    panels = figure.subplots(1, 3)
    labels = (
        style.label("change of held-out NLL", "nats per token", wrap=True),
        style.label("KL(clean || noisy)", "nats per token", wrap=True),
        "share of tokens with\nanother first choice",
    )
    levels = style.log_limits(table["level"])
    for axes, name, text in zip(panels, ("delta_nll", "kl", "flip_rate"), labels, strict=True):
        shown = [table[f"{name}{end}"].to_numpy(dtype=np.float64) for end in ("", "_low", "_high")]
        for kind, (label, colour, marker) in KINDS.items():
            mine = table[table["kind"] == kind].sort_values("level")
            if len(mine):
                _band(axes, mine, name, colour, marker, label)
        style.log_axis(axes.xaxis, levels)
        if name == "delta_nll":  # small noise may lower it: a logarithm would hide that
            axes.axhline(0, color=style.INK, lw=0.6)
            _signed(axes, "y", LINEAR)
        else:
            style.log_axis(axes.yaxis, style.log_limits(*shown))
        axes.set_xlabel(style.label("level of noise", UNITS[str(table["scale"].iloc[0])]))
        axes.set_ylabel(text)
    panels[0].axhline(DOUBLE, color=style.INK, lw=0.6, ls="--", label="perplexity doubled")
    style.outside_legend(figure, *panels, columns=3)
    return figure


def _signed(axes: Axes, which: Literal["x", "y"], linear: float) -> None:
    """Make an axis linear within +-linear and logarithmic outside."""
    getattr(axes, f"set_{which}scale")("symlog", linthresh=linear)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: style.minus(f"{value:g}")))
    axis.set_minor_locator(NullLocator())


def _band(axes: Axes, rows: pd.DataFrame, name: str, colour: str, marker: str, label: str) -> None:
    level, value, low, high = (
        rows[column].to_numpy(dtype=np.float64) for column in ("level", name, f"{name}_low", f"{name}_high")
    )
    if name != "delta_nll":  # on a log axis an interval that reaches zero goes down to its edge, and zeros are left out
        low = np.maximum(low, np.finfo(np.float64).tiny)
        value = np.where(value > 0, value, np.nan)
    axes.fill_between(level, low, high, color=colour, alpha=0.15, lw=0)
    axes.plot(level, value, color=colour, marker=marker, ms=3, label=label)


@style.styled
def success(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """How often an attack changes the greedy answer, and by how much it raises the reference's NLL.

    Args:
        table: Table effects.csv of esa/adversarial.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=1.0 + ROW * len(table))
    style.set_title(figure, title)
    left, right = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(table))
    column = {name: table[name].to_numpy(dtype=np.float64) for name in table.columns if table[name].dtype.kind in "fi"}
    left.hlines(rows, column["changed_rate_low"], column["changed_rate_high"], color=style.VERMILLION, lw=1)
    left.plot(
        column["changed_rate"], rows, "o", color=style.VERMILLION, label="attack, with 95 % interval over prompts"
    )
    left.plot(column["random_changed_rate"], rows, "D", color=style.GREY, ms=3, label="random change of the same size")
    left.set_xlim(-0.03, 1.03)
    left.set_xlabel("share of prompts with another greedy answer")
    right.hlines(rows, column["delta_nll_low"], column["delta_nll_high"], color=style.VERMILLION, lw=1)
    right.plot(column["delta_nll"], rows, "o", color=style.VERMILLION)
    right.plot(column["random_delta_nll"], rows, "D", color=style.GREY, ms=3)
    right.axvline(0, color=style.INK, lw=0.6)
    _signed(right, "x", 0.1)
    lowest = float(np.nanmin([column["delta_nll_low"], column["random_delta_nll"], column["delta_nll"]]))
    right.set_xlim(left=min(-0.01, 1.3 * lowest))
    right.set_xlabel(style.label("rise of the reference's NLL", "nats per token"))
    names = [_name(row) for row in table.itertuples()]
    for axes in (left, right):
        axes.set_yticks(rows, names)
        axes.set_ylim(len(table) - 0.4, -0.6)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
    left.set_ylabel("attack and size")
    style.outside_legend(figure, left, columns=2)
    return figure


def _name(row: object) -> str:
    attack, size, unit, scale = (getattr(row, name) for name in ("attack", "size", "unit", "scale"))
    if unit == "epsilon":
        return f"{attack}, ε = {size:g}{' rms' if scale == 'rms' else ''}"
    one = unit.removesuffix("s") if size == 1 else unit
    return f"{attack.replace('_', ' ')}, {size:g} {one}"
