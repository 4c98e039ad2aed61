"""Figures of exp5: norms of local Jacobians, the chain they make, and the modules of a layer."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tremor.figures import style

PARTS = {  # part of a block: name, colour, marker
    "block": ("block", style.BLUE, "o"),
    "mixer": ("mixer branch, with its norm", style.ORANGE, "s"),
    "mlp": ("MLP branch, with its norm", style.GREEN, "^"),
}
MEASURES = (  # columns of stages.csv that have a panel each
    ("spectral_norm", "spectral norm σ₁"),
    ("frobenius_norm", "Frobenius norm"),
    ("stable_rank", "stable rank"),
)
METRICS = (
    ("percent_changed", "changed coordinates (%)"),
    ("max_absolute_diff", "largest |difference|"),
    ("l2_distance", "‖difference‖₂"),
    ("gain", "‖difference‖₂ over\n‖input difference‖₂"),
)
LARGEST_JUMPS = 4  # a colour each


def _blocks(axes: Axes, count: int) -> None:
    axes.set_xlim(-0.5, count - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.set_xlabel("block")


@style.styled
def norms(stages: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Spectral norm, Frobenius norm and stable rank of every block and branch.

    Args:
        stages: Table stages.csv of exp5.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.3)
    panels = figure.subplots(1, len(MEASURES))
    inside = stages[stages["block"] >= 0]
    for axes, (column, text) in zip(panels, MEASURES, strict=True):
        style.log_axis(axes.yaxis, style.log_limits(inside[column].to_numpy(dtype=float)))
        for part, (name, colour, marker) in PARTS.items():
            rows = inside[(inside["part"] == part) & np.isfinite(inside[column].astype(float))]
            if len(rows):
                axes.plot(rows["block"], rows[column], marker=marker, color=colour, label=name, gid=f"{column}-{part}")
        if not np.isfinite(inside[column].astype(float)).any():
            axes.text(0.5, 0.5, "known with method: dense only", ha="center", transform=axes.transAxes)
        axes.set_ylabel(text)
        _blocks(axes, int(inside["block"].max()) + 1)
    style.set_title(figure, title)
    style.outside_legend(figure, *panels, columns=3)
    return figure


@style.styled
def chain(stages: pd.DataFrame, *, sigma_1: float, title: str | None = None) -> Figure:
    """How the norm of the product of Jacobians grows along the model, and what the product of the norms would allow.

    Args:
        stages: Table stages.csv of exp5.
        sigma_1: Largest singular value of the whole model.
        title: Text above the figure.
    """
    rows = stages[np.isfinite(stages["norm_product"].astype(float))]
    x = np.arange(len(rows))
    ends = {"embedding": "in", "final": "norm"}
    names = [ends.get(part, str(block)) for part, block in zip(rows["part"], rows["block"], strict=True)]
    stretched = np.cumprod(rows["gain_of_v1"].to_numpy(dtype=float))
    bound, product = rows["norm_product"].to_numpy(dtype=float), rows["cumulative_norm"].to_numpy(dtype=float)
    figure = style.new_figure(height=2.5)
    axes = figure.add_subplot()
    style.log_axis(axes.yaxis, style.log_limits(bound, product, stretched, np.array([sigma_1])))
    whole = f"σ₁ of the whole model = {style.number(sigma_1, 4)}"
    axes.axhline(sigma_1, color=style.GREY, linestyle=":", label=whole, gid="sigma")
    axes.plot(x, bound, color=style.VERMILLION, marker="v", label="product of the norms (upper bound)", gid="bound")
    if np.isfinite(product).any():
        axes.plot(x, product, color=style.BLUE, marker="o", label="norm of the product so far", gid="product")
    axes.plot(x, stretched, color=style.GREEN, marker=".", linestyle="--", label="stretch of v₁ so far", gid="v1")
    shown = np.unique(np.linspace(0, len(x) - 1, min(len(x), 12)).round().astype(int))
    axes.set_xticks(shown, [names[i] for i in shown])
    axes.set_xlabel("after stage (numbers are blocks)")
    axes.set_ylabel("gain from the input embedding")
    style.set_title(figure, title)
    style.outside_legend(figure, axes, columns=2)
    return figure


@style.styled
def modules(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Every module of the first chosen block, by its full name, under two near inputs, for each jump.

    Args:
        table: Table modules.csv of exp5.
        title: Text above the figure.
    """
    first = table[(table["arithmetic"] == table["arithmetic"].iloc[0]) & (table["block"] == table["block"].iloc[0])]
    jumps = list(dict.fromkeys(first["jump"]))[-LARGEST_JUMPS:]
    names = list(dict.fromkeys(first["module"]))
    colours = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE)
    figure = style.new_figure(width="page", height=0.6 + 0.19 * len(names))
    panels = figure.subplots(1, len(METRICS), sharey=True)
    height = 0.8 / len(jumps)
    for axes, (column, text) in zip(panels, METRICS, strict=True):
        values = first[first["jump"].isin(jumps)][column].to_numpy(dtype=float)
        low, high = 0.0, 100.0
        if column != "percent_changed":
            low, high = style.log_limits(values, least=2.3)  # wide enough that powers of ten suffice as labels
            style.log_axis(axes.xaxis, (low, high))
        for number, (jump, colour) in enumerate(zip(jumps, colours, strict=False)):
            rows = first[first["jump"] == jump].set_index("module").loc[names]
            own: npt.NDArray[np.float64] = rows[column].to_numpy(dtype=float)
            places = np.arange(len(names)) - 0.4 + height * (number + 0.5)
            there = np.isfinite(own) & (own > 0)
            equal = bool(rows["inputs_equal"].all())
            label = f"jump {jump}: e2 − e1 = {style.number(float(rows['e2'].iloc[0] - rows['e1'].iloc[0]))}"
            label += " (the two inputs are equal)" if equal else ""
            axes.barh(places[there], own[there] - low, left=low, height=height, color=colour, gid=f"{column}-{jump}")
            axes.plot([], [], color=colour, linewidth=4, label=label)
        axes.set_xlim(low, high)
        axes.set_xlabel(text)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(np.arange(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    style.set_title(figure, title)
    style.outside_legend(figure, panels[0], columns=2, title=f"{first['arithmetic'].iloc[0]} arithmetic; no bar: zero")
    return figure
