"""How precision shows: rounding to so many significant bits, and how far two formats' states lie apart."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tremor import floats

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]


def significant(values: Array, bits: int) -> Float:
    """Round float64 values once to so many significant bits, to nearest with ties to even; no limit of exponents.

    24 is float32, 11 float16 and 8 bfloat16, away from their denormal numbers.

    Args:
        values: Any shape.
        bits: From 1 to 53.

    Raises:
        ValueError: more or fewer bits.
    """
    if not 1 <= bits <= 53:
        raise ValueError(f"float64 has 1 to 53 significant bits, not {bits}")
    mantissa, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    rounded: Float = np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits)
    return rounded


def survivors(x: Array, step: Array, bits: int) -> npt.NDArray[np.bool_]:
    """Which coordinates of x move when a step is added, at so many significant bits.

    x is rounded first: an embedding of that precision is all such a model has. The sum is rounded once.

    Args:
        x: [d].
        step: [d].
        bits: Significant bits.
    """
    origin = significant(x, bits)
    moved: npt.NDArray[np.bool_] = significant(origin + np.asarray(step, dtype=np.float64), bits) != origin
    return moved


def distance(values: Array, reference: Array, fmt: str) -> dict[str, float | int]:
    """How far a narrow format's vector lies from a reference.

    Args:
        values: [n] on the lattice of ``fmt``.
        reference: [n] of the wider format.
        fmt: Format of the values.

    Returns:
        l2, relative_l2 (over the reference's length), max_abs, cosine_distance, and in lattice steps of ``fmt``, after
        the reference is rounded to it: ulps_median, ulps_max, and equal (coordinates that agree).
    """
    a, b = values.astype(np.float64), reference.astype(np.float64)
    length = float(np.linalg.norm(b))
    step = a - b
    ulps = floats.ulp_distance(values, floats.round_to(b, fmt), fmt)
    product = np.linalg.norm(a) * length
    # 1 - cos from the unit vectors' difference: no cancellation for near vectors.
    apart = float(np.sum((a / np.linalg.norm(a) - b / length) ** 2) / 2) if product else np.nan
    return {
        "l2": float(np.linalg.norm(step)),
        "relative_l2": float(np.linalg.norm(step)) / length if length else np.nan,
        "max_abs": float(np.abs(step).max()),
        "cosine_distance": apart,
        "ulps_median": float(np.median(ulps)),
        "ulps_max": int(ulps.max()),
        "equal": int((ulps == 0).sum()),
    }
