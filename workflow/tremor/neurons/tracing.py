"""Causal tracing: which states, put back after the subject was made unreadable, bring the answer back.

Meng et al. (2022), for any architecture: the embeddings of the subject's tokens get noise; then one state, at one
layer and one position, is put back to what it was in the clean run, and the answer's log-probability is read. The
clean run is row 0 of the same batch, so that a state that is put back has the clean run's bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tremor.errors import ModelError, NumericsError
from tremor.evaluate.facts import TextSet, token_logprobs
from tremor.models.loader import LoadedModel
from tremor.neurons.sites import site
from tremor.weights.activations import intervened

Floats = npt.NDArray[np.float64]
ROLES = ("begin", "subject_first", "subject_middle", "subject_last", "between", "last")
Restore = tuple[str, tuple[int, ...], tuple[int, ...]]  # kind, blocks, positions


@dataclass(frozen=True)
class Trace:
    """One fact, traced.

    Attributes:
        tokens: Text of each position of the prompt [positions].
        roles: What each position is, of `ROLES`.
        clean: Log-probability of the answer in the clean run.
        corrupted: The same with the subject made unreadable, by draw of the noise [draws].
        restored: With one state put back [kinds, layers, positions, draws].
    """

    tokens: tuple[str, ...]
    roles: tuple[str, ...]
    clean: float
    corrupted: Floats
    restored: Floats


class Tracer:
    """Traces facts of one model.

    Args:
        loaded: The model.
        noise: Standard deviation of the noise, in standard deviations of the embedding matrix's entries.
        seed: Of the noise; every fact draws from it anew, so that a trace does not depend on the others.
        batch_tokens: Most tokens of a batch.
    """

    def __init__(self, loaded: LoadedModel, *, noise: float = 3.0, seed: int = 0, batch_tokens: int = 4096) -> None:
        self.loaded, self.seed, self._budget = loaded, seed, batch_tokens
        weight = loaded.anatomy.embedding.weight
        assert isinstance(weight, Tensor)
        self.scale = noise * float(weight.detach().double().std())

    def trace(
        self, texts: TextSet, row: int, *, kinds: Sequence[str], layers: Sequence[int], draws: int, window: int = 1
    ) -> Trace:
        """Trace one sentence.

        Args:
            texts: A text set.
            row: Which of its sentences; the subject stands before the answer.
            kinds: Places that are put back, of `sites.KINDS` (`output`, `mixer`, `mlp`, ...).
            layers: Blocks.
            draws: Draws of the noise.
            window: Blocks around a layer that are put back together, for branches; `output` is one block always.

        Raises:
            ModelError: The sentence has no subject before its answer, or the model lacks a place.
            NumericsError: A log-probability is not finite.
        """
        ids, answer, _ = self._asked(texts, row)
        prompt = answer[0]
        plan: list[Restore] = [
            (kind, self._blocks(layer, window if kind != "output" else 1), (position,))
            for kind in kinds
            for layer in layers
            for position in range(prompt)
        ]
        found = np.stack([self.run(texts, row, plan, draw=draw) for draw in range(draws)], axis=-1)
        spans = texts.subjects[row]
        assert spans is not None
        return Trace(
            tokens=tuple(str(self.loaded.tokenizer.decode([i])) for i in ids[:prompt]),
            roles=tuple(_role(position, spans, prompt) for position in range(prompt)),
            clean=float(found[0, 0]),
            corrupted=found[1],
            restored=found[2:].reshape(len(kinds), len(layers), prompt, draws),
        )

    def run(self, texts: TextSet, row: int, plan: Sequence[Restore], *, draw: int) -> Floats:
        """Log-probabilities of the answer: clean, corrupted, and with each entry of a plan put back [2 + plan]."""
        ids, answer, subject = self._asked(texts, row)
        noise = self._noise(subject, draw)
        size = max(1, self._budget // len(ids) - 2)
        parts = []
        for start in range(0, max(1, len(plan)), size):
            values = self._batch(ids, answer, subject, noise, plan[start : start + size])
            parts.append(values if not start else values[2:])
        found = np.concatenate(parts)
        if not np.isfinite(found).all():
            raise NumericsError(f"tracing {texts.sentences[row].text!r}: a log-probability is not finite")
        return found

    def _asked(self, texts: TextSet, row: int) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, int]]:
        answer, subject = texts.answers[row], texts.subjects[row]
        if answer is None or subject is None or subject[1] > answer[0]:
            raise ModelError(f"{texts.sentences[row].text!r} has no subject before its answer and cannot be traced")
        return texts.ids[row][: answer[1]], answer, subject

    def _noise(self, subject: tuple[int, int], draw: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + draw)
        return self.scale * torch.randn(subject[1] - subject[0], self.loaded.anatomy.d_input, generator=generator)

    def _blocks(self, layer: int, window: int) -> tuple[int, ...]:
        first = max(0, layer - (window - 1) // 2)
        return tuple(range(first, min(self.loaded.anatomy.n_layers, first + window)))

    @torch.no_grad()
    def _batch(
        self,
        ids: Sequence[int],
        answer: tuple[int, int],
        subject: tuple[int, int],
        noise: Tensor,
        plan: Sequence[Restore],
    ) -> Floats:
        rows = torch.tensor(ids, device=self.loaded.device).repeat(2 + len(plan), 1)

        def corrupt(tensor: Tensor) -> Tensor:
            new = tensor.clone()
            new[1:, slice(*subject)] += noise.to(tensor)
            return new

        changes: dict[str, Callable[[Tensor], Tensor]] = {"embedding": corrupt}
        for tap, places in self._places(plan):
            changes[tap] = _restore(places)
        with intervened(self.loaded.anatomy, changes):
            logits = self.loaded.model(input_ids=rows, use_cache=False).logits
        logprobs = token_logprobs(logits, rows)[:, answer[0] - 1 : answer[1] - 1].double().sum(-1)
        return np.asarray(logprobs.cpu().numpy())

    def _places(self, plan: Sequence[Restore]) -> Iterator[tuple[str, list[tuple[int, int]]]]:
        """Tap, and the (row, position) pairs that are put back there."""
        places: dict[str, list[tuple[int, int]]] = {}
        for number, (kind, blocks, positions) in enumerate(plan, start=2):
            for block in blocks:
                tap = site(self.loaded, kind, block).tap
                places.setdefault(tap, []).extend((number, position) for position in positions)
        yield from places.items()


def _restore(places: Sequence[tuple[int, int]]) -> Callable[[Tensor], Tensor]:
    rows, positions = (torch.tensor(column) for column in zip(*places, strict=True))

    def change(tensor: Tensor) -> Tensor:
        new = tensor.clone()
        new[rows, positions] = tensor[0, positions]
        return new

    return change


def _role(position: int, subject: tuple[int, int], prompt: int) -> str:
    if position == prompt - 1 and position >= subject[1]:
        return "last"
    if position < subject[0]:
        return "begin"
    if position >= subject[1]:
        return "between"
    if position == subject[1] - 1:
        return "subject_last"
    return "subject_first" if position == subject[0] else "subject_middle"
