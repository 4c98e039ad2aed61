"""Figures of exp4: changed coordinates, drift along the text, embeddings, and the best tokens where two runs part."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tremor.figures import style

QUESTION_COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE, style.SKY)
LINES = ("-", "--", ":", "-.")
SHOWN = {"decisive": "at the decisive row", "last": "at the last row of common context"}


def question_style(number: int) -> dict[str, Any]:
    """Colour and dash of the n-th question; twenty are told apart."""
    colours = len(QUESTION_COLOURS)
    return {"color": QUESTION_COLOURS[number % colours], "linestyle": LINES[number // colours % len(LINES)]}


@style.styled
def dimensions(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Share of the final state's coordinates that differ by more than a threshold, and by so many lattice steps.

    Args:
        table: Table dimensions.csv of exp4.
        title: Text above the figure.
    """
    rows = table[table["role"].isin(SHOWN)]
    figure = style.new_figure(width="page", height=2.4)
    panels: Sequence[Axes] = figure.subplots(1, 2, sharey=True)
    for axes, measure in zip(panels, ("absolute", "ulps"), strict=True):
        for number, question in enumerate(dict.fromkeys(rows["question"])):
            own = rows[rows["question"] == question]
            label = question if own["role"].iloc[0] == "decisive" else f"{question} *"
            points = own[own["measure"] == measure].sort_values("threshold")
            axes.plot(
                points["threshold"],
                points["percent"],
                label=label,
                gid=f"{measure}-{question}",
                **question_style(number),
            )
        limits = rows.loc[rows["measure"] == measure, "threshold"].to_numpy(dtype=float)
        style.log_axis(axes.xaxis, style.log_limits(limits))
        axes.set_ylim(-3, 103)
        axes.grid(axis="y")
    panels[0].set_ylabel("coordinates that differ (%)")
    panels[0].set_xlabel("by more than (hidden-state units)")
    lattice = "lattice steps (ulps)"
    panels[1].set_xlabel(f"by at least so many {lattice}")
    style.set_title(figure, title)
    note = "final states at the decisive row; *: no row decided, the last of common context"
    style.outside_legend(figure, panels[0], columns=5, title=note)
    return figure


DRIFT = (("relative_l2", "‖a − b‖₂ / ‖a‖₂", style.BLUE), ("cosine_distance", "1 − cos(a, b)", style.ORANGE))


