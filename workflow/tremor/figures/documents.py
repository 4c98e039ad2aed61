"""Figures of the pdf study: a document word by word, how its words are distributed, and the cosines."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tremor.figures import style

COSINES = (
    ("cosine_state_first", "final state and first prediction", style.BLUE, "-"),
    ("cosine_state_second", "final state and second prediction", style.SKY, "--"),
    ("cosine_state_target", "final state and the word's first token", style.VERMILLION, "-"),
    ("cosine_first_target", "first prediction and the word's first token", style.GREEN, "-"),
    ("cosine_second_target", "second prediction and the word's first token", style.ORANGE, "--"),
)
RUNNING = 40  # words under the running mean
BINS = 40


def running_mean(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Mean of up to `width` values that end at each place; NaN are left out, and NaN where nothing else is."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    low = np.maximum(np.arange(1, len(values) + 1) - width, 0)
    count = counts[1:] - counts[low]
    return np.where(count > 0, (sums[1:] - sums[low]) / np.maximum(count, 1), np.nan)


def _pages(axes: Axes, words: pd.DataFrame) -> None:
    for place in np.flatnonzero(np.diff(words["page"].to_numpy()) > 0):
        axes.axvline(place + 0.5, color=style.PALE, linewidth=0.7, zorder=0, gid="page")


@style.styled
def course(words: pd.DataFrame, arrays: Mapping[str, npt.NDArray[Any]], *, title: str | None = None) -> Figure:
    """Log-probability, rank and running perplexity over the document; pale lines begin a page.

    Args:
        words: Table words.csv.
        arrays: Datasets of tokens.h5: log_probability and position of the tokens, and word [all tokens].
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=4.6)
    panels = figure.subplots(3, 1, sharex=True)
    place = words["word"].to_numpy(dtype=float)
    logs = words["log_probability"].to_numpy(dtype=float)
    panels[0].plot(place, logs, ".", color=style.SKY, markersize=2, label="word, all its tokens", gid="word")
    mean = running_mean(logs, RUNNING)
    panels[0].plot(place, mean, color=style.BLUE, label=f"mean of {RUNNING} words", gid="running")
    panels[0].set_ylabel("log-probability (nats)")
    ranks = words["first_token_rank"].to_numpy(dtype=float, na_value=np.nan)
    style.log_axis(panels[1].yaxis, style.log_limits(ranks, least=2.3))
    panels[1].plot(place, ranks, ".", color=style.ORANGE, markersize=2, label="first token of the word", gid="rank")
    panels[1].set_ylabel("rank (1: best guess)")
    own = arrays["word"][arrays["position"]]
    nll = -arrays["log_probability"].astype(float)
    so_far = np.exp(np.cumsum(nll) / np.arange(1, len(nll) + 1))
    recent = np.exp(running_mean(nll, 2 * RUNNING))
    # The mean of few tokens says nothing, and would set the scale.
    settled = np.arange(len(nll)) >= min(RUNNING // 2, len(nll) - 1)
    style.log_axis(panels[2].yaxis, style.log_limits(so_far[settled], recent[settled], least=0.9))
    panels[2].plot(own[settled], recent[settled], color=style.GREEN, linewidth=0.7, gid="recent",
                   label=f"perplexity of the last {2 * RUNNING} tokens")  # fmt: skip
    panels[2].plot(own[settled], so_far[settled], color=style.INK, label="perplexity so far", gid="so_far")
    panels[2].set_ylabel("perplexity per token")
    panels[2].set_xlabel("word of the document")
    panels[2].set_xlim(-0.5, len(words) - 0.5)
    for axes in panels:
        _pages(axes, words)
    style.set_title(figure, title)
    style.outside_legend(figure, *panels, columns=3)
    return figure


@style.styled
def distributions(words: pd.DataFrame, arrays: Mapping[str, npt.NDArray[Any]], *, title: str | None = None) -> Figure:
    """How probable the words were, how often they stood among the first n guesses, and what more context brings.

    Args:
        words: Table words.csv.
        arrays: Datasets of tokens.h5: log_probability, rank and context of the scored tokens.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.3)
    panels = figure.subplots(1, 3)
    whole = words["log_probability"].to_numpy(dtype=float)
    first = words["first_token_log_probability"].to_numpy(dtype=float)
    low = float(min(np.nanmin(whole), np.nanmin(first)))
    edges = np.linspace(low, 0.0, BINS + 1)
    for values, colour, name in ((whole, style.BLUE, "whole word"), (first, style.ORANGE, "its first token")):
        panels[0].hist(values[np.isfinite(values)], edges, histtype="step", color=colour, label=name, gid=name)
    panels[0].set_xlabel("log-probability (nats)")
    panels[0].set_ylabel("words")
    ranks = np.sort(arrays["rank"].astype(float))
    share = np.arange(1, len(ranks) + 1) / len(ranks)
    panels[1].step(ranks, share, where="post", color=style.GREEN, label="tokens", gid="rank")
    style.log_axis(panels[1].xaxis, style.log_limits(ranks, least=1.2))
    panels[1].set_xlabel("n")
    panels[1].set_ylabel("share of tokens of rank ≤ n")
    panels[1].set_ylim(0, 1)
    context, nll = arrays["context"].astype(float), -arrays["log_probability"].astype(float)
    cuts = np.unique(np.floor(np.geomspace(1, context.max() + 1, 9)))
    group = np.digitize(context, cuts)
    found = [g for g in np.unique(group) if (group == g).sum() > 1]
    middle = [float(context[group == g].mean()) for g in found]
    means = np.array([float(nll[group == g].mean()) for g in found])
    errors = np.array([float(nll[group == g].std(ddof=1) / np.sqrt((group == g).sum())) for g in found])
    panels[2].errorbar(middle, means, errors, marker="o", color=style.PURPLE, capsize=2,
                       label="tokens, mean ± standard error")  # fmt: skip
    if min(middle, default=1.0) > 0:
        style.log_axis(panels[2].xaxis, style.log_limits(np.array(middle), least=2.3))
    panels[2].set_xlabel("context (tokens)")
    panels[2].set_ylabel("−log-probability (nats)")
    panels[2].set_ylim(bottom=0)
    style.set_title(figure, title)
    style.outside_legend(figure, *panels, columns=4)
    return figure


@style.styled
def cosines(words: pd.DataFrame, arrays: Mapping[str, npt.NDArray[Any]], *, title: str | None = None) -> Figure:
    """Distributions of the five cosines, and the state's cosine with each word's first token against its probability.

    Args:
        words: Table words.csv.
        arrays: Not used; all figures of this study are called alike.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.4)
    panels = figure.subplots(1, 2)
    for column, name, colour, line in COSINES:
        values = np.sort(words[column].to_numpy(dtype=float))
        values = values[np.isfinite(values)]
        share = np.arange(1, len(values) + 1) / max(len(values), 1)
        panels[0].step(values, share, where="post", color=colour, linestyle=line, label=name, gid=column)
    panels[0].set_xlabel("cosine")
    panels[0].set_ylabel("share of words below")
    panels[0].set_ylim(0, 1)
    match = words["prediction_match"].astype("boolean")
    for wanted, colour, name in ((False, style.GREY, "another token was foreseen"), (True, style.BLUE, "foreseen")):
        own = words[(match == wanted).fillna(False).astype(bool)]
        panels[1].plot(own["first_token_log_probability"], own["cosine_state_target"], ".", color=colour, label=name,
                       markersize=3, gid=f"match-{wanted}")  # fmt: skip
    panels[1].xaxis.set_major_locator(MaxNLocator(nbins=6))
    panels[1].set_xlabel("log-probability of the first token (nats)")
    panels[1].set_ylabel("cosine of final state\nand first token")
    style.set_title(figure, title)
    style.outside_legend(figure, *panels, columns=2)
    return figure
