"""Effects in nats, percent and perplexity by hand; the denominator question; controls and regressions."""

import math

import numpy as np
import pytest
from scipy import stats

from tremor.errors import NumericsError
from tremor.statistics import ablation
from tremor.statistics.ablation import Part

RNG = np.random.default_rng(0)


def part(n=12, draws=20, shift=0.3):
    tokens = RNG.integers(4, 20, size=n).astype(float)
    nll = tokens * RNG.uniform(1, 3, size=n)
    changed = nll + tokens * (shift + 0.1 * RNG.standard_normal(n))
    controls = nll + 0.02 * tokens * RNG.standard_normal((draws, n))
    return Part(nll, changed, controls, tokens)


def test_percentage_is_a_function_of_the_change_in_nats_alone():
    """D-D10: PPL' / PPL = exp(delta NLL); two baselines with one delta have one percentage, not one absolute change."""
    low, high = (Part(np.full(5, b * 10), np.full(5, b * 10 + 2.0), np.zeros((2, 5)), np.full(5, 10.0)) for b in (1, 4))
    found = [ablation.likelihood(p, draws=50, seed=0, confidence=0.95) for p in (low, high)]
    assert found[0]["percentage_change"] == pytest.approx(100 * math.expm1(0.2), rel=1e-12)
    assert found[1]["percentage_change"] == pytest.approx(found[0]["percentage_change"], rel=1e-12)
    # The absolute change carries the baseline as a factor: exp(4) / exp(1).
    assert found[1]["absolute_change"] / found[0]["absolute_change"] == pytest.approx(math.exp(3), rel=1e-9)


def test_perplexities_and_spreads_by_hand():
    """D-D9: the standard deviations were constant zeros."""
    own = part()
    found = ablation.likelihood(own, draws=500, seed=1, confidence=0.9)
    assert found["baseline_ppl"] == pytest.approx(math.exp(own.nll.sum() / own.tokens.sum()), rel=1e-12)
    assert found["perturbed_ppl"] == pytest.approx(math.exp(own.changed.sum() / own.tokens.sum()), rel=1e-12)
    assert found["baseline_std"] == pytest.approx(np.std(np.exp(own.nll / own.tokens), ddof=1), rel=1e-12)
    assert found["perturbed_std"] == pytest.approx(np.std(np.exp(own.changed / own.tokens), ddof=1), rel=1e-12)
    assert found["delta_nll_std"] == pytest.approx(np.std((own.changed - own.nll) / own.tokens, ddof=1), rel=1e-12)
    assert found["delta_nll_low"] < found["delta_nll"] < found["delta_nll_high"]
    assert found["percentage_low"] == pytest.approx(100 * math.expm1(found["delta_nll_low"]))
    assert min(found["baseline_std"], found["perturbed_std"]) > 0


def test_controls_give_a_percentile_and_a_p_that_is_never_zero():
    found = ablation.against_controls(2.0, np.arange(20) / 10, "control")  # 0.0 ... 1.9
    assert found["control_percentile"] == 100.0
    assert found["control_p"] == pytest.approx(1 / 21)
    found = ablation.against_controls(1.0, np.arange(20) / 10, "control")
    assert found["control_percentile"] == 50.0
    assert found["control_p"] == pytest.approx(11 / 21)
    with pytest.raises(NumericsError):
        ablation.against_controls(float("nan"), np.arange(20), "control")


def test_answers():
    clean, changed = np.log([0.5, 0.25]), np.log([0.25, 0.25])
    controls = np.stack([clean, clean - 0.01])
    found = ablation.answers(clean, changed, controls, draws=100, seed=0, confidence=0.95)
    assert found["answer_logprob_change"] == pytest.approx(-math.log(2) / 2)
    assert found["answer_probability"] == pytest.approx(0.375)
    assert found["answer_probability_after"] == pytest.approx(0.25)
    assert found["answer_control_percentile"] == 100.0
    assert found["answer_control_mean"] == pytest.approx(0.005)
    assert found["answer_logprob_change_low"] <= found["answer_logprob_change"] <= 0.0


def test_regression_against_scipy_and_where_there_is_none():
    x, y = RNG.uniform(size=9), RNG.uniform(size=9)
    found = ablation.regression(x, y)
    rank = stats.pearsonr(x, y)
    assert found["correlation"] == pytest.approx(rank.statistic, rel=1e-12)
    assert found["p"] == pytest.approx(rank.pvalue, rel=1e-9)
    assert [found["slope"], found["intercept"]] == pytest.approx(list(np.polyfit(x, y, 1)), rel=1e-9)
    for few in ((x[:2], y[:2]), (np.ones(5), y[:5])):
        assert math.isnan(ablation.regression(*few)["slope"])


def test_selectivity_is_the_originals():
    assert ablation.selectivity(-8.0, 2.0) == pytest.approx(8.0 / 2.000001)
