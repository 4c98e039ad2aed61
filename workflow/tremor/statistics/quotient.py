"""What difference quotients should show, and what a table of them says."""

from typing import Any

import numpy as np
import pandas as pd


def noisy_gain(gain: float, floor: float, step: float, samples: int) -> float:
    """Expected size of a noise-averaged quotient: sqrt(gain^2 + (floor / step)^2 / n).

    The norm of a mean is biased upward: the mean of n noisy differences is off by a vector of length floor / sqrt(n)
    in a direction of its own, which adds to the true change by squares, and n copies lessen it but never remove it.
    That holds where the roundings of different copies are independent; where the noise does not move the input, they
    are all the same.

    Args:
        gain: ||J v||.
        floor: Length of the rounding noise of one difference of answers, the noise floor.
        step: The step asked for.
        samples: Copies averaged over.
    """
    return float(np.hypot(gain, floor / (step * samples**0.5)))


def distribution(values: Any) -> dict[str, float | int | None]:
    """Count, mean, standard deviation (n - 1), median, smallest, largest, and coefficient of variation."""
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    if not found.size:
        return dict.fromkeys(("mean", "std", "median", "min", "max", "cv")) | {"count": 0}
    mean = float(found.mean())
    std = float(found.std(ddof=1)) if found.size > 1 else None
    return {
        "count": int(found.size),
        "mean": mean,
        "std": std,
        "median": float(np.median(found)),
        "min": float(found.min()),
        "max": float(found.max()),
        "cv": std / mean if std is not None and mean else None,
    }


def plateau(table: pd.DataFrame, *, tolerance: float = 0.1) -> dict[str, Any]:
    """Where a direction's quotients say sigma: the steps at which the realised quotient is within a share of sigma.

    Args:
        table: Rows of one direction at one prompt (quotients.csv).
        tolerance: Share of sigma.

    Returns:
        How many steps agree, the smallest and the largest of them, the smallest step that moves the input at all, and
        at how many steps nothing moves.
    """
    close = table[(table["ratio_realised_to_sigma"] - 1).abs() <= tolerance]["epsilon"]
    moved = table[table["moved_coordinates"] > 0]["epsilon"]
    return {
        "agreeing_steps": len(close),
        "agree_from": float(close.min()) if len(close) else None,
        "agree_to": float(close.max()) if len(close) else None,
        "first_moving_step": float(moved.min()) if len(moved) else None,
        "still_steps": int(len(table) - len(moved)),
    }
