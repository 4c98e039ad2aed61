"""One question's recording: what is written at every token, streamed to HDF5 while the model generates."""

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tremor.errors import ArtifactError
from tremor.models.loader import LoadedModel
from tremor.record.decode import TOP, Ids, Mode, Step, generate, limits, read_logits
from tremor.record.questions import Question
from tremor.record.taps import LastRows, Tap
from tremor.store import scratch
from tremor.store.hdf5 import Bf16, Hdf5Writer

SCHEMA = "recording/1"
BUFFER_BYTES = 32 << 20  # states of a batch wait here, so that rows are written in blocks
_TOKEN_BYTES = 8 + TOP * (8 + 4 + 8) + 8 + 4 + 8  # ids, the ten leaders, logsumexp, margin, ties
_READINGS: Mapping[str, tuple[tuple[int, ...], Any]] = {
    "generated_ids": ((), np.int64),
    "top_ids": ((TOP,), np.int64),
    "top_logits": ((TOP,), np.float32),
    "top_probs": ((TOP,), np.float64),
    "logsumexp": ((), np.float64),
    "margin": ((), np.float32),
    "ties": ((), np.int64),
}
_log = logging.getLogger(__name__)


class TapPlan:
    """Which taps a question records, and for how many tokens.

    Args:
        taps: Taps of the recorder's level, in forward order.
        always: Names of those recorded at every token.
        steps: Tokens after which only those go on; None for no end.
    """

    def __init__(self, taps: Sequence[Tap], always: Sequence[str], steps: int | None) -> None:
        self.taps, self.steps = list(taps), steps
        self.always = frozenset(always)
        self._names = frozenset(tap.name for tap in taps)

    def rows(self, tap: Tap, tokens: int) -> int:
        """Rows that a tap has after this many tokens; none if this question does not record it."""
        if tap.name not in self._names:
            return 0
        return tokens if self.steps is None or tap.name in self.always else min(tokens, self.steps)

    def size(self, tokens: int) -> int:
        """Bytes of this many tokens before compression."""
        states = sum(self.rows(tap, tokens) * tap.width * tap.dtype.itemsize for tap in self.taps)
        return states + tokens * _TOKEN_BYTES


def stored(tensor: Tensor) -> Any:
    """A tensor as the store takes it: bits unchanged."""
    tensor = tensor.detach().cpu().contiguous()
    return Bf16(tensor.view(torch.int16).numpy()) if tensor.dtype == torch.bfloat16 else tensor.numpy()


class _File:
    """The recording of one question while it grows."""

    def __init__(self, writer: Hdf5Writer, plan: TapPlan, ids: Ids, *, vocab: int, tokens: int) -> None:
        self.writer, self.plan = writer, plan
        self.ids: list[int] = []
        self._readings: dict[str, list[Any]] = {name: [] for name in _READINGS}
        writer.write("prompt_ids", ids)
        for name, (tail, dtype) in _READINGS.items():
            writer.create(name, (min(TOP, vocab),) if tail else (), dtype, most=tokens)
        for tap in plan.taps:
            kind = Bf16 if tap.dtype == torch.bfloat16 else _numpy(tap.dtype)
            writer.create(f"states/{tap.name}", (tap.width,), kind, most=plan.rows(tap, tokens), level=1)

    def token(self, chosen: int, logits: Any) -> None:
        read = read_logits(logits)
        self.ids.append(chosen)
        values = (chosen, read.top_ids, read.top_logits, read.top_probs, read.logsumexp, read.margin, read.ties)
        for name, value in zip(_READINGS, values, strict=True):
            self._readings[name].append(value)

    def flush(self) -> None:
        for name, values in self._readings.items():
            if values:
                self.writer.append(name, np.asarray(values, dtype=_READINGS[name][1]))
            values.clear()


def _numpy(dtype: torch.dtype) -> Any:
    return torch.zeros((), dtype=dtype).numpy().dtype


