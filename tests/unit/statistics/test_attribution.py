"""Agreement of rankings with costs: scipy's correlations, exact permutation counts, and planted biases."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from tremor.statistics.attribution import agreement, consistency, position_bias

SETTINGS = {"k": 2, "permutations": 20_000, "seed": 0}


def test_correlations_are_scipys_also_with_ties():
    scores, costs = [3.0, 1.0, 1.0, 5.0, 2.0], [0.3, 0.1, 0.2, 0.2, -0.1]
    found = agreement(scores, costs, **SETTINGS)
    # Two ways to add up five products: some ulps.
    assert found.spearman == pytest.approx(stats.spearmanr(scores, costs).statistic, abs=1e-12)
    assert found.kendall == pytest.approx(stats.kendalltau(scores, costs).statistic, abs=1e-12)


def test_p_is_the_share_of_all_orders_up_to_the_error_of_its_draws():
    scores, costs = [5.0, 4.0, 1.0, 3.0, 2.0], [5.0, 3.0, 1.0, 4.0, 2.0]
    found = agreement(scores, costs, **SETTINGS)
    every = [stats.spearmanr(order, costs).statistic for order in permutations(scores)]
    exact = np.mean(np.array(every) >= found.spearman - 1e-12)
    # Standard error of a share of 5 % over 20 000 draws is 0.0015; four of them.
    assert found.p == pytest.approx(exact, abs=0.006)


def test_a_component_that_breaks_the_model_costs_most():
    found = agreement([1.0, 2.0, 9.0, 3.0], [0.1, 0.2, np.inf, 0.4], **SETTINGS)
    assert found.finds_first
    assert found.spearman == pytest.approx(1.0)
    assert found.common == 2
    assert found.overlap_chance == 0.5


def test_a_tie_names_no_component():
    """Counts of weights: all MLPs are alike, and the list begins with the costliest."""
    assert not agreement([5.0, 5.0, 1.0, 2.0], [0.9, 0.1, 0.2, 0.3], **SETTINGS).finds_first
    # Gate, up and down cost the same when they are zero: whichever stands alone at the top is a costliest one.
    assert agreement([1.0, 4.0, 2.0, 3.0], [0.9, 0.9, 0.9, 0.3], **SETTINGS).finds_first


def test_scores_that_are_all_equal_have_no_correlation():
    found = agreement([1.0] * 4, [1.0, 2.0, 3.0, 4.0], **SETTINGS)
    assert (found.spearman, found.kendall, found.p) == (None, None, None)


@pytest.mark.parametrize(
    ("scores", "costs", "k"),
    [([1.0, 2.0], [1.0, 2.0], 1), ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 3), ([1.0, np.nan, 2.0], [1.0, 2.0, 3.0], 1)],
)
def test_what_has_no_rank_is_refused(scores, costs, k):
    with pytest.raises(ValueError, match=r"compare|NaN"):
        agreement(scores, costs, k=k, permutations=10, seed=0)


def test_an_answer_by_place_alone_is_found_out():
    """A judge that always names the end of the list: position bias 1, no consistency over many orders."""
    orders = np.stack([np.random.default_rng(i).permutation(6) for i in range(200)])
    places = np.argsort(orders, axis=1)
    assert position_bias(places.astype(float), places) == pytest.approx(1.0)
    # Mean over 19 900 pairs of correlations with standard deviation 1/sqrt(5): far below 0.05.
    assert abs(consistency(places.astype(float))) < 0.05
    assert consistency(np.tile(np.arange(6.0), (3, 1))) == pytest.approx(1.0)
    assert consistency(np.arange(6.0)[None]) is None
