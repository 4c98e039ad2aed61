"""Scores that need no data: size of a weight, its z-score, and a random order as a baseline."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tremor.weights.scores.base import Scored, Task
from tremor.weights.select import Selection

# The median absolute deviation of a normal sample is this much smaller than its standard deviation.
MAD_TO_STD = 1.482602218505602


def magnitude(task: Task) -> Iterator[Scored]:
    """|w|."""
    for name, weight in task.weights():
        yield name, weight.abs()


def z_score(task: Task) -> Iterator[Scored]:
    """|w - mean| / std over the selected scalars of the tensor (population standard deviation)."""
    for name, weight in task.weights():
        inside = _inside(task.selection, name, weight)
        mean, std = inside.double().mean(), inside.double().std(correction=0)
        yield name, _distance(weight, float(mean), float(std))


def z_score_global(task: Task) -> Iterator[Scored]:
    """|w - mean| / std over all selected scalars: one pass for the mean, one for the deviation, one for the scores."""
    count = task.selection.count
    total = sum(float(_inside(task.selection, n, w).double().sum()) for n, w in task.weights(every=True))
    mean = total / count
    spread = (_inside(task.selection, n, w).double() - mean for n, w in task.weights(every=True))
    squares = sum(float(away.square().sum()) for away in spread)
    for name, weight in task.weights():
        yield name, _distance(weight, mean, (squares / count) ** 0.5)


def z_score_robust(task: Task) -> Iterator[Scored]:
    """|w - median| / (1.4826 MAD) over the selected scalars of the tensor."""
    for name, weight in task.weights():
        inside = _inside(task.selection, name, weight)
        middle = inside.quantile(0.5) if inside.numel() < 2**24 else inside.median()  # quantile refuses more
        spread = (inside - middle).abs()
        mad = spread.quantile(0.5) if inside.numel() < 2**24 else spread.median()
        yield name, _distance(weight, float(middle), float(mad) * MAD_TO_STD)


def random_order(task: Task) -> Iterator[Scored]:
    """Uniform numbers: the ranking that any score has to beat."""
    numbers = {name: number for number, name in enumerate(task.selection.tensors)}
    for name, weight in task.weights():
        number = numbers[name]
        generator = torch.Generator().manual_seed(task.options.seed * 1_000_003 + number)
        yield name, torch.rand(weight.shape, generator=generator)


def _inside(selection: Selection, name: str, weight: Tensor) -> Tensor:
    mask = selection.chosen[name].mask(weight.device)
    return weight.reshape(-1) if mask is None else weight[mask]


def _distance(weight: Tensor, centre: float, spread: float) -> Tensor:
    """Distance from the centre in units of the spread; 0 everywhere where nothing deviates."""
    if spread == 0:
        return torch.zeros_like(weight)
    return (weight - centre).abs() / spread
