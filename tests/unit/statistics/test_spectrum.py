"""Norms and ranks of a spectrum against closed forms."""

import numpy as np
import pytest

from tremor.statistics.spectrum import spectrum_statistics


def test_against_the_matrix() -> None:
    matrix = np.random.default_rng(0).normal(size=(7, 5))
    values = np.linalg.svd(matrix, compute_uv=False)
    residuals = np.array([1e-9, 3e-9, 2e-9, 0, 0])
    found = spectrum_statistics(values, residuals, frobenius=float(np.linalg.norm(matrix)))
    assert found["values"] == 5
    assert found["sigma_1"] == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-14)
    assert found["sigma_2"] == values[1]
    assert found["sigma_last"] == values[4]
    assert found["stable_rank"] == pytest.approx(np.sum(matrix**2) / np.linalg.norm(matrix, 2) ** 2, rel=1e-13)
    share = values**2 / np.sum(values**2)
    assert found["effective_rank"] == pytest.approx(np.prod(share**-share), rel=1e-12)
    assert found["max_residual"] == 3e-9


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_equal_values_count_themselves(rank: int) -> None:
    values = np.concatenate([np.full(rank, 2.0), np.zeros(6 - rank)])
    found = spectrum_statistics(values, np.zeros(6), frobenius=2.0 * rank**0.5)
    assert found["stable_rank"] == pytest.approx(rank)
    assert found["effective_rank"] == pytest.approx(rank)


def test_leading_values_alone_say_no_ranks() -> None:
    found = spectrum_statistics(np.array([3.0]), np.array([0.0]), frobenius=None)
    assert found["sigma_1"] == found["sigma_last"] == 3.0
    for name in ("sigma_2", "frobenius_norm", "stable_rank", "effective_rank"):
        assert found[name] is None
