"""Answers to facts: log-probability, probability and rank of the answer, and the likelihood of the whole sentence.

One forward of the whole sentence, answer included, gives all of them: the answer's tokens are predicted from the tokens
before them, however many there are. Rows of a batch are padded on the right, where a causal model cannot see, and a
padded position never counts: it is told by its place and not by its id, which may be that of a real token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tremor.errors import ConfigError, ModelError, NumericsError, PromptError
from tremor.evaluate.relations import Sentence, Span, digest
from tremor.models.loader import LoadedModel
from tremor.neurons.prefix import Kept
from tremor.probe.base import BosPolicy
from tremor.weights.activations import Change, intervened

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Sentences of similar length.

    Attributes:
        rows: Which sentences.
        ids: int64 [rows, positions], padded on the right.
        scored: bool [rows, positions - 1]: whether token t + 1 is a real one, predicted at t.
        answer: bool [rows, positions - 1]: whether it belongs to the answer.
        real: bool [rows, positions]: positions that are no padding.
    """

    rows: tuple[int, ...]
    ids: Tensor
    scored: Tensor
    answer: Tensor
    real: Tensor


@dataclass(frozen=True)
class TextSet:
    """Sentences as a model reads them, in batches.

    Attributes:
        sentences: The sentences.
        ids: Token ids of each.
        answers: Positions [start, end) of the answer's tokens; None without.
        subjects: Positions [start, end) of the subject's tokens; None without.
        batches: All sentences, longest first.
        batch_tokens: Most tokens of a batch.
        digest: sha256 over the sentences and their ids.
    """

    sentences: tuple[Sentence, ...]
    ids: tuple[tuple[int, ...], ...]
    answers: tuple[Span | None, ...]
    subjects: tuple[Span | None, ...]
    batches: tuple[Batch, ...] = field(repr=False)
    batch_tokens: int
    digest: str

    def __len__(self) -> int:
        return len(self.sentences)

    def where(self, **wanted: Any) -> Integers:
        """Numbers of the sentences with these attribute values."""
        hits = [i for i, s in enumerate(self.sentences) if all(getattr(s, k) == v for k, v in wanted.items())]
        return np.array(hits, dtype=np.int64)

    def subset(self, rows: Integers) -> TextSet:
        """Some of the sentences, in batches of their own."""
        device = self.batches[0].ids.device
        sentences = tuple(self.sentences[i] for i in rows)
        ids, answers = tuple(self.ids[i] for i in rows), tuple(self.answers[i] for i in rows)
        subjects = tuple(self.subjects[i] for i in rows)
        return pack(sentences, ids, answers, subjects, device, self.batch_tokens)


@dataclass(frozen=True)
class Scores:
    """What a model makes of each sentence of a set; one entry a sentence.

    Attributes:
        nll_sum: float64, nats over all predicted tokens.
        tokens: int64, how many these are.
        answer_logprob: float64, log-probability of the whole answer given what precedes it; NaN for passages.
        answer_tokens: int64, 0 for passages.
        answer_rank: int64, rank of the answer's first token, 1 for the most probable; 0 for passages.
        recalled: bool, whether greedy decoding writes the answer.
    """

    nll_sum: Floats
    tokens: Integers
    answer_logprob: Floats
    answer_tokens: Integers
    answer_rank: Integers
    recalled: npt.NDArray[np.bool_]

    @property
    def answer_probability(self) -> Floats:
        """Probability of the whole answer; NaN for passages."""
        return np.exp(self.answer_logprob)