@style.styled
def drift(rows: pd.DataFrame, divergence: dict[str, int | None], *, title: str | None = None) -> Figure:
    """Distance of the two final states along the text of every question, with the divergence marked.

    Args:
        rows: Table divergence.parquet of exp4.
        divergence: Index of the first token that differs, by question; None if none does.
        title: Text above the figure.
    """
    questions = list(dict.fromkeys(rows["question"]))
    lines = -(-len(questions) // 2)
    figure = style.new_figure(width="page", height=0.5 + 1.15 * lines)
    grid = figure.subplots(lines, 2, squeeze=False, sharey=True)
    distances = [rows[name].to_numpy(dtype=float) for name, _, _ in DRIFT]
    limits = style.log_limits(*distances, least=3.0, margin=0.2)
    for axes, question in zip(grid.flat, questions, strict=False):
        own = rows[rows["question"] == question]
        _distance_axis(axes, limits, bool(style.positive(*distances).size))
        for name, label, colour in DRIFT:
            values = own[name].where(own[name] > 0)
            axes.plot(own["row"], values, color=colour, marker=".", markersize=2, label=label, gid=f"{question}-{name}")
        _equal(axes, own.loc[own["equal_bits"], "row"], f"{question}-equal")
        index = divergence.get(question)
        if index is not None:
            axes.axvline(index, color=style.VERMILLION, linestyle="--", linewidth=0.8, gid=f"{question}-divergence")
        where = "the same tokens" if index is None else f"parts at token {index}"
        axes.set_title(f"{question}: {where}", fontsize=7, loc="left", pad=2)
        axes.set_xlim(-0.02 * len(own) - 0.5, 1.02 * len(own) - 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    for axes in grid.flat[len(questions) :]:
        axes.set_visible(False)
    for column in range(2):
        shown = [axes for axes in grid[:, column] if axes.get_visible()]
        if shown:
            shown[-1].set_xlabel("generated token")
    figure.supylabel("distance of the final states", fontsize=7.5)
    first = grid.flat[0]
    if any(index is not None for index in divergence.values()):
        first.plot([], [], color=style.VERMILLION, linestyle="--", linewidth=0.8, label="first token that differs")
    if rows["equal_bits"].any():
        first.plot([], [], "|", color=style.GREY, markersize=4, label="no bit differs")
    style.set_title(figure, title)
    style.outside_legend(figure, first, columns=4)
    return figure


def _distance_axis(axes: Axes, limits: tuple[float, float], any_distance: bool) -> None:
    style.log_axis(axes.yaxis, limits)
    if not any_distance:  # a scale of nothing says nothing
        axes.set_yticks([])
        axes.set_yticks([], minor=True)


def _equal(axes: Axes, rows: npt.ArrayLike, gid: str) -> None:
    """Ticks at the bottom for rows in which no bit differs: a log axis has no place for zero."""
    places = np.asarray(rows)
    heights = np.full(len(places), 0.07)
    axes.plot(places, heights, "|", color=style.GREY, markersize=4, transform=axes.get_xaxis_transform(), gid=gid)


@style.styled
def embeddings(rows: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Distance of what both platforms read at each row up to the decisive one.

    Args:
        rows: Table embedding_rows.parquet of exp4.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.2)
    panels = figure.subplots(1, 2)
    columns = (("cosine_distance", "1 − cos(a, b)"), ("l2", style.label("‖a − b‖₂", style.EMBEDDING_UNITS)))
    for axes, (name, text) in zip(panels, columns, strict=True):
        values = rows[name].to_numpy(dtype=float)
        _distance_axis(axes, style.log_limits(values, margin=0.2), bool((values > 0).any()))
        for number, question in enumerate(dict.fromkeys(rows["question"])):
            own = rows[rows["question"] == question]
            look = question_style(number)
            if not (own[name] > 0).any():
                continue
            axes.plot(own["row"], own[name].where(own[name] > 0), label=question, gid=f"{name}-{question}", **look)
            late = own[own["last"] & (own[name] > 0)]
            axes.plot(late["row"], late[name], "o", color=look["color"], markersize=2.5)
        _equal(axes, np.unique(rows.loc[rows["equal_bits"], "row"]), f"{name}-equal")
        axes.set_xlabel("row (0: the prompt's last token)")
        axes.set_ylabel(text)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        if not (values > 0).any():
            axes.text(0.5, 0.6, "no embedding differs in any bit", ha="center", transform=axes.transAxes)
    if rows["equal_bits"].any():
        panels[0].plot([], [], "|", color=style.GREY, label="no bit differs (some question)")
    style.set_title(figure, title)
    style.outside_legend(figure, panels[0], columns=6)
    return figure


@style.styled
def logits(table: pd.DataFrame, *, pair: tuple[str, str], title: str | None = None) -> Figure:
    """The best tokens of both runs at the decisive row of each question that has one, by id.

    Args:
        table: Table top_tokens.csv of exp4.
        pair: Names of the two platforms.
        title: Text above the figure.
    """
    decided = table[table["role"] == "decisive"]
    questions = list(dict.fromkeys(decided["question"]))
    if not questions:
        figure = style.new_figure(height=1.0)
        figure.text(0.5, 0.5, "no row decided two different tokens", ha="center", va="center")
        style.set_title(figure, title)
        return figure
    lines = -(-len(questions) // 2)
    most = int(decided.groupby("question").size().max())
    figure = style.new_figure(width="page", height=(0.55 + 0.17 * most) * lines + 0.2)
    grid = figure.subplots(lines, 2, squeeze=False)
    looks = (("a", style.BLUE, "o", pair[0]), ("b", style.VERMILLION, "s", pair[1]))
    for axes, question in zip(grid.flat, questions, strict=False):
        own = decided[decided["question"] == question].reset_index(drop=True)
        for side, colour, marker, name in looks:
            open_look = {"markerfacecolor": "none", "markersize": 5.5} if side == "b" else {}
            axes.plot(
                own[f"logit_{side}"], own.index, marker, color=colour, label=name, gid=f"{question}-{side}", **open_look
            )
            first = own[own[f"rank_{side}"] == 1]
            axes.plot(first[f"logit_{side}"], first.index, marker, color=colour, markersize=8, markerfacecolor="none")
        axes.set_yticks(
            own.index, [f"{_visible(piece)}  {token}" for piece, token in zip(own["piece"], own["token"], strict=True)]
        )
        axes.set_ylim(len(own) - 0.4, -0.6)
        axes.grid(axis="y")
        axes.set_title(f"{question}, row {own['row'].iloc[0]}", fontsize=7, loc="left", pad=2)
    for axes in grid.flat[len(questions) :]:
        axes.set_visible(False)
    for column in range(2):
        shown = [axes for axes in grid[:, column] if axes.get_visible()]
        if shown:
            shown[-1].set_xlabel("logit")
    style.set_title(figure, title)
    handles = Line2D([], [], color=style.INK, marker="o", linestyle="", markerfacecolor="none", markersize=8)
    grid.flat[0].add_line(handles)
    handles.set_label("ringed: the token that was chosen")
    style.outside_legend(figure, grid.flat[0], columns=3)
    return figure


def _visible(piece: str, most: int = 14) -> str:
    """A token's text with its blanks and control characters made visible."""
    shown = "".join({" ": "␣", "\n": "↵", "\t": "⇥"}.get(c, c if c.isprintable() else "�") for c in piece)
    return shown if len(shown) <= most else shown[: most - 1] + "…"
