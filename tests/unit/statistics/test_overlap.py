"""Agreement of rankings against brute force, simulation and scipy."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tremor.statistics.overlap import chance, correlation, overlap, rank_biased_overlap


def test_counts():
    found = overlap([("a", 1), ("a", 2), ("b", 1)], [("a", 2), ("b", 1), ("b", 2), ("c", 0)], 100)
    assert (found.common, found.jaccard, found.coefficient) == (2, 2 / 5, 2 / 3)
    assert found.p == pytest.approx(sum(stats.hypergeom.pmf(i, 100, 3, 4) for i in (2, 3)))
    assert math.isnan(overlap([], [], 10).jaccard)


def test_chance_level_is_k_over_2n_minus_k():
    assert chance(10, 10, 1000) == pytest.approx(10 / (2 * 1000 - 10))
    generator = np.random.default_rng(0)
    drawn = [
        overlap(generator.choice(60, 20, replace=False).tolist(), generator.choice(60, 20, replace=False).tolist(), 60)
        for _ in range(4000)
    ]
    # The index at the expected intersection and the expected index differ by O(1/K); the mean of 4000 has 0.001 noise.
    assert np.mean([d.jaccard for d in drawn]) == pytest.approx(chance(20, 20, 60), abs=0.01)
    # A p value of a discrete statistic is at most uniform.
    assert np.mean([d.p < 0.05 for d in drawn]) < 0.06


def brute_rbo(first, second, p):
    """Equation 32 of Webber et al., term by term."""
    short, long = sorted((first, second), key=len)
    s, depth = len(short), len(long)

    def common(d):
        return len(set(short[:d]) & set(long[:d]))

    total = sum(common(d) / d * p**d for d in range(1, depth + 1))
    total += sum(common(s) * (d - s) / (s * d) * p**d for d in range(s + 1, depth + 1))
    return (1 - p) / p * total + ((common(depth) - common(s)) / depth + common(s) / s) * p**depth


@given(st.permutations(range(9)), st.permutations(range(9)), st.integers(1, 9), st.integers(1, 9), st.floats(0.1, 0.99))
def test_rank_biased_overlap_against_its_formula(first, second, a, b, p):
    first, second = first[:a], second[:b]
    found = rank_biased_overlap(first, second, p=p)
    assert found == pytest.approx(brute_rbo(first, second, p), rel=1e-9, abs=1e-12)
    assert found == rank_biased_overlap(second, first, p=p)
    assert -1e-12 <= found <= 1 + 1e-12


def test_rank_biased_overlap_of_equal_and_of_disjoint_lists():
    assert rank_biased_overlap("abcd", "abcd") == pytest.approx(1)
    assert rank_biased_overlap("abcd", "efgh") == 0
    # The top counts more than the bottom.
    assert rank_biased_overlap("abcd", "abdc", p=0.9) > rank_biased_overlap("abcd", "bacd", p=0.9)


def test_correlations_are_scipys():
    generator = np.random.default_rng(1)
    a = generator.normal(size=300)
    b = a + generator.normal(size=300)
    found = correlation(a, b)
    assert found.spearman == pytest.approx(stats.spearmanr(a, b).statistic)
    pairs = list(itertools.combinations(range(300), 2))
    agree = sum(np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i, j in pairs)
    assert found.kendall == pytest.approx(agree / len(pairs))
    sampled = correlation(a, b, most=100)
    assert (sampled.n, sampled.kendall_n) == (300, 100)
    # Tau of 100 of 300 pairs has a standard error of about 0.06.
    assert sampled.kendall == pytest.approx(found.kendall, abs=0.2)


def test_a_constant_score_has_no_rank_correlation():
    assert correlation(np.ones(5), np.arange(5)).spearman is None


def test_refusals():
    with pytest.raises(ValueError, match="repeated"):
        overlap([1, 1], [2], 10)
    with pytest.raises(ValueError, match="population of 2"):
        overlap([1, 2], [3], 2)
    with pytest.raises(ValueError, match="must lie between"):
        rank_biased_overlap([1], [1], p=1.0)
    with pytest.raises(ValueError, match="empty or repeats"):
        rank_biased_overlap([], [1])
    with pytest.raises(ValueError, match="NaN or infinite"):
        correlation([1.0, math.nan], [1.0, 2.0])
    with pytest.raises(ValueError, match="cannot correlate"):
        correlation([1.0], [1.0])