def tokenise(
    loaded: LoadedModel, sentences: Sequence[Sentence], *, bos: BosPolicy = "always", batch_tokens: int = 2048
) -> TextSet:
    """Tokenise sentences and find the tokens of their subjects and answers.

    Args:
        loaded: The model and its tokenizer.
        sentences: The sentences; plain strings or tuples are refused (a tokenizer takes a tuple for a batch).
        bos: "always" puts a begin-of-text token first, so that the first word is scored too.
        batch_tokens: Most tokens of a batch, padding included.

    Raises:
        ConfigError: No sentence, or something that is none.
        PromptError: A sentence with nothing to predict, too long, or whose answer would not be predicted.
        ModelError: The tokenizer does not tell which characters its tokens stand for.
    """
    if not sentences:
        raise ConfigError("there is no sentence to evaluate")
    rows, answers, subjects = [], [], []
    for sentence in sentences:
        if not isinstance(sentence, Sentence):
            raise ConfigError(f"a text set holds sentences, not a {type(sentence).__name__}: {sentence!r}")
        ids, spans = _encoded(loaded, sentence.text, bos)
        rows.append(ids)
        answers.append(_tokens_of(sentence.answer_span, spans))
        subjects.append(_tokens_of(sentence.subject_span, spans))
        if answers[-1] is not None and answers[-1][0] == 0:
            raise PromptError(f"{sentence.text!r} begins with its answer, which is not predicted; use bos: always")
    return pack(tuple(sentences), tuple(rows), tuple(answers), tuple(subjects), loaded.device, batch_tokens)


def pack(
    sentences: tuple[Sentence, ...],
    ids: tuple[tuple[int, ...], ...],
    answers: tuple[Span | None, ...],
    subjects: tuple[Span | None, ...],
    device: torch.device,
    budget: int,
) -> TextSet:
    """Put token ids into batches.

    Args:
        sentences: The sentences.
        ids: Token ids of each.
        answers: Positions [start, end) of the answer's tokens of each, None without.
        subjects: The same of the subject.
        device: Where the batches lie.
        budget: Most tokens of a batch, padding included.
    """
    made = hashlib.sha256(digest(sentences).encode() + repr(ids).encode()).hexdigest()
    batches = tuple(_batches(device, ids, answers, budget))
    return TextSet(sentences, ids, answers, subjects, batches, budget, made)


def _encoded(loaded: LoadedModel, text: str, bos: BosPolicy) -> tuple[tuple[int, ...], list[Span]]:
    tokenizer = loaded.tokenizer
    if not tokenizer.is_fast:
        raise ModelError(f"{type(tokenizer).__name__} tells no character offsets; a fast tokenizer is needed")
    found = tokenizer(text, add_special_tokens=bos == "auto", return_offsets_mapping=True, verbose=False)
    ids = [int(i) for i in found["input_ids"]]
    spans = [(int(a), int(b)) for a, b in found["offset_mapping"]]
    if bos == "always":
        if tokenizer.bos_token_id is None:
            raise PromptError("bos: always, but this tokenizer has no begin-of-text token; use bos: auto or never")
        ids, spans = [int(tokenizer.bos_token_id), *ids], [(0, 0), *spans]
    limit = loaded.anatomy.context
    if len(ids) < 2 or (limit is not None and len(ids) > limit):
        raise PromptError(f"{text[:60]!r} has {len(ids)} tokens; at least 2 and at most the context ({limit}) fit")
    return tuple(ids), spans


def _tokens_of(span: Span | None, spans: Sequence[Span]) -> Span | None:
    """Tokens that share a character with a span of characters."""
    if span is None:
        return None
    inside = [i for i, (start, end) in enumerate(spans) if start < span[1] and end > span[0]]
    return inside[0], inside[-1] + 1


