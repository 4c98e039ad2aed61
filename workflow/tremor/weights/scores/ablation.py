"""The exact effect of removing single weights, one forward pass over the texts for each: small sets only."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tremor.errors import ConfigError
from tremor.progress import Progress
from tremor.weights.mutate import Edit, mutated, zero
from tremor.weights.scores.base import Scored, Task, corpus_nll


def losses(task: Task, tensors: Sequence[str], flat_indices: Sequence[int]) -> list[float]:
    """Rise of the mean loss when each weight alone is zero, nats a token.

    Args:
        task: The job: texts and model.
        tensors: Parameter of each weight.
        flat_indices: Flat index of each weight.
    """
    clean = corpus_nll(task.loaded, task.sequences)
    found = []
    with Progress(len(tensors), "removed weights") as progress:
        for name, index in zip(tensors, flat_indices, strict=True):
            # A weight that is zero already has no effect, which is an answer and no failure.
            with mutated(task.loaded, [Edit(name, torch.tensor([int(index)]))], zero, allow_unchanged=True):
                found.append(corpus_nll(task.loaded, task.sequences) - clean)
            progress.advance()
    return found


def loss_ablation(task: Task) -> Iterator[Scored]:
    """L(w with w_i = 0) - L(w) of every selected weight; not defined (and 0) elsewhere in a tensor.

    Raises:
        ConfigError: More weights are selected than `options.ablation_limit`.
    """
    count, limit = task.selection.count, task.options.ablation_limit
    if count > limit:
        raise ConfigError(f"loss_ablation removes weights one by one, and {count} are selected; the limit is {limit}")
    for name, parameter in task.parameters():
        mask = task.selection.chosen[name].mask()
        flat = torch.arange(parameter.numel()) if mask is None else mask.reshape(-1).nonzero().flatten()
        scores: Tensor = torch.zeros(parameter.numel(), dtype=torch.float64)
        scores[flat] = torch.tensor(losses(task, [name] * len(flat), flat.tolist()), dtype=torch.float64)
        yield name, scores.view(parameter.shape)
