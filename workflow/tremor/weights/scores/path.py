"""Integrated gradients over weights: the path integral from all selected weights zero to where they are.

    a_i = w_i * integral_0^1 dL/dw_i (alpha w) d alpha        so that        sum_i a_i = L(w) - L(0)

(Sundararajan, Taly and Yan 2017; here the input of the function is the weights, and the baseline is zero). The model's
own weights are never touched: the scaled ones are given to a functional call. The integral is by Gauss and Legendre's
rule in u with alpha = u^2, for models with norms move fastest where their weights are smallest; by how much the sum
misses L(w) - L(0) is reported.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from tremor.progress import Progress
from tremor.weights.quality import Terms
from tremor.weights.scores.base import Scored, Task, differentiable, finite, wide

POWER = 2  # alpha = u ** POWER


def nodes(steps: int) -> list[tuple[float, float]]:
    """Points alpha in (0, 1) and weights of the rule, which add up to 1 for smooth integrands."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    u = (points + 1) / 2
    return [(float(a), float(b)) for a, b in zip(u**POWER, weights / 2 * POWER * u ** (POWER - 1), strict=True)]


def _loss(task: Task, weights: dict[str, Tensor], ids: Tensor) -> Tensor:
    given = {"input_ids": ids[None], "use_cache": False}
    logits = functional_call(task.loaded.model, weights, (), given).logits[0, :-1]
    return finite(F.cross_entropy(wide(logits), ids[1:]), "a text on the path from zero weights")


def _scaled(task: Task, name: str, value: Tensor, alpha: float) -> Tensor:
    """A parameter whose selected scalars are scaled; the others stay."""
    mask = task.selection.chosen[name].mask(value.device)
    return value * alpha if mask is None else torch.where(mask, value * alpha, value)


def attributions(task: Task) -> Iterator[Scored]:
    """Signed attributions a_i, nats; `notes["weight_ig"]` has the completeness.

    Args:
        task: The job; `options.steps` points of the rule.

    Yields:
        Tensor name and attributions, of the parameter's shape.

    Raises:
        NumericsError: A loss on the path is NaN or infinite.
    """
    texts = len(task.sequences)
    ends = {0.0: 0.0, 1.0: 0.0}
    with differentiable(task.selection) as chosen, Progress(task.options.steps, "points of the path") as progress:
        values = {name: parameter.detach() for name, parameter in chosen}
        own = [name for name in values if task.scores(name)]
        sums = [torch.zeros_like(wide(values[name])) for name in own]
        for alpha, share in nodes(task.options.steps):
            scaled = {name: _scaled(task, name, value, alpha).requires_grad_() for name, value in values.items()}
            for ids in task.sequences:
                found = torch.autograd.grad(
                    _loss(task, scaled, ids), [scaled[name] for name in own], allow_unused=True, materialize_grads=True
                )
                torch._foreach_add_(sums, [wide(g) for g in found], alpha=share / texts)
            progress.advance()
        with torch.no_grad():
            for alpha in ends:
                scaled = {name: _scaled(task, name, value, alpha) for name, value in values.items()}
                ends[alpha] = sum(float(_loss(task, scaled, ids)) for ids in task.sequences) / texts
    parts: list[float] = []
    for name, gradient in zip(own, sums, strict=True):
        attribution = gradient.mul_(wide(values[name]))
        mask = task.selection.chosen[name].mask(attribution.device)
        parts.append(float(attribution.double().sum() if mask is None else attribution[mask].double().sum()))
        yield name, attribution
    common = {"steps": task.options.steps, "loss": ends[1.0], "loss_at_zero": ends[0.0]}
    task.terms["weight_ig"] = Terms({"attribution": parts}, common)


def weight_ig(task: Task) -> Iterator[Scored]:
    """|a_i|."""
    for name, value in attributions(task):
        yield name, value.abs()
