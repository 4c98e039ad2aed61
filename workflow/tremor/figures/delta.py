"""Figures of delta/jacobian: gain, effective rank and sensitivity of models over relative depth."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tremor.figures import style

COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.VERMILLION, style.SKY)
MARKERS = ("o", "s", "^", "v", "D", "P")
Layers = Mapping[str, pd.DataFrame]
GAINS = (  # columns of gain.csv that have a panel each, and their axis
    ("spectral_last_logits", "spectral norm of d logits / d state", "the last position's state"),
    ("spectral_all_logits", "spectral norm of d logits / d states", "the states at all positions"),
    ("relative_worst_last_centred_logits", "relative gain of the worst direction", "last position, logits less mean"),
    ("relative_typical_last_centred_logits", "relative gain of a random direction", "last position, logits less mean"),
)
RANKS = (("last", "last positions"), ("token", "all positions"))


def _line(axes: Axes, number: int, x: npt.ArrayLike, y: npt.ArrayLike, name: str, gid: str, **options: object) -> None:
    settings = {"marker": MARKERS[number % len(MARKERS)], "label": name, "gid": gid, **options}
    axes.plot(x, y, color=COLOURS[number % len(COLOURS)], **settings)  # type: ignore[arg-type]


def _depth(axes: Axes) -> None:
    axes.set_xlim(0.0, 1.03)
    axes.set_xlabel("relative depth (block + 1) / blocks")


def _named(model: str, table: pd.DataFrame) -> str:
    return f"{model} ({int(table['n_layers'].iloc[0])} blocks, {table['mixer'].iloc[0]})"


@style.styled
def gain(layers: Layers, *, title: str | None = None) -> Figure:
    """Gain from every layer to the answer: median over the texts, and the range from the least to the largest.

    Args:
        layers: gain.csv of each model.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=4.6)
    panels = figure.subplots(2, 2).ravel()
    for axes, (column, text, moved) in zip(panels, GAINS, strict=True):
        seen = []
        for number, (model, table) in enumerate(layers.items()):
            if column not in table:
                continue
            low, high = table[f"{column}_min"], table[f"{column}_max"]
            colour = COLOURS[number % len(COLOURS)]
            axes.fill_between(
                table["relative_depth"], low, high, color=colour, alpha=0.2, linewidth=0, gid=f"{column}-{model}-range"
            )
            _line(axes, number, table["relative_depth"], table[column], _named(model, table), f"{column}-{model}")
            seen += [low.to_numpy(dtype=float), high.to_numpy(dtype=float)]
        if not style.positive(*seen).size:
            axes.text(0.5, 0.5, "not among delta.jacobian.targets", ha="center", transform=axes.transAxes)
        style.log_axis(axes.yaxis, style.log_limits(*seen))
        axes.set_ylabel(text)
        axes.set_title(f"change of {moved}" if "position," not in moved else moved)
        _depth(axes)
    style.set_title(figure, title)
    texts = int(next(iter(layers.values()))["gain_texts"].iloc[0])
    style.outside_legend(figure, panels[0], columns=2, title=f"median and range over {texts} texts")
    return figure


@style.styled
def rank(layers: Layers, ranks: Layers, *, title: str | None = None) -> Figure:
    """Centred effective rank of the states over depth, beside what the sample size alone allows.

    Args:
        layers: gain.csv of each model.
        ranks: ranks.csv of each model.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.9)
    panels = figure.subplots(1, 2)
    for axes, (level, text) in zip(panels, RANKS, strict=True):
        seen = []
        for number, (model, table) in enumerate(layers.items()):
            own = ranks[model]
            own = own[(own["level"] == level) & (own["centring"] == "centred") & (own["spectrum"] == "sigma2")]
            own = own.set_index("layer").loc[table["layer"]]
            depth, name = table["relative_depth"], _named(model, table)
            _line(axes, number, depth, own["effective_rank"], name, f"{level}-{model}")
            dashes = {"linestyle": "--", "markerfacecolor": "white"}
            _line(
                axes, number, depth, own["corrected"], f"{model}, extrapolated", f"{level}-{model}-corrected", **dashes
            )
            axes.plot(
                depth, own["gaussian"], color=style.GREY, linestyle=":", label="isotropic Gaussian of equal n, d",
                gid=f"{level}-{model}-gaussian",
            )  # fmt: skip
            seen += [own[name].to_numpy(dtype=float) for name in ("effective_rank", "corrected", "gaussian")]
        style.log_axis(axes.yaxis, style.log_limits(*seen))
        samples = "/".join(dict.fromkeys(str(int(t[f"{level}_states"].iloc[0])) for t in layers.values()))
        axes.set_title(f"states at {text}, n = {samples}")
        axes.set_ylabel("effective rank (centred, variances)")
        _depth(axes)
    style.set_title(figure, title)
    style.outside_legend(figure, panels[0], columns=3)
    return figure


@style.styled
def sensitivity(layers: Layers, *, title: str | None = None) -> Figure:
    """Finite differences: as the original study divides, and relative to state and logits; and secants of texts.

    Args:
        layers: gain.csv of each model.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.6)
    panels = figure.subplots(1, 3)
    for number, (model, table) in enumerate(layers.items()):
        depth, name = table["relative_depth"], _named(model, table)
        mean, spread = table["sensitivity_absolute_mean"], table["sensitivity_absolute_std"].fillna(0.0)
        colour = COLOURS[number % len(COLOURS)]
        panels[0].errorbar(depth, mean, yerr=spread, color=colour, linestyle="none", capsize=1.5, linewidth=0.7)
        _line(panels[0], number, depth, mean, name, f"absolute-{model}")
        for noise, dashes in (("relative_last", "-"), ("relative_all", "--")):
            column = table[f"sensitivity_{noise}_gain_mean"]
            _line(panels[1], number, depth, column, name, f"{noise}-{model}", linestyle=dashes)
        _line(panels[2], number, depth, table["secant_mean"], name, f"secant-{model}")
        local = table["spectral_last_logits_max"]
        _line(panels[2], number, depth, local, name, f"local-{model}", linestyle="--")
    epsilon = float(next(iter(layers.values()))["epsilon"].iloc[0])
    texts = (
        ("‖Δlogits‖ / ‖d‖", f"all positions, d = {style.number(epsilon)} · N(0, 1)"),
        ("(‖Δlogits‖/‖logits‖) / (‖d‖/‖h‖)", "solid: last position, dashed: all"),
        ("‖Δlogits‖ / ‖Δstate‖", "solid: mean secant, dashed: largest σ₁"),
    )
    for axes, (label, above) in zip(panels, texts, strict=True):
        lines = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]
        style.log_axis(axes.yaxis, style.log_limits(*lines))
        axes.set_ylabel(label)
        axes.set_title(above, fontsize=6.5)
        _depth(axes)
    style.set_title(figure, title)
    style.outside_legend(figure, panels[0], columns=3)
    return figure
