"""What every score is given, and the token sequences it reads."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tremor.errors import NumericsError, PromptError
from tremor.models.loader import LoadedModel
from tremor.weights.quality import Terms
from tremor.weights.select import Selection

_LOG = logging.getLogger(__name__)
Scored = tuple[str, Tensor]
Bos = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class Options:
    """Settings of the scores; each uses the few it names.

    Attributes:
        seed: Of sampled labels, probes and the random order.
        bos: Begin token: "auto" leaves it to the tokenizer, "always" and "never" overrule it.
        max_tokens: A longer text counts with its first so many tokens; None for the model's context.
        fisher_draws: Labels sampled at each position (fisher_true).
        probes: Rademacher vectors for each text (hutchinson, obd); at least 32 for a standard error worth its name.
        dampening: Share of the mean of the Gram matrix' diagonal that is added to it (obs_diag), as in SparseGPT.
        steps: Points of the path integral (weight_ig).
        ablation_limit: Most scalars that loss_ablation removes one by one.
    """

    seed: int = 0
    bos: Bos = "auto"
    max_tokens: int | None = None
    fisher_draws: int = 1
    probes: int = 32
    dampening: float = 0.01
    steps: int = 64
    ablation_limit: int = 4096


@dataclass(frozen=True)
class Task:
    """One scoring job.

    Attributes:
        loaded: The model; its weights are left alone.
        sequences: Token ids, int64 [positions] each, at least two; empty for scores that need no data.
        selection: The scalars to score.
        options: Settings.
        mine: Names of the selected tensors that this job scores; None for all. The rest of the selection takes part in
            all that a score sums or draws over, so that the scores are bit for bit those of a job that scores all.
        terms: Filled by a score, by its name, with what it can say about its own quality.
    """

    loaded: LoadedModel
    sequences: Sequence[Tensor]
    selection: Selection
    options: Options = Options()
    mine: frozenset[str] | None = None
    terms: dict[str, Terms] = field(default_factory=dict)

    @property
    def notes(self) -> dict[str, dict[str, Any]]:
        """What each score says about its own quality over the tensors that were scored, by its name."""
        return {score: terms.notes() for score, terms in self.terms.items()}

    def scores(self, name: str) -> bool:
        """Whether this job scores a selected tensor."""
        return self.mine is None or name in self.mine

    def parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Name and parameter of each tensor that this job scores, in order."""
        return (pair for pair in self.selection.parameters() if self.scores(pair[0]))

    def weights(self, *, every: bool = False) -> Iterator[Scored]:
        """Name and weights of each tensor that this job scores, or of all, at least float32, cut from the graph."""
        for name, parameter in self.selection.parameters() if every else self.parameters():
            yield name, wide(parameter.detach())


def wide(tensor: Tensor) -> Tensor:
    """At least float32: sums of half-precision numbers lose what they sum."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def encode(loaded: LoadedModel, texts: Sequence[str], options: Options = Options()) -> list[Tensor]:
    """Token ids of texts, one sequence each.

    Args:
        loaded: The model with its tokenizer.
        texts: Passages.
        options: `bos` and `max_tokens`.

    Returns:
        int64 [positions] each, on the model's device.

    Raises:
        PromptError: No text, or one with fewer than two tokens: nothing in it is predicted.
    """
    if not texts:
        raise PromptError("there is no text to score on; give at least one passage")
    limit = min(n for n in (options.max_tokens, loaded.anatomy.context, 2**31) if n is not None)
    sequences, cut = [], 0
    for text in texts:
        ids = [int(i) for i in loaded.tokenizer(text, add_special_tokens=options.bos == "auto")["input_ids"]]
        if options.bos == "always":
            if loaded.tokenizer.bos_token_id is None:
                raise PromptError("bos: always, but this tokenizer has no begin-of-text token; use auto or never")
            ids = [int(loaded.tokenizer.bos_token_id), *ids]
        if len(ids) < 2:
            raise PromptError(f"the text {text!r} has fewer than two tokens, so nothing in it is predicted; remove it")
        cut += len(ids) > limit
        sequences.append(torch.tensor(ids[:limit], dtype=torch.int64, device=loaded.device))
    if cut:
        _LOG.info("%d of %d texts were cut to their first %d tokens", cut, len(texts), limit)
    return sequences


def logits_of(loaded: LoadedModel, ids: Tensor) -> Tensor:
    """Logits [positions - 1, vocab] that predict ids[1:], at least float32."""
    logits = loaded.model(input_ids=ids[None], use_cache=False).logits[0, :-1]
    return wide(logits)


def mean_nll(loaded: LoadedModel, ids: Tensor) -> Tensor:
    """Mean negative log-likelihood of ids[1:], nats a predicted token."""
    return F.cross_entropy(logits_of(loaded, ids), ids[1:].to(loaded.device))


def corpus_nll(loaded: LoadedModel, sequences: Iterable[Tensor]) -> float:
    """Mean over sequences of their mean negative log-likelihood: the loss that the gradients are of."""
    with torch.no_grad():
        values = [float(mean_nll(loaded, ids).double()) for ids in sequences]
    return sum(values) / len(values)


@contextmanager
def differentiable(selection: Selection) -> Iterator[list[tuple[str, torch.nn.Parameter]]]:
    """Let the selected parameters, and no others, ask for gradients; in eval mode; both are put back.

    Yields:
        Names and parameters.
    """
    model = selection.anatomy.model
    asked = {parameter: parameter.requires_grad for parameter in model.parameters()}
    modes = {module: module.training for module in model.modules()}
    chosen = list(selection.parameters())
    wanted = {parameter for _, parameter in chosen}
    try:
        model.eval()
        for parameter in asked:
            parameter.requires_grad_(parameter in wanted)
        yield chosen
    finally:
        for parameter, flag in asked.items():
            parameter.requires_grad_(flag)
        for module, mode in modes.items():
            module.training = mode


def finite(loss: Tensor, what: str) -> Tensor:
    """The loss itself.

    Raises:
        NumericsError: It is NaN or infinite.
    """
    if not bool(torch.isfinite(loss)):
        raise NumericsError(
            f"the loss of {what} is {float(loss.detach())}; look for NaN in the weights, or use a wider dtype"
        )
    return loss


def summary_of(values: Mapping[str, Tensor]) -> float:
    """Sum over all tensors, in float64."""
    return sum(float(value.double().sum()) for value in values.values())
