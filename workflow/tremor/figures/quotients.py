"""Figures of exp2 and the Lipschitz studies: sigma_1 over prompts, quotients by step, noisy averages."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tremor.figures import style
from tremor.figures.propagation import sequence

Array = npt.NDArray[Any]
GAIN_UNITS = "hidden-state units per embedding unit"


@style.styled
def distribution(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """sigma_1 over prompts: all together as a cumulative curve, and prompt by prompt within each kind.

    Args:
        table: prompts.csv.
        title: Text above the figure.
    """
    kinds = list(dict.fromkeys(table["kind"]))
    figure = style.new_figure(width="page", height=1.5 + 0.16 * len(kinds))
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.6))
    values = np.sort(table["sigma_1"].to_numpy(dtype=np.float64))
    limits = style.log_limits(values)
    left.step(
        np.concatenate([[limits[0]], values, [limits[1]]]),
        np.concatenate([[0.0], np.arange(1, len(values) + 1), [len(values)]]) / len(values),
        where="post", color=style.BLUE, gid="cumulative", label=f"all {len(values)} prompts",
    )  # fmt: skip
    left.set_ylim(0, 1.02)
    left.set_ylabel("share of prompts with σ₁ up to this")
    for row, kind in enumerate(kinds):
        own = table[table["kind"] == kind]
        original = (own["source"] == "original").to_numpy()
        sigma = own["sigma_1"].to_numpy(dtype=np.float64)
        # Dots of one kind are spread, by their order, so that equal ones can be told apart.
        height = row + (0.5 * np.linspace(-0.5, 0.5, len(own)) if len(own) > 1 else np.zeros(1))
        dots: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 3.2, "markeredgewidth": 0.7}
        for mask, face, text in (
            (~original, style.BLUE, "prompt of this project"),
            (original, "white", "prompt of the original study"),
        ):
            if mask.any():
                right.plot(
                    sigma[mask], height[mask], markerfacecolor=face, markeredgecolor=style.BLUE, label=text,
                    gid=f"kind_{kind}", **dots,
                )  # fmt: skip
        middle = float(np.median(sigma))
        right.plot(
            [middle, middle], [row - 0.38, row + 0.38], color=style.VERMILLION, linewidth=1.2, gid="median",
            label="median of the kind",
        )  # fmt: skip
    right.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
    right.set_ylim(len(kinds) - 0.4, -0.6)
    right.grid(axis="x")
    for axes in (left, right):
        style.log_axis(axes.xaxis, limits)
        middle = float(np.median(values))
        axes.axvline(middle, color=style.GREY, linestyle=":", linewidth=0.8, label="median of all prompts")
        axes.set_xlabel(style.label("σ₁ of the Jacobian at the prompt", GAIN_UNITS, wrap=True))
    style.set_title(figure, title)
    style.outside_legend(figure, left, right, columns=3)
    return figure


def _band(axes: Axes, table: pd.DataFrame, column: str, colour: Any, text: str, gid: str) -> Array:
    """Median over all prompts of a column by step, and the range of those above 0 as a band; zeros are not drawn."""
    known = table[np.isfinite(table[column])]
    shown = known[known[column] > 0]
    middle, by_step = known.groupby("epsilon")[column].median(), shown.groupby("epsilon")[column]
    middle, low, high = middle[middle > 0], by_step.min(), by_step.max()
    axes.plot(middle.index, middle.to_numpy(), color=colour, marker=".", label=text, gid=gid)
    axes.fill_between(low.index, low.to_numpy(), high.to_numpy(), color=colour, alpha=0.15, linewidth=0)
    found: Array = shown[column].to_numpy()
    return found


@style.styled
def by_step(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """What moves, and the quotients over sigma, by the step asked for; and router flips where they were recorded.

    Args:
        table: quotients.csv, with one prompt or more.
        title: Text above the figure.
    """
    prompts = table["prompt"].nunique()
    lead, figure = table[table["dimension"] == 1], style.new_figure(width="page", height=2.9)
    routed = "router_flips" in table
    panels = figure.subplots(1, 3 if routed else 2)
    left, right = panels[:2]
    x_limits = style.log_limits(table["epsilon"].to_numpy())
    for axes in panels:
        style.log_axis(axes.xaxis, x_limits)
        axes.set_xlabel(style.label("step asked for ε", style.EMBEDDING_UNITS))
    who = "first prompt" if prompts == 1 else f"median and range of {prompts} prompts"
    pool = [
        _band(left, lead, "output_diff_norm", style.BLUE, f"answer ‖h(p) − h(x)‖₂, {who}", "output"),
        _band(left, lead, "smooth_prediction_l2", style.VERMILLION, "smooth prediction ‖J (p − x)‖₂", "smooth"),
        _band(left, lead, "realised_l2", style.GREY, "step that was made ‖p − x‖₂ (embedding units)", "realised"),
    ]
    floor = float(lead["noise_floor_l2"].median())
    if floor > 0:
        left.axhline(floor, color=style.ORANGE, linestyle="--", linewidth=0.8, label="rounding noise floor (median)")
    style.log_axis(left.yaxis, style.log_limits(*pool, np.array([floor])))
    left.set_ylabel(f"size along v₁\n({style.HIDDEN_UNITS})")
    left.set_title("what moves, direction 1", fontsize=7, loc="left")
    shown: list[Array] = [np.array([1.0])]
    picked = _picked(sorted(table["dimension"].unique()))
    for rank, colour in zip(picked, sequence(len(picked)), strict=True):
        own = table[table["dimension"] == rank]
        medians = own.groupby("epsilon")[["ratio_realised_to_sigma", "ratio_nominal_to_sigma"]].median()
        for column, line, text in (
            ("ratio_realised_to_sigma", "-", f"realised, v{_subscript(rank)}"),
            ("ratio_nominal_to_sigma", ":", "the same by the step asked for"),
        ):
            series = medians[column]
            kept = series[np.isfinite(series) & (series > 0)]
            right.plot(
                kept.index, kept.to_numpy(), color=colour, linestyle=line, marker=".", markersize=2.5, label=text,
                gid=f"{column}_{rank}",
            )  # fmt: skip
            shown.append(kept.to_numpy())
    right.axhline(1.0, color=style.INK, linewidth=0.6, gid="one")
    style.log_axis(right.yaxis, style.log_limits(*shown))
    right.set_ylabel("quotient / σₖ (median over prompts)" if prompts > 1 else "quotient / σₖ")
    right.set_title("1: the quotient is the gain of the Jacobian", fontsize=7, loc="left")
    if routed:
        _flips(panels[2], table, picked)
    style.set_title(figure, title)
    style.outside_legend(figure, left, right, columns=3)
    return figure


def _flips(axes: Axes, table: pd.DataFrame, picked: list[int]) -> None:
    """Layers whose router chooses otherwise than at x, mean over prompts, in the colours of the directions."""
    for rank, colour in zip(picked, sequence(len(picked)), strict=True):
        mean = table[table["dimension"] == rank].groupby("epsilon")["router_layers_flipped"].mean()
        axes.plot(mean.index, mean.to_numpy(), color=colour, marker=".", markersize=2.5, gid=f"flips_{rank}")
    axes.set_ylim(bottom=-0.05, top=max(1.0, 1.05 * float(table["router_layers_flipped"].max())))
    axes.set_ylabel("layers whose router chooses other experts")
    axes.set_title("router flips", fontsize=7, loc="left")


def _picked(ranks: list[int]) -> list[int]:
    """At most four directions, the first and the last among them: more curves are a thicket."""
    if len(ranks) <= 4:
        return ranks
    return [ranks[round(k * (len(ranks) - 1) / 3)] for k in range(4)]


def _subscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


@style.styled
def averages(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Noise-averaged quotients of the first prompt's first direction by the number of copies, a panel a kind.

    Args:
        table: averages.csv.
        title: Text above the figure.
    """
    first = table[(table["prompt"] == table["prompt"].iloc[0]) & (table["dimension"] == table["dimension"].iloc[0])]
    kinds = list(dict.fromkeys(first["noise"]))
    figure = style.new_figure(width="page", height=2.8)
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    gain = float(first["smooth_gain"].iloc[0])
    sizes = sorted(first["epsilon"].unique(), reverse=True)
    text = {"isotropic": "noise in every coordinate", "along": "noise along the direction"}
    for axes, kind in zip(panels, kinds, strict=True):
        own = first[first["noise"] == kind]
        for size, colour in zip(sizes, sequence(len(sizes)), strict=True):
            rows = own[own["epsilon"] == size].sort_values("n_samples")
            known = rows[rows["quotient_nominal"] > 0]
            axes.plot(
                known["n_samples"], known["quotient_nominal"], color=colour, marker="o", markersize=3,
                label=f"ε = {style.number(size)}", gid=f"measured_{size:g}",
            )  # fmt: skip
            axes.plot(
                rows["n_samples"], rows["expected_quotient"], color=colour, linestyle=":",
                label="expected of independent roundings", gid=f"expected_{size:g}",
            )  # fmt: skip
        axes.axhline(gain, color=style.VERMILLION, linewidth=0.9, label=f"‖J v‖₂ = {style.number(gain)}", gid="gain")
        style.log_axis(axes.xaxis, style.log_limits(own["n_samples"].to_numpy()))
        axes.set_xlabel("noisy copies averaged over n")
        axes.set_title(text[kind], fontsize=7, loc="left")
    positive = style.positive(first["quotient_nominal"], first["expected_quotient"], [gain])
    style.log_axis(panels[0].yaxis, style.log_limits(positive))
    panels[0].set_ylabel(style.label("‖mean h(x+εv+r) − mean h(x+r)‖₂ / ε", GAIN_UNITS, wrap=True))
    style.set_title(figure, title)
    style.outside_legend(figure, *panels, columns=4)
    return figure
