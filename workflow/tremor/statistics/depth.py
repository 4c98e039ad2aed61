"""Layers of models with different numbers of layers, at common relative depths."""

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]


def common_depths(depths: list[Float], count: int) -> Float:
    """Evenly spaced relative depths that every model has layers on both sides of.

    Args:
        depths: Relative depths of each model's measured layers, ascending.
        count: How many.

    Returns:
        [count] from the largest of the first depths to the smallest of the last ones; one depth where these are equal.
        Empty where the models' ranges do not meet.
    """
    low, high = max(each[0] for each in depths), min(each[-1] for each in depths)
    if low > high:
        return np.zeros(0)
    return np.linspace(low, high, count) if high > low else np.array([low])


def at_depths(depths: Float, values: Float, wanted: Float, *, log: bool) -> Float:
    """Values between two layers, by linear interpolation over depth; of the logarithm for what multiplies up.

    Args:
        depths: [layers] ascending.
        values: [layers]; NaN gives NaN between it and its neighbours.
        wanted: [count] within the range of depths.
        log: Interpolate the logarithm; a value that is not positive gives NaN.
    """
    if log:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(values > 0, np.log(np.where(values > 0, values, 1.0)), np.nan)
    found = np.interp(wanted, depths, values)
    return np.exp(found) if log else found
