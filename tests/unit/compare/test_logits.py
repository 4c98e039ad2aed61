"""Predictions by token id: against plain dictionaries, scipy, and the divergence of whole distributions."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from scipy.special import log_softmax

from tremor.compare.logits import compare_tops, decision, kl_at_least
from tremor.compare.recording import Top

Array = npt.NDArray[Any]


def tops(logits: Array, k: int = 10) -> tuple[Array, Array, Array]:
    """Best k of each row, as a recording holds them."""
    ids = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    probabilities = np.exp(log_softmax(logits, axis=1))
    return ids, np.take_along_axis(logits, ids, 1).astype(np.float32), np.take_along_axis(probabilities, ids, 1)


@pytest.fixture(scope="module")
def two() -> tuple[Array, Array]:
    generator = np.random.default_rng(0)
    a = 3 * generator.normal(size=(40, 60))
    return a, a + 0.7 * generator.normal(size=a.shape)


def test_against_dictionaries(two: tuple[Array, Array]) -> None:
    a, b = two
    found = compare_tops(*tops(a), *tops(b))
    for row in range(len(a)):
        (ids_a, logits_a, _), (ids_b, logits_b, _) = ([v[row] for v in tops(x)] for x in (a, b))
        one, other = dict(zip(ids_a, logits_a, strict=True)), dict(zip(ids_b, logits_b, strict=True))
        common = [i for i in ids_a if i in other]
        assert found.top_common[row] == len(common)
        assert found.top_same_rank[row] == sum(x == y for x, y in zip(ids_a, ids_b, strict=True))
        assert found.top5_common[row] == len(set(ids_a[:5]) & set(ids_b[:5]))
        x, y = (np.array([float(d[i]) for i in common]) for d in (one, other))
        # Ten float32 values widened to float64: a few roundings of 1.1e-16.
        assert found.logit_max_abs[row] == np.abs(x - y).max()
        assert found.logit_l2[row] == pytest.approx(np.linalg.norm(x - y), rel=1e-14)
        assert found.logit_l1[row] == pytest.approx(np.abs(x - y).sum(), rel=1e-14)
        assert found.logit_pearson[row] == pytest.approx(stats.pearsonr(x, y)[0], abs=1e-12)


def test_a_swap_of_the_leaders_is_seen() -> None:
    """By rank the two would differ by nothing, and correlate perfectly."""
    ids, logits = np.array([[4, 7, 9]]), np.array([[2.0, 1.0, 0.0]], np.float32)
    p = np.array([[0.6, 0.3, 0.1]])
    found = compare_tops(ids, logits, p, ids[:, [1, 0, 2]], logits, p)
    assert found.logit_max_abs[0] == 1.0
    assert found.probability_max_abs[0] == pytest.approx(0.3, rel=1e-15)
    assert found.logit_pearson[0] == pytest.approx(0.5, rel=1e-15)
    assert found.top_same_rank[0] == 1
    assert found.top_common[0] == 3


def test_the_bound_is_below_the_divergence_of_the_whole_distributions(two: tuple[Array, Array]) -> None:
    a, b = two
    p, q = (np.exp(log_softmax(x, axis=1)) for x in (a, b))
    whole = stats.entropy(p, q, axis=1)
    bound = compare_tops(*tops(a), *tops(b)).kl_at_least
    assert (bound <= whole * (1 + 1e-12)).all()
    assert (bound > 0.3 * whole).mean() > 0.5  # and it is no empty bound: the ten best hold most of the mass


def test_the_bound_is_exact_where_all_is_known() -> None:
    p, q = np.array([[0.5, 0.3, 0.2]]), np.array([[0.2, 0.3, 0.5]])
    assert kl_at_least(p, q)[0] == pytest.approx(stats.entropy(p[0], q[0]), rel=1e-14)
    assert kl_at_least(p, p)[0] == 0
    assert np.isnan(kl_at_least(np.full((1, 2), np.nan), np.full((1, 2), np.nan))[0])
    assert kl_at_least(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]))[0] == np.inf
    # A rest of one rounding on one side is no impossible event.
    assert kl_at_least(np.array([[1 - 1e-16, 1e-18]]), np.array([[1 - 2e-16, 1e-18]]))[0] < 1e-15


def test_nothing_in_common() -> None:
    p = np.array([[0.6, 0.4]])
    found = compare_tops(np.array([[1, 2]]), p, p, np.array([[3, 4]]), p, p)
    assert found.top_common[0] == 0
    assert np.isnan([found.logit_l2[0], found.logit_pearson[0], found.kl_at_least[0]]).all()


def test_equal_predictions_differ_by_nothing(two: tuple[Array, Array]) -> None:
    found = compare_tops(*tops(two[0]), *tops(two[0])).columns()
    for name in ("logit_max_abs", "logit_l1", "logit_l2", "probability_l1", "kl_at_least"):
        assert not found[name].any()
    assert np.allclose(found["logit_pearson"], 1.0, rtol=0, atol=1e-14)


def test_refusals() -> None:
    p = np.ones((1, 2))
    with pytest.raises(ValueError, match="one shape"):
        compare_tops(p, p, p, p, p, np.ones((1, 3)))
    with pytest.raises(ValueError, match="twice"):
        compare_tops(np.array([[1, 1]]), p, p, np.array([[1, 2]]), p, p)


@pytest.mark.parametrize(
    ("dtype", "logits", "ties", "ulps", "tied"),
    [
        ("float32", (17.5, 17.5), 2, 0.0, True),
        ("float32", (17.5, 17.5 - 2.0**-19), 1, 1.0, False),
        ("bfloat16", (17.5, 17.375), 1, 1.0, False),  # the spacing of bfloat16 between 16 and 32 is 0.125
    ],
)
def test_margins_are_counted_in_the_model_s_own_spacing(
    dtype: str, logits: tuple[float, float], ties: int, ulps: float, tied: bool
) -> None:
    values = np.array(logits, np.float32)
    top = Top(np.array([8, 3]), values, np.array([0.5, 0.4]), 18.0, float(values[0] - values[1]), ties)
    found = decision(top, dtype)
    assert (found.token, found.runner_up, found.margin_ulps, found.tied) == (8, 3, ulps, tied)
