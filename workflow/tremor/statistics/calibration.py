"""Whether a model's confidence can be believed: reliability diagram, calibration error, Brier score. No torch.

A prediction's confidence is the probability of the token it puts first; it is calibrated if tokens put first with
probability c come true in a share c of the cases (Guo et al. 2017). The error of the bins is a biased estimate: with n
predictions in b bins a perfectly calibrated model has about sqrt(b / n) x 0.8 x std of it, so n stands beside it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Binning = Literal["width", "mass"]


@dataclass(frozen=True)
class Calibration:
    """Calibration of a set of predictions.

    Attributes:
        bins: One row for each bin: `low`, `high` (confidence), `count`, `confidence` (mean), `accuracy`; NaN if empty.
        ece: Expected calibration error: sum over bins of count / n * |accuracy - confidence|.
        mce: Largest |accuracy - confidence| of a bin.
        confidence: Mean confidence.
        accuracy: Share of correct predictions.
    """

    bins: pd.DataFrame
    ece: float
    mce: float
    confidence: float
    accuracy: float


def calibration(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, *, bins: int = 15, binning: Binning = "width"
) -> Calibration:
    """Compare confidence with accuracy.

    Args:
        confidence: float [n], in [0, 1].
        correct: bool [n].
        bins: Number of bins.
        binning: "width": bins of equal width, (low, high], the first with 0; "mass": bins of equal count.

    Raises:
        ValueError: No prediction, other shapes, or a confidence outside [0, 1].
    """
    sure = np.asarray(confidence, dtype=np.float64)
    right = np.asarray(correct, dtype=bool)
    if sure.ndim != 1 or sure.shape != right.shape or not len(sure):
        raise ValueError(f"cannot calibrate predictions of shapes {sure.shape} and {right.shape}")
    # A softmax in floating point may sum to a little more than 1.
    if not ((sure >= 0) & (sure <= 1 + 1e-9)).all():
        raise ValueError("a confidence is NaN or lies outside [0, 1]")
    edges = _edges(sure, bins, binning)
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    if binning == "mass":  # ties of equal confidence may not be told apart by an edge, but by their order they are
        place = np.empty(len(sure), dtype=np.int64)
        place[np.argsort(sure, kind="stable")] = np.arange(len(sure)) * bins // len(sure)
    count = np.bincount(place, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    mean = np.bincount(place, weights=sure, minlength=bins) / filled
    share = np.bincount(place, weights=right, minlength=bins) / filled
    gap = np.abs(share - mean)
    table = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": count, "confidence": mean, "accuracy": share})
    ece = float(np.nansum(gap * count) / len(sure))
    return Calibration(table, ece, float(np.nanmax(gap)), float(sure.mean()), float(right.mean()))


def _edges(sure: npt.NDArray[np.float64], bins: int, binning: Binning) -> npt.NDArray[np.float64]:
    if binning == "width":
        return np.linspace(0.0, 1.0, bins + 1)
    ordered = np.sort(sure)
    cuts = [ordered[min(i * len(sure) // bins, len(sure) - 1)] for i in range(bins)]
    return np.array([*cuts, ordered[-1]])
