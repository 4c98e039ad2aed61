"""Angles between final states and unembedding vectors, by the rank of the token; the matrix is read block by block.

The states are those the unembedding reads: normalised once. Rank r is the place of a token among the logits. The ten
best come from the recording; deeper ranks are computed again from the same states, which must give back the stored
logits up to rounding, or the states are not what the unembedding read.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tremor.compare.bits import Value, values
from tremor.errors import ArtifactError, ConfigError, NumericsError
from tremor.store.hdf5_reader import Hdf5Reader

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]

# A logit is a sum of width products. Its rounding error behaves as a random walk: about u |w| |h| for the unit roundoff
# u of the format, whatever the width. Sixteen of them leave room for any order of summation; a state that was
# normalised twice, or of another row, is off by a large part of |w| |h|.
TOLERANCE = 16.0


class Unembedding:
    """The unembedding matrix on disk, read in blocks of its rows.

    Args:
        path: Artifact with ``weight`` [vocab, width], optional ``bias`` [vocab], and attributes ``softcap`` and
            ``scale`` (none, or a number).
        block: Rows in memory at a time.
    """

    def __init__(self, path: Path | str, *, block: int = 8192) -> None:
        self.path, self.block = Path(path), block
        self._reader = Hdf5Reader(self.path)

    def __enter__(self) -> Self:
        self._reader.__enter__()
        self.vocabulary, self.width = self._reader.shape("weight")
        self.attributes = self._reader.attributes
        self.softcap = float(self.attributes.get("softcap") or 0.0)
        self.scale = float(self.attributes.get("scale") or 1.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.__exit__(kind, value, trace)

    def blocks(self) -> Iterator[tuple[int, Float, Float]]:
        """First row, rows [k, width] and biases [k] of each block, float64."""
        biased = "bias" in self._reader.names
        for start in range(0, self.vocabulary, self.block):
            rows = values(self._reader.read("weight", start, start + self.block)).astype(np.float64)
            bias = np.zeros(len(rows))
            if biased:
                bias = values(self._reader.read("bias", start, start + self.block)).astype(np.float64)
            yield start, rows, bias

    def finish(self, raw: Float) -> Float:
        """Logits as the model returns them: scaled and capped, not rounded."""
        scaled = raw * self.scale
        return self.softcap * np.tanh(scaled / self.softcap) if self.softcap else scaled


@dataclass(frozen=True)
class Ranked:
    """The tokens of each row that hold some ranks, and how their unembedding vectors stand to the state."""

    ranks: tuple[int, ...]
    ids: npt.NDArray[np.int64]  # [n, ranks]
    dot: Float  # [n, ranks] state . vector, without bias
    vector_norm: Float  # [n, ranks]
    state_norm: Float  # [n]
    recomputed: npt.NDArray[np.bool_]  # [ranks] not from the recording
    logit_error: Float  # [n] largest distance of a stored logit from the recomputed one, over its rounding
    same_first: npt.NDArray[np.bool_]  # [n] the stored first token is the recomputed one

    @property
    def cosine(self) -> Float:
        """[n, ranks], NaN where a vector is zero."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.clip(self.dot / (self.vector_norm * self.state_norm[:, None]), -1.0, 1.0)

    @property
    def degrees(self) -> Float:
        """[n, ranks] angles."""
        return np.degrees(np.arccos(self.cosine))


