"""Is a map of signs random? Spatial statistics, each against what three null models give.

A map of the gap of two tokens is positive here and negative there. Whether that is noise or a boundary is not told by
any number alone: each statistic is compared with its distribution under null models that keep the values of the map:

- ``iid``: every cell drawn from the map's values, with replacement;
- ``permutation``: the map's own values in random order;
- ``straight``: the map's own values sorted along a random direction, so that the boundary is one straight line.

Sign is three-valued throughout: a gap of exactly 0 is neither positive nor negative, and no crossing of its own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[Any]
NULLS = ("iid", "permutation", "straight")
STATISTICS = (
    "flip_ratio", "components", "moran_i", "local_entropy_bits", "crossings_per_line",
    "gradient_mean", "gradient_std", "gradient_max", "gradient_cv",
)  # fmt: skip


def flip_ratio(sign: Array) -> float:
    """Share of pairs of 4-neighbours with different signs: 0.5 for fair coins, near 0 for one straight boundary."""
    unequal = np.sum(sign[1:] != sign[:-1]) + np.sum(sign[:, 1:] != sign[:, :-1])
    return float(unequal) / _pairs(sign.shape)


def _pairs(shape: tuple[int, ...]) -> int:
    rows, columns = shape
    return (rows - 1) * columns + rows * (columns - 1)


def component_count(sign: Array) -> int:
    """Number of 4-connected regions of equal sign, over all signs."""
    return int(sum(ndimage.label(sign == value)[1] for value in np.unique(sign)))


def moran_i(values: Array) -> float:
    """Moran's I with weight 1 between 4-neighbours (Moran 1950), by shifts: O(n) where the weight matrix is n x n.

    Returns:
        About -1 / (n - 1) for noise, towards 1 for patches and -1 for a chessboard; NaN where all values are equal.
    """
    centred = values.astype(np.float64) - values.mean(dtype=np.float64)
    square = float(np.sum(centred**2))
    if square == 0 or np.ptp(values) == 0:
        return float("nan")
    products = float(np.sum(centred[1:] * centred[:-1]) + np.sum(centred[:, 1:] * centred[:, :-1]))
    return values.size / _pairs(values.shape) * products / square


def local_entropy(sign: Array, window: int = 5) -> npt.NDArray[np.float64]:
    """Entropy in bits of the signs in a square window around each cell; only cells whose window lies in the map.

    Returns:
        [rows - window + 1, columns - window + 1]; 1 for an even mixture of two signs, log2(3) for one of three.
    """
    if window % 2 == 0 or window > min(sign.shape):
        raise ValueError(f"window must be odd and at most {min(sign.shape)}, got {window}")
    edge = window // 2
    total = np.zeros(tuple(n - 2 * edge for n in sign.shape))
    inner = tuple(slice(edge, n - edge) for n in sign.shape)
    for value in np.unique(sign):
        share = ndimage.uniform_filter((sign == value).astype(np.float64), size=window, mode="constant")[inner]
        # The filter's running sums leave 1e-16 where nothing is; counts are whole, so rounding makes them exact.
        share = np.round(share * window**2) / window**2
        total -= np.where(share > 0, share * np.log2(np.where(share > 0, share, 1.0)), 0.0)
    return np.asarray(total + 0.0)


def crossings_per_line(sign: Array) -> float:
    """Changes between positive and negative along a row or column, mean over all lines; zeros between are skipped."""
    changes = _crossings(sign) + _crossings(sign.T)
    return changes / sum(sign.shape)


def _crossings(sign: Array) -> int:
    """Changes of sign along the last axis, exact zeros passed over: each cell takes the last sign before it."""
    position = np.where(sign != 0, np.arange(sign.shape[1]), -1)
    last = np.maximum.accumulate(position, axis=1)
    filled = np.take_along_axis(sign, np.maximum(last, 0), axis=1)
    known = last[:, :-1] >= 0
    return int(np.sum(known & (filled[:, 1:] != filled[:, :-1])))


def gradient_magnitude(gap: Array, spacing: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Norm of the gradient of the gap by central differences, per unit of the axes.

    Args:
        gap: [n1, n2].
        spacing: Distance of neighbouring cells along each axis.
    """
    along_1, along_2 = np.gradient(gap.astype(np.float64), *spacing)
    magnitude: npt.NDArray[np.float64] = np.hypot(along_1, along_2)
    return magnitude


