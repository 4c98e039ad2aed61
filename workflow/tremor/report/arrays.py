"""Arrays as the page holds them: base64 of little-endian numbers, decoded bit for bit by the browser."""

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def packed(values: Array) -> dict[str, Any]:
    """Numbers with all their bits.

    Args:
        values: [...] of float64, float32, uint16 or uint8.

    Returns:
        ``type`` (f8, f4, u2, u1), ``data``, and ``shape`` where there is more than one axis.
    """
    code = f"{values.dtype.kind}{values.dtype.itemsize}"
    if code not in ("f8", "f4", "u2", "u1"):
        raise TypeError(f"an array of {values.dtype} has no form on the page")
    stored = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"))
    found: dict[str, Any] = {"type": code, "data": base64.b64encode(stored.tobytes()).decode("ascii")}
    return found if values.ndim == 1 else {**found, "shape": list(values.shape)}


def indexed(values: Array) -> dict[str, Any]:
    """Numbers of which many are equal: the distinct ones, and for each place which it is. Exact, NaN included.

    Args:
        values: [...] of float64 with at most 65536 distinct values.

    Returns:
        ``values`` and ``index`` as of :func:`packed`; all values as they are where too many are distinct.
    """
    distinct, index = np.unique(values, return_inverse=True)
    if len(distinct) > 2**16:
        return packed(values)
    return {
        "values": packed(distinct),
        "index": packed(index.reshape(values.shape).astype(np.uint8 if len(distinct) <= 2**8 else np.uint16)),
    }


def thinned(length: int, largest: int) -> Array:
    """Indices of every k-th of some places, the smallest k that leaves at most ``largest`` of them.

    Args:
        length: How many places there are.
        largest: How many may stay.
    """
    return np.arange(0, length, -(-length // largest))
