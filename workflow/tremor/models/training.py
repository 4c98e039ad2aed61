"""Training and testing of small language models: packing, the loop, recall of facts, likelihood of text.

Plain next-token cross-entropy with AdamW (Loshchilov and Hutter 2019), linear warm-up and cosine decay. The
loop is repeatable: on one machine, the same seed, threads and data give the same weights bit for bit.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.utils.deterministic
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tremor.errors import NumericsError
from tremor.models.corpus import FactPrompt
from tremor.models.scan import training_scan
from tremor.progress import track

_IGNORED = -100  # label that the cross-entropy leaves out


@dataclass(frozen=True)
class Schedule:
    """How a model is trained; a fixed number of steps, whatever the machine's speed.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Peak rate, after the warm-up.
        batch: Documents in a step of whole documents.
        packed_every: Every so many steps, one of packed rows.
        packed_rows: Rows in a packed step.
        length: Tokens in a packed row.
        warmup: Steps of linear warm-up.
        weight_decay: AdamW's decay, on matrices only (not on norms and biases).
        final_fraction: Rate at the last step as a fraction of the peak.
    """

    steps: int
    learning_rate: float
    batch: int = 16
    packed_every: int = 5
    packed_rows: int = 2
    length: int = 128
    warmup: int = 40
    weight_decay: float = 0.01
    final_fraction: float = 0.02

    def rate(self, step: int) -> float:
        """Return the learning rate of a step (from 0)."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.learning_rate * (self.final_fraction + (1.0 - self.final_fraction) * cosine)


@contextmanager
def repeatable(*, seed: int, threads: int) -> Iterator[None]:
    """Run with a seeded generator, a fixed number of threads and deterministic kernels; restore all after.

    Args:
        seed: Seed of torch's CPU generator.
        threads: Intra-op threads; the order of sums, and so the last bits, depends on it.
    """
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    warn_only_before = torch.is_deterministic_algorithms_warn_only_enabled()
    fill_before = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(True)
            # Filling fresh memory guards against code that reads it before writing; none of torch's own does.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            torch.manual_seed(seed)
            yield
        finally:
            torch.set_num_threads(threads_before)
            torch.use_deterministic_algorithms(deterministic_before, warn_only=warn_only_before)
            torch.utils.deterministic.fill_uninitialized_memory = fill_before  # type: ignore[attr-defined]


def pack(documents: Sequence[Sequence[int]], *, length: int, pad: int) -> torch.Tensor:
    """Pack documents into rows of equal length.

    A row begins where a document begins, so position 0 sees what a prompt has there. The next document
    follows while it fits; one longer than a row is continued in rows of its own.

    Args:
        documents: Token ids, each with its own begin and end tokens.
        length: Tokens per row.
        pad: Id that fills the end of a row.

    Returns:
        int64 [rows, length].
    """
    rows: list[list[int]] = []
    row: list[int] = []
    for document in documents:
        if row and len(row) + len(document) > length:
            rows.append(row)
            row = []
        row = row + list(document)
        while len(row) > length:
            rows.append(row[:length])
            row = row[length:]
    if row:
        rows.append(row)
    return torch.tensor([row + [pad] * (length - len(row)) for row in rows], dtype=torch.int64)


def batches(documents: Sequence[Sequence[int]], schedule: Schedule, *, seed: int, pad: int) -> Iterator[torch.Tensor]:
    """Yield the token ids of every step, int64 [rows, tokens], in an order that only the seed decides.

    Most steps hold whole documents of similar length, one per row, which is how a prompt meets the model.
    Every `packed_every`-th step holds packed rows instead, so that all positions of the context are trained.
    """
    shuffler = random.Random(seed)
    short = _short_batches(documents, schedule.batch, shuffler, pad)
    packed = _packed_batches(documents, schedule, shuffler, pad)
    for step in range(schedule.steps):
        yield next(packed if step % schedule.packed_every == schedule.packed_every - 1 else short)


def _short_batches(
    documents: Sequence[Sequence[int]], batch: int, shuffler: random.Random, pad: int
) -> Iterator[torch.Tensor]:
    order = list(documents)
    while True:
        shuffler.shuffle(order)
        ready: list[torch.Tensor] = []
        # Sorting within a stretch of batches leaves little padding and keeps most of the shuffle.
        for start in range(0, len(order), 16 * batch):
            stretch = sorted(order[start : start + 16 * batch], key=len)
            for first in range(0, len(stretch), batch):
                rows = stretch[first : first + batch]
                ready.append(torch.tensor([[*row, *[pad] * (len(rows[-1]) - len(row))] for row in rows]))
        shuffler.shuffle(ready)
        yield from ready


