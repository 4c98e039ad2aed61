"""Where values lie and how widely: what a box and its whiskers are drawn from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

QUARTILES = (25, 75)


def spread(values: Array, percentiles: Sequence[int] = QUARTILES) -> dict[str, float | int | None]:
    """Count, mean, standard deviation, extremes, median and percentiles of the finite values.

    Args:
        values: Any shape.
        percentiles: Percents; each becomes a key ``q<percent>``, by linear interpolation.

    Returns:
        ``count`` (finite values), ``mean``, ``std`` (of the values themselves, not of a sample), ``min``, ``median``,
        ``max`` and the percentiles; None for each where no value is finite.
    """
    found = np.asarray(values, dtype=np.float64).ravel()
    found = found[np.isfinite(found)]
    names = ("mean", "std", "min", "median", "max", *(f"q{percent}" for percent in percentiles))
    if not found.size:
        return {"count": 0, **dict.fromkeys(names)}
    # A mean of equal values may differ from them by a rounding, and lie outside; that is no finding.
    mean = float(np.clip(found.mean(), found.min(), found.max()))
    numbers = (mean, float(found.std()), found.min(), np.median(found), found.max(), *np.percentile(found, percentiles))
    return {"count": int(found.size), **{name: float(value) for name, value in zip(names, numbers, strict=True)}}
