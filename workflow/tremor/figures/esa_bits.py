"""Figures of esa/bit-level: effect by bit position, attacks, precision, bits of the weights."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tremor.figures import style

ROLES: Mapping[str, tuple[str, str]] = {
    "search": ("search, held-out texts", style.VERMILLION),
    "same_bits": ("random weights, the same bits", style.ORANGE),
    "random": ("random weights and bits", style.GREY),
}
RULES = {"free": "any finite result", "in_range": "within the tensor's range", "int8": "INT8 codes"}
FLOOR, CEILING = 1e-14, 1e2  # nats per token: what the colours tell apart
COLOURS = (
    style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.PURPLE, style.SKY, style.INK, style.GREY,
)  # fmt: skip


def _fields(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    """Lines between the fields of a format, bits from the highest on the left to the lowest."""
    fields = rows.drop_duplicates("bit").sort_values("bit", ascending=False)["field"].tolist()
    for place in range(1, len(fields)):
        if fields[place] != fields[place - 1]:
            axes.axvline(place - 0.5, color=colour, lw=1.4)


@style.styled
def positions(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Largest KL divergence after a single flipped bit, by component and bit position, for every format.

    Args:
        table: Table positions.csv of esa/bit-level.
        title: Text above the figure.
    """
    names = list(dict.fromkeys(table["component"]))
    formats = list(dict.fromkeys(table["format"]))
    figure = style.new_figure(width="page", height=0.5 + len(formats) * (0.55 + 0.13 * len(names)))
    style.set_title(figure, title)
    panels = figure.subplots(len(formats), 1, squeeze=False)[:, 0]
    image = None
    for axes, form in zip(panels, formats, strict=True):
        mine = table[table["format"] == form]
        bits = sorted(mine["bit"].unique(), reverse=True)
        effect = mine.pivot(index="component", columns="bit", values="kl_max").reindex(names)[bits]
        silent = (mine["silent"] == mine["cases"]).to_numpy()
        broken = (mine["nan"] + mine["inf"] > 0).to_numpy()
        shown = np.clip(effect.to_numpy(dtype=np.float64), FLOOR, CEILING)
        image = axes.imshow(shown, cmap="cividis", norm=LogNorm(FLOOR, CEILING), aspect="auto")
        axes.set_facecolor(style.PALE)
        for mask, text in ((silent, "•"), (broken, "×")):
            for row in mine[mask].itertuples():
                place = (bits.index(row.bit), names.index(row.component))
                axes.text(*place, text, ha="center", va="center_baseline", fontsize=7, color="white")
        _fields(axes, mine, "white")
        axes.set_yticks(range(len(names)), names)
        step = 1 if len(bits) <= 16 else 2
        axes.set_xticks(range(0, len(bits), step), [str(bit) for bit in bits[::step]])
        axes.tick_params(length=0)
        axes.set_title(f"{form}: sign | exponent | mantissa", fontsize=7)
        axes.set_ylabel("component")
    panels[-1].set_xlabel("flipped bit (• no logit changed, × NaN or infinite)")
    assert image is not None
    bar = figure.colorbar(image, ax=list(panels), extend="both", pad=0.01, aspect=30)
    bar.set_label(style.label("largest KL(clean || flipped)", "nats per token"))
    exponents = range(-14, 3, 2)
    bar.set_ticks([10.0**e for e in exponents], labels=[style.power(e) for e in exponents])
    bar.minorticks_off()
    return figure


