"""Predictions of two runs at one step, compared by token id and never by rank.

A recording holds the ten best tokens of a step. Of the tokens that both runs hold, logits and probabilities are
compared id by id; by rank a swap of the two leaders would hardly show (a defect of the original study).
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor import floats
from tremor.compare.recording import Top

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]
Count = npt.NDArray[np.int64]

OVERLAP = 5  # the original study looked at the five best
_REST = 1e-12  # a smaller rest of a distribution is rounding of the softmax


@dataclass(frozen=True)
class TopDifferences:
    """Predictions at n steps, compared; each [n]. Differences are of run b from run a."""

    top_common: Count  # ids among the best of both
    top_same_rank: Count  # ranks that hold the same id in both
    top5_common: Count  # ids among the five best of both, in any order
    logit_max_abs: Float  # over common ids; NaN where there are none, as in the following
    logit_l1: Float
    logit_l2: Float
    logit_pearson: Float  # NaN with fewer than three common ids, or where all logits are equal
    probability_max_abs: Float
    probability_l1: Float
    probability_l2: Float
    probability_pearson: Float
    kl_at_least: Float  # nats; see :func:`kl_at_least`

    def columns(self) -> dict[str, Array]:
        """The numbers by name, for a table."""
        return {name: getattr(self, name) for name in METRICS}


METRICS = tuple(field.name for field in fields(TopDifferences))


def compare_tops(
    ids_a: Array, logits_a: Array, probabilities_a: Array, ids_b: Array, logits_b: Array, probabilities_b: Array
) -> TopDifferences:
    """Compare the best tokens of two runs, step by step.

    Args:
        ids_a: [n, k] distinct ids of each step, best first.
        logits_a: [n, k].
        probabilities_a: [n, k] of the whole vocabulary's distribution.
        ids_b: [n, k].
        logits_b: [n, k].
        probabilities_b: [n, k].

    Raises:
        ValueError: other shapes, or an id twice in one step.
    """
    if len({array.shape for array in (ids_a, logits_a, probabilities_a, ids_b, logits_b, probabilities_b)}) != 1:
        raise ValueError("ids, logits and probabilities of both runs have one shape")
    same = ids_a[:, :, None] == ids_b[:, None, :]  # [n, rank in a, rank in b]
    if (same.sum(axis=1) > 1).any() or (same.sum(axis=2) > 1).any():
        raise ValueError("an id stands twice among the best of one step")
    common = same.any(axis=2)  # [n, k] by rank in a
    partner = same.argmax(axis=2)
    best = min(OVERLAP, ids_a.shape[1])
    logits = _pairs(logits_a, logits_b, partner, common)
    probabilities = _pairs(probabilities_a, probabilities_b, partner, common)
    return TopDifferences(
        top_common=common.sum(axis=1),
        top_same_rank=(ids_a == ids_b).sum(axis=1),
        top5_common=same[:, :best, :best].sum(axis=(1, 2)),
        kl_at_least=kl_at_least(*probabilities),
        **{f"logit_{name}": value for name, value in _distances(*logits).items()},
        **{f"probability_{name}": value for name, value in _distances(*probabilities).items()},
    )


def _pairs(a: Array, b: Array, partner: Array, common: Array) -> tuple[Float, Float]:
    """Values of the same id side by side, [n, k] each; NaN where an id is among the best of one run only."""
    first = np.where(common, a.astype(np.float64), np.nan)
    second = np.where(common, np.take_along_axis(b.astype(np.float64), partner, axis=1), np.nan)
    return first, second


def _distances(first: Float, second: Float) -> dict[str, Float]:
    size = np.abs(second - first)
    none = np.isnan(size).all(axis=1)
    size = np.where(np.isnan(size), 0.0, size)
    found = {"max_abs": size.max(axis=1), "l1": size.sum(axis=1), "l2": np.sqrt((size * size).sum(axis=1))}
    return {
        **{name: np.where(none, np.nan, value) for name, value in found.items()},
        "pearson": _pearson(first, second),
    }


def _pearson(first: Float, second: Float) -> Float:
    there = ~np.isnan(first)
    count = there.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviations = [
            np.where(there, v - np.nansum(v, axis=1, keepdims=True) / count[:, None], 0.0) for v in (first, second)
        ]
        x, y = deviations
        size = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
        return np.where((count >= 3) & (size > 0), np.clip((x * y).sum(axis=1) / size, -1.0, 1.0), np.nan)


def kl_at_least(first: Float, second: Float) -> Float:
    """A lower bound of KL(a || b) of two distributions of which some probabilities are known, nats.

    Everything else becomes one event in both. Joining events never raises the divergence (the log sum inequality), so
    the whole distributions differ by at least this much.

    Args:
        first: [n, k] probabilities of a; NaN where one is not known in both.
        second: [n, k] of b.

    Returns:
        [n]; NaN where nothing is known in both, infinite where b rules out what a does not.
    """
    there = ~np.isnan(first)
    p, q = (np.where(there, v, 0.0) for v in (first, second))
    rest = [np.maximum(0.0, 1.0 - v.sum(axis=1)) for v in (p, q)]
    # A rest as small as the rounding of a softmax would decide the sign of its term: join it to the last known event.
    small = (rest[0] < _REST) | (rest[1] < _REST)
    last = np.where(there.any(axis=1), there.shape[1] - 1 - there[:, ::-1].argmax(axis=1), 0)
    rows = np.arange(len(p))
    for values, left in zip((p, q), rest, strict=True):
        values[rows, last] += np.where(small, left, 0.0)
    p, q = (np.column_stack([v, np.where(small, 0.0, left)]) for v, left in zip((p, q), rest, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0)
    return np.where(there.any(axis=1), np.maximum(0.0, terms.sum(axis=1)), np.nan)


@dataclass(frozen=True)
class Decision:
    """How clear one run's choice of a token was."""

    token: int
    logit: float
    runner_up: int
    margin: float  # logit of the token minus that of the runner-up
    margin_ulps: float  # the same in spacings of the model's type at the logit
    ties: int  # tokens with the largest logit, bit for bit; 1: none other
    tied: bool  # the order of sorting decided


def decision(top: Top, dtype: str) -> Decision:
    """How clear a choice was.

    Args:
        top: What was predicted.
        dtype: Type the model ran in, whose spacing the margin is counted in.
    """
    spacing = float(floats.ulp(top.logits[0], dtype))
    return Decision(
        token=int(top.ids[0]),
        logit=float(top.logits[0]),
        runner_up=int(top.ids[1]),
        margin=top.margin,
        margin_ulps=top.margin / spacing,
        ties=top.ties,
        tied=top.tied,
    )
