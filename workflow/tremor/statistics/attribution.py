"""How well a ranking of a model's components agrees with what taking them out costs. No torch."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from tremor.statistics.overlap import overlap

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Agreement of scores with measured costs, beside chance.

    Attributes:
        n: Components.
        spearman: Correlation of ranks; None where all scores or all costs are equal.
        kendall: Tau-b; None there too.
        null_low: 2.5 % quantile of the Spearman correlation of random rankings.
        null_high: 97.5 % quantile.
        p: Share of random rankings, the ranking itself included, with at least its correlation; one-sided.
        k: Components in the two sets of the most important ones.
        common: How many of them are in both.
        overlap: common / k.
        overlap_chance: What random sets share on average: k / n.
        overlap_p: Probability that random sets share at least as many (hypergeometric).
        finds_first: Whether the one ranked first, above all others, is a costliest component; no tie names one.
    """

    n: int
    spearman: float | None
    kendall: float | None
    null_low: float
    null_high: float
    p: float | None
    k: int
    common: int
    overlap: float
    overlap_chance: float
    overlap_p: float
    finds_first: bool


def agreement(scores: npt.ArrayLike, costs: npt.ArrayLike, *, k: int, permutations: int, seed: int) -> Agreement:
    """Compare scores with costs.

    Args:
        scores: float [n], high for components said to be important.
        costs: float [n], change of NLL when a component is taken out; infinite where that breaks the model.
        k: Components in the sets of the most important ones, below n.
        permutations: Random rankings.
        seed: Of these.

    Raises:
        ValueError: Other shapes, fewer than three components, k not below n, or NaN.
    """
    a, b = np.asarray(scores, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 3 or not 1 <= k < len(a):
        raise ValueError(f"cannot compare the top {k} of scores of shapes {a.shape} and {b.shape}")
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("a score or a cost is NaN; it has no rank")
    ranks = stats.rankdata(a), stats.rankdata(b)
    null = _null(ranks[1], permutations, seed)
    low, high = np.quantile(null, [0.025, 0.975])
    spearman = kendall = p = None
    if np.ptp(ranks[0]) > 0 and np.ptp(ranks[1]) > 0:
        spearman = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
        kendall = float(stats.kendalltau(ranks[0], ranks[1]).statistic)
        # Correlations of the same ranks in another order may differ by rounding alone.
        p = float((1 + np.count_nonzero(_against(ranks[0], ranks[1], permutations, seed) >= spearman - 1e-12))
                  / (1 + permutations))  # fmt: skip
    orders = [np.argsort(-x, kind="stable").tolist() for x in (a, b)]
    sets = overlap(orders[0][:k], orders[1][:k], len(a))
    return Agreement(
        len(a), spearman, kendall, float(low), float(high), p, k, sets.common, sets.common / k, k / len(a), sets.p,
        _finds_first(a, b),
    )  # fmt: skip


def _finds_first(scores: Floats, costs: Floats) -> bool:
    """Whether one component alone has the highest score, and none costs more than it."""
    best = np.flatnonzero(scores == scores.max())
    return len(best) == 1 and bool(costs[best[0]] == costs.max())


def _null(ranks: Floats, permutations: int, seed: int) -> Floats:
    """Correlation of untied random rankings with ranks; zeros where these are all equal."""
    return _against(np.arange(1.0, len(ranks) + 1), ranks, permutations, seed)


def _against(first: Floats, second: Floats, permutations: int, seed: int) -> Floats:
    a, b = first - first.mean(), second - second.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    if size == 0:
        return np.zeros(permutations)
    shuffled = np.random.default_rng(seed).permuted(np.tile(a, (permutations, 1)), axis=1)
    found: Floats = shuffled @ b / size
    return found


def consistency(scores: npt.ArrayLike) -> float | None:
    """Mean Spearman correlation of all pairs of rows; None with one row or where a row is constant.

    Args:
        scores: float [orders, n], the same components in the same columns.
    """
    table = np.asarray(scores, dtype=np.float64)
    if len(table) < 2 or (np.ptp(table, axis=1) == 0).any():
        return None
    ranks = np.stack([stats.rankdata(row) for row in table])
    return float(np.corrcoef(ranks)[np.triu_indices(len(table), 1)].mean())


def position_bias(scores: npt.ArrayLike, positions: npt.ArrayLike) -> float | None:
    """Mean Spearman correlation of a component's score with its place in the list; None where a row is constant.

    Args:
        scores: float [orders, n].
        positions: int [orders, n], place of each component, from 0.
    """
    table, places = np.asarray(scores, dtype=np.float64), np.asarray(positions, dtype=np.float64)
    if (np.ptp(table, axis=1) == 0).any():
        return None
    found = [np.corrcoef(stats.rankdata(s), p)[0, 1] for s, p in zip(table, places, strict=True)]
    return float(np.mean(found))
