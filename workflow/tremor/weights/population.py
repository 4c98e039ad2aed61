"""All selected weights of a model with one score each, and exact sets of them: lowest, highest, random.

Where a ranking holds the K best, this holds everything: a share of the weights that may be all of them. It costs one
number for each selected weight in main memory. Equal scores are ordered as in rankings: by tensor, then by flat index.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tremor.errors import ConfigError, NumericsError
from tremor.weights.mutate import Edit
from tremor.weights.rank import pick
from tremor.weights.select import Selection


def rounded(share: float, count: int) -> int:
    """The number of weights that a share of `count` is, to the nearest; a half goes up.

    Python rounds a half to the even neighbour, and 0.7 * 10 is 6.999... in binary arithmetic.
    """
    return min(count, math.floor(share * count + 0.5 + 1e-9))


@dataclass(frozen=True)
class Population:
    """Selected weights and their scores, one after the other in the order of the model's parameters.

    Attributes:
        selection: The weights; each of its tensors has scores.
        scores: Float32 or wider [count], on the CPU, without NaN.
        spans: Tensor name to its first and its last position but one in `scores`.
    """

    selection: Selection
    scores: Tensor
    spans: dict[str, tuple[int, int]]

    @property
    def count(self) -> int:
        """Number of weights."""
        return len(self.scores)

    def flat(self, tensor: str) -> Tensor:
        """Flat indices int64 [m] of a tensor's selected weights, in the order of `scores`."""
        entry = self.selection.chosen[tensor]
        mask = entry.mask()
        return torch.arange(entry.layout.numel) if mask is None else mask.reshape(-1).nonzero().flatten()

    def parts(self) -> Iterator[tuple[str, slice]]:
        """Each tensor and where its weights are."""
        for name, (start, stop) in self.spans.items():
            yield name, slice(start, stop)

    def edits(self, chosen: Tensor) -> list[Edit]:
        """Chosen weights as edits.

        Args:
            chosen: Bool [count].

        Raises:
            ConfigError: None is chosen.
        """
        found = []
        for name, part in self.parts():
            mine = chosen[part]
            if bool(mine.any()):
                found.append(Edit(name, self.flat(name)[mine]))
        if not found:
            raise ConfigError("no weight is chosen; ask for a larger share of them")
        return found


def gather(selection: Selection, stream: Iterable[tuple[str, Tensor]]) -> Population:
    """Take in all scores of a stream.

    Args:
        selection: The weights that count. Tensors that the score is not defined for are left out.
        stream: Tensor name and scores of the parameter's shape.

    Raises:
        NumericsError: A score is NaN, has a wrong shape, or came twice.
        ConfigError: The score is defined for no selected weight.
    """
    found: dict[str, Tensor] = {}
    for name, scores in stream:
        entry = selection.chosen.get(name)
        if entry is None:
            continue
        if name in found or tuple(scores.shape) != entry.layout.shape:
            raise NumericsError(f"the scores of {name} came twice or have shape {tuple(scores.shape)}")
        values, _ = pick(scores.detach(), entry)
        values = values.to(torch.promote_types(values.dtype, torch.float32)).cpu()
        if bool(torch.isnan(values).any()):
            raise NumericsError(f"the scores of {name} hold NaN; look for NaN in the weights or in the loss")
        found[name] = values
    scored = selection.only(found)
    spans, start = {}, 0
    for name in scored.tensors:
        spans[name] = (start, start + len(found[name]))
        start += len(found[name])
    return Population(scored, torch.cat([found[name] for name in scored.tensors]), spans)


def lowest(scores: Tensor, k: int) -> Tensor:
    """Mask of the k smallest values; among equals at the edge, those that come first.

    Args:
        scores: [n].
        k: 0 to n.

    Returns:
        Bool [n], exactly k of them true.
    """
    if k <= 0:
        return torch.zeros(len(scores), dtype=torch.bool)
    if k >= len(scores):
        return torch.ones(len(scores), dtype=torch.bool)
    edge = torch.kthvalue(scores, k).values
    chosen = scores < edge
    equal = (scores == edge).nonzero().flatten()
    chosen[equal[: k - int(chosen.sum())]] = True
    return chosen


def highest(scores: Tensor, k: int) -> Tensor:
    """Mask of the k largest values; see :func:`lowest`."""
    return lowest(-scores, k)


def matched(population: Population, chosen: Tensor, rng: np.random.Generator) -> Tensor:
    """Random weights, as many in each tensor as are chosen there, none of them chosen where enough others are left.

    Args:
        population: The weights.
        chosen: Bool [count].
        rng: Source of randomness.

    Returns:
        Bool [count].
    """
    drawn = torch.zeros_like(chosen)
    for _, part in population.parts():
        mine = chosen[part]
        count = int(mine.sum())
        if not count:
            continue
        free = (~mine).nonzero().flatten()
        free = free if len(free) >= count else torch.arange(len(mine))
        places = torch.from_numpy(rng.choice(len(free), count, replace=False, shuffle=False))
        drawn[part.start + free[places]] = True
    return drawn
