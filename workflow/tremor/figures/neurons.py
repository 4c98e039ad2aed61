"""Figures of ablated neurons: effects against baselines, by layer, and from relation to relation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tremor.figures import style
from tremor.models.corpus import RELATIONS

COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.SKY, style.VERMILLION)
MARKERS = ("o", "s", "^", "D", "v", "P")
DIVERGING = "RdBu_r"  # its ends are told apart with any common colour vision
ROTATED = 6  # so many names fit beside each other only when they are turned


def worded(table: pd.DataFrame, wording: str) -> pd.DataFrame:
    """Rows of one wording; all where the sentences of a file have only one."""
    chosen = table[table["wording"] == wording]
    return chosen if len(chosen) else table[table["wording"] == table["wording"].iloc[0]]


def _first(table: pd.DataFrame, *names: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rows with the first value of some columns, and these values."""
    values = {name: table[name].iloc[0] for name in names}
    for name, value in values.items():
        table = table[table[name] == value]
    return table, values


def _caption(values: dict[str, Any], wording: str) -> str:
    return f"layer {values['layer_name']}, tap {values['tap']}, selector {values['selector']}, {wording} wording"


@style.styled
def percentage(table: pd.DataFrame, *, wording: str, title: str | None = None) -> Figure:
    """Effect against baseline with its regression, absolute and relative change by relation, and the baselines.

    The first layer, tap and selector of the table are drawn.

    Args:
        table: Summary of delta/percentage.
        wording: Which wording.
        title: Text above the figure.
    """
    rows, values = _first(worded(table, wording), "layer_name", "tap", "selector")
    models = list(dict.fromkeys(rows["model"]))
    figure = style.new_figure(width="page", height=4.8)
    (fits, absolute), (relative, box) = figure.subplots(2, 2)
    for model, colour, marker in zip(models, COLOURS, MARKERS, strict=False):
        own = rows[rows["model"] == model]
        x, y = own["baseline_ppl"].to_numpy(dtype=float), own["percentage_change"].to_numpy(dtype=float)
        label = model
        if len(own) > 2 and np.ptp(x) > 0:
            slope, intercept = np.polyfit(x, y, 1)
            ends = np.array([x.min(), x.max()])
            fits.plot(ends, slope * ends + intercept, color=colour, linestyle="--", gid=f"fit-{model}")
            label = f"{model} (dashed: r = {style.minus(f'{np.corrcoef(x, y)[0, 1]:.2f}')})"
        fits.plot(x, y, marker, color=colour, label=label, gid=f"points-{model}")
    fits.axhline(0.0, color=style.GREY, linewidth=0.6)
    fits.set_xlabel("baseline perplexity")
    fits.set_ylabel("change of perplexity (%)")
    _bars(absolute, rows, models, "absolute_change", None)
    absolute.set_ylabel("change of perplexity")
    _bars(relative, rows, models, "percentage_change", ("percentage_low", "percentage_high"))
    relative.set_ylabel("change of perplexity (%)\nbars: interval over sentences")
    lists = [rows[rows["model"] == model]["baseline_ppl"].to_numpy(dtype=float) for model in models]
    box.boxplot(lists, tick_labels=models, widths=0.5, medianprops={"color": style.VERMILLION})
    box.set_ylabel("baseline perplexity of the relations")
    style.set_title(figure, title or _caption(values, str(rows["wording"].iloc[0])))
    style.outside_legend(figure, fits, columns=3)
    return figure


def _bars(axes: Axes, rows: pd.DataFrame, models: Sequence[str], column: str, interval: tuple[str, str] | None) -> None:
    names = list(dict.fromkeys(rows["relation"]))
    labels = rows.drop_duplicates("relation").set_index("relation")["relation_name"].to_dict()
    height = 0.8 / len(models)
    for number, (model, colour) in enumerate(zip(models, COLOURS, strict=False)):
        own = rows[rows["model"] == model].set_index("relation").loc[names]
        values = own[column].to_numpy(dtype=float)
        places = np.arange(len(names)) - 0.4 + height * (number + 0.5)
        error = None
        if interval is not None:
            low, high = (own[name].to_numpy(dtype=float) for name in interval)
            # Resamples need not lie around the sample's own value; a bar's whisker cannot be negative.
            error = np.clip(np.stack([values - low, high - values]), 0.0, None)
        axes.bar(
            places, values, width=height, color=colour, yerr=error, gid=f"{column}-{model}",
            error_kw={"linewidth": 0.6, "ecolor": style.INK},
        )  # fmt: skip
    axes.axhline(0.0, color=style.GREY, linewidth=0.6)
    shown = [str(labels[name]).replace("_", " ") for name in names]
    axes.set_xticks(np.arange(len(names)), shown, rotation=35, ha="right", rotation_mode="anchor")


