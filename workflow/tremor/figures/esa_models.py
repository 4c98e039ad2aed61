"""Figures of esa/evaluate, esa/train, esa/attribution and esa/integrated."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, SymmetricalLogLocator

from tremor.figures import style

ROW = 0.17  # inches for a row
LIGHT = "#CCCCCC"
LABELLED = 20  # most components whose names fit into a figure
NATS = "nats per token"
COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.PURPLE, style.SKY)
MARKERS = ("o", "s", "D", "^", "v", "P")


def _rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.set_axisbelow(True)


@style.styled
def reliability(bins: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Accuracy of predictions against their confidence, and how many there are.

    Args:
        bins: Table calibration.csv of esa/evaluate.
        title: Text above the figure.
    """
    figure = style.new_figure(width="column", height=3.2)
    style.set_title(figure, title)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = bins[bins["count"] > 0]
    width = (filled["high"] - filled["low"]).to_numpy()
    upper.plot([0, 1], [0, 1], color=style.GREY, lw=0.8, ls="--", label="calibrated")
    upper.bar(filled["low"], filled["accuracy"], width, align="edge", color=style.SKY, edgecolor="white", lw=0.4,
              label="accuracy in the bin")  # fmt: skip
    upper.plot(filled["confidence"], filled["accuracy"], "o", color=style.BLUE, label="at its mean confidence")
    upper.set(xlim=(0, 1), ylim=(0, 1))
    upper.set_ylabel("share that came true")
    lower.bar(filled["low"], filled["count"], width, align="edge", color=style.GREY, edgecolor="white", lw=0.4)
    lower.set_xlabel("confidence (probability of the first choice)")
    lower.set_ylabel("predictions")
    total = filled["count"].sum()
    gap = (filled["accuracy"] - filled["confidence"]).abs()
    error = float((gap * filled["count"]).sum() / total) if total else float("nan")
    upper.text(0.03, 0.95, f"ECE {error:.3f}\n{total} predictions", transform=upper.transAxes, va="top")
    style.outside_legend(figure, upper, columns=3)
    return figure


@style.styled
def domains(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Likelihood, calibration error and accuracy of each domain.

    Args:
        table: Table domains.csv of esa/evaluate.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=0.9 + ROW * len(table))
    style.set_title(figure, title)
    panels = figure.subplots(1, 3, sharey=True)
    rows = np.arange(len(table))
    panels[0].hlines(
        rows, table["nll_low"], table["nll_high"], color=style.BLUE, lw=1, label="95 % interval over texts"
    )
    panels[0].plot(table["nll"], rows, "o", color=style.BLUE, label="of all its tokens")
    panels[0].set_xlabel(style.label("NLL", NATS))
    panels[1].plot(table["accuracy"], rows, "o", color=style.GREEN, label="accuracy of the first choice")
    panels[1].plot(table["confidence"], rows, "D", mfc="none", color=style.INK, label="mean confidence")
    panels[1].set_xlabel("share of tokens")
    panels[2].plot(table["ece"], rows, "o", color=style.VERMILLION, label="expected calibration error")
    panels[2].set_xlabel("calibration error")
    panels[2].set_xlim(left=0)
    for axes in panels:
        _rows(axes, [f"{name} ({count})" for name, count in zip(table["domain"], table["texts"], strict=True)])
    bad = np.flatnonzero(table["status"] != "ok")
    for row in bad:
        panels[0].annotate(str(table["status"].iloc[row]), (0.02, row), xycoords=("axes fraction", "data"), va="center")
    panels[0].set_ylabel("domain (texts)")
    style.outside_legend(figure, *panels, columns=4)
    return figure


