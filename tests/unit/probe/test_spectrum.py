"""Singular values and vectors: dense and Lanczos against numpy and scipy, on spectra that are known."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse.linalg import svds

from tremor.errors import NumericsError
from tremor.probe.spectrum import Spectrum, dense_spectrum, fix_signs, lanczos_spectrum

Array = npt.NDArray[np.float64]


def matrix_of(values: Any, rows: int, columns: int, *, seed: int = 0) -> Array:
    """A matrix with these singular values and random singular vectors."""
    generator = np.random.default_rng(seed)
    u = np.linalg.qr(generator.normal(size=(rows, rows)))[0][:, : len(values)]
    v = np.linalg.qr(generator.normal(size=(columns, columns)))[0][:, : len(values)]
    return np.asarray(u * np.asarray(values, dtype=float) @ v.T)


class Product:
    """A matrix known by its products; counts them, and can round them to float32 as a model does."""

    def __init__(self, matrix: Array, *, dtype: Any = np.float64) -> None:
        self.matrix, self.shape, self.dtype, self.calls = matrix, matrix.shape, dtype, 0

    def matvec(self, vector: npt.NDArray[Any]) -> Array:
        self.calls += 1
        return np.asarray((self.matrix @ vector).astype(self.dtype).astype(np.float64))

    def rmatvec(self, vector: npt.NDArray[Any]) -> Array:
        self.calls += 1
        return np.asarray((self.matrix.T @ vector).astype(self.dtype).astype(np.float64))


def check_triplets(matrix: Array, found: Spectrum, *, tolerance: float) -> None:
    """What makes triplets singular triplets, recomputed from the matrix."""
    top = np.linalg.norm(matrix, 2)
    k = len(found.singular_values)
    assert found.left.shape == (matrix.shape[0], k)
    assert found.right.shape == (k, matrix.shape[1])
    assert np.all(np.diff(found.singular_values) <= 0)
    forward = matrix @ found.right.T - found.left * found.singular_values
    backward = matrix.T @ found.left - found.right.T * found.singular_values
    worst = np.maximum(np.linalg.norm(forward, axis=0), np.linalg.norm(backward, axis=0)) / top
    assert worst.max() < tolerance
    # The recorded residuals are the true ones (to the rounding of their own computation).
    np.testing.assert_allclose(found.residuals, worst, rtol=1e-3, atol=1e-14)
    gram = np.abs(found.right @ found.right.T - np.eye(k)).max()
    assert gram < 1e-12
    assert found.orthogonality == pytest.approx(gram, abs=1e-15)
    lead = found.right[np.arange(k), np.argmax(np.abs(found.right), axis=1)]
    assert np.all(lead > 0)


@pytest.mark.parametrize(("rows", "columns"), [(20, 20), (24, 9), (9, 24), (1, 5), (5, 1)])
def test_dense_is_numpys(rows: int, columns: int) -> None:
    matrix = np.random.default_rng(rows).normal(size=(rows, columns)).astype(np.float32)
    found = dense_spectrum(matrix)
    wide = matrix.astype(np.float64)
    # Backward stable: values to some eps (2.2e-16) of the largest.
    np.testing.assert_allclose(
        found.singular_values, np.linalg.svd(wide, compute_uv=False), rtol=0, atol=1e-13 * found.singular_values[0]
    )
    check_triplets(wide, found, tolerance=1e-13)
    assert (found.method, found.converged, found.iterations) == ("dense", True, 0)
    np.testing.assert_allclose(found.left * found.singular_values @ found.right, wide, atol=1e-13 * rows * columns)


def test_dense_finds_small_values_beside_large_ones() -> None:
    values = 10.0 ** -np.arange(12)
    found = dense_spectrum(matrix_of(values, 12, 12))
    np.testing.assert_allclose(found.singular_values, values, rtol=0, atol=1e-14)


def test_signs_are_a_matter_of_the_matrix() -> None:
    """Whatever signs a solver returns, the fixed triplets are the same, and their products stay."""
    generator = np.random.default_rng(1)
    left, right = generator.normal(size=(6, 4)), generator.normal(size=(4, 5))
    expected = fix_signs(left, right)
    for number in range(16):
        signs = np.array([1 - 2 * (number >> k & 1) for k in range(4)])
        found = fix_signs(left * signs, right * signs[:, None])
        for part, whole in zip(found, expected, strict=True):
            np.testing.assert_array_equal(part, whole)
    np.testing.assert_allclose(expected[0] @ expected[1], left @ right, rtol=0, atol=1e-14)
    # A tie takes the first of the largest entries.
    np.testing.assert_array_equal(fix_signs(np.ones((1, 1)), np.array([[-2.0, 2.0]]))[1], [[2.0, -2.0]])


def test_negated_matrix_has_the_same_right_vectors() -> None:
    matrix = np.random.default_rng(2).normal(size=(8, 8))
    plus, minus = dense_spectrum(matrix), dense_spectrum(-matrix)
    np.testing.assert_allclose(plus.right, minus.right, atol=1e-12)
    np.testing.assert_allclose(plus.left, -minus.left, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_dense_refuses_what_is_not_finite(bad: float) -> None:
    matrix = np.eye(3)
    matrix[1, 2] = bad
    with pytest.raises(NumericsError, match="NaN or infinite entries"):
        dense_spectrum(matrix)


SPECTRA = {
    "spread": (np.geomspace(10, 0.01, 40), 50, 40),
    "wide": (np.geomspace(10, 0.01, 40), 40, 60),
    "clustered": ([1, 0.9999, 0.9998, 0.9997, *np.linspace(0.5, 0, 36)], 45, 40),
    "gap": ([1000, 1, 0.99, 0.98, 0.97, *np.full(20, 1e-3) * np.linspace(1, 0.5, 20)], 30, 30),
    "low rank": ([3, 2, 1], 30, 20),
    "rank one": ([7.0], 12, 15),
    "identity": (np.ones(12), 12, 12),
    "twofold": ([2, 2, *np.linspace(1, 0.1, 10)], 14, 12),
    "flat": (np.linspace(1.0, 0.9, 30), 30, 30),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("top_k", [1, 5])
def test_lanczos_finds_the_leading_triplets(name: str, top_k: int) -> None:
    values, rows, columns = SPECTRA[name]
    matrix = matrix_of(values, rows, columns)
    found = lanczos_spectrum(Product(matrix), top_k=top_k, tolerance=1e-8)
    assert found.converged
    assert found.method == "lanczos"
    assert len(found.singular_values) == top_k
    expected = np.sort([*np.asarray(values, float), *np.zeros(top_k)])[::-1][:top_k]
    # A residual r moves a value by at most r (Weyl).
    np.testing.assert_allclose(found.singular_values, expected, rtol=0, atol=2e-8 * expected[0])
    check_triplets(matrix, found, tolerance=1e-8)


def test_lanczos_is_scipys_and_the_dense_one() -> None:
    matrix = np.random.default_rng(5).normal(size=(60, 45))
    found = lanczos_spectrum(Product(matrix), top_k=4, tolerance=1e-9)
    dense = dense_spectrum(matrix)
    values = np.sort(svds(matrix, k=4, return_singular_vectors=False, random_state=0))[::-1]
    np.testing.assert_allclose(found.singular_values, values, rtol=1e-9)
    # A vector's error is the residual over the gap to its neighbours, here at least 1e-2 of sigma_1.
    np.testing.assert_allclose(found.right, dense.right[:4], atol=1e-6)
    np.testing.assert_allclose(found.left, dense.left[:, :4], atol=1e-6)


def test_lanczos_in_float32_stops_at_its_rounding() -> None:
    """Products of a model are float32; the default tolerance of 1e-5 must be reachable with them."""
    matrix = matrix_of(np.geomspace(10, 0.01, 60), 60, 60)
    found = lanczos_spectrum(Product(matrix, dtype=np.float32), top_k=8)
    assert found.converged
    assert found.iterations < 60
    np.testing.assert_allclose(found.singular_values, np.geomspace(10, 0.01, 60)[:8], rtol=0, atol=1e-4)
    # Below what float32 can give, the flag must say so.
    assert not lanczos_spectrum(Product(matrix, dtype=np.float32), top_k=8, tolerance=1e-12).converged


def test_too_few_iterations_are_not_converged() -> None:
    matrix = matrix_of(np.linspace(1.0, 0.9, 80), 80, 80)
    product = Product(matrix)
    found = lanczos_spectrum(product, top_k=5, tolerance=1e-8, max_iterations=8)
    assert not found.converged
    assert found.iterations == 8
    assert found.residuals.max() > 1e-8
    assert product.calls == 2 * 8 + 2 * 5  # fresh products for the residuals
    assert np.all(found.singular_values <= 1 + 1e-12)  # Ritz values lie inside the spectrum
    assert lanczos_spectrum(product, top_k=5, tolerance=1e-8).converged


def test_same_seed_same_bits() -> None:
    matrix = matrix_of(np.geomspace(1, 0.1, 20), 20, 20)
    first, second, other = (lanczos_spectrum(Product(matrix), top_k=3, seed=s) for s in (1, 1, 2))
    assert first.right.tobytes() == second.right.tobytes()
    assert first.right.tobytes() != other.right.tobytes()
    np.testing.assert_allclose(first.right, other.right, atol=1e-4)


@pytest.mark.parametrize(("top_k", "limit"), [(0, None), (-1, None), (11, None), (5, 4)])
def test_top_k_out_of_range(top_k: int, limit: int | None) -> None:
    with pytest.raises(ValueError, match=f"top_k must be between 1 and {limit or 10}, got {top_k}"):
        lanczos_spectrum(Product(np.eye(10, 12)), top_k=top_k, max_iterations=limit)


def test_lanczos_refuses_nothing_and_nan() -> None:
    with pytest.raises(NumericsError, match="zero along the start vector"):
        lanczos_spectrum(Product(np.zeros((4, 4))), top_k=1)
    with pytest.raises(NumericsError, match="product with the Jacobian is NaN"):
        lanczos_spectrum(Product(np.full((4, 4), np.nan)), top_k=1)
