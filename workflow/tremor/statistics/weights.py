"""Statistics of a weight matrix: one pass for the moments, one sort for the magnitudes, one SVD for the norms."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.linalg

from tremor.errors import NumericsError

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
DECADES = (1e-1, 1e-2, 1e-3, 1e-4)  # lower edges of the magnitude buckets
_PIECE = 1 << 22  # values widened to float64 together


def _pieces(values: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.float64]]:
    flat = values.reshape(-1)
    for start in range(0, flat.size, _PIECE):
        yield flat[start : start + _PIECE].astype(np.float64)


def moments(values: npt.NDArray[Any]) -> dict[str, Any]:
    """Mean, population variance, skewness and excess kurtosis, and the same of the magnitudes.

    Sums are float64, deviations are taken from the mean (two passes). They are numpy's own pairwise sums, not BLAS dot
    products, whose last bits depend on the number of threads, and so on the cores that Snakemake was given. Skewness
    m3 / m2^1.5 and kurtosis m4 / m2^2 - 3 are the biased estimators; of values that are all equal they do not exist
    and are None.

    Args:
        values: Any shape, at least one value; float32 or float64.
    """
    count, total, absolute, squares = values.size, 0.0, 0.0, 0.0
    positive = negative = 0
    for piece in _pieces(values):
        total += float(piece.sum())
        absolute += float(np.abs(piece).sum())
        squares += float(np.square(piece).sum())
        positive += int(np.count_nonzero(piece > 0))
        negative += int(np.count_nonzero(piece < 0))
    mean, mean_abs = total / count, absolute / count
    central = np.zeros(3)
    variance_abs = 0.0
    for piece in _pieces(values):
        variance_abs += float(np.sum((np.abs(piece) - mean_abs) ** 2))
        deviation = piece - mean
        square = deviation * deviation
        central += [float(square.sum()), float((square * deviation).sum()), float(np.square(square).sum())]
    m2, m3, m4 = central / count
    # The mean of equal values is off by its rounding, and so would be what is divided by such a variance.
    spread = m2 > (np.finfo(np.float64).eps * abs(mean)) ** 2 * count
    zero = count - positive - negative
    return {
        "mean": mean,
        "std": float(np.sqrt(m2)),
        "variance": float(m2),
        "mean_abs": mean_abs,
        "std_abs": float(np.sqrt(variance_abs / count)),
        "skewness": float(m3 / m2**1.5) if spread else None,
        "kurtosis": float(m4 / m2**2 - 3.0) if spread else None,
        "frobenius_norm": float(np.sqrt(squares)),
        "positive": positive,
        "negative": negative,
        "zero": zero,
        "positive_percent": 100.0 * positive / count,
        "negative_percent": 100.0 * negative / count,
        "zero_percent": 100.0 * zero / count,
    }


def magnitudes(values: npt.NDArray[Any]) -> dict[str, Any]:
    """Order statistics: extremes and median of the values; percentiles of the magnitudes, and their count by decade.

    Percentiles interpolate linearly between the two nearest of the sorted magnitudes, in float64.

    Args:
        values: Any shape, at least one value.
    """
    flat = values.reshape(-1)
    middle = (flat.size - 1) // 2, flat.size // 2
    halves = np.partition(flat, middle)[list(middle)].astype(np.float64)
    low, high = float(flat.min()), float(flat.max())
    ordered = np.abs(flat)
    ordered.sort()

    def percentile(percent: int) -> float:
        place = (flat.size - 1) * percent / 100
        below = int(place)
        first, second = (float(ordered[min(i, flat.size - 1)]) for i in (below, below + 1))
        return first + (second - first) * (place - below)

    below = [int(np.searchsorted(ordered, ordered.dtype.type(edge), side="left")) for edge in DECADES]
    counts = np.diff([flat.size, *below, 0]) * -1
    names = ("ge_1e-1", "1e-2_to_1e-1", "1e-3_to_1e-2", "1e-4_to_1e-3", "lt_1e-4")
    return {
        "min": low,
        "max": high,
        "range": high - low,
        "median": float(halves.mean()),
        "min_abs": float(ordered[0]),
        "max_abs": float(ordered[-1]),
        **{f"abs_p{percent:02d}": percentile(percent) for percent in PERCENTILES},
        **{f"abs_{name}": int(count) for name, count in zip(names, counts, strict=True)},
    }


def singular_values(
    matrix: npt.NDArray[Any], *, name: str, dtype: Literal["float64", "float32"] = "float64"
) -> npt.NDArray[np.float64]:
    """All singular values, largest first, by one values-only SVD (LAPACK gesdd).

    Args:
        matrix: [m, n] of finite values.
        name: What it is, for messages.
        dtype: Type the SVD runs in. float32 takes half the time and leaves errors of about 1e-7 sigma_1.

    Returns:
        [min(m, n)] float64.

    Raises:
        NumericsError: LAPACK did not converge.
    """
    try:
        # The copy in column order is LAPACK's own to overwrite.
        work = np.array(matrix, dtype=dtype, order="F")
        found = scipy.linalg.svdvals(work, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError as error:
        raise NumericsError(f"the SVD of '{name}' did not converge; try exp9.svd: float64") from error
    if not np.isfinite(found).all():
        raise NumericsError(f"the singular values of '{name}' overflow {dtype}; use exp9.svd: float64")
    return np.asarray(found, dtype=np.float64)


def spectral(values: npt.NDArray[np.float64], frobenius: float) -> dict[str, Any]:
    """Norms and ranks that follow from the singular values.

    Args:
        values: [k] largest first.
        frobenius: Norm from the sum of squares; the singular values must give the same.

    Returns:
        spectral_norm s_1, nuclear_norm sum(s), smallest_singular_value, condition_number s_1/s_k (None for s_k = 0),
        stable_rank ||W||_F^2/s_1^2, effective_rank exp(-sum p log p) with p = s^2/sum(s^2) (Roy and Vetterli 2007
        take p = s/sum(s); here energies, as for Jacobians), and svd_relative_error |sqrt(sum s^2) - F| / F.
    """
    top, last = float(values[0]), float(values[-1])
    energy = values**2
    share = energy[energy > 0] / energy.sum() if top > 0 else np.ones(0)
    return {
        "spectral_norm": top,
        "nuclear_norm": float(values.sum()),
        "smallest_singular_value": last,
        "condition_number": top / last if last > 0 else None,
        "stable_rank": frobenius**2 / top**2 if top > 0 else None,
        "effective_rank": float(np.exp(-np.sum(share * np.log(share)))) if top > 0 else None,
        "svd_relative_error": abs(float(np.sqrt(energy.sum())) - frobenius) / frobenius if frobenius > 0 else 0.0,
    }


def histogram(values: npt.NDArray[Any], bins: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Counts in equal bins from the smallest to the largest value.

    Returns:
        Counts [bins] and edges [bins + 1]; equal values fall into bins around them of width 1 in all.
    """
    edges = np.histogram_bin_edges(np.array([values.min(), values.max()], dtype=np.float64), bins=bins)
    counts = np.zeros(bins, dtype=np.int64)
    for piece in _pieces(values):
        counts += np.histogram(piece, bins=bins, range=(float(edges[0]), float(edges[-1])))[0]
    return counts, edges