@style.styled
def attack(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """NLL against the number of flipped bits, for the search and random flips.

    Args:
        table: Table attack.csv of esa/bit-level.
        title: Text above the figure.
    """
    rules = list(dict.fromkeys(table["rule"]))
    figure = style.new_figure(width="page", height=2.4)
    style.set_title(figure, title)
    panels = figure.subplots(1, len(rules), squeeze=False)[0]
    for axes, rule in zip(panels, rules, strict=True):
        mine = table[table["rule"] == rule]
        start = mine[(mine["role"] == "search") & (mine["flips"] == 0)]
        values = mine["nll"].to_numpy(dtype=np.float64)
        for role, (text, colour) in ROLES.items():
            for number, (_, rows) in enumerate(mine[mine["role"] == role].groupby("draw", dropna=False)):
                path = rows if role == "search" else pd.concat([start, rows])
                label = text if number == 0 else None
                _path(axes, path, colour, label, thin=role != "search")
        search = mine[mine["role"] == "search"]
        seen = search["attacked_nll"].to_numpy(dtype=np.float64)
        axes.plot(
            search["flips"], seen, color=style.VERMILLION, ls=":", lw=1.0, label="search, on the texts that it reads"
        )
        if style.decades(values, seen) > 1:
            style.log_axis(axes.yaxis, style.log_limits(values, seen))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(-0.3, max(1.0, float(mine["flips"].max())) + 0.3)
        axes.set_title(RULES[rule])
        axes.set_xlabel("flipped bits")
    panels[0].set_ylabel(style.label("NLL", "nats per token"))
    style.outside_legend(figure, *panels, columns=3)
    return figure


def _path(axes: Axes, rows: pd.DataFrame, colour: str, label: str | None, *, thin: bool) -> None:
    """A line over the states that have a number, and a cross at the upper edge over those that have none."""
    flips = rows["flips"].to_numpy(dtype=np.float64)
    nll = rows["nll"].to_numpy(dtype=np.float64)
    axes.plot(flips, nll, color=colour, lw=0.7 if thin else 1.2, marker=None if thin else "o", ms=2.5, label=label)
    for place in flips[~np.isfinite(nll)]:
        axes.plot(place, 0.97, "x", color=colour, transform=axes.get_xaxis_transform(), label="NaN or infinite")


@style.styled
def precision(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """KL divergence and change of NLL against the mantissa bits that are kept; integer and NF4 grids as lines.

    Args:
        table: Table precision.csv of esa/bit-level.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.4)
    style.set_title(figure, title)
    panels = figure.subplots(1, 2)
    mantissa = table[table["bit"].notna()].sort_values("bit")
    grids = table[table["bit"].isna()]
    kept = mantissa["bit"].to_numpy(dtype=np.float64)
    texts = (
        style.label("KL(clean || rounded)", "nats per token", wrap=True),
        style.label("|change of held-out NLL|", "nats per token", wrap=True),
    )
    for axes, name, text in zip(panels, ("kl", "delta_nll"), texts, strict=True):
        values = np.abs(mantissa[name].to_numpy(dtype=np.float64))
        some = values > 0
        axes.plot(kept[some], values[some], "o-", color=style.BLUE, label="mantissa bits kept, all weights rounded")
        for row, colour, dash in zip(
            grids.itertuples(), (style.ORANGE, style.VERMILLION, style.GREEN), ("-", "--", ":"), strict=False
        ):
            axes.axhline(abs(float(getattr(row, name))), color=colour, ls=dash, label=str(row.setting).upper())
        style.log_axis(axes.yaxis, style.log_limits(values, np.abs(grids[name].to_numpy(dtype=np.float64))))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(style.label("mantissa kept", "bits"))
        axes.set_ylabel(text)
    style.outside_legend(figure, panels[0], columns=4)
    return figure


@style.styled
def statistics(ones: pd.DataFrame, exponents: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Share of ones at every bit position, and how often each exponent occurs, by component.

    Args:
        ones: Table ones.csv of esa/bit-level.
        exponents: Table exponents.csv.
        title: Text above the figure.
    """
    names = list(dict.fromkeys(ones["component"]))
    figure = style.new_figure(width="page", height=1.6 + 0.13 * len(names))
    style.set_title(figure, title)
    left, right = figure.subplots(1, 2)
    bits = sorted(ones["bit"].unique(), reverse=True)
    share: npt.NDArray[np.float64] = (
        ones.pivot(index="component", columns="bit", values="ones").reindex(names)[bits].to_numpy(dtype=np.float64)
    )
    image = left.imshow(share, cmap="PuOr", vmin=0.0, vmax=1.0, aspect="auto")
    _fields(left, ones, style.INK)
    step = 1 if len(bits) <= 16 else 4
    left.set_xticks(range(0, len(bits), step), [str(bit) for bit in bits[::step]])
    left.set_yticks(range(len(names)), names)
    left.tick_params(length=0)
    left.set_xlabel("bit (sign | exponent | mantissa)")
    left.set_ylabel("component")
    bar = figure.colorbar(image, ax=left, pad=0.02)
    bar.set_label("share of ones")
    _exponents(right, exponents, names)
    style.outside_legend(figure, right, columns=len(names))
    return figure


def _exponents(axes: Axes, exponents: pd.DataFrame, names: Sequence[str]) -> None:
    """Lines by component; zeros and denormals, which have the lowest code of all, are left out."""
    total = exponents.groupby("component")["weights"].transform("sum")
    table = exponents.assign(share=exponents["weights"] / total)
    table = table[table["exponent"] > exponents["zero_code"]]
    for number, name in enumerate(names):
        mine = table[table["component"] == name].sort_values("exponent")
        colour, dash = COLOURS[number % len(COLOURS)], "-" if number < len(COLOURS) else "--"
        axes.plot(mine["exponent"], mine["share"], color=colour, ls=dash, marker=".", ms=3, lw=0.8, label=name)
    style.log_axis(axes.yaxis, style.log_limits(table["share"]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("exponent, power of two (zeros left out)")
    axes.set_ylabel("share of weights")
