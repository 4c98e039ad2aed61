"""The response: what the model answers at the last position to an exact input vector, bit for bit.

Two modes, each its own float function (design.md 5.1): ``reference`` runs the full sequence, batch 1, without a
cache, as the originals did; ``batched`` runs one position a row against a frozen prefix in a fixed batch shape.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt
import torch

from tremor import floats, memory
from tremor.errors import NumericsError, PlatformError
from tremor.models.anatomy import Slice
from tremor.models.loader import LoadedModel
from tremor.probe.base import BasePoint, dtype_name, to_array, to_tensor
from tremor.probe.prefix import Prefix
from tremor.progress import track

Mode = Literal["reference", "batched"]
log = logging.getLogger(__name__)

# Batch sizes that "auto" tries, largest first: wide ones reach the machine's matrix rate, narrow ones are the way
# out where a kernel treats the rows of a wide batch differently.
AUTO_BATCHES = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)


@dataclass(frozen=True)
class ControlReport:
    """The A/A control of a response: the same input in every row, several times, and beside foreign rows."""

    mode: Mode
    batch_size: int
    runs: int
    runs_identical: bool  # the same call twice gave the same bits in every row
    rows_identical: bool  # all rows of one call gave the same bits
    content_independent: bool  # a row's bits did not depend on what the other rows held
    worst_ulps: int  # largest difference met, in ulps of the output's format

    @property
    def exact(self) -> bool:
        """Whether an answer is a function of the input's bits alone."""
        return self.runs_identical and self.rows_identical and self.content_independent


