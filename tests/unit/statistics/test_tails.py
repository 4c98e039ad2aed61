"""Tail fits on samples whose tail is known."""

import numpy as np
import pytest
from scipy import stats

from tremor.statistics import tails


def pareto(alpha: float, size: int, seed: int = 0):
    return 3.0 * (1 - np.random.default_rng(seed).random(size)) ** (-1 / alpha)


@pytest.mark.parametrize("alpha", [0.8, 1.5, 3.0])
def test_the_index_of_a_pareto_sample_is_found(alpha):
    values = pareto(alpha, 20_000)
    found = tails.hill(values, 0.1)
    assert found.count == 2000
    assert found.alpha == pytest.approx(alpha, abs=4 * found.error)  # four standard errors
    law = tails.power_law(values, draws=50)
    # x_min is chosen for the smallest distance, which biases the index by about its own error.
    assert law.alpha == pytest.approx(alpha, abs=5 * alpha / law.count**0.5)
    assert law.p > 0.05
    assert law.against_exponential > 3


def test_the_distance_is_that_of_scipy():
    values = np.sort(pareto(2.0, 500))
    ks, alpha = tails._fit(values)
    expected = stats.kstest(values, stats.pareto(alpha, scale=values[0]).cdf)
    assert ks == pytest.approx(expected.statistic, abs=1e-12)
    assert alpha == pytest.approx(stats.pareto.fit(values, floc=0, fscale=values[0])[0], rel=1e-6)


def test_a_thin_tail_is_no_power_law():
    values = np.random.default_rng(1).exponential(size=20_000)
    law = tails.power_law(values, draws=100)
    rest = tails.power_law(values, draws=100, largest=1.0, candidates=2)
    assert law.against_exponential < 1
    assert rest is not None
    whole = np.sort(values)
    ks, alpha = tails._fit(whole[-10_000:])
    assert ks > 0.05  # half of an exponential sample is nothing like a power law
    assert alpha > 0


def test_a_lognormal_is_told_from_a_power_law_over_its_bulk():
    values = np.random.default_rng(2).lognormal(sigma=1.0, size=5000)
    ordered = np.sort(values)[-4000:]
    alpha = tails._fit(ordered)[1]
    own = np.log(alpha / ordered[0]) - (alpha + 1) * np.log(ordered / ordered[0])
    assert tails._vuong(own, tails._lognormal(ordered)) < -3


def test_zeros_are_no_part_of_a_tail_and_too_few_values_have_none():
    values = np.concatenate([np.zeros(1000), pareto(2.0, 1000)])
    assert tails.hill(values, 0.1).count == 100
    assert tails.power_law(np.zeros(100)) is None
    assert tails.power_law([1.0] * 1000) is None
    assert tails.hill([1.0] * 100, 0.1).alpha is None
    with pytest.raises(ValueError, match="too few"):
        tails.hill([1.0, 2.0], 0.1)
    with pytest.raises(ValueError, match="finite"):
        tails.hill([1.0, np.nan], 0.1)


def test_no_tail_is_longer_than_it_may_be():
    assert tails.power_law(pareto(2.0, 5000), largest=0.1, draws=10).count <= 500
