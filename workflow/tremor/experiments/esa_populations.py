"""Scores of all weights for the analyses that change shares of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from tremor.experiments import esa_shared
from tremor.experiments.esa_shared import Bench
from tremor.models.loader import LoadedModel
from tremor.weights.mutate import Operation, gaussian, mean, sign, zero
from tremor.weights.population import Population, gather, matched
from tremor.weights.prune import noise_fill
from tremor.weights.scores import SCORES, Task, encode
from tremor.weights.scores.inputs import comparable
from tremor.weights.select import select


def populations(
    loaded: LoadedModel,
    methods: Sequence[str],
    *,
    calibration: Sequence[str],
    scores: Mapping[str, Any],
    components: Sequence[str] | None,
    layers: Sequence[int] | None,
) -> Iterator[tuple[str, Population]]:
    """The same weights by each score, one score at a time: those that a linear layer multiplies with.

    Args:
        loaded: The model.
        methods: Scores.
        calibration: Texts that scores read.
        scores: Config block `esa.scores`.
        components: Components that are meant; None for all.
        layers: Blocks that are meant; None for all.

    Raises:
        ConfigError: Nothing is selected.
    """
    task = scoring(loaded, calibration=calibration, scores=scores, components=components, layers=layers)
    for method in methods:
        yield method, gather(task.selection, SCORES[method].stream(task))


def scoring(
    loaded: LoadedModel,
    *,
    calibration: Sequence[str],
    scores: Mapping[str, Any],
    components: Sequence[str] | None,
    layers: Sequence[int] | None,
) -> Task:
    """The job of scoring what :func:`populations` gives, whose args these are."""
    options = esa_shared.options(scores)
    wanted = select(loaded.anatomy, layers=layers, components=components)
    task = Task(loaded, encode(loaded, calibration, options), wanted, options)
    return replace(task, selection=comparable(task))


def operation(name: str, noise: float, seed: int) -> Operation:
    """An operation by its name: zero, mean, sign, noise (added), or fill (noise in the place of the weight)."""
    if name == "noise":
        return gaussian(noise, relative_to="std", seed=seed)
    if name == "fill":
        return noise_fill(noise, seed=seed)
    return {"zero": zero, "mean": mean, "sign": sign}[name]


def random_sets(
    bench: Bench, population: Population, chosen: Tensor, change: Operation, number: int, seed: int
) -> list[float]:
    """Delta NLL of random sets matched to a chosen one; infinite where one breaks the model.

    Args:
        bench: The model beside its baseline.
        population: All weights that could have been chosen.
        chosen: Bool [count].
        change: What becomes of them.
        number: Sets.
        seed: Of the draws; set i is the same whatever `number` is.
    """
    found = []
    for draw in range(number):
        random = matched(population, chosen, np.random.default_rng([seed, draw]))
        effect = bench.edited(population.edits(random), change, allow_unchanged=True)
        found.append(np.inf if effect.delta_nll is None else effect.delta_nll)
    return found