def spatial_statistics(gap: Array, spacing: tuple[float, float], *, window: int = 5) -> dict[str, float]:
    """All of :data:`STATISTICS` of one map [n1, n2]."""
    sign = np.sign(gap).astype(np.int8)
    slope = gradient_magnitude(gap, spacing)
    mean = float(slope.mean())
    return {
        "flip_ratio": flip_ratio(sign),
        "components": float(component_count(sign)),
        "moran_i": moran_i(sign),
        "local_entropy_bits": float(local_entropy(sign, window).mean()),
        "crossings_per_line": crossings_per_line(sign),
        "gradient_mean": mean,
        "gradient_std": float(slope.std()),
        "gradient_max": float(slope.max()),
        "gradient_cv": float(slope.std()) / mean if mean > 0 else float("nan"),
    }


def _iid(gap: Array, generator: np.random.Generator) -> Array:
    return generator.choice(gap.ravel(), size=gap.shape)


def _permutation(gap: Array, generator: np.random.Generator) -> Array:
    return generator.permutation(gap.ravel()).reshape(gap.shape)


def _straight(gap: Array, generator: np.random.Generator) -> Array:
    angle = generator.uniform(0, 2 * np.pi)
    rows, columns = np.indices(gap.shape)
    # The jitter orders cells of equal projection at random; it is far below the distance of two lines of cells.
    along = rows * np.cos(angle) + columns * np.sin(angle) + 1e-9 * generator.random(gap.shape)
    drawn = np.empty(gap.size, dtype=gap.dtype)
    drawn[np.argsort(along, axis=None)] = np.sort(gap, axis=None)
    return drawn.reshape(gap.shape)


_DRAWS: Mapping[str, Callable[[Array, np.random.Generator], Array]] = {
    "iid": _iid,
    "permutation": _permutation,
    "straight": _straight,
}


def draw(gap: Array, null: str, count: int, *, seed: int) -> Iterator[Array]:
    """Maps of a null model.

    Args:
        gap: The map whose values are kept.
        null: One of :data:`NULLS`.
        count: Number of maps.
        seed: Of the draws; each null has a stream of its own.
    """
    generator = np.random.default_rng([seed, NULLS.index(null)])
    for _ in range(count):
        yield _DRAWS[null](gap, generator)


@dataclass(frozen=True)
class NullTest:
    """One statistic against one null model."""

    statistic: str
    null: str
    value: float
    null_mean: float
    null_std: float
    null_low: float  # 2.5 % quantile of the null
    null_high: float  # 97.5 % quantile
    p_low: float  # share of the null at or below the value
    p_high: float  # share at or above it
    p_two_sided: float
    draws: int


def against_nulls(
    gap: Array, spacing: tuple[float, float], *, draws: int = 199, seed: int = 0, window: int = 5
) -> list[NullTest]:
    """Every statistic of a map against every null model, by Monte Carlo.

    p-values are (1 + draws at least as extreme) / (1 + draws), so never 0 (Davison and Hinkley 1997, 4.2); two-sided is
    twice the smaller one. NaN where the statistic is not defined for the map (one sign only, no slope).

    Args:
        gap: [n1, n2] map.
        spacing: Distance of neighbouring cells along each axis.
        draws: Maps of each null model.
        seed: Of the draws.
        window: Width of the window of the local entropy.
    """
    observed = spatial_statistics(gap, spacing, window=window)
    tests = []
    for null in NULLS:
        maps = [spatial_statistics(m, spacing, window=window) for m in draw(gap, null, draws, seed=seed)]
        for name in STATISTICS:
            tests.append(_test(name, null, observed[name], np.array([m[name] for m in maps])))
    return tests


def _test(name: str, null: str, value: float, drawn: Array) -> NullTest:
    known = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not known.size:
        nan = float("nan")
        return NullTest(name, null, value, nan, nan, nan, nan, nan, nan, nan, len(known))
    # Sums in another order differ by rounding: a draw that equals the value must count on both sides.
    slack = 1e-9 * max(abs(value), float(np.abs(known).max()))
    low = (1 + np.sum(known <= value + slack)) / (1 + known.size)
    high = (1 + np.sum(known >= value - slack)) / (1 + known.size)
    quantiles = np.quantile(known, [0.025, 0.975])
    return NullTest(
        statistic=name,
        null=null,
        value=value,
        null_mean=float(known.mean()),
        null_std=float(known.std(ddof=1)) if known.size > 1 else 0.0,
        null_low=float(quantiles[0]),
        null_high=float(quantiles[1]),
        p_low=float(low),
        p_high=float(high),
        p_two_sided=float(min(1.0, 2 * min(low, high))),
        draws=int(known.size),
    )
