"""How much two rankings agree: sets with their chance level, ranked lists, and full scores. No torch."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats


@dataclass(frozen=True)
class Overlap:
    """Agreement of two sets drawn from one population.

    Attributes:
        common: Elements in both.
        jaccard: |A and B| / |A or B|; NaN for two empty sets.
        coefficient: |A and B| / min(|A|, |B|); NaN where one is empty.
        chance: Jaccard index of two random sets of these sizes, at the expected number of common elements.
        p: Probability that random sets have at least as many in common (hypergeometric).
    """

    common: int
    jaccard: float
    coefficient: float
    chance: float
    p: float


def overlap(first: Sequence[Hashable], second: Sequence[Hashable], population: int) -> Overlap:
    """Compare two sets.

    Args:
        first: Distinct elements.
        second: Distinct elements.
        population: Number of elements that either could have held.

    Raises:
        ValueError: An element is repeated, or the population is smaller than what was drawn from it.
    """
    a, b = set(first), set(second)
    if len(a) < len(first) or len(b) < len(second):
        raise ValueError("an element of a set is repeated")
    if len(a | b) > population:
        raise ValueError(f"{len(a | b)} elements cannot come from a population of {population}")
    common, smaller = len(a & b), min(len(a), len(b))
    jaccard = common / len(a | b) if a or b else math.nan
    p = float(stats.hypergeom.sf(common - 1, population, len(a), len(b)))
    return Overlap(common, jaccard, common / smaller if smaller else math.nan, chance(len(a), len(b), population), p)


def chance(first: int, second: int, population: int) -> float:
    """Jaccard index of random sets: m / (a + b - m) with m = a b / N common elements; K / (2N - K) for equal sizes.

    It is the index at the expected intersection; the expected index differs from it by O(1/K).
    """
    if not first and not second:
        return math.nan
    common = first * second / population
    return common / (first + second - common)


def rank_biased_overlap(first: Sequence[Hashable], second: Sequence[Hashable], *, p: float = 0.98) -> float:
    """Extrapolated rank-biased overlap of two ranked lists (Webber, Moffat and Zobel 2010, equation 32).

    Args:
        first: Elements, best first, distinct.
        second: Elements, best first, distinct.
        p: Persistence: the weight of depth d falls as p^(d-1); 1 / (1 - p) is the expected depth.

    Returns:
        0 (disjoint) to 1 (equal).

    Raises:
        ValueError: An empty list, a repeated element, or p outside (0, 1).
    """
    if not 0 < p < 1:
        raise ValueError(f"p is {p}; it must lie between 0 and 1")
    short, long = sorted((list(first), list(second)), key=len)
    s, depth = len(short), len(long)
    if not s or len(set(short)) < s or len(set(long)) < depth:
        raise ValueError("a ranked list is empty or repeats an element")
    common = _common_at_depths(short, long)
    total = sum(common[d] / d * p**d for d in range(1, depth + 1))
    # Below its end the short list is taken to agree as well as it did at its end.
    total += sum(common[s] * (d - s) / (s * d) * p**d for d in range(s + 1, depth + 1))
    rest = ((common[depth] - common[s]) / depth + common[s] / s) * p**depth
    return (1 - p) / p * total + rest


def _common_at_depths(short: list[Hashable], long: list[Hashable]) -> list[int]:
    """Number of common elements of the first d of both, for d = 0 ... length of the longer list."""
    common, first, second = [0], set[Hashable](), set[Hashable]()
    for depth, element in enumerate(long):
        second.add(element)
        new = {element}
        if depth < len(short):
            first.add(short[depth])
            new.add(short[depth])
        common.append(common[-1] + sum(item in first and item in second for item in new))
    return common


@dataclass(frozen=True)
class Correlation:
    """Agreement of two scores of the same elements.

    Attributes:
        n: Elements with both scores.
        spearman: Correlation of ranks; None where one score is constant.
        kendall: Tau-b, of a seeded sample where there are many; None where one score is constant.
        kendall_n: Elements that tau was computed from.
    """

    n: int
    spearman: float | None
    kendall: float | None
    kendall_n: int


def correlation(first: npt.ArrayLike, second: npt.ArrayLike, *, most: int = 100_000, seed: int = 0) -> Correlation:
    """Rank correlations over all common scores.

    Args:
        first: float [n].
        second: float [n], of the same elements.
        most: Tau of more elements than this is taken of a random sample of so many.
        seed: Of that sample.

    Raises:
        ValueError: Two lengths, fewer than two elements, or a value that is not finite.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"cannot correlate scores of shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a score is NaN or infinite; it has no rank to compare")
    count = len(a)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(count, None, None, 0)
    spearman = float(stats.spearmanr(a, b).statistic)
    if len(a) > most:
        rows = np.random.default_rng(seed).choice(len(a), most, replace=False)
        a, b = a[rows], b[rows]
    kendall = float(stats.kendalltau(a, b).statistic)
    return Correlation(count, spearman, None if math.isnan(kendall) else kendall, len(a))
