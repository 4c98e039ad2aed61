"""First-order scores and Fisher diagonals from one backward pass per text, shared by all that are asked for.

With g_i the gradient of text i's mean negative log-likelihood (nats a token), and n texts:

    taylor_signed   |mean_i g_i w|      texts may cancel; the originals' gradient times weight
    taylor_abs       mean_i |g_i w|
    grad_squared     mean_i g_i^2       empirical Fisher by sequence
    fisher_token     mean_t g_t^2       empirical Fisher by token, one backward a token
    fisher_true      E sum_t g_t^2 / T  labels sampled from the model

For the true Fisher the labels of a text are drawn independently given its tokens, so the cross terms of the squared
sum vanish in expectation (Bartlett) and one backward per text is an unbiased estimate.

A job that scores some of the tensors only (`Task.mine`) builds the graph of all, and asks for the gradients of its own:
every gradient is then the sum of the same terms in the same order.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tremor.errors import ConfigError
from tremor.models.loader import LoadedModel
from tremor.progress import track
from tremor.weights.scores.base import Scored, Task, differentiable, finite, logits_of, mean_nll, wide

# name -> (what is accumulated, over which gradients)
_MEANS = ("taylor_signed", "taylor_abs", "grad_squared")
SHARED = _MEANS


def shared(task: Task, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Several of `SHARED` from one backward pass per text.

    Args:
        task: The job; needs texts.
        names: Scores, of `SHARED`.

    Yields:
        Tensor name and its scores by the score's name.

    Raises:
        ConfigError: A name is none of `SHARED`.
        NumericsError: A loss is NaN or infinite.
    """
    unknown = [name for name in names if name not in SHARED]
    if unknown:
        raise ConfigError(f"{unknown[0]} does not share a backward pass; choose among {', '.join(SHARED)}")
    sums = _accumulate(task, names)
    count = len(task.sequences)
    for number, (name, parameter) in enumerate(task.parameters()):
        weight = wide(parameter.detach()).abs()
        scores = {}
        for kind in names:
            mean = sums[kind][number].div_(count)
            scores[kind] = mean if kind == "grad_squared" else mean.abs_().mul_(weight)
        yield name, scores


def _accumulate(task: Task, names: Sequence[str]) -> dict[str, list[Tensor]]:
    """Sums over texts of g, |g| or g^2, float32 or wider; one accumulator a tensor and a score."""
    with differentiable(task.selection):
        parameters = [parameter for _, parameter in task.parameters()]
        sums = {name: [torch.zeros_like(wide(p.detach())) for p in parameters] for name in names}
        for ids in track(task.sequences, "texts"):
            loss = finite(mean_nll(task.loaded, ids), "a text")
            gradients = [wide(g) for g in _grad(loss, parameters)]
            if "taylor_signed" in sums:
                torch._foreach_add_(sums["taylor_signed"], gradients)
            if "grad_squared" in sums:
                torch._foreach_addcmul_(sums["grad_squared"], gradients, gradients)
            if "taylor_abs" in sums:
                torch._foreach_abs_(gradients)
                torch._foreach_add_(sums["taylor_abs"], gradients)
    return sums


def _grad(loss: Tensor, parameters: list[torch.nn.Parameter], *, keep: bool = False) -> list[Tensor]:
    """Gradients, zero where a parameter does not reach the loss (an expert that no token chose)."""
    found = torch.autograd.grad(loss, parameters, retain_graph=keep, allow_unused=True, materialize_grads=True)
    return list(found)


def _one(name: str) -> Callable[[Task], Iterator[Scored]]:
    def score(task: Task) -> Iterator[Scored]:
        for tensor, scores in shared(task, (name,)):
            yield tensor, scores[name]

    return score


taylor_signed = _one("taylor_signed")
taylor_abs = _one("taylor_abs")
grad_squared = _one("grad_squared")


def fisher_token(task: Task) -> Iterator[Scored]:
    """Mean over all predicted tokens of the squared gradient of that token's log-likelihood."""

    def losses(ids: Tensor) -> Iterator[Tensor]:
        nll = F.cross_entropy(logits_of(task.loaded, ids), ids[1:], reduction="none")
        yield from nll.unbind()

    yield from _squares(task, losses, tokens_each=1)


def fisher_true(task: Task) -> Iterator[Scored]:
    """Unbiased estimate of the mean over predicted positions of E_y (d log p(y) / dw)^2, y drawn from the model."""
    generator = torch.Generator().manual_seed(task.options.seed)

    def losses(ids: Tensor) -> Iterator[Tensor]:
        logits = logits_of(task.loaded, ids)
        probabilities = logits.detach().double().softmax(-1).cpu()
        for _ in range(task.options.fisher_draws):
            labels = torch.multinomial(probabilities, 1, generator=generator).flatten().to(logits.device)
            yield F.cross_entropy(logits, labels, reduction="sum")

    yield from _squares(task, losses, tokens_each=None, draws=task.options.fisher_draws)


def _squares(
    task: Task, losses: Callable[[Tensor], Iterator[Tensor]], *, tokens_each: int | None, draws: int = 1
) -> Iterator[Scored]:
    """Sum of squared gradients of many losses, over the number of predicted tokens and draws."""
    tokens = sum(len(ids) - 1 for ids in task.sequences) * draws
    with differentiable(task.selection):
        parameters = [parameter for _, parameter in task.parameters()]
        sums = [torch.zeros_like(wide(p.detach())) for p in parameters]
        for ids in track(task.sequences, "texts"):
            for loss in losses(ids):
                gradients = [wide(g) for g in _grad(finite(loss, "a text"), parameters, keep=True)]
                torch._foreach_addcmul_(sums, gradients, gradients)
    for (name, _), total in zip(task.parameters(), sums, strict=True):
        yield name, total.div_(tokens)


def plain_pass(loaded: LoadedModel, sequences: Sequence[Tensor], task: Task) -> None:
    """A forward and a backward of each text and nothing else: what the gradient scores are timed against."""
    with differentiable(task.selection) as chosen:
        for ids in sequences:
            _grad(mean_nll(loaded, ids), [parameter for _, parameter in chosen])