def _batches(
    device: torch.device, rows: Sequence[Sequence[int]], answers: Sequence[Span | None], budget: int
) -> Iterator[Batch]:
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i))
    start = 0
    while start < len(order):
        width = len(rows[order[start]])
        chosen = order[start : start + max(1, budget // width)]
        start += len(chosen)
        ids = np.zeros((len(chosen), width), dtype=np.int64)
        real, answer = np.zeros((len(chosen), width), dtype=bool), np.zeros((len(chosen), width), dtype=bool)
        for number, row in enumerate(chosen):
            # Padded with the row's last token: it is not seen, and no id stands for "no token" in all vocabularies.
            ids[number] = [*rows[row], *[rows[row][-1]] * (width - len(rows[row]))]
            real[number, : len(rows[row])] = True
            span = answers[row]
            if span is not None:
                answer[number, slice(*span)] = True
        at = {name: torch.from_numpy(a).to(device) for name, a in (("i", ids), ("r", real), ("a", answer))}
        yield Batch(tuple(chosen), at["i"], at["r"][:, 1:], at["a"][:, 1:], at["r"])


def token_logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probability of each next token, float64 where the model is, else float32.

    Args:
        logits: [rows, positions, vocab].
        ids: int64 [rows, positions].

    Returns:
        [rows, positions - 1].
    """
    ahead = logits[:, :-1]
    ahead = ahead if ahead.dtype == torch.float64 else ahead.float()
    return ahead.gather(-1, ids[:, 1:, None])[..., 0] - ahead.logsumexp(-1)


@torch.no_grad()
def evaluate(
    loaded: LoadedModel,
    texts: TextSet,
    *,
    changes: Mapping[str, Change] | None = None,
    kept: Kept | None = None,
) -> Scores:
    """Score every sentence of a set.

    Args:
        loaded: The model, in eval mode.
        texts: The sentences.
        changes: Tap to what is done to its tensor, see `weights.activations`; None for the model as it is.
        kept: Block inputs of the same set from `keep`; blocks before are then not run again.

    Raises:
        NumericsError: A log-probability is not finite, or a tap was not reached.
    """
    count = len(texts)
    out = {name: np.zeros(count) for name in ("nll", "answer")}
    rank, recalled = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=bool)
    for number, batch in enumerate(texts.batches):
        with ExitStack() as stack:
            if kept is not None:
                stack.enter_context(kept.resumed(number))
            if changes:
                stack.enter_context(intervened(loaded.anatomy, changes))
            logits = loaded.model(input_ids=batch.ids, use_cache=False).logits
        found = _score(logits, batch)
        rows = list(batch.rows)
        out["nll"][rows], out["answer"][rows], rank[rows], recalled[rows] = found
    if not np.isfinite(out["nll"]).all():
        worst = texts.sentences[int(np.argmin(np.isfinite(out["nll"])))].text
        raise NumericsError(f"the likelihood of {worst!r} is not finite ({', '.join(changes or ['clean model'])})")
    lengths = np.array([0 if span is None else span[1] - span[0] for span in texts.answers], dtype=np.int64)
    return Scores(
        nll_sum=out["nll"],
        tokens=np.array([len(ids) - 1 for ids in texts.ids], dtype=np.int64),
        answer_logprob=np.where(lengths > 0, out["answer"], np.nan),
        answer_tokens=lengths,
        answer_rank=np.where(lengths > 0, rank, 0),
        recalled=recalled & (lengths > 0),
    )


def _score(logits: Tensor, batch: Batch) -> tuple[npt.NDArray[Any], ...]:
    """NLL and answer log-probability (float64 sums), rank of the answer's first token, greedy recall; by row."""
    logprobs = token_logprobs(logits, batch.ids)
    wide = logprobs.double()
    nll = -torch.where(batch.scored, wide, 0.0).sum(-1)
    answer = torch.where(batch.answer, wide, 0.0).sum(-1)
    first = batch.answer.int().argmax(-1)
    rows = torch.arange(len(first), device=first.device)
    ahead = logits[rows, first]
    rank = 1 + (ahead > ahead.gather(-1, batch.ids[rows, first + 1][:, None])).sum(-1)
    right = (logits[:, :-1].argmax(-1) == batch.ids[:, 1:]) | ~batch.answer
    return tuple(t.cpu().numpy() for t in (nll, answer, rank, right.all(-1)))


@torch.no_grad()
def keep(loaded: LoadedModel, texts: TextSet, block: int) -> Kept:
    """Keep the inputs of a block from one clean pass over a set, for `evaluate`.

    Raises:
        NumericsError: Taking them up again gives other bits than the whole model.
    """
    kept = Kept(loaded.anatomy, block)
    for number, batch in enumerate(texts.batches):
        with kept.keeping(number):
            whole = loaded.model(input_ids=batch.ids, use_cache=False).logits
        if number == 0 and kept.block:
            with kept.resumed(number):
                again = loaded.model(input_ids=batch.ids, use_cache=False).logits
            if not torch.equal(whole, again):
                raise NumericsError(f"resuming at block {block} does not give the bits of the whole model")
    return kept
