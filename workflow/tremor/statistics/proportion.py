"""Intervals of shares. No torch."""

import math

from tremor.errors import NumericsError


def wilson(hits: int, count: int, *, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927), which stays in [0, 1] and has a width at 0 and 1 too.

    Args:
        hits: How many did.
        count: Of how many.
        z: Normal quantile; the default is that of 95 %.

    Raises:
        NumericsError: No case, or more hits than cases.
    """
    if not 0 <= hits <= count or count == 0:
        raise NumericsError(f"{hits} of {count} is no share")
    share, z2 = hits / count, z * z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    # At 0 and 1 the end is exact, up to rounding.
    return (0.0 if hits == 0 else max(0.0, middle - half)), (1.0 if hits == count else min(1.0, middle + half))