def _packed_batches(
    documents: Sequence[Sequence[int]], schedule: Schedule, shuffler: random.Random, pad: int
) -> Iterator[torch.Tensor]:
    order = list(documents)
    while True:
        shuffler.shuffle(order)
        yield from pack(order, length=schedule.length, pad=pad).split(schedule.packed_rows)


def loss_of(model: PreTrainedModel, ids: torch.Tensor, *, pad: int) -> torch.Tensor:
    """Return the mean next-token cross-entropy of ids [rows, length], in nats; padding does not count."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    labels = ids[:, 1:].masked_fill(ids[:, 1:] == pad, _IGNORED)
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORED)


def fit(
    model: PreTrainedModel,
    documents: Sequence[Sequence[int]],
    schedule: Schedule,
    *,
    seed: int,
    pad: int,
) -> float:
    """Train a model in place; call inside `repeatable`.

    Args:
        model: Model with initialised weights, float32 on the CPU.
        documents: Token ids of the corpus.
        schedule: Steps and rates.
        seed: Seed of the order of the documents.
        pad: Padding id.

    Returns:
        Mean loss of the last tenth of the steps, in nats per token.

    Raises:
        NumericsError: The loss is NaN or infinite.
    """
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": schedule.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.99), foreach=True)
    losses: list[float] = []
    model.train()
    stream = batches(documents, schedule, seed=seed, pad=pad)
    for step, ids in zip(track(schedule.steps, "steps"), stream, strict=True):
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step)
        with training_scan():
            loss = loss_of(model, ids, pad=pad)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise NumericsError(f"the loss is {losses[-1]} at step {step}; lower the learning rate")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)


@torch.no_grad()
def recalled(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[FactPrompt],
    *,
    batch: int = 128,
) -> list[bool]:
    """Tell which answers are the greedy continuation of their prompts.

    The answer is recalled when, fed prompt and answer, the model's first choice is right at every token of
    the answer: this is so exactly when greedy decoding from the prompt writes the answer.

    Args:
        model: Model in evaluation mode.
        tokenizer: Its tokenizer, which prepends the begin token.
        prompts: Questions with their answers.
        batch: Most prompts per forward pass; only prompts of equal length share one, so none is padded.

    Returns:
        One flag per prompt, in order.
    """
    by_length: dict[int, list[tuple[int, list[int], int]]] = defaultdict(list)
    for index, asked in enumerate(prompts):
        question = len(tokenizer(asked.text)["input_ids"])
        ids = tokenizer(asked.text + asked.answer)["input_ids"]
        by_length[len(ids)].append((index, ids, question))
    flags = [False] * len(prompts)
    for same in by_length.values():
        for start in range(0, len(same), batch):
            chunk = same[start : start + batch]
            ids = torch.tensor([entry[1] for entry in chunk])
            right = model(input_ids=ids, use_cache=False).logits[:, :-1].argmax(-1) == ids[:, 1:]
            for (index, _, question), row in zip(chunk, right, strict=True):
                flags[index] = bool(row[question - 1 :].all())
    return flags


@torch.no_grad()
def next_token_probability(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: FactPrompt
) -> tuple[float, bool]:
    """Return the probability of the answer's first token, and whether it is the first choice."""
    ids = torch.tensor([tokenizer(asked.text)["input_ids"]])
    answer = tokenizer(asked.text + asked.answer)["input_ids"][ids.shape[1]]
    logits = model(input_ids=ids, use_cache=False).logits[0, -1].double()
    return float(logits.softmax(-1)[answer]), int(logits.argmax()) == answer


@torch.no_grad()
def text_nll(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, length: int) -> float:
    """Return the negative log-likelihood of texts in nats per token, each on its own after the begin token.

    Args:
        model: Model in evaluation mode.
        tokenizer: Its tokenizer, which prepends the begin token.
        texts: Passages; one longer than `length` tokens counts with its first `length`.
        length: Longest sequence of the model.

    Returns:
        Total negative log-likelihood over total predicted tokens.
    """
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"][:length]])
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1].double()
        total += float(F.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return total / count
