"""What a model says of every token of a long text, in teacher-forced windows: one forward scores a whole window."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tremor.documents.windows import Window
from tremor.errors import NumericsError, PromptError
from tremor.models.loader import LoadedModel

Arrays = dict[str, npt.NDArray[Any]]
TOP = 2  # leading tokens that are kept, as in the original
_FLOAT64 = 8  # bytes
_COPIES = 4  # of a row of logits in float64, alive together


def tokenise(loaded: LoadedModel, text: str) -> tuple[npt.NDArray[np.int64], list[tuple[int, int]]]:
    """Token ids of a text and the characters each stands for; the text is data, and no special token is read from it.

    Args:
        loaded: The model with its tokenizer.
        text: Any text.

    Returns:
        Ids [n] int64, and (start, stop) of each in the text.

    Raises:
        PromptError: the tokenizer cannot tell where in the text its tokens are.
    """
    tokenizer = loaded.tokenizer
    if not tokenizer.is_fast:
        raise PromptError("this tokenizer does not tell the characters of its tokens; give the model a tokenizer.json")
    found = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
    )
    ids = np.array(found["input_ids"], dtype=np.int64).reshape(-1)
    return ids, [(int(start), int(stop)) for start, stop in found["offset_mapping"]]


def begin_token(loaded: LoadedModel, policy: str) -> int | None:
    """The begin-of-text token that every window starts with, None for none.

    Args:
        loaded: The model with its tokenizer.
        policy: ``auto`` does as the tokenizer does, ``always`` and ``never`` overrule it.

    Raises:
        PromptError: ``always``, and the tokenizer has none.
    """
    own = loaded.tokenizer.bos_token_id
    if policy == "always" and own is None:
        raise PromptError("pdf.bos: always, but this tokenizer has no begin-of-text token; use auto or never")
    if policy == "never" or own is None:
        return None
    starts = loaded.tokenizer("a")["input_ids"][:1]
    return int(own) if policy == "always" or list(starts) == [int(own)] else None


def window_length(loaded: LoadedModel, asked: int | str) -> int:
    """Inputs of a forward: what was asked for, or the model's context, 2048 at most.

    Raises:
        PromptError: more than the model's context was asked for.
    """
    context = loaded.anatomy.context
    if asked == "auto":
        return min(context or 2048, 2048)
    if context is not None and int(asked) > context:
        raise PromptError(f"pdf.window is {asked}, but the model's context is {context}; lower it, or use auto")
    return int(asked)


def score(
    loaded: LoadedModel,
    ids: npt.NDArray[np.int64],
    groups: Sequence[Sequence[Window]],
    *,
    bos: int | None,
    max_memory: float,
) -> Iterator[Arrays]:
    """Score the tokens of windows, one group at a time.

    Args:
        loaded: The model.
        ids: Token ids of the text [n].
        groups: Windows of equal length, a forward each; a window that is repeated is used once.
        bos: Token that every window begins with.
        max_memory: Bytes that logits may take.

    Yields:
        For each group, arrays [tokens] in the order of the text:

        - ``position`` of the token in the text, ``context``: tokens of the text it was predicted from; int64.
        - ``logit`` of the token as the model returned it, float32; ``logsumexp``, ``log_probability`` (natural) and
          ``entropy`` (nats), float64.
        - ``rank``, 1 + number of larger logits; ``ties``, number of equal ones, itself included; int64.
        - ``top_ids`` int64, ``top_logits`` float32, ``top_log_probabilities`` float64, all [tokens, 2]; equal logits in
          the order of their ids.
        - ``cosine_state`` [tokens, 3]: final state and the unembedding rows of first prediction, second prediction and
          token; ``cosine_rows`` [tokens, 2]: rows of the predictions and that of the token; float64, NaN for zero rows.

    Raises:
        NumericsError: a logit is NaN or infinite.
    """
    for group in groups:
        states, used = _states(loaded, ids, group, bos), dict.fromkeys(group)
        rows = [state for window in used for state in [states[group.index(window)][window.first - window.stop - 1 :]]]
        targets = np.concatenate([np.arange(window.first, window.last + 1) for window in used])
        starts = np.concatenate([np.full(window.last + 1 - window.first, window.start) for window in used])
        final = torch.cat(rows)
        answers = [
            _answers(loaded, final[at], torch.from_numpy(ids[targets[at]]).to(final.device), targets[at])
            for at in _slices(len(targets), loaded.anatomy.vocab, max_memory)
        ]
        yield {
            "position": targets,
            "context": targets - starts,
            **{name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]},
        }


def _states(loaded: LoadedModel, ids: npt.NDArray[np.int64], group: Sequence[Window], bos: int | None) -> Tensor:
    """Tap "final" of one forward [windows, inputs, width]."""
    head = [] if bos is None else [bos]
    rows = np.array([[*head, *ids[window.start : window.stop]] for window in group], dtype=np.int64)
    with torch.no_grad(), loaded.anatomy.record(["final"]) as record:
        loaded.anatomy.base(input_ids=torch.from_numpy(rows).to(loaded.device), use_cache=False)
    return record["final"]


def _slices(rows: int, vocab: int, max_memory: float) -> Iterator[slice]:
    step = max(1, int(max_memory // (vocab * _FLOAT64 * _COPIES)))
    for start in range(0, rows, step):
        yield slice(start, start + step)


def _answers(loaded: LoadedModel, final: Tensor, targets: Tensor, positions: npt.NDArray[np.int64]) -> Arrays:
    with torch.no_grad():
        logits = loaded.anatomy.unembed(final)
        finite = torch.isfinite(logits).all(dim=1)
        if not bool(finite.all()):
            at = int(positions[int((~finite).nonzero()[0])])
            raise NumericsError(f"a logit for token {at} of the document is NaN or infinite; use another pdf.dtype")
        wide = logits.double()
        own = logits.gather(1, targets[:, None])
        total = torch.logsumexp(wide, dim=1)
        logs = wide - total[:, None]
        top_ids = _leading(logits)
        top = logits.gather(1, top_ids)
        rows = loaded.anatomy.unembedding.weight
        assert isinstance(rows, Tensor)
        chosen = rows[torch.cat([top_ids, targets[:, None]], dim=1)].double()  # [n, 3, width]
        target = chosen[:, TOP:]
        found = {
            "logit": own[:, 0].float(),
            "logsumexp": total,
            "log_probability": logs.gather(1, targets[:, None])[:, 0],
            "entropy": -(logs.exp() * logs).sum(dim=1),
            "rank": 1 + (logits > own).sum(dim=1),
            "ties": (logits == own).sum(dim=1),
            "top_ids": top_ids,
            "top_logits": top.float(),
            "top_log_probabilities": logs.gather(1, top_ids),
            "cosine_state": _cosine(final.double()[:, None], chosen),
            "cosine_rows": _cosine(chosen[:, :TOP], target),
        }
    return {name: value.cpu().numpy() for name, value in found.items()}


def _leading(logits: Tensor) -> Tensor:
    """Ids of the largest logits [n, TOP]; of equal ones the smallest id first, whatever the device."""
    left = logits.clone()
    places = torch.arange(logits.shape[1], device=logits.device).expand_as(logits)
    found = []
    for _ in range(TOP):
        largest = left.max(dim=1, keepdim=True).values
        first = torch.where(left == largest, places, logits.shape[1]).min(dim=1, keepdim=True).values
        left.scatter_(1, first, -torch.inf)
        found.append(first)
    return torch.cat(found, dim=1)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    # Rounding may leave the last bit above 1.
    cosine: Tensor = (a * b).sum(dim=-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    return cosine.clamp(-1.0, 1.0)
