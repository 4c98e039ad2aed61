"""How many coordinates of two states differ, by how much: thresholds in the states' units, bits, lattice steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tremor.compare.bits import Value, changed_coordinates, common_lattice, compare_vectors, count_above, ulps, values
from tremor.statistics.spread import spread

PERCENTILES = (25, 75, 90, 95, 99)


def powers_of_ten(powers: Sequence[int]) -> list[float]:
    """Thresholds from their exponents; each is the float64 nearest to the power, as if written out."""
    return [float(f"1e{power}") for power in powers]


def changed_dimensions(a: Value, b: Value, thresholds: Sequence[float], steps: Sequence[int]) -> pd.DataFrame:
    """Count the coordinates that differ by more than each threshold.

    Args:
        a: [n].
        b: [n].
        thresholds: In the vectors' own units; a coordinate counts if |a - b| is above.
        steps: Lattice steps; a coordinate counts if it is at least so many away.

    Returns:
        Columns measure (``absolute``, ``bits``, ``ulps``), threshold, changed, percent. A row counts by itself, not
        what the row above has left. NaN on either side counts in every row.
    """
    lattice_steps = _steps(a, b)
    rows = [("bits", 1.0, int(changed_coordinates(a, b).sum()))]
    counts = count_above(a, b, thresholds)
    rows += [("absolute", float(limit), int(count)) for limit, count in zip(thresholds, counts, strict=True)]
    rows += [("ulps", float(limit), int((lattice_steps >= limit).sum())) for limit in steps]
    table = pd.DataFrame(rows, columns=["measure", "threshold", "changed"])
    table["percent"] = 100.0 * table["changed"] / a.shape[0]
    return table


def _steps(a: Value, b: Value) -> Any:
    """Lattice steps by coordinate, float64; infinite where one is NaN."""
    first, second = values(a), values(b)
    numbers = ~(np.isnan(first) | np.isnan(second))
    found = np.full(a.shape, np.inf)
    found[numbers] = ulps(_where(a, numbers), _where(b, numbers))
    return found


def _where(value: Value, mask: Any) -> Value:
    return type(value)(value.bits[mask]) if not isinstance(value, np.ndarray) else value[mask]


def difference_statistics(a: Value, b: Value) -> dict[str, Any]:
    """All numbers about two states: of the absolute differences, of both norms, and of the two together.

    Args:
        a: [n].
        b: [n].
    """
    found = compare_vectors(a, b)
    first, second = values(a).astype(np.float64), values(b).astype(np.float64)
    with np.errstate(invalid="ignore"):
        size = np.abs(first - second)
    return {
        "width": found.width,
        "lattice": common_lattice(a, b),
        "equal_bits": found.equal_bits,
        "absolute": spread(size, PERCENTILES),
        "norm_a": float(np.linalg.norm(first)),
        "norm_b": float(np.linalg.norm(second)),
        **{
            name: getattr(found, name)
            for name in ("cosine", "cosine_distance", "l1", "l2", "relative_l2", "ulp_max", "ulp_mean", "ulp_median",
                         "n_changed_bits", "n_flipped_bits", "n_signed_zero", "n_nan_a", "n_nan_b")
        },
    }  # fmt: skip