class _Rows:
    """States of the last tokens of a batch: one buffer for each type, written to the files when it is full."""

    def __init__(self, taps: Sequence[Tap], rows: int) -> None:
        self._rows = rows
        self._groups: dict[torch.dtype, list[Tap]] = {}
        for tap in taps:
            self._groups.setdefault(tap.dtype, []).append(tap)
        width = sum(tap.width * tap.dtype.itemsize for tap in taps) * rows
        self.capacity = max(1, min(256, BUFFER_BYTES // max(1, width)))
        self._buffers = {
            dtype: torch.empty(self.capacity, rows, sum(tap.width for tap in group), dtype=dtype)
            for dtype, group in self._groups.items()
        }
        self.held = 0

    def put(self, values: Mapping[str, Tensor]) -> None:
        """Keep the rows of one forward; one transfer from the device for each type."""
        for dtype, group in self._groups.items():
            flat = torch.cat([values[tap.name] for tap in group], dim=1)
            self._buffers[dtype][self.held].copy_(flat)
        self.held += 1

    def flush(self, files: Sequence[_File], active: Sequence[Sequence[bool]], start: int) -> None:
        """Write what is held: `active` tells for each held token which rows were generating."""
        # A row that has ended does not begin again: what it recorded is a run from the first held token on.
        running = [sum(step[row] for step in active) for row in range(len(files))]
        for dtype, group in self._groups.items():
            offset = 0
            for tap in group:
                block = self._buffers[dtype][: self.held, :, offset : offset + tap.width]
                offset += tap.width
                for row, file in enumerate(files):
                    count = file.plan.rows(tap, start + running[row]) - start
                    if count > 0:
                        file.writer.append(f"states/{tap.name}", stored(block[:count, row]))
        self.held = 0


def record(
    loaded: LoadedModel,
    questions: Sequence[Question],
    prompts: Sequence[Ids],
    plans: Sequence[TapPlan],
    *,
    paths: Sequence[Path],
    mode: Mode,
    tokens: int,
    rows: int,
    attributes: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Generate the answers of one batch and write a file for each question; memory does not grow with length.

    Args:
        loaded: The model.
        questions: Questions of the batch.
        prompts: Their token ids.
        plans: What each records.
        paths: Files to write.
        mode: How to decode.
        tokens: Tokens to generate at most.
        rows: Rows of the batch; a last batch with fewer questions is filled up with copies of its last question, for
            the shape is a part of the rounding.
        attributes: What all files say of the model and of how they were made.
        provenance: Of all files.
    """
    filled = [*prompts, *[prompts[-1]] * (rows - len(prompts))]
    union = list({tap.name: tap for plan in plans for tap in plan.taps}.values())
    buffer = _Rows(union, rows)
    with ExitStack() as stack:
        files = []
        for question, ids, plan, path in zip(questions, prompts, plans, paths, strict=True):
            own: dict[str, Any] = {"question": question.name, "kind": question.kind, "text": question.text}
            own["taps"] = [tap.name for tap in plan.taps]
            writer = Hdf5Writer(path, attributes={**attributes, **own}, provenance=provenance)
            room = limits(loaded, [len(ids)], tokens)[0]
            files.append(_File(stack.enter_context(writer), plan, ids, vocab=loaded.anatomy.vocab, tokens=room))
        kept = frozenset(tap.name for tap in union if not tap.overwritten)
        hooks = stack.enter_context(LastRows(loaded.anatomy, [tap.name for tap in union], rows, kept=kept))
        history: list[list[bool]] = []
        for step in generate(loaded, filled, mode=mode, tokens=tokens):
            buffer.put(hooks.take())
            history.append(step.active)
            _note(files, step)
            if buffer.held == buffer.capacity:
                _flush(files, buffer, history, step.index)
        _flush(files, buffer, history, step.index)
        for file in files:
            ids = np.asarray(file.ids)
            file.writer.attributes["generated_text"] = loaded.tokenizer.decode(ids, skip_special_tokens=True)
            file.writer.attributes["pieces"] = [loaded.tokenizer.decode([token]) for token in file.ids]


def _note(files: Sequence[_File], step: Step) -> None:
    for row, file in enumerate(files):
        if step.active[row]:
            file.token(int(step.chosen[row]), step.logits[row])
            if step.stopped[row] is not None:
                file.writer.attributes["stopped"] = step.stopped[row]


def _flush(files: Sequence[_File], buffer: _Rows, history: list[list[bool]], index: int) -> None:
    buffer.flush(files, history, index + 1 - buffer.held)
    history.clear()
    for file in files:
        file.flush()


def require_space(
    folder: Path, plans: Sequence[TapPlan], lengths: Sequence[int], loaded: LoadedModel, tokens: int, *, batch: int
) -> int:
    """Estimate the size of recordings, and refuse to begin if the disk has less.

    Returns:
        Bytes before compression, which saves little: the last bits of floats are noise.

    Raises:
        ArtifactError: the disk is too small, or the scratch is for the questions of one batch.
    """
    sizes = [plan.size(count) for plan, count in zip(plans, limits(loaded, lengths, tokens), strict=True)]
    needed, room = sum(sizes), scratch.free()
    largest = max((sum(sizes[start : start + batch]) for start in range(0, len(sizes), batch)), default=0)
    if room is not None and largest > room:
        raise ArtifactError(
            f"recordings grow in the scratch {scratch.current()}, up to {_readable(largest)} at a time, and "
            f"{_readable(room)} are free there; free some space, name another scratch (or none), or lower recorder.taps"
        )
    free = shutil.disk_usage(folder).free
    _log.info("recording %d questions: at most %s", len(plans), _readable(needed))
    if needed > free:
        raise ArtifactError(
            f"recordings in {folder} need up to {_readable(needed)}, {_readable(free)} are free; free some space, or "
            "lower recorder.tokens, recorder.taps or recorder.tap_steps"
        )
    return needed


def _readable(size: int) -> str:
    power = min(4, int(math.log(max(size, 1), 1024)))
    return f"{size / 1024**power:.1f} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