class Response:
    """Evaluate many exact inputs at the last position of a base point.

    Args:
        loaded: The model.
        base: The base point; only its last position is replaced.
        mode: ``reference`` or ``batched``.
        batch_size: Rows of each batched evaluation, or ``auto``: the largest size within ``max_memory`` whose A/A
            control is exact, and 1 for a mixture of experts. Ignored in reference mode, where it is 1.
        taps: Names of the tensors to answer with (see the anatomy); the first is what :meth:`changed` compares.
        max_memory: Bytes that the activations of one batch may take when its size is ``auto``.
        repeats: Runs of the A/A control, >= 2.
        require_exact: Stop where the A/A control fails; else take the size all the same, and leave it to the caller
            to read `control`.

    Raises:
        PlatformError: the A/A control failed, so equality of bits would mean nothing here; or memory ran out for
            the size that was asked for, or for one row.
        NumericsError: the base state is NaN or infinite.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        base: BasePoint,
        *,
        mode: Mode,
        batch_size: int | Literal["auto"] = "auto",
        taps: Sequence[str] = ("final",),
        max_memory: float = 2 * 2**30,
        repeats: int = 2,
        require_exact: bool = True,
    ) -> None:
        self.loaded, self.base, self.mode, self.taps = loaded, base, mode, tuple(taps)
        self.rows_evaluated = 0
        self._chosen = mode == "batched" and batch_size == "auto"
        if mode == "reference":
            sizes: tuple[int, ...] = (1,)
        elif mode == "batched":
            # A size that was asked for is part of the function asked for: only "auto" looks for one that fits.
            fitting = tuple(b for b in AUTO_BATCHES if b * row_bytes(loaded, base) <= max_memory) or (1,)
            if loaded.experts is not None:
                # Experts run on the rows routed to them, so rows share a rounding; no control tries every routing.
                fitting = (1,)
            sizes = fitting if batch_size == "auto" else (int(batch_size),)
        else:
            raise ValueError(f"unknown mode '{mode}'; one of reference, batched")
        for size in sizes:
            if self._try(size, repeats) and self.control.exact:
                break
        else:
            if require_exact:
                raise PlatformError(_not_exact(self.control))
        self.h0: npt.NDArray[Any] = to_array(self._baseline[self.taps[0]][0])

    def _try(self, rows: int, repeats: int) -> bool:
        """Run the control with this many rows; False where that is too much for the memory, if fewer may be taken."""
        limit = memory.batch_limit()
        if self._chosen and rows > 1 and limit is not None and rows > limit:
            return False
        try:
            self._use(rows)
            self.control = self._control(repeats)
            return True
        except Exception as error:
            if not memory.is_shortage(error):
                raise
            if not self._chosen or rows == 1:
                self._out_of_memory(error)
        # Behind the handler: the exception's traceback keeps the tensors of the attempt alive.
        log.warning("memory ran out with batches of %d rows; %d are tried", rows, memory.lower(rows))
        memory.release()
        return False

    def _out_of_memory(self, error: Exception) -> NoReturn:
        """Say what to change; an answer in another batch shape would be the answer of another function."""
        if self._chosen and self.batch_size > 1:
            raise memory.BatchTooLarge(self.batch_size) from error
        if self.mode == "reference":
            said = f"one sequence of {len(self.base.ids)} tokens; use a machine with more, or probe.mode: batched"
        elif self.batch_size > 1:
            said = f"batches of {self.batch_size} rows; set probe.batch_size to a smaller number"
        else:
            said = "a batch of one row; use a machine with more, or a narrower probe.dtype"
        raise PlatformError(f"memory ran out for {said}") from error

    def _use(self, rows: int) -> None:
        self.batch_size = rows
        if self.mode == "batched":
            self._prefix = Prefix(self.loaded.anatomy.base, self.base.embeddings[:-1], rows)

    @property
    def output_format(self) -> str:
        """Name of the float format of the answers."""
        return dtype_name(self._baseline[self.taps[0]].dtype)

    def _forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Taps [rows, width] of exactly one evaluation over [batch_size, d_in]."""
        model = self.loaded.anatomy.base
        if self.mode == "reference":
            sequence = self.base.embeddings[None].clone()
            sequence[0, -1] = rows[0]
            arguments: dict[str, Any] = {"inputs_embeds": sequence, "use_cache": False}
        else:
            arguments = {"inputs_embeds": rows[:, None], **self._prefix.arguments()}
        self.rows_evaluated += int(rows.shape[0])
        if self.taps == ("final",):
            return {"final": model(**arguments).last_hidden_state[:, -1]}
        with self.loaded.anatomy.record(self.taps) as record, self._cut():
            model(**arguments)
        return {name: record[name][:, -1] for name in self.taps}

    @contextmanager
    def _cut(self) -> Iterator[None]:
        """Stop a forward before the first block that no tap needs."""
        blocks = self.loaded.anatomy.blocks
        needed = max(blocks_needed(name, len(blocks)) for name in self.taps)
        if needed >= len(blocks):
            yield
            return
        # Registered after the recording hooks of that block, so its input is still recorded.
        handle = blocks[needed].register_forward_pre_hook(_stop)
        try:
            yield
        except _Reached:
            pass
        finally:
            handle.remove()

    @torch.no_grad()
    def _control(self, runs: int) -> ControlReport:
        """Run the same input in every row, several times, then beside rows of other content."""
        like = self.base.embeddings
        rows = to_tensor(self.base.x, like)[None].repeat(self.batch_size, 1)
        first = self._forward(rows)
        for name, value in first.items():
            if not bool(torch.isfinite(value).all()):
                raise NumericsError(
                    f"the state at '{name}' of the unperturbed prompt is NaN or infinite; check the model's weights, "
                    "or use a wider probe.dtype"
                )
        again = [self._forward(rows) for _ in range(runs - 1)]
        mixed = [(own, self._forward(foreign)) for own, foreign in _among_foreigners(rows)]
        self._baseline = first
        worst = 0
        rows_same = runs_same = independent = True
        for name, value in first.items():
            spread = _ulps(value, value[:1].expand_as(value))
            repeat = max((_ulps(value, other[name]) for other in again), default=0)
            beside = max((_ulps(value[own], other[name][own]) for own, other in mixed), default=0)
            rows_same &= spread == 0
            runs_same &= repeat == 0
            independent &= beside == 0
            worst = max(worst, spread, repeat, beside)
        return ControlReport(self.mode, self.batch_size, runs, runs_same, rows_same, independent, worst)

    @torch.no_grad()
    def batches(self, inputs: npt.NDArray[Any]) -> Iterator[tuple[slice, dict[str, torch.Tensor]]]:
        """Evaluate inputs [m, d_in] in the fixed batch shape, the last batch padded with the base point.

        Yields:
            The slice of the inputs and the taps [k, width] for it, on the model's device.

        Raises:
            NumericsError: an answer is NaN or infinite.
            BatchTooLarge: memory ran out with a size chosen by ``auto``: all that was asked so far has to be asked
                again in smaller batches (`memory.restarting` does that for a job).
            PlatformError: memory ran out with the size that was asked for.
        """
        like = self.base.embeddings
        starts = range(0, len(inputs), self.batch_size)
        for start in track(starts, "batches") if len(starts) > 1 else starts:
            part = inputs[start : start + self.batch_size]
            rows = to_tensor(part, like)
            if len(part) < self.batch_size:
                padding = to_tensor(self.base.x, like)[None].expand(self.batch_size - len(part), -1)
                rows = torch.cat([rows, padding])
            try:
                answer = {name: value[: len(part)] for name, value in self._forward(rows).items()}
            except Exception as error:
                if memory.is_shortage(error):
                    self._out_of_memory(error)
                raise
            for name, value in answer.items():
                if not bool(torch.isfinite(value).all()):
                    raise NumericsError(
                        f"the state at '{name}' became NaN or infinite under a nudge; lower s_max or widen probe.dtype"
                    )
            yield slice(start, start + len(part)), answer

    def evaluate(self, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Answers [m, width] of the first tap to inputs [m, d_in], as carried numpy values."""
        parts = [to_array(answer[self.taps[0]]) for _, answer in self.batches(inputs)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.h0)), dtype=self.h0.dtype)

    def changed(
        self, inputs: npt.NDArray[Any], *, threshold: float = 0.0
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[Any]]:
        """Which inputs [m, d_in] change the answer, and all answers.

        With threshold 0 a change is any difference in bits (+0 and -0 differ); above 0 it is a coordinate that
        differs by more than the threshold. Each row is compared with the baseline of its own row.

        Returns:
            Boolean [m] and answers [m, width].
        """
        flags, answers = [], []
        for _, answer in self.batches(inputs):
            value = answer[self.taps[0]]
            baseline = self._baseline[self.taps[0]][: len(value)]
            if threshold == 0:
                flag = (as_bits(value) != as_bits(baseline)).any(dim=1)
            else:
                flag = ((value.double() - baseline.double()).abs() > threshold).any(dim=1)
            flags.append(flag.cpu().numpy())
            answers.append(to_array(value))
        if not flags:
            return np.zeros(0, dtype=bool), np.zeros((0, len(self.h0)), dtype=self.h0.dtype)
        return np.concatenate(flags), np.concatenate(answers)


class _Reached(Exception):
    """All taps of a forward have been recorded."""


def _stop(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
    raise _Reached


def blocks_needed(tap: str, layers: int) -> int:
    """How many blocks must run before a tap is known; ``layers`` for whatever follows the last block."""
    parts = tap.split(".")
    if tap == "embedding":
        return 0
    if parts[0] == "residual":
        return int(parts[1])
    return int(parts[1]) + 1 if parts[0] == "block" else layers


def _among_foreigners(rows: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Copies of a batch of equal rows in which only some rows are left: every other one, all but the last, the first.

    Kernels that sort rows by content (a mixture of experts runs each expert on the rows routed to it) change their
    shape, and with it their rounding, with the number of rows of a kind. So few and many are tried, and the first row
    stands among rows that are all equal to each other: then it is alone wherever those are treated differently.
    A batch of one row has no neighbours.

    Yields:
        The rows that were left as they are, and the batch.
    """
    count = len(rows)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(rows.shape, generator=generator, dtype=torch.float32).to(rows.device)
    foreign = (rows.float() * (1 + noise)).to(rows.dtype)
    alone, most = slice(0, 1), slice(0, count - 1)
    crowds = [(slice(0, count, 2), foreign), (most, foreign), (alone, -rows)]
    crowds += [(alone, foreign[k : k + 1].expand_as(rows)) for k in range(min(3, count))]
    for own, others in crowds if count > 1 else ():
        mixed = others.clone()
        mixed[own] = rows[own]
        yield own, mixed


def as_bits(tensor: torch.Tensor) -> torch.Tensor:
    """Integer view of a float tensor: equality of these is equality of bits (design.md 5.7)."""
    widths = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().view(widths[tensor.element_size()])


def _ulps(a: torch.Tensor, b: torch.Tensor) -> int:
    if torch.equal(as_bits(a), as_bits(b)):
        return 0
    if not bool((torch.isfinite(a) & torch.isfinite(b)).all()):
        raise NumericsError("an A/A control answered NaN or infinity; check the model's weights")
    distance = floats.ulp_distance(to_array(a), to_array(b), dtype_name(a.dtype))
    return max(1, int(distance.max()))  # at least 1: +0 against -0 is a difference in bits


def row_bytes(loaded: LoadedModel, base: BasePoint) -> int:
    """Rough bytes one batched row takes: its copy of the prefix and its live activations."""
    config = loaded.model.config
    size = base.embeddings.element_size()
    # Keys and values as wide as their projections; a recurrent state counts as one position of the stream.
    keys = [part.k for part in loaded.anatomy.block_parts]
    widths = [loaded.anatomy.d_model if k is None else _channels(loaded, k) for k in keys]
    cache = 2 * len(base.ids) * sum(widths)
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * loaded.anatomy.d_model
    activations = 4 * int(inner) + 16 * loaded.anatomy.d_model
    return int(size * (cache + activations))


def _channels(loaded: LoadedModel, part: Slice) -> int:
    """Output features of a projection."""
    size = loaded.anatomy.parameter(part.parameter).shape[part.axis]
    return len(range(*part.index.indices(size))) if isinstance(part.index, slice) else len(part.index)


def _not_exact(report: ControlReport) -> str:
    if report.mode == "reference":
        return (
            "the same forward pass gave different bits twice, so nothing exact can be said on this platform; "
            "check deterministic kernels with `tremor doctor`, or use device: cpu"
        )
    failed = [
        text
        for ok, text in (
            (report.runs_identical, "two equal runs differed"),
            (report.rows_identical, "equal rows of one batch differed"),
            (report.content_independent, "a row's answer depended on its neighbours"),
        )
        if not ok
    ]
    return (
        f"the A/A control failed at batch size {report.batch_size}: {'; '.join(failed)} (up to {report.worst_ulps} "
        "ulp). Set probe.batch_size: auto or 1, or probe.mode: reference"
    )