@style.styled
def losses(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Loss of every step, the gradient's norm and the learning rate.

    Args:
        table: Table losses.csv of esa/train.
        title: Text above the figure.
    """
    figure = style.new_figure(width="column", height=3.0)
    style.set_title(figure, title)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    steps = table["step"] + 1
    upper.plot(steps, table["loss"], color=LIGHT, lw=0.8, label="each step")
    span = max(1, len(table) // 10)
    smooth = table["loss"].rolling(span, min_periods=1).mean()
    upper.plot(steps, smooth, color=style.BLUE, label=f"mean of {span} steps")
    upper.set_ylabel(style.label("loss", NATS))
    upper.grid(axis="y")
    lower.plot(steps, table["gradient_norm"], color=style.ORANGE, label="gradient norm, before clipping")
    lower.set_ylim(bottom=0)
    lower.set_xlabel("step")
    lower.set_ylabel("gradient norm")
    style.outside_legend(figure, upper, lower, columns=2)
    return figure


@style.styled
def likelihood(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Change of the NLL of each domain by fine-tuning.

    Args:
        table: Table evaluation.csv of esa/train.
        title: Text above the figure.
    """
    figure = style.new_figure(width="column", height=0.9 + ROW * len(table))
    style.set_title(figure, title)
    axes = figure.subplots()
    rows = np.arange(len(table))
    colours = [style.ORANGE if name == "training text" else style.BLUE for name in table["domain"]]
    axes.hlines(rows, table["delta_nll_low"], table["delta_nll_high"], color=colours, lw=1)
    for colour, text in ((style.BLUE, "held-out text, 95 % interval"), (style.ORANGE, "text it was trained on")):
        mine = np.array([c == colour for c in colours])
        axes.plot(table["delta_nll"][mine], rows[mine], "o", color=colour, label=text)
    axes.axvline(0, color=style.INK, lw=0.6)
    _rows(axes, [f"{name} ({count})" for name, count in zip(table["domain"], table["texts"], strict=True)])
    axes.set_xlabel(style.label("change of NLL", NATS))
    axes.set_ylabel("domain (texts)")
    style.outside_legend(figure, axes, columns=2)
    return figure


@style.styled
def ranking(answers: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Rank that a model gave each component, and that of gradients, against the rank by measured cost.

    Args:
        answers: Table answers.csv of esa/attribution.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=3.4)
    style.set_title(figure, title)
    panels = figure.subplots(1, 2, sharey=True)
    shown = ("llm", "the model that is asked (experimental)"), ("taylor_abs", "gradients")
    costs, count = answers["delta_nll"], len(answers)
    measured = costs.rank(ascending=False)
    for axes, (column, text), colour in zip(panels, shown, (style.VERMILLION, style.BLUE), strict=True):
        said = answers[column].rank(ascending=False)
        axes.plot([1, count], [1, count], color=style.GREY, lw=0.8, ls="--", label="said as measured")
        axes.plot(said, measured, "o", color=colour)
        if count <= LABELLED:
            for name, cost, x, y in zip(answers["component"], costs, said, measured, strict=True):
                axes.annotate(
                    f"{name} ({style.number(cost, 2)})", (x, y), xytext=(4, 2), textcoords="offset points", fontsize=6
                )
        axes.set_title(text)
        axes.set_xlim(0.5, count + 0.15 * count)  # room for the last label
        axes.set_ylim(count + 0.5, 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("rank that was said (1: matters most)")
        axes.grid()
        axes.set_axisbelow(True)
    panels[0].set_ylabel("measured rank (cost in nats per token)")
    style.outside_legend(figure, *panels, columns=1)
    return figure


@style.styled
def agreement(methods: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Rank correlation of every way of ranking with the measured costs, beside random rankings.

    Args:
        methods: Table methods.csv of esa/attribution.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=0.9 + ROW * len(methods))
    style.set_title(figure, title)
    left, right = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(methods))
    left.hlines(rows, methods["null_low"], methods["null_high"], color=LIGHT, lw=5, label="95 % of random rankings")
    right.plot(methods["overlap_chance"], rows, "|", color=style.INK, ms=8, label="chance")
    asked = methods["experimental"].to_numpy(dtype=bool)
    for mine, colour, text in (
        (asked, style.VERMILLION, "model asked (experimental)"),
        (~asked, style.BLUE, "computed"),
    ):
        left.plot(methods["spearman"][mine], rows[mine], "o", color=colour, label=text)
        right.plot(methods["overlap"][mine], rows[mine], "o", color=colour)
    left.axvline(0, color=style.INK, lw=0.6)
    left.set_xlim(-1.05, 1.05)
    right.set_xlim(-0.05, 1.05)
    left.set_xlabel("Spearman correlation with the measured costs")
    right.set_xlabel(f"share of the costliest {int(methods['k'].iloc[0])} it finds")
    for axes in (left, right):
        _rows(axes, list(methods["method"]))
    style.outside_legend(figure, left, right, columns=4)
    return figure


@style.styled
def overview(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Main numbers of all analyses: costs in nats per token, and numbers without unit between -1 and 1.

    Args:
        table: Table summary.csv of esa/integrated.
        title: Text above the figure.
    """
    costs = table[table["unit"] == NATS]
    shares = table[table["unit"].isna() & (table["quantity"] != "perplexity")]
    both = ((costs, style.label("cost or NLL", NATS)), (shares, "share or correlation"))
    parts = [(part, name) for part, name in both if len(part)]
    counts = [part.groupby(["analysis", "quantity"]).ngroups for part, _ in parts]
    figure = style.new_figure(width="page", height=0.9 + ROW * sum(counts) + 0.4 * len(parts))
    style.set_title(figure, title)
    # The layout is solved before the ticks of a symmetric log axis are known, and comes out a little too wide.
    figure.get_layout_engine().set(w_pad=0.25)  # type: ignore[union-attr,call-arg]
    panels = figure.subplots(len(parts), 1, height_ratios=counts, squeeze=False)[:, 0]
    models = list(dict.fromkeys(table["model"]))
    for axes, (part, label) in zip(panels, parts, strict=True):
        names = list(dict.fromkeys(zip(part["analysis"], part["quantity"], strict=True)))
        place = {name: row for row, name in enumerate(names)}
        for number, model in enumerate(models):
            own = part[part["model"] == model]
            rows = np.array([place[key] for key in zip(own["analysis"], own["quantity"], strict=True)])
            values = own["value"].to_numpy(dtype=np.float64)
            finite = np.isfinite(values)
            colour, marker = COLOURS[number % 6], MARKERS[number % 6]
            axes.plot(values[finite], rows[finite], marker, color=colour, alpha=0.8, label=model)
        _rows(axes, [f"{analysis}: {quantity}" for analysis, quantity in names])
        axes.axvline(0, color=style.INK, lw=0.6)
        for name, row in place.items():
            own = part[(part["analysis"] == name[0]) & (part["quantity"] == name[1])]
            if not np.isfinite(own["value"].to_numpy(dtype=np.float64)).any():
                axes.annotate("no number", (0, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=6)
        axes.set_xlabel(label)
        if part is costs:
            _symmetric_log(axes)
        axes.margins(x=0.08)
    style.outside_legend(figure, *panels, columns=6)
    return figure


def _symmetric_log(axes: Axes) -> None:
    """Linear below 0.01, logarithmic in decades above, on both sides of zero."""
    axes.set_xscale("symlog", linthresh=0.01)
    axes.xaxis.set_major_locator(SymmetricalLogLocator(linthresh=0.01, base=10))

    def text(value: float, _: int | None) -> str:
        return style.minus(f"{value:g}")

    axes.xaxis.set_major_formatter(FuncFormatter(text))


# Figure -> how it is drawn, and the input it is drawn from.
DRAWN: Mapping[str, tuple[Callable[..., Figure], str]] = {
    "calibration": (reliability, "bins"),
    "domains": (domains, "domains"),
    "losses": (losses, "losses"),
    "likelihood": (likelihood, "evaluation"),
    "ranking": (ranking, "answers"),
    "agreement": (agreement, "methods"),
    "overview": (overview, "table"),
}
