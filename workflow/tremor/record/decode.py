"""Greedy decoding by token id, cached or uncached, one question or a batch padded on the left.

Nothing is ever turned into text and tokenised again: the ids that were generated are the ids that go in. Both ways of
decoding run the head on the last position alone; what differs between them is only what precedes it.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from tremor.errors import ModelError, NumericsError, PromptError
from tremor.models.loader import LoadedModel

Mode = Literal["cached", "uncached"]
Stop = Literal["eos", "length", "context"]
Ids = npt.NDArray[np.int64]
TOP = 10  # tokens recorded at every step, as the original study did

# How far two ways of computing one vector may lie apart by rounding alone, relative to its length. What these guard
# against (a position counted from the padding, a cache that is not read) changes the vector by its own size.
_SAME = {torch.float64: 1e-9, torch.float32: 1e-3}
_SAME_COARSE = 0.15


@dataclass(frozen=True)
class Step:
    """One generated token in every row.

    Attributes:
        index: Number of the token, from 0.
        active: Whether each row was still generating; the others only keep the shape of the batch.
        chosen: Token taken in each row: the lowest id among the largest logits.
        logits: float32 [rows, vocabulary], exactly as the model returned them.
        stopped: Why a row ended with this token, or None.
    """

    index: int
    active: list[bool]
    chosen: Ids
    logits: npt.NDArray[np.float32]
    stopped: list[Stop | None]


def prompt_ids(loaded: LoadedModel, text: str) -> Ids:
    """Token ids of a question, with what the tokenizer adds by itself.

    Raises:
        PromptError: it gives no token, or leaves no room in the model's context.
    """
    ids = np.asarray(loaded.tokenizer(text)["input_ids"], dtype=np.int64)
    context = loaded.anatomy.context
    if ids.size == 0:
        raise PromptError(f"the question {text[:40]!r} gives no token; write some text")
    if context is not None and ids.size > context:
        raise PromptError(
            f"the question {text[:40]!r} has {ids.size} tokens, the context of the model {context}; shorten it"
        )
    return ids


def end_tokens(loaded: LoadedModel) -> frozenset[int]:
    """Ids that end a text, by the tokenizer and by the model's settings."""
    found: set[int] = set()
    settings = (getattr(loaded.model, "generation_config", None), loaded.model.config, loaded.tokenizer)
    for holder in settings:
        value = getattr(holder, "eos_token_id", None)
        found |= {int(v) for v in (value if isinstance(value, (list, tuple)) else [value]) if v is not None}
    return frozenset(found)


def limits(loaded: LoadedModel, lengths: Sequence[int], tokens: int) -> list[int]:
    """Most tokens each row can generate: token i is read off a sequence of (prompt + i) positions."""
    context = loaded.anatomy.context
    return [tokens if context is None else min(tokens, context - length + 1) for length in lengths]


class Decoder:
    """The model as a function from the sequence so far to the logits of the next token.

    Args:
        loaded: The model.
        prompts: Token ids of each row; shorter rows are padded on the left.
        mode: "cached" or "uncached".

    Raises:
        ModelError: The family has no cache that can be continued; decode uncached.
    """

    def __init__(self, loaded: LoadedModel, prompts: Sequence[Ids], mode: Mode, *, pad: int = 0) -> None:
        self.loaded, self.mode = loaded, mode
        width = max(len(ids) for ids in prompts)
        rows = [np.concatenate([np.full(width - len(ids), pad, dtype=np.int64), ids]) for ids in prompts]
        self._ids = torch.from_numpy(np.stack(rows)).to(loaded.device)
        self._starts = torch.tensor([width - len(ids) for ids in prompts], device=loaded.device)
        accepted = inspect.signature(loaded.model.forward).parameters
        self._takes = accepted.keys()
        names = ("past_key_values", "cache_params", "state")
        self._argument = next((name for name in names if name in accepted), None)
        if mode == "cached" and self._argument is None:
            raise ModelError(f"{type(loaded.model).__name__} has no cache to continue; set decode: uncached")
        if len(prompts) > 1 and "attention_mask" not in accepted:
            raise ModelError(f"{type(loaded.model).__name__} takes no mask, so it cannot be padded; set batch: 1")
        self._cache: Any = None

    def __call__(self, chosen: Ids | None = None) -> Tensor:
        """Logits of the next token [rows, vocabulary], after appending the chosen tokens [rows]."""
        if chosen is not None:
            fresh = torch.from_numpy(chosen).to(self.loaded.device)[:, None]
            self._ids = torch.cat([self._ids, fresh], dim=1)
        first = chosen is None or self.mode == "uncached"
        given = self._ids if first else self._ids[:, -1:]
        arguments = self._arguments(given.shape[1], first=chosen is None)
        with torch.no_grad():
            output = self.loaded.model(input_ids=given, **arguments)
        if self.mode == "cached":
            self._keep(output)
        logits = output.logits[:, -1]
        assert isinstance(logits, Tensor)
        return logits

    def _arguments(self, given: int, *, first: bool) -> dict[str, Any]:
        arguments: dict[str, Any] = {"use_cache": self.mode == "cached"}
        if "logits_to_keep" in self._takes:
            arguments["logits_to_keep"] = 1
        if self.mode == "cached":
            assert self._argument is not None
            if first and self._argument != "state":
                self._cache = DynamicCache(config=self.loaded.model.config)
            if self._cache is not None:
                arguments[self._argument] = self._cache
        if len(self._starts) > 1:
            places = torch.arange(self._ids.shape[1], device=self._ids.device)[None]
            mask = (places >= self._starts[:, None]).long()
            recurrent = self._argument == "cache_params"
            # A state-space model has passed the padding when it goes on from its state.
            if given > 1 or not recurrent:
                arguments["attention_mask"] = mask
            if "position_ids" in self._takes:
                positions = (mask.cumsum(1) - 1).clamp(min=0)
                # Rows that have ended go on for the shape's sake, perhaps beyond the model's table of positions.
                context = self.loaded.anatomy.context
                positions = positions if context is None else positions.clamp(max=context - 1)
                arguments["position_ids"] = positions[:, -given:]
        return arguments

    def _keep(self, output: Any) -> None:
        assert self._argument is not None
        found = getattr(output, self._argument, None)
        if found is None:
            name = type(self.loaded.model).__name__
            raise ModelError(f"{name} ran without returning its cache; set decode: uncached")
        self._cache = found


