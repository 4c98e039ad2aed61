"""Which weights pruning removes: the least important of all, of a tensor, of a row, or n of every m.

A row is one output feature, as in Wanda (Sun et al. 2024); n:m patterns (Mishra et al. 2021) run along the inputs of a
row, whichever way round the tensor is stored.
"""

from typing import Literal

import torch
from torch import Tensor

from tremor.errors import ConfigError, NumericsError
from tremor.weights.mutate import Operation, Target, gaussian
from tremor.weights.population import Population, highest, lowest, rounded
from tremor.weights.rank import as_rows

Group = Literal["global", "per_tensor", "per_row"]
Which = Literal["least", "most"]


def unstructured(population: Population, sparsity: float, *, group: Group = "global", which: Which = "least") -> Tensor:
    """A share of the weights of every group, by score.

    Args:
        population: Weights with scores.
        sparsity: Share of each group, in (0, 1]; to the nearest number of weights.
        group: What shares the quota: all weights, those of a tensor, or those of a row (an output feature).
        which: Whether the least or the most important go.

    Returns:
        Bool [count].

    Raises:
        ConfigError: A sparsity out of range.
    """
    if not 0 < sparsity <= 1:
        raise ConfigError(f"sparsity {sparsity} is not in (0, 1]")
    scores = population.scores if which == "least" else -population.scores
    if group == "global":
        return lowest(scores, rounded(sparsity, population.count))
    chosen = torch.zeros(population.count, dtype=torch.bool)
    for name, part in population.parts():
        values = scores[part]
        if group == "per_tensor":
            chosen[part] = lowest(values, rounded(sparsity, len(values)))
            continue
        table, places = _rows(population, name, values)
        order = table.argsort(dim=1, stable=True)[:, : rounded(sparsity, table.shape[1])]
        chosen[part.start + places.gather(1, order).reshape(-1)] = True
    return chosen


def n_of_m(population: Population, n: int, m: int, *, which: Which = "least") -> Tensor:
    """Exactly n of every m consecutive inputs of every row.

    Args:
        population: Weights with scores.
        n: Weights of a group of m that go.
        m: Size of a group.
        which: Whether the least or the most important go.

    Returns:
        Bool [count].

    Raises:
        ConfigError: n is not below m, or the inputs of a tensor do not divide into groups of m.
        NumericsError: A group does not lose n weights (cannot happen; asserted for every group).
    """
    if not 0 < n < m:
        raise ConfigError(f"a pattern {n}:{m} does not exist; n must be positive and below m")
    chosen = torch.zeros(population.count, dtype=torch.bool)
    scores = population.scores if which == "least" else -population.scores
    for name, part in population.parts():
        table, places = _rows(population, name, scores[part])
        if table.shape[1] % m:
            raise ConfigError(
                f"pattern {n}:{m}: the {table.shape[1]} inputs of {name} do not divide into groups of {m}; "
                "leave it out by `components`, or choose another pattern"
            )
        groups = table.reshape(-1, m).argsort(dim=1, stable=True)[:, :n]
        chosen[part.start + places.reshape(-1, m).gather(1, groups).reshape(-1)] = True
        lost = chosen[part][places.reshape(-1, m)].sum(1)
        if not bool((lost == n).all()):
            raise NumericsError(f"pattern {n}:{m} of {name}: a group would lose {int(lost.max())} weights")
    return chosen


def _rows(population: Population, name: str, values: Tensor) -> tuple[Tensor, Tensor]:
    """Values of a tensor as [rows, inputs], and their places among the tensor's selected weights."""
    return as_rows(population.selection.chosen[name], values, torch.arange(len(values)))


def filtered(
    population: Population,
    *,
    which: Which,
    percentile: float,
    threshold: float | None = None,
    most_per_block: int | None = None,
) -> Tensor:
    """Weights by threshold, then the extreme percent of these, then at most so many of a block.

    Args:
        population: Weights with scores.
        which: Whether the most or the least important are meant.
        percentile: Percent of what passes the threshold.
        threshold: As a share of the largest score: `most` takes scores from there on, `least` scores up to it.
        most_per_block: Of each block (and of all that lies outside them), the most extreme so many.

    Returns:
        Bool [count].

    Raises:
        ConfigError: Nothing is left.
    """
    scores = population.scores if which == "most" else -population.scores
    allowed = torch.ones(population.count, dtype=torch.bool)
    if threshold is not None:
        edge = threshold * float(population.scores.max())
        allowed = population.scores >= edge if which == "most" else population.scores <= edge
    inside = allowed.nonzero().flatten()
    chosen = torch.zeros(population.count, dtype=torch.bool)
    chosen[inside[highest(scores[inside], rounded(percentile / 100, len(inside)))]] = True
    if most_per_block is not None:
        blocks = torch.empty(population.count, dtype=torch.int64)
        for name, part in population.parts():
            blocks[part] = population.selection.chosen[name].layout.block
        for block in blocks.unique().tolist():
            mine = (chosen & (blocks == block)).nonzero().flatten()
            chosen[mine] = highest(scores[mine], min(most_per_block, len(mine)))
    if not bool(chosen.any()):
        raise ConfigError(
            f"of {population.count} weights, threshold {threshold} and percentile {percentile} leave none; "
            "lower the threshold or raise the percentile"
        )
    return chosen


def noise_fill(size: float, *, seed: int) -> Operation:
    """Operation: normal noise of `size` standard deviations of the tensor, in place of the weight."""
    add = gaussian(size, relative_to="std", seed=seed)

    def operation(values: Tensor, target: Target) -> Tensor:
        return add(torch.zeros_like(values), target)

    return operation