def rank_angles(
    states: Value, top_ids: Array, top_logits: Array, unembedding: Unembedding, ranks: Sequence[int], unit: float
) -> Ranked:
    """Find the tokens at the given ranks and their angles.

    Args:
        states: [n, width] final states.
        top_ids: [n, k] the recorded best tokens.
        top_logits: [n, k] their logits as the model returned them.
        unembedding: The open matrix.
        ranks: From 1.
        unit: Unit roundoff of the platform's matrix products, which says how its logits are rounded.

    Raises:
        ConfigError: a rank beyond the vocabulary.
        ArtifactError: the matrix has another width than the states.
        NumericsError: the stored logits are not those of these states.
    """
    if max(ranks) > unembedding.vocabulary:
        raise ConfigError(
            f"exp4.ranks asks for rank {max(ranks)}, but the vocabulary has {unembedding.vocabulary} tokens; lower it"
        )
    h = values(states).astype(np.float64)
    if h.shape[1] != unembedding.width:
        raise ArtifactError(f"{unembedding.path} has vectors of {unembedding.width}, the states have {h.shape[1]}")
    deepest = max(max(ranks), top_ids.shape[1])
    found = _scan(h, top_ids, unembedding, min(deepest, unembedding.vocabulary))
    lengths = np.linalg.norm(h, axis=1)
    error = _logit_error(found, top_logits, unembedding, lengths, unit)
    if not (error <= TOLERANCE).all():
        row = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
        raise NumericsError(
            f"the logits stored for row {row} are not those of its final state (off by {error[row]:.3g} roundings): "
            "the states are not what the unembedding reads"
        )
    deep = np.array([rank > top_ids.shape[1] for rank in ranks])
    places = np.array(ranks) - 1
    near = np.minimum(places, top_ids.shape[1] - 1)

    def pick(stored: Array, recomputed: Array) -> Array:
        return np.where(deep, recomputed[:, places], stored[:, near])

    return Ranked(
        ranks=tuple(ranks),
        ids=pick(top_ids, found.ids),
        dot=pick(found.stored_dot, found.dot),
        vector_norm=pick(found.stored_norm, found.norm),
        state_norm=lengths,
        recomputed=deep,
        logit_error=error,
        same_first=top_ids[:, 0] == found.ids[:, 0],
    )


@dataclass
class _Scan:
    """What one pass over the matrix finds: the best k of each row, and the recorded tokens' numbers."""

    raw: Float  # [n, k] logits before scale and cap, best first
    ids: npt.NDArray[np.int64]
    dot: Float
    norm: Float
    stored_raw: Float  # [n, top] of the recorded tokens
    stored_dot: Float
    stored_norm: Float


def _scan(h: Float, top_ids: Array, unembedding: Unembedding, k: int) -> _Scan:
    n = len(h)
    best = [np.full((n, 0), -np.inf) for _ in range(4)]  # raw, ids, dot, norm
    stored = [np.full(top_ids.shape, np.nan) for _ in range(3)]  # raw, dot, norm
    for start, rows, bias in unembedding.blocks():
        dot = h @ rows.T
        norm = np.linalg.norm(rows, axis=1)
        raw = dot + bias
        inside = (top_ids >= start) & (top_ids < start + len(rows))
        row, column = np.nonzero(inside)
        local = top_ids[row, column] - start
        for target, source in zip(stored, (raw[row, local], dot[row, local], norm[local]), strict=True):
            target[row, column] = source
        ids = np.broadcast_to(start + np.arange(len(rows)), raw.shape)
        candidates = (raw, ids, dot, np.broadcast_to(norm, raw.shape))
        best = _best(best, candidates, k, math.copysign(1.0, unembedding.scale))
    if np.isnan(stored[0]).any():
        raise ArtifactError(f"a recorded token is none of the {unembedding.vocabulary} of {unembedding.path}")
    return _Scan(best[0], best[1].astype(np.int64), best[2], best[3], *stored)


def _best(held: Sequence[Array], new: Sequence[Array], k: int, sign: float) -> list[Array]:
    """The k best of what is held and what is new; of equal logits the smaller id comes first."""
    merged = [np.concatenate([a, b], axis=1) for a, b in zip(held, new, strict=True)]
    cost = -sign * merged[0]
    if cost.shape[1] > k:
        limit = np.partition(cost, k - 1, axis=1)[:, k - 1 : k]
        keep = int((cost <= limit).sum(axis=1).max())  # whatever equals the k-th stays in until ids decide
        order = np.argpartition(cost, keep - 1, axis=1)[:, :keep]
        merged, cost = [np.take_along_axis(v, order, axis=1) for v in merged], np.take_along_axis(cost, order, axis=1)
    order = np.lexsort((merged[1], cost), axis=1)[:, :k]
    return [np.take_along_axis(v, order, axis=1) for v in merged]


def _logit_error(found: _Scan, top_logits: Array, unembedding: Unembedding, lengths: Float, unit: float) -> Float:
    """[n] distance of the stored logits from the recomputed ones, in units of what rounding explains."""
    again = unembedding.finish(found.stored_raw)
    size = abs(unembedding.scale) * found.stored_norm * lengths[:, None] + np.abs(again)
    distance = np.abs(top_logits.astype(np.float64) - again)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(distance == 0, 0.0, distance / (unit * size))
    return np.asarray(relative.max(axis=1))
