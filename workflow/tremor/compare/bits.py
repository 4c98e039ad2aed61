"""How two stored vectors differ: in bits, in steps of the float lattice, in numbers, in direction.

Bits decide equality (design.md 5.7): -0 is not +0, and NaN is never unchanged, whatever its bits. A vector in bfloat16
comes as `Bf16`, the bits that were stored. Vectors of two types are both widened first, which is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor import floats
from tremor.statistics.difference import difference
from tremor.store.arrays import Bf16

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]
Count = npt.NDArray[np.int64]
Value = Array | Bf16

_WIDTH = {"float64": 3, "float32": 2, "float16": 1, "bfloat16": 1}
_AT_ONCE = 2**22  # coordinates compared at a time: 32 MB in float64


@dataclass(frozen=True)
class Difference:
    """How one vector differs from another. Distances are NaN where a coordinate of either is NaN or infinite."""

    width: int
    lattice: str  # format in whose bits and steps they are compared
    equal_bits: bool  # no coordinate changed
    n_changed_bits: int  # coordinates whose bits differ, or that are NaN in either vector
    n_flipped_bits: int  # bits that differ, of all coordinates
    max_abs: float  # of |a - b|, in the vectors' own units, as the following three
    mean_abs: float
    median_abs: float
    l1: float
    l2: float
    relative_l2: float  # l2 / ||a||; NaN where a is zero and b is not
    cosine: float  # NaN where a vector is zero
    cosine_distance: float  # 1 - cosine, without cancellation
    ulp_max: float  # lattice steps between coordinates; -0 and +0 are at distance 0
    ulp_mean: float
    ulp_median: float
    n_signed_zero: int  # coordinates that are +0 in one and -0 in the other
    n_nan_a: int
    n_nan_b: int
    n_inf_a: int
    n_inf_b: int


@dataclass(frozen=True)
class Differences:
    """How rows differ from rows: the fields of :class:`Difference`, each [m] but for the first two."""

    width: int
    lattice: str
    equal_bits: npt.NDArray[np.bool_]
    n_changed_bits: Count
    n_flipped_bits: Count
    max_abs: Float
    mean_abs: Float
    median_abs: Float
    l1: Float
    l2: Float
    relative_l2: Float
    cosine: Float
    cosine_distance: Float
    ulp_max: Float
    ulp_mean: Float
    ulp_median: Float
    n_signed_zero: Count
    n_nan_a: Count
    n_nan_b: Count
    n_inf_a: Count
    n_inf_b: Count

    def row(self, index: int) -> Difference:
        """One row as plain numbers."""
        numbers = {name: getattr(self, name)[index].item() for name in METRICS}
        return Difference(width=self.width, lattice=self.lattice, **numbers)

    def columns(self) -> dict[str, Array]:
        """The numbers by name, each [m], for a table."""
        return {name: getattr(self, name) for name in METRICS}


METRICS = tuple(field.name for field in fields(Differences) if field.name not in ("width", "lattice"))


def format_name(value: Value) -> str:
    """Name of the format a stored array holds.

    Raises:
        ValueError: it holds no floats.
    """
    if isinstance(value, Bf16):
        return "bfloat16"
    if value.dtype.name not in floats.FORMATS:
        raise ValueError(f"an array of {value.dtype} holds no floats to compare")
    return str(value.dtype.name)


def values(value: Value) -> Array:
    """The numbers of a stored array: its own type, but float32 (exactly) for bfloat16."""
    return value.to_float32() if isinstance(value, Bf16) else value


def common_lattice(a: Value, b: Value) -> str:
    """The format in which both can be compared: their own where they share it, else the narrowest that holds both."""
    first, second = format_name(a), format_name(b)
    if first == second:
        return first
    # float16 and bfloat16 hold what the other does not.
    wider = max((first, second), key=_WIDTH.__getitem__)
    return "float32" if _WIDTH[wider] == 1 else wider


def on_lattice(value: Value, lattice: str) -> Array:
    """The numbers of a stored array in the type that carries a lattice at least as wide; exact."""
    return values(value).astype(floats.format_of(lattice).carrier)


def compare_vectors(a: Value, b: Value) -> Difference:
    """Compare two vectors [n].

    Args:
        a: Float16, float32, float64, or `Bf16`; what relative numbers are relative to.
        b: The same length; another float type is allowed.

    Raises:
        ValueError: two shapes, no vectors, or no floats.
    """
    if len(a.shape) != 1:
        raise ValueError(f"compare_vectors takes vectors, not arrays of shape {a.shape}; see compare_rows")
    return compare_rows(_stacked(a), _stacked(b)).row(0)


def compare_rows(a: Value, b: Value) -> Differences:
    """Compare row i of one array [m, n] with row i of another.

    Args:
        a: Float16, float32, float64, or `Bf16`; what relative numbers are relative to.
        b: The same shape; another float type is allowed.

    Raises:
        ValueError: two shapes, no rows of at least one coordinate, or no floats.
    """
    if a.shape != b.shape or len(a.shape) != 2 or a.shape[1] == 0:
        raise ValueError(f"cannot compare rows of {a.shape} with rows of {b.shape}")
    lattice = common_lattice(a, b)
    step = max(1, _AT_ONCE // a.shape[1])
    starts = range(0, max(1, a.shape[0]), step)
    parts = [
        _compare(on_lattice(_rows(a, i, i + step), lattice), on_lattice(_rows(b, i, i + step), lattice), lattice)
        for i in starts
    ]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in METRICS}
    return Differences(width=a.shape[1], lattice=lattice, **whole)


def _rows(value: Value, start: int, stop: int) -> Value:
    return Bf16(value.bits[start:stop]) if isinstance(value, Bf16) else value[start:stop]


def _stacked(value: Value) -> Value:
    return Bf16(value.bits[None]) if isinstance(value, Bf16) else value[None]


def _compare(first: Array, second: Array, lattice: str) -> dict[str, Array]:
    nan_a, nan_b = np.isnan(first), np.isnan(second)
    patterns_a, patterns_b = floats.bits(first, lattice), floats.bits(second, lattice)
    differ = patterns_a != patterns_b
    changed = differ | nan_a | nan_b
    finite = np.asarray(np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1))
    ordered = np.asarray(~(nan_a | nan_b).any(axis=1))
    unsigned = np.dtype(f"u{patterns_a.itemsize}")
    flipped = np.bitwise_count((patterns_a ^ patterns_b).view(unsigned)).astype(np.int64)
    return {
        "equal_bits": ~changed.any(axis=1),
        "n_changed_bits": changed.sum(axis=1),
        "n_flipped_bits": flipped.sum(axis=1),
        **_distances(first, second, finite),
        **_steps(first, second, ordered, lattice),
        "n_signed_zero": ((first == 0) & (second == 0) & differ).sum(axis=1),
        "n_nan_a": nan_a.sum(axis=1),
        "n_nan_b": nan_b.sum(axis=1),
        "n_inf_a": np.isinf(first).sum(axis=1),
        "n_inf_b": np.isinf(second).sum(axis=1),
    }


_DISTANCES = ("max_abs", "mean_abs", "median_abs", "l1", "l2", "relative_l2", "cosine", "cosine_distance")


def _distances(first: Array, second: Array, finite: Array) -> dict[str, Float]:
    found = {name: np.full(len(first), np.nan) for name in _DISTANCES}
    if not finite.any():
        return found
    # Differences of float32 values are formed in float64: exact but for the widest gaps.
    a, b = first[finite].astype(np.float64), second[finite].astype(np.float64)
    inner = difference(a, b)
    size = np.abs(b - a)
    length = np.linalg.norm(a, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(inner.l2_distance == 0, 0.0, inner.l2_distance / length)
    measured = {
        "max_abs": inner.max_absolute_diff,
        "mean_abs": inner.mean_absolute_diff,
        "median_abs": np.median(size, axis=1),
        "l1": size.sum(axis=1),
        "l2": inner.l2_distance,
        "relative_l2": np.where(np.isinf(relative), np.nan, relative),
        "cosine": inner.cosine_similarity,
        "cosine_distance": inner.cosine_distance,
    }
    for name, numbers in measured.items():
        found[name][finite] = numbers
    return found


def _steps(first: Array, second: Array, ordered: Array, lattice: str) -> dict[str, Float]:
    found = {name: np.full(len(first), np.nan) for name in ("ulp_max", "ulp_mean", "ulp_median")}
    if ordered.any():
        steps = floats.ulp_distance(first[ordered], second[ordered], lattice).astype(np.float64)
        found["ulp_max"][ordered] = steps.max(axis=1)
        found["ulp_mean"][ordered] = steps.mean(axis=1)
        found["ulp_median"][ordered] = np.median(steps, axis=1)
    return found


def ulps(a: Value, b: Value) -> npt.NDArray[np.uint64]:
    """Lattice steps between coordinates, elementwise, on :func:`common_lattice`; -0 and +0 are at distance 0.

    Raises:
        ValueError: NaN on either side, or two shapes.
    """
    if a.shape != b.shape:
        raise ValueError(f"cannot compare {a.shape} with {b.shape}")
    lattice = common_lattice(a, b)
    return floats.ulp_distance(on_lattice(a, lattice), on_lattice(b, lattice), lattice)


def changed_coordinates(a: Value, b: Value) -> npt.NDArray[np.bool_]:
    """Which coordinates changed: their bits differ, or one of them is NaN."""
    if a.shape != b.shape:
        raise ValueError(f"cannot compare {a.shape} with {b.shape}")
    lattice = common_lattice(a, b)
    first, second = on_lattice(a, lattice), on_lattice(b, lattice)
    different: npt.NDArray[np.bool_] = floats.bits(first, lattice) != floats.bits(second, lattice)
    return different | np.isnan(first) | np.isnan(second)


def count_above(a: Value, b: Value, thresholds: Sequence[float]) -> Count:
    """Coordinates with |a - b| above each threshold.

    Args:
        a: [n].
        b: [n].
        thresholds: [k], in the vectors' own units.

    Returns:
        [k]. A coordinate that is NaN in either vector, or infinite in one only, is above every threshold; no count
        includes another, each is by itself.
    """
    if a.shape != b.shape:
        raise ValueError(f"cannot compare {a.shape} with {b.shape}")
    first, second = values(a).astype(np.float64), values(b).astype(np.float64)
    with np.errstate(invalid="ignore"):
        size = np.abs(first - second)
        size = np.where(first == second, 0.0, np.where(np.isnan(size), np.inf, size))
    limits = np.asarray(thresholds, dtype=np.float64)
    return np.array([(size > limit).sum() for limit in limits], dtype=np.int64)
