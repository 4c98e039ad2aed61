"""Statistics of a matrix against numpy and scipy, and against closed forms."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from tremor.statistics import weights

RANDOM = np.random.default_rng(0)


@pytest.fixture(params=["float32", "float64"])
def matrix(request: pytest.FixtureRequest) -> np.ndarray:
    values = RANDOM.standard_t(5, (60, 40)) * np.geomspace(1e-4, 1e-1, 40)
    values[3, 3:9] = 0.0
    return values.astype(request.param)


def test_moments_are_scipys(matrix: np.ndarray) -> None:
    found, wide = weights.moments(matrix), matrix.astype(np.float64).ravel()
    expected = {
        "mean": wide.mean(),
        "std": wide.std(),
        "variance": wide.var(),
        "mean_abs": np.abs(wide).mean(),
        "std_abs": np.abs(wide).std(),
        "skewness": scipy.stats.skew(wide),
        "kurtosis": scipy.stats.kurtosis(wide),
        "frobenius_norm": np.linalg.norm(wide),
        "positive": (wide > 0).sum(),
        "negative": (wide < 0).sum(),
        "zero": 6,
        "zero_percent": 100 * 6 / 2400,
    }
    for name, value in expected.items():
        # Sums of 2400 terms in another order: 2400 roundings at most, some 1e-13, of sums that do not cancel badly.
        assert found[name] == pytest.approx(value, rel=1e-11, abs=1e-18), name
    assert found["positive_percent"] + found["negative_percent"] + found["zero_percent"] == pytest.approx(100.0)


def test_moments_do_not_depend_on_threads() -> None:
    """A BLAS dot product splits its sum among threads, of which a job has as many as Snakemake has cores."""
    code = (
        "import numpy as np; from tremor.statistics.weights import moments;"
        "print(moments(np.random.default_rng(0).normal(size=(640, 512)).astype(np.float32)))"
    )
    told = []
    for threads in ("1", "2"):
        limits = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **limits}, capture_output=True, check=True
        )
        told.append(done.stdout)
    assert told[0] == told[1]
    assert b"kurtosis" in told[0]


def test_moments_in_pieces(matrix: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = weights.moments(matrix)
    monkeypatch.setattr(weights, "_PIECE", 77)
    for name, value in weights.moments(matrix).items():
        assert value == pytest.approx(whole[name], rel=1e-11)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 2399, 2400])
def test_order_statistics_are_numpys(matrix: np.ndarray, size: int) -> None:
    values = matrix.ravel()[:size]
    found, wide = weights.magnitudes(values), values.astype(np.float64)
    for percent in weights.PERCENTILES:
        # The place among 2400 is rounded to 2400 eps of a gap, 5e-13, and differently so by numpy.
        assert found[f"abs_p{percent:02d}"] == pytest.approx(np.percentile(np.abs(wide), percent), rel=1e-12, abs=0)
    assert found["median"] == np.median(wide)
    assert (found["min"], found["max"]) == (wide.min(), wide.max())
    assert (found["min_abs"], found["max_abs"]) == (np.abs(wide).min(), np.abs(wide).max())


def test_buckets() -> None:
    """Edges belong to the bucket above, as in the original; all values are in one bucket."""
    values = np.array([0.5, -0.1, 0.05, 0.01, -0.009, 1e-3, 5e-4, 1e-4, 9e-5, 0.0, -2.0])
    found = weights.magnitudes(values)
    names = ("ge_1e-1", "1e-2_to_1e-1", "1e-3_to_1e-2", "1e-4_to_1e-3", "lt_1e-4")
    assert [found[f"abs_{name}"] for name in names] == [3, 2, 2, 2, 2]


def test_equal_values_have_no_shape() -> None:
    """A norm's gains before training: 0/0 is not a skewness, and neither is the rounding of the mean over itself."""
    for value in (1.0, 0.1, 0.0, -3.3e-5):
        found = weights.moments(np.full(999, value, dtype=np.float32))
        assert found["skewness"] is None
        assert found["kurtosis"] is None
        assert found["std"] == pytest.approx(0.0, abs=1e-15 * max(abs(value), 1e-300))


def test_orthogonal_matrix() -> None:
    size = 24
    q = np.linalg.qr(RANDOM.standard_normal((size, size)))[0]
    spectrum = weights.singular_values(3.0 * q, name="q")
    found = weights.spectral(spectrum, float(np.linalg.norm(3.0 * q)))
    # Singular values come with an absolute error of some eps times the largest.
    assert spectrum == pytest.approx(np.full(size, 3.0), rel=1e-13)
    expected = {"spectral_norm": 3, "nuclear_norm": 3 * size, "condition_number": 1, "stable_rank": size,
                "effective_rank": size, "smallest_singular_value": 3}  # fmt: skip
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12), name
    assert found["svd_relative_error"] < 1e-13


def test_rank_one_matrix() -> None:
    a, b = RANDOM.standard_normal(7), RANDOM.standard_normal(30)
    outer = np.outer(a, b)
    spectrum = weights.singular_values(outer, name="ab")
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    found = weights.spectral(spectrum, float(np.linalg.norm(outer)))
    assert len(spectrum) == 7
    for name in ("spectral_norm", "nuclear_norm"):
        assert found[name] == pytest.approx(norm, rel=1e-13)
    assert found["stable_rank"] == pytest.approx(1.0, rel=1e-13)
    # The six zeros come as 1e-16 of the first: their squares leave exp(entropy) at 1.
    assert found["effective_rank"] == pytest.approx(1.0, rel=1e-12)
    assert found["smallest_singular_value"] < 1e-14 * norm


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_singular_values_are_numpys(dtype: str) -> None:
    values = RANDOM.standard_normal((31, 50)).astype(np.float32)
    before = values.copy()
    expected = np.linalg.svd(values.astype(np.float64), compute_uv=False)
    eps = {"float64": 2.3e-16, "float32": 1.2e-7}[dtype]
    # LAPACK bounds the error by a small multiple of eps * sigma_1; 31 is the length of the sums.
    tolerance = 31 * eps * expected[0]
    assert weights.singular_values(values, name="w", dtype=dtype) == pytest.approx(expected, rel=0, abs=tolerance)
    assert np.array_equal(values, before)


def test_zero_matrix() -> None:
    found = weights.spectral(weights.singular_values(np.zeros((4, 3)), name="0"), 0.0)
    assert found["spectral_norm"] == found["nuclear_norm"] == found["svd_relative_error"] == 0.0
    assert found["condition_number"] is found["stable_rank"] is found["effective_rank"] is None


def test_overflow_is_said() -> None:
    from tremor.errors import NumericsError

    with pytest.raises(NumericsError, match="'big' overflow float32"):
        weights.singular_values(np.full((64, 64), 3e37), name="big", dtype="float32")


def test_histogram_is_numpys(matrix: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_PIECE", 100)
    counts, edges = weights.histogram(matrix, 20)
    expected, expected_edges = np.histogram(matrix.astype(np.float64), 20)
    assert counts.tolist() == expected.tolist()
    assert edges.tolist() == expected_edges.tolist()
    counts, edges = weights.histogram(np.ones(5, dtype=np.float32), 4)
    assert counts.sum() == 5
    assert (edges[0], edges[-1]) == (0.5, 1.5)