def _panels(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Model, tap and selector of each panel, and its rows."""
    keys = ["model", "tap", "selector"]
    return [(f"{m}\n{t}, {s}", own) for (m, t, s), own in table.groupby(keys, sort=False)]


def _heat(axes: Axes, values: npt.NDArray[np.float64], limit: float) -> Any:
    return axes.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")


def _limit(values: npt.ArrayLike) -> float:
    return float(np.nanmax(np.abs(np.asarray(values, dtype=np.float64)))) or 1.0


@style.styled
def layers(table: pd.DataFrame, *, wording: str, title: str | None = None) -> Figure:
    """Effect in nats by relation and layer, a panel for each model, tap and selector.

    Args:
        table: Summary of delta/percentage.
        wording: Which wording.
        title: Text above the figure.
    """
    rows = worded(table, wording)
    panels = _panels(rows)
    names = list(dict.fromkeys(rows["relation"]))
    labels = rows.drop_duplicates("relation").set_index("relation")["relation_name"].to_dict()
    figure = style.new_figure(width="page", height=0.9 + 0.2 * len(names) + 0.2)
    drawn = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    limit = _limit(rows["delta_nll"])
    image: Any = None
    for axes, (text, own) in zip(drawn, panels, strict=True):
        wide = own.pivot_table(index="relation", columns="layer", values="delta_nll").loc[names]
        image = _heat(axes, wide.to_numpy(dtype=float), limit)
        # A dot: more than every random choice of as many units does.
        best = own.pivot_table(index="relation", columns="layer", values="control_percentile").loc[names].to_numpy()
        y, x = np.nonzero(best >= 100.0)
        axes.plot(x, y, ".", color=style.INK, markersize=2.5, linestyle="none")
        axes.set_xticks(np.arange(wide.shape[1]), [str(c) for c in wide.columns])
        axes.set_title(text, fontsize=6.5)
        axes.set_xlabel("layer")
        axes.set_yticks(np.arange(len(names)), [str(labels[n]).replace("_", " ") for n in names])
    figure.colorbar(image, ax=list(drawn), label="change of NLL (nats per token)\ndot: beyond all controls")
    style.set_title(figure, title or f"{rows['wording'].iloc[0]} wording")
    return figure


@style.styled
def matrix(table: pd.DataFrame, *, wording: str, title: str | None = None) -> Figure:
    """Relations whose units are ablated against relations that are asked, by model and by layer and selector.

    The first tap is drawn.

    Args:
        table: Table matrix.csv of delta/factual.
        wording: Which wording.
        title: Text above the figure.
    """
    rows, values = _first(worded(table, wording), "tap")
    rows = rows[rows["measured"] != "other"]
    models = list(dict.fromkeys(rows["model"]))
    lines = list(dict.fromkeys(zip(rows["layer_name"], rows["selector"], strict=True)))
    names = list(dict.fromkeys(rows["erased"]))
    side = 0.45 + 0.19 * len(names)
    figure = style.new_figure(width="page", height=max(1.7, side) * len(lines) + 0.4)
    panels = figure.subplots(len(lines), len(models), sharex=True, sharey=True, squeeze=False)
    for column, model in enumerate(models):
        own = rows[rows["model"] == model]
        limit = _limit(own["answer_logprob_change"])
        image: Any = None
        for axes, (layer, selector) in zip(panels[:, column], lines, strict=True):
            cells = own[(own["layer_name"] == layer) & (own["selector"] == selector)]
            wide = cells.pivot_table(index="erased", columns="measured", values="answer_logprob_change", sort=False)
            wide = wide.reindex(index=names, columns=names)
            # Red is loss, as in the other maps.
            image = _heat(axes, -wide.to_numpy(dtype=float), limit)
            axes.set_title(f"{model}, layer {layer}, {selector}", fontsize=6.5)
            axes.set_xticks(np.arange(len(names)), names, rotation=60 if len(names) > ROTATED else 0)
            axes.set_yticks(np.arange(len(names)), [f"{RELATIONS.get(n, '')} {n}".replace("_", " ") for n in names])
        figure.colorbar(image, ax=list(panels[:, column]), label="loss of the answer's log-probability (nats)")
    for axes in panels[:, 0]:
        axes.set_ylabel("units of")
    for axes in panels[-1]:
        axes.set_xlabel("asked")
    style.set_title(figure, title or f"tap {values['tap']}, {rows['wording'].iloc[0]} wording")
    return figure


@style.styled
def patterns(table: pd.DataFrame, *, wording: str, title: str | None = None) -> Figure:
    """How much more a relation's own answers lose than those of other relations, one point a relation.

    Args:
        table: Summary of delta/factual.
        wording: Which wording.
        title: Text above the figure.
    """
    rows = worded(table, wording)
    keys = ["model", "layer", "tap", "selector"]
    groups = [(names, own) for names, own in rows.groupby(keys, sort=False)]
    figure = style.new_figure(width="page", height=0.7 + 0.19 * len(groups))
    axes = figure.add_subplot()
    models = list(dict.fromkeys(rows["model"]))
    for place, (names, own) in enumerate(groups):
        values = own["specificity_answer"].to_numpy(dtype=float)
        colour = COLOURS[models.index(names[0]) % len(COLOURS)]
        axes.plot(values, np.full(len(values), place), ".", color=colour, alpha=0.7, label=names[0])
        axes.plot([np.mean(values)], [place], "|", color=style.INK, markersize=9, label="mean over relations")
    axes.axvline(0.0, color=style.GREY, linewidth=0.6)
    axes.set_yticks(range(len(groups)), [f"{m} {layer}, {t}, {s}" for (m, layer, t, s), _ in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_ylabel("model and layer, tap, selector")
    axes.set_xlabel("answers of the own relation lose more than those of other relations (nats)")
    style.set_title(figure, title or f"{rows['wording'].iloc[0]} wording")
    style.outside_legend(figure, axes, columns=len(models) + 1)
    return figure
