"""The six comparison metrics against mpmath-free oracles: exact fractions, scipy, and hand-made cases."""

from decimal import Decimal, getcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.distance import cosine

from tremor.statistics.difference import METRICS, difference, paired

Array = npt.NDArray[Any]


def exact_cosine_distance(a: Array, b: Array) -> float:
    """1 - cos with 60 digits."""
    getcontext().prec = 60
    x, y = ([Decimal(float(v)) for v in row] for row in (a, b))
    dot = sum((p * q for p, q in zip(x, y, strict=True)), Decimal(0))
    lengths = [sum((p * p for p in row), Decimal(0)).sqrt() for row in (x, y)]
    return float(1 - dot / (lengths[0] * lengths[1]))


def test_by_hand() -> None:
    a = np.array([[3.0, 4.0, 0.0, 0.0]], dtype=np.float32)
    b = np.array([[3.0, 4.5, 0.0, -0.5]], dtype=np.float32)
    found = difference(a, b)
    assert found.num_changed.tolist() == [2]
    assert found.percent_changed.tolist() == [50.0]
    assert found.mean_absolute_diff.tolist() == [0.25]
    assert found.max_absolute_diff.tolist() == [0.5]
    assert found.l2_distance.tolist() == [pytest.approx(np.sqrt(0.5), rel=1e-15)]
    assert found.cosine_similarity[0] == pytest.approx(1 - cosine(a[0].astype(float), b[0].astype(float)), rel=1e-14)
    assert METRICS[:6] == (
        "num_changed", "percent_changed", "mean_absolute_diff", "max_absolute_diff", "l2_distance",
        "cosine_similarity",
    )  # fmt: skip


@pytest.mark.parametrize("relative", [1e-3, 1e-7, 1e-10])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_cosine_resolves_the_smallest_turns(relative: float, dtype: Any) -> None:
    """The original's float32 cosine saturates at 1; 1 - cos in float64 still loses all below 1e-16."""
    generator = np.random.default_rng(0)
    a = generator.normal(size=(1, 512)).astype(dtype)
    b = (a.astype(np.float64) + relative * generator.normal(size=(1, 512))).astype(dtype)
    if (a == b).all():
        b[0, 0] = np.nextafter(b[0, 0], dtype(9))  # the smallest turn there is
    oracle = exact_cosine_distance(a[0], b[0])
    found = difference(a, b)
    assert oracle > 0
    # The difference of two near floats is exact; what remains is a sum of 512 rounded squares.
    assert found.cosine_distance[0] == pytest.approx(oracle, rel=1e-7)
    assert found.cosine_similarity[0] == 1 - found.cosine_distance[0]


def test_zeros_of_two_signs_differ_in_bits_and_by_nothing() -> None:
    a, b = np.array([[0.0, 1.0]], np.float32), np.array([[-0.0, 1.0]], np.float32)
    found = difference(a, b)
    assert (found.num_changed[0], found.max_absolute_diff[0], found.cosine_distance[0]) == (1, 0.0, 0.0)
    assert difference(a, b, threshold=1e-30).num_changed[0] == 0


def test_a_threshold_counts_what_exceeds_it() -> None:
    a = np.zeros((1, 3), np.float32)
    b = np.array([[1e-6, 1e-5, 1e-4]], np.float32)
    assert difference(a, b, threshold=float(b[0, 1])).num_changed.tolist() == [1]


def test_directions_of_zero_have_no_cosine() -> None:
    a, b = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)
    for first, second in ((a, b), (b, a), (a, a)):
        found = difference(first, second)
        assert np.isnan(found.cosine_similarity[0])
        assert np.isnan(found.cosine_distance[0])
    opposite = difference(b, -b)
    assert opposite.cosine_similarity[0] == pytest.approx(-1, abs=1e-15)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_has_no_distance_is_refused(bad: float) -> None:
    """The originals' comparison called NaN unchanged."""
    a = np.array([[1.0, bad]], np.float32)
    with pytest.raises(ValueError, match="no distance"):
        difference(a, a)


def test_two_types_are_not_compared() -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        difference(np.ones((1, 2), np.float32), np.ones((1, 2)))


def test_paired_is_the_row_by_row_comparison() -> None:
    states = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)
    a, b = np.array([0, 0, 3, 0, 4]), np.array([1, 2, 3, 1, 0])
    found, plain = paired(states, a, b), difference(states[a], states[b])
    for name in METRICS:
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))
    assert found.num_changed.tolist() == [7, 7, 0, 7, 7]