def check_decoder(loaded: LoadedModel, prompts: Sequence[Ids], mode: Mode) -> None:
    """Refuse a cache that is not read, and padding that is not masked, before anything is recorded.

    The second token's logits by the decoder in this mode must be those of a plain forward on each row alone, up to
    rounding; and another pad token must leave every bit as it is.

    Raises:
        ModelError: they are not.
    """
    if mode == "uncached" and len(prompts) == 1:
        return
    name = type(loaded.model).__name__
    answers = []
    for pad in (0, 1) if len({len(ids) for ids in prompts}) > 1 else (0,):
        decoder = Decoder(loaded, prompts, mode, pad=pad)
        first = decoder()
        answers.append(torch.stack([first, decoder(_largest(first))]))
    if len(answers) > 1 and not torch.equal(answers[0], answers[1]):
        raise ModelError(f"{name} lets padding change the rows beside it; set batch: 1")
    chosen = _largest(answers[0][0])
    for row, ids in enumerate(prompts):
        alone = Decoder(loaded, [np.append(ids, chosen[row])], "uncached")()[0]
        found = answers[0][1, row]
        size = float(torch.linalg.vector_norm(alone.double()))
        distance = float(torch.linalg.vector_norm((found - alone).double()))
        if not distance <= _SAME.get(loaded.dtype, _SAME_COARSE) * size:
            what = "decode: uncached" if len(prompts) == 1 else "batch: 1, or decode: uncached"
            raise ModelError(
                f"{name} does not go on from its cache or padding as from the sequence itself "
                f"(logits {distance / size:.1g} apart, relative to their length); set {what}"
            )


def _largest(logits: Tensor) -> Ids:
    return cast(Ids, logits.float().cpu().numpy().argmax(axis=1).astype(np.int64))


def generate(loaded: LoadedModel, prompts: Sequence[Ids], *, mode: Mode, tokens: int) -> Iterator[Step]:
    """Generate greedily until every row has ended.

    Args:
        loaded: The model.
        prompts: Token ids of each row.
        mode: How to decode.
        tokens: Tokens to generate at most.

    Yields:
        One step for each token, right after the forward that decided it.

    Raises:
        NumericsError: a logit of a row that is still generating is NaN or plus infinity.
    """
    decoder, ends = Decoder(loaded, prompts, mode), end_tokens(loaded)
    room = limits(loaded, [len(ids) for ids in prompts], tokens)
    active = [True] * len(prompts)
    chosen: Ids | None = None
    for index in range(max(room)):
        logits = decoder(chosen).float().cpu().numpy()
        if not bool(np.all(logits[active] < np.inf)):
            raise NumericsError(f"a logit of token {index} is NaN or infinite; use another dtype or check the weights")
        chosen = logits.argmax(axis=1).astype(np.int64)
        stopped: list[Stop | None] = [None] * len(prompts)
        for row, running in enumerate(active):
            if not running:
                continue
            if int(chosen[row]) in ends:
                stopped[row] = "eos"
            elif index + 1 == room[row]:
                stopped[row] = "length" if room[row] == tokens else "context"
        yield Step(index, list(active), chosen, logits, stopped)
        active = [running and reason is None for running, reason in zip(active, stopped, strict=True)]
        if not any(active):
            return


@dataclass(frozen=True)
class Readings:
    """What is kept of one row of logits."""

    top_ids: Ids
    top_logits: npt.NDArray[np.float32]
    top_probs: npt.NDArray[np.float64]
    logsumexp: float
    margin: np.float32
    ties: int


def read_logits(logits: npt.NDArray[np.float32]) -> Readings:
    """The leading tokens of one row of logits; equal logits stand in the order of their ids.

    Args:
        logits: float32 [vocabulary].

    Returns:
        The `TOP` largest (fewer if the vocabulary is smaller), their probabilities in float64, the margin between the
        first two, and how many tokens share the largest logit.
    """
    count = min(TOP, len(logits))
    least = np.partition(logits, len(logits) - count)[len(logits) - count]
    candidates = np.flatnonzero(logits >= least)
    order = candidates[np.argsort(-logits[candidates], kind="stable")][:count]
    values = logits[order]
    wide = logits.astype(np.float64)
    total = float(wide.max() + np.log(np.exp(wide - wide.max()).sum()))
    largest = int(values[:1].view(np.int32)[0])
    return Readings(
        top_ids=order.astype(np.int64),
        top_logits=values,
        top_probs=np.exp(values.astype(np.float64) - total),
        logsumexp=total,
        margin=np.float32(values[0] - values[1]) if count > 1 else np.float32(np.inf),
        ties=int((logits.view(np.int32) == largest).sum()),
    )
