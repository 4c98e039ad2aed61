"""A model that is attacked through its input, and small changes of embeddings that are chosen to hurt.

The loss is the one that is meant: the mean negative log-likelihood of a fixed reference (the answer, or the model's own
continuation) after the prompt. The ancestors maximised the mean logit, which no probability depends on.

Sources of the methods: FGSM (Goodfellow et al. 2015), PGD (Madry et al. 2018).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tremor.errors import NumericsError, PromptError
from tremor.models.loader import LoadedModel
from tremor.weights.mutate import INTEGER

Ids = npt.NDArray[np.int64]
ROWS = 32  # inputs in one forward pass


@dataclass(frozen=True, eq=False)
class Question:
    """A prompt with the reference that its loss is about.

    Attributes:
        text: The prompt.
        ids: int64 [positions].
        reference: int64 [tokens], what should follow.
        free: Positions whose tokens may be changed.
        editable: Offsets of characters that may be edited.
    """

    text: str
    ids: Ids
    reference: Ids
    free: tuple[int, ...]
    editable: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Reading:
    """What a model makes of some inputs of one question.

    Attributes:
        nll: float64 [rows], mean NLL of the reference, nats per token; NaN where a logit is.
        answers: int64 [rows, tokens], greedy answers.
    """

    nll: npt.NDArray[np.float64]
    answers: Ids


class Victim:
    """A model that is asked questions, and its gradient.

    Args:
        loaded: The model; left as it is.
        answer_tokens: Tokens of a greedy answer.
    """

    def __init__(self, loaded: LoadedModel, *, answer_tokens: int) -> None:
        self.loaded, self.answer_tokens = loaded, answer_tokens

    def question(self, text: str, answer: str | None, *, protected: tuple[int, int] | None = None) -> Question:
        """Tokenise a prompt.

        Args:
            text: The prompt, without the space before the answer.
            answer: The reference, with its leading space; None for the model's own greedy continuation.
            protected: Characters [start, end) that token and character attacks leave alone.

        Raises:
            PromptError: A prompt or a reference without tokens.
        """
        tokenizer = self.loaded.tokenizer
        found = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
        ids = np.asarray(found["input_ids"], dtype=np.int64)
        if not len(ids):
            raise PromptError(f"the prompt {text!r} has no tokens under this tokenizer; use another text")
        start, end = protected or (0, 0)
        spans = list(zip(found["offset_mapping"], found["special_tokens_mask"], strict=True))
        free = [i for i, ((a, b), special) in enumerate(spans) if not special and not (a < end and b > start)]
        if answer is None:
            reference = self.greedy(self.embed(ids)[None])[0]
        else:
            reference = np.asarray(tokenizer(answer, add_special_tokens=False)["input_ids"], dtype=np.int64)
        if not len(reference):
            raise PromptError(f"the answer {answer!r} has no tokens under this tokenizer; use another fact")
        editable = tuple(i for i in range(len(text)) if not start <= i < end)
        return Question(text, ids, reference, tuple(free), editable)

    def encode(self, text: str) -> Ids:
        """Token ids of an edited prompt, as the tokenizer cuts it now."""
        return np.asarray(self.loaded.tokenizer(text, verbose=False)["input_ids"], dtype=np.int64)

    @torch.no_grad()
    def embed(self, ids: Ids) -> Tensor:
        """Input embeddings [positions, d_input] of token ids."""
        return self.loaded.anatomy.embed(torch.from_numpy(ids)[None].to(self.loaded.device))[0].detach()

    def losses(self, embeddings: Tensor, reference: Ids) -> Tensor:
        """Mean NLL of the reference after each prompt, float64 [rows], with a graph.

        Args:
            embeddings: [rows, positions, d_input].
            reference: int64 [tokens].
        """
        count = len(reference)
        after = self.embed(reference[:-1]) if count > 1 else embeddings.new_zeros((0, embeddings.shape[-1]))
        whole = torch.cat([embeddings, after.expand(len(embeddings), *after.shape)], dim=1)
        logits = self.loaded.model(inputs_embeds=whole, use_cache=False).logits[:, -count:]
        targets = torch.from_numpy(reference).to(logits.device).expand(len(embeddings), count)
        each = F.cross_entropy(logits.double().transpose(1, 2), targets, reduction="none")
        return each.mean(-1)

    @torch.no_grad()
    def greedy(self, embeddings: Tensor) -> Ids:
        """Greedy continuation int64 [rows, answer_tokens] of inputs [rows, positions, d_input], without a cache."""
        ids = np.zeros((len(embeddings), self.answer_tokens), dtype=np.int64)
        for step in range(self.answer_tokens):
            chosen = self.loaded.model(inputs_embeds=embeddings, use_cache=False).logits[:, -1].argmax(-1)
            ids[:, step] = chosen.cpu().numpy()
            embeddings = torch.cat([embeddings, self.loaded.anatomy.embed(chosen[:, None])], dim=1)
        return ids

    @torch.no_grad()
    def read(self, embeddings: Tensor, reference: Ids) -> Reading:
        """NLL of the reference and greedy answer of inputs [rows, positions, d_input]."""
        parts = embeddings.split(ROWS)
        losses = torch.cat([self.losses(part, reference) for part in parts]).cpu().numpy()
        return Reading(losses, np.concatenate([self.greedy(part) for part in parts]))

    def read_ids(self, rows: Sequence[Ids], reference: Ids) -> Reading:
        """The same for token ids, which may differ in length: rows of one length are read together."""
        losses = np.zeros(len(rows))
        answers = np.zeros((len(rows), self.answer_tokens), dtype=np.int64)
        for same in _of_one_length(rows):
            found = self.read(torch.stack([self.embed(rows[i]) for i in same]), reference)
            losses[same], answers[same] = found.nll, found.answers
        return Reading(losses, answers)

    @torch.no_grad()
    def nll(self, rows: Sequence[Ids], reference: Ids) -> npt.NDArray[np.float64]:
        """NLL of the reference alone, float64 [rows]."""
        found = np.zeros(len(rows))
        for same in _of_one_length(rows):
            for start in range(0, len(same), ROWS):
                part = same[start : start + ROWS]
                embeddings = torch.stack([self.embed(rows[i]) for i in part])
                found[part] = self.losses(embeddings, reference).cpu().numpy()
        return found

    def gradient(self, embeddings: Tensor, reference: Ids) -> tuple[float, Tensor]:
        """NLL of the reference after one input [positions, d_input], and its gradient by that input.

        Raises:
            NumericsError: The gradient is not finite.
        """
        with torch.enable_grad():
            point = embeddings.detach().clone().requires_grad_(True)
            loss = self.losses(point[None], reference)[0]
            (gradient,) = torch.autograd.grad(loss, point)
        if not bool(torch.isfinite(gradient).all()):
            raise NumericsError("the gradient of the loss by the input is not finite; use a wider dtype")
        return float(loss.detach()), gradient


def _of_one_length(rows: Sequence[Ids]) -> Iterator[list[int]]:
    for length in sorted({len(row) for row in rows}):
        yield [i for i, row in enumerate(rows) if len(row) == length]


@dataclass(frozen=True, eq=False)
class Box:
    """All inputs whose coordinates are within a radius of a point, exactly: also after rounding to the model's type.

    Attributes:
        low: Smallest allowed value of each coordinate.
        high: Largest allowed value.
        radius: The radius.
    """

    low: Tensor
    high: Tensor
    radius: float

    @classmethod
    def around(cls, point: Tensor, radius: float) -> "Box":
        """The box around a point [positions, d_input]."""
        wide = point.double()
        return cls(
            _inside(wide - radius, point, below=False),
            _inside(wide + radius, point, below=True),
            radius,
        )

    def project(self, moved: Tensor) -> Tensor:
        """The nearest point of the box."""
        return torch.minimum(torch.maximum(moved, self.low), self.high)


def _inside(bound: Tensor, point: Tensor, *, below: bool) -> Tensor:
    """A bound in the point's type, rounded towards the point."""
    rounded = bound.to(point.dtype)
    outside = rounded.double() > bound if below else rounded.double() < bound
    raw = rounded.contiguous().view(INTEGER[point.element_size()])
    # In integers a step towards zero is -1 and away from it +1, whatever the sign; zero itself cannot be outside by
    # less than the point's own distance, so the point stands in for its neighbours there.
    step = torch.where((rounded > 0) == below, -1, 1).to(raw.dtype)
    inward = (raw + step).view(point.dtype)
    return torch.where(outside, torch.where(rounded == 0, point, inward), rounded)


