"""How two vectors differ: the six numbers that the layer-wise experiments compare states by.

All are computed in float64 from the stored values. The cosine of two states that differ by 1e-12 is 1 in any format
up to 53 bits, so its distance from 1 is computed by itself, from the part of the difference that stands across.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Differences of rows; all [m]."""

    num_changed: npt.NDArray[np.int64]  # coordinates whose bits differ, or that differ by more than the threshold
    percent_changed: Float  # 100 * num_changed / width
    mean_absolute_diff: Float
    max_absolute_diff: Float
    l2_distance: Float
    cosine_similarity: Float  # NaN where a vector is zero
    cosine_distance: Float  # 1 - cosine, without cancellation

    def rows(self, index: Array) -> "Difference":
        """The differences of the given rows."""
        return Difference(*(getattr(self, field.name)[index] for field in fields(self)))


METRICS = tuple(field.name for field in fields(Difference))


def difference(a: Array, b: Array, *, threshold: float = 0.0) -> Difference:
    """Compare rows [m, n] with rows [m, n].

    Args:
        a: Float32 or float64.
        b: The same type.
        threshold: 0 counts coordinates whose bits differ (+0 and -0 do), above 0 those that differ by more.

    Raises:
        ValueError: two types or shapes, or a value that is NaN or infinite: that has no distance.
    """
    if a.dtype != b.dtype or a.shape != b.shape:
        raise ValueError(f"cannot compare {a.dtype} {a.shape} with {b.dtype} {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("NaN and infinity have no distance")
    first, second = a.astype(np.float64), b.astype(np.float64)
    step = second - first
    size = np.abs(step)
    if threshold == 0:
        integer = {4: np.int32, 8: np.int64}[a.dtype.itemsize]
        changed = np.ascontiguousarray(a).view(integer) != np.ascontiguousarray(b).view(integer)
    else:
        changed = size > threshold
    count = np.sum(changed, axis=1)
    width = a.shape[1]
    distance = _cosine_distance(first, step)
    return Difference(
        num_changed=count,
        percent_changed=100.0 * count / width,
        mean_absolute_diff=size.mean(axis=1),
        max_absolute_diff=size.max(axis=1),
        l2_distance=np.linalg.norm(step, axis=1),
        cosine_similarity=1.0 - distance,
        cosine_distance=distance,
    )


def _cosine_distance(first: Float, step: Float) -> Float:
    """1 - cos of the angle between ``first`` and ``first + step``, as 2 sin^2(angle / 2)."""
    length = np.linalg.norm(first, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = first / length[:, None]
        along = np.sum(step * unit, axis=1)
        across = np.linalg.norm(step - along[:, None] * unit, axis=1)
        angle = np.arctan2(across, length + along)
        zero = (length == 0) | (np.linalg.norm(first + step, axis=1) == 0)
    return np.where(zero, np.nan, 2.0 * np.sin(angle / 2.0) ** 2)


def paired(states: Array, a: Array, b: Array, *, threshold: float = 0.0) -> Difference:
    """Compare row a[i] of some states with row b[i], each pair of rows once.

    Args:
        states: [k, n] distinct states.
        a: [m] row numbers.
        b: [m] row numbers.
        threshold: See :func:`difference`.
    """
    pairs, index = np.unique(np.stack([a, b], axis=1), axis=0, return_inverse=True)
    chunks = np.array_split(pairs, max(1, len(pairs) * states.shape[1] // 2**22))
    parts = [difference(states[chunk[:, 0]], states[chunk[:, 1]], threshold=threshold) for chunk in chunks]
    whole = Difference(*(np.concatenate([getattr(part, name) for part in parts]) for name in METRICS))
    return whole.rows(index.reshape(-1))
