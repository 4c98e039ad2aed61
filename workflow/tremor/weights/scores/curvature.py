"""Diagonal of the Hessian of the mean loss by Hutchinson's estimator, and OBD's saliency from it.

For Rademacher z, E[z * (H z)] is the diagonal of H (Hutchinson 1990; Bekas, Kokiopoulou and Saad 2007), with variance
sum_{j != i} H_ij^2 for entry i. The loss is the mean over texts of their mean negative log-likelihood; each text has
probes of its own, drawn for all selected tensors together, and the gradient's graph is kept for all of a text's
probes. Optimal brain damage (LeCun, Denker and Solla 1990) predicts the loss to rise by h_ii w_i^2 / 2.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tremor.errors import ConfigError
from tremor.progress import Progress
from tremor.weights.quality import Terms
from tremor.weights.scores.base import Scored, Task, differentiable, finite, mean_nll, wide

SHARED = ("hutchinson", "obd")


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Fused attention kernels have no second derivative: take the one made of plain operations."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def diagonal(task: Task) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Estimate the diagonal of the Hessian.

    Args:
        task: The job; `options.probes` Rademacher vectors a text, at least two, and `options.seed`.

    Yields:
        Tensor name, estimates and their standard errors, of the parameter's shape, nats per squared weight.

    Raises:
        ConfigError: Fewer than two probes: they have no standard error.
        NumericsError: A loss is NaN or infinite.
    """
    probes = task.options.probes
    if probes < 2:
        raise ConfigError(f"{probes} probe(s) have no standard error; use at least 2, better 32")
    generator = torch.Generator().manual_seed(task.options.seed)
    texts = len(task.sequences)
    with differentiable(task.selection) as chosen, Progress(texts * probes, "Hessian products") as progress:
        parameters = [parameter for _, parameter in chosen]
        estimate = [torch.zeros_like(wide(p.detach())) for _, p in task.parameters()]
        variance = [torch.zeros_like(e) for e in estimate]
        for ids in task.sequences:
            mean = [torch.zeros_like(e) for e in estimate]
            squares = [torch.zeros_like(e) for e in estimate]
            for number, sample in enumerate(_samples(task, ids, parameters, generator), start=1):
                # Welford's update: a difference of large sums would lose the variance.
                away = torch._foreach_sub(sample, mean)
                torch._foreach_add_(mean, away, alpha=1 / number)
                torch._foreach_addcmul_(squares, away, torch._foreach_sub(sample, mean))
                progress.advance()
            torch._foreach_add_(estimate, mean, alpha=1 / texts)
            torch._foreach_add_(variance, squares, alpha=1 / ((probes - 1) * probes * texts**2))
    for (name, _), value, spread in zip(task.parameters(), estimate, variance, strict=True):
        yield name, value, spread.sqrt_()


def _samples(
    task: Task, ids: Tensor, parameters: list[torch.nn.Parameter], generator: torch.Generator
) -> Iterator[list[Tensor]]:
    """Products z * (H z) of the tensors that the job scores, for each probe of one text; z is drawn for all tensors."""
    with twice_differentiable():
        loss = finite(mean_nll(task.loaded, ids), "a text")
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True, materialize_grads=True)
    # A gradient without a graph (an unused expert's, or of a purely linear path) has no derivative: H z is 0 there.
    live = [i for i, gradient in enumerate(gradients) if gradient.requires_grad]
    own = [i for i, name in enumerate(task.selection.tensors) if task.scores(name)]
    for _ in range(task.options.probes):
        signs = [_signs(task, name, parameter, generator) for name, parameter in task.selection.parameters()]
        with twice_differentiable():
            products = torch.autograd.grad(
                [gradients[i] for i in live],
                [parameters[i] for i in own],
                [signs[i] for i in live],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        yield [wide(signs[i] * product) for i, product in zip(own, products, strict=True)]


def _signs(task: Task, name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Rademacher signs, 0 outside the selection; drawn on the CPU so that every device sees the same ones."""
    signs = torch.randint(0, 2, parameter.shape, generator=generator, dtype=torch.int8).mul_(2).sub_(1)
    mask = task.selection.chosen[name].mask()
    return (signs if mask is None else signs * mask).to(parameter.device, parameter.dtype)


def shared(task: Task, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """|h_ii| ("hutchinson") and h_ii w_i^2 / 2 ("obd", signed: a negative value predicts that the loss falls).

    The notes tell how large the standard errors are beside the estimates, both as root mean squares: near 1, most of
    the estimate is noise, and more probes or a smaller selection are needed.
    """
    terms: dict[str, list[float]] = {"signal": [], "noise": []}
    for name, value, error in diagonal(task):
        terms["signal"].append(float(value.double().square().sum()))
        terms["noise"].append(float(error.double().square().sum()))
        weight = wide(task.selection.anatomy.parameter(name).detach())
        scores = {"hutchinson": value.abs(), "obd": value * weight.square() / 2}
        yield name, {kind: scores[kind] for kind in names}
    for kind in names:
        task.terms[kind] = Terms(terms, {"probes": task.options.probes})


def hutchinson(task: Task) -> Iterator[Scored]:
    """|h_ii|, see :func:`shared`."""
    for name, scores in shared(task, ("hutchinson",)):
        yield name, scores["hutchinson"]


def obd(task: Task) -> Iterator[Scored]:
    """h_ii w_i^2 / 2, see :func:`shared`."""
    for name, scores in shared(task, ("obd",)):
        yield name, scores["obd"]
