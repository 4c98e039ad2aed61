"""Means over draws and texts against plain sums, loops and closed forms; Wilson's interval against scipy."""

import numpy as np
import pytest
from scipy import stats

from tremor.errors import NumericsError
from tremor.statistics.crossed import CrossedBootstrap
from tremor.statistics.proportion import wilson


def test_the_mean_weighs_texts_by_tokens():
    values = np.array([[1.0, 5.0], [3.0, 7.0]])
    found = CrossedBootstrap(2, [3, 1]).mean(values)
    assert found.mean == pytest.approx((1 * 3 + 5 * 1 + 3 * 3 + 7 * 1) / 8)
    assert found.draw_std == pytest.approx(np.std([2.0, 4.0], ddof=1))
    assert found.low <= found.mean <= found.high


def test_no_chance_gives_no_width():
    found = CrossedBootstrap(4, [2, 9, 5]).mean(np.full((4, 3), 0.25))
    assert (found.low, found.high) == pytest.approx((0.25, 0.25))
    assert found.draw_std == 0


def test_the_interval_spans_both_kinds_of_chance():
    """Additive effects of draws and texts: the variance of the mean is the sum of both, and so is the bootstrap's."""
    rng = np.random.default_rng(0)
    draws, texts = 40, 60
    a, b = rng.normal(0, 1.0, (draws, 1)), rng.normal(0, 1.5, (1, texts))
    found = CrossedBootstrap(draws, np.ones(texts), resamples=4000).mean(a + b)
    std = np.sqrt(a.var() / draws + b.var() / texts)
    # A 95 % quantile of 4000 resamples of a normal mean is known to about 3 %.
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * std, rel=0.08)
    only_texts = CrossedBootstrap(draws, np.ones(texts), resamples=4000).mean(np.repeat(b, draws, 0))
    assert only_texts.high - only_texts.low < found.high - found.low


def test_a_value_that_is_no_number_has_no_interval():
    with pytest.raises(NumericsError, match="not finite"):
        CrossedBootstrap(2, [1, 1]).mean([[0.0, np.inf], [0.0, 0.0]])
    with pytest.raises(NumericsError, match="two of each"):
        CrossedBootstrap(1, [1, 1])
    with pytest.raises(NumericsError, match="are not 2 draws"):
        CrossedBootstrap(2, [1, 1]).mean([[0.0, 1.0]])


@pytest.mark.parametrize(("hits", "count"), [(0, 8), (3, 8), (8, 8), (1, 1), (50, 1000)])
def test_wilson_against_scipy(hits, count):
    expected = stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
    # Both are the same closed form in float64.
    assert wilson(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_case_is_no_share():
    with pytest.raises(NumericsError):
        wilson(0, 0)