def fgsm(victim: Victim, question: Question, point: Tensor, radius: float) -> Tensor:
    """One step of length `radius` along the sign of the gradient; the changed input [positions, d_input]."""
    _, gradient = victim.gradient(point, question.reference)
    return Box.around(point, radius).project(point + radius * gradient.sign())


def pgd(
    victim: Victim,
    question: Question,
    point: Tensor,
    radius: float,
    *,
    steps: int,
    step_size: float,
    rng: np.random.Generator,
) -> Tensor:
    """Steps along the sign of the gradient from a random start, each projected to the box; the worst input of all.

    Args:
        victim: The model.
        question: The question.
        point: Its embeddings [positions, d_input].
        radius: Largest change of a coordinate.
        steps: Number of steps.
        step_size: Their length as a share of the radius.
        rng: Source of the start.
    """
    box = Box.around(point, radius)
    start = torch.from_numpy(rng.uniform(-radius, radius, tuple(point.shape))).to(point)
    now = box.project(point + start)
    worst, most = now, -np.inf
    for _ in range(steps):
        loss, gradient = victim.gradient(now, question.reference)
        if loss > most:
            worst, most = now, loss
        now = box.project(now + step_size * radius * gradient.sign())
    with torch.no_grad():
        last = float(victim.losses(now[None], question.reference)[0])
    return now if last > most else worst


def same_size(point: Tensor, moved: Tensor, draws: int, rng: np.random.Generator, radius: float) -> Tensor:
    """Random changes with the attack's own size in every coordinate: the same |change|, random signs.

    Returns:
        [draws, positions, d_input], inside the box of `radius`.
    """
    change = (moved.double() - point.double()).abs()
    signs = torch.from_numpy(rng.choice([-1.0, 1.0], (draws, *point.shape))).to(change)
    box = Box.around(point, radius)
    return torch.stack([box.project((point.double() + sign * change).to(point.dtype)) for sign in signs])
