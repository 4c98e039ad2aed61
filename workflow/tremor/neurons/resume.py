"""Resume a forward behind a block: the rest of the model, from any hidden state put in that block's place.

The container that runs the blocks works out masks, positions, rotations and caches before the first of them, and hands
them to each. One recorded forward keeps what every block was handed; resuming calls the later blocks with exactly that
and another hidden state, so a causal mask cannot be forgotten (calling GPT-2's eager blocks without one is a different
function). What a container does to the stream between two blocks (RWKV halves it every few) is found by comparing bits,
and a container that does anything else is refused.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tremor.errors import ModelError, NumericsError
from tremor.models.anatomy import Anatomy
from tremor.models.anatomy_trace import first_output, hidden_input, same

Edit = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class _Handed:
    """What one block was handed: its call, less the hidden state."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    place: int | None  # of the hidden state among args
    keyword: str | None  # its keyword where it came by one

    def with_hidden(self, hidden: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's arguments with another hidden state."""
        if self.keyword is not None:
            return self.args, {**self.kwargs, self.keyword: hidden}
        return tuple(hidden if i == self.place else value for i, value in enumerate(self.args)), self.kwargs


class Resume:
    """One recorded forward of a batch of equally long texts, and the rest of the model behind each of its blocks.

    Args:
        anatomy: The model's.
        ids: Token ids, int64 [batch, positions], on the model's device.

    Attributes:
        states: Block number to that block's output [batch, positions, d_model], as recorded.
        logits: [batch, positions, vocab] of the recorded forward, as the model returned them.

    Raises:
        ModelError: the container does something to the stream that is not understood.
        NumericsError: a block was not called exactly once, or the logits are NaN or infinite.
    """

    def __init__(self, anatomy: Anatomy, ids: Tensor) -> None:
        self._anatomy = anatomy
        with torch.no_grad(), _captured(anatomy) as (calls, end):
            logits = anatomy.model(input_ids=ids, use_cache=False).logits
        unmet = [str(k) for k, seen in enumerate(calls) if len(seen) != 1]
        if unmet:
            raise NumericsError(f"block(s) {', '.join(unmet)} were not called exactly once; no resuming behind them")
        if not bool(torch.isfinite(logits).all()):
            raise NumericsError("the logits are NaN or infinite; use a wider dtype")
        self.logits: Tensor = logits
        self.states: dict[int, Tensor] = {}
        self._handed: list[_Handed] = []
        self._halved: list[bool] = []  # whether the container halves the stream behind each block
        for k, (call,) in enumerate(calls):
            self.states[k] = call.output
            self._handed.append(call.handed)
            if k:
                self._halved.append(_halved(anatomy, k - 1, self.states[k - 1], call.input))
        last = len(calls) - 1
        if anatomy.after_blocks and len(end) != 1:
            raise NumericsError(f"what follows block {last} was not called exactly once; no resuming behind the blocks")
        self._halved.append(bool(end) and _halved(anatomy, last, self.states[last], end[0]))

    def __call__(self, block: int, hidden: Tensor, *, edit: Edit | None = None) -> Tensor:
        """Logits [batch, positions, vocab] with `hidden` in place of a block's output.

        Args:
            block: Number of the block, from 0.
            hidden: [batch, positions, d_model] with the batch and positions of the recorded forward.
            edit: Called as edit(k, output of block k) for this and every later block; what it returns flows on.
        """
        return self._anatomy.unembed(self.final(block, hidden, edit=edit))

    def final(self, block: int, hidden: Tensor, *, edit: Edit | None = None) -> Tensor:
        """The final state [batch, positions, width], after the modules that follow the blocks; see `__call__`.

        Raises:
            ValueError: `hidden` has another shape than the recorded output of the block.
        """
        if hidden.shape != self.states[block].shape:
            raise ValueError(f"a state of shape {tuple(hidden.shape)} for one of {tuple(self.states[block].shape)}")
        hidden = hidden if edit is None else edit(block, hidden)
        for k in range(block + 1, self._anatomy.n_layers):
            args, kwargs = self._handed[k].with_hidden(self._behind(k - 1, hidden))
            output = first_output(self._anatomy.blocks[k](*args, **kwargs))
            assert output is not None  # the recorded call had one
            hidden = output if edit is None else edit(k, output)
        return self._anatomy.normalise(self._behind(self._anatomy.n_layers - 1, hidden))

    def _behind(self, block: int, hidden: Tensor) -> Tensor:
        """What the container makes of a block's output."""
        return hidden / 2 if self._halved[block] else hidden

    def check(self, blocks: Sequence[int] | None = None) -> None:
        """Resume behind blocks from their own outputs and compare every logit's bits with the recorded forward's.

        Args:
            blocks: Which; None for all.

        Raises:
            ModelError: a bit differs: some path passes by the residual stream.
        """
        for block in self.states if blocks is None else blocks:
            with torch.no_grad():
                again = self(block, self.states[block])
            if not same(again, self.logits):
                far = float((again.double() - self.logits.double()).abs().max())
                raise ModelError(
                    f"{type(self._anatomy.model).__name__} resumed behind block {block} gives other logits (by up to "
                    f"{far:.3g}); some path passes by the residual stream, so its gain has no meaning"
                )


@dataclass(frozen=True)
class _Call:
    """One block's call: what it was handed, and copies of the streams in and out."""

    handed: _Handed
    input: Tensor
    output: Tensor


@contextmanager
def _captured(anatomy: Anatomy) -> Iterator[tuple[list[list[_Call]], list[Tensor]]]:
    """Record the calls of all blocks, and what the modules after them were handed, for the forwards inside."""
    calls: list[list[_Call]] = [[] for _ in anatomy.blocks]
    end: list[Tensor] = []

    def watch(number: int) -> Any:
        def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            hidden, keyword = hidden_input(args, kwargs)
            stream = first_output(output)
            if hidden is None or stream is None:
                return
            place = None if keyword is not None else next(i for i, value in enumerate(args) if value is hidden)
            handed = _Handed(args, dict(kwargs), place, keyword)
            # Copies, because some models add into the stream in place.
            calls[number].append(_Call(handed, inputs[number].pop(), stream.detach().clone()))

        return after

    inputs: list[list[Tensor]] = [[] for _ in anatomy.blocks]  # a stack each: a block may be called within itself

    def before(number: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden, _ = hidden_input(args, kwargs)
            if hidden is not None:
                inputs[number].append(hidden.detach().clone())

        return hook

    def last(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden, _ = hidden_input(args, kwargs)
        if hidden is not None:
            end.append(hidden.detach().clone())

    handles = []
    try:
        for k, block in enumerate(anatomy.blocks):
            handles.append(block.register_forward_pre_hook(before(k), with_kwargs=True))
            handles.append(block.register_forward_hook(watch(k), with_kwargs=True))
        for module in anatomy.after_blocks[:1]:
            handles.append(module.register_forward_pre_hook(last, with_kwargs=True))
        yield calls, end
    finally:
        for handle in handles:
            handle.remove()


def _halved(anatomy: Anatomy, block: int, output: Tensor, taken: Tensor) -> bool:
    """Whether the stream is halved between a block's output and what was taken up after it.

    Raises:
        ModelError: it is neither handed on as it is nor halved.
    """
    if same(output, taken):
        return False
    if same(output / 2, taken):
        return True
    raise ModelError(
        f"{type(anatomy.model).__name__} changes the residual stream between block {block} and what follows; "
        "resuming behind a block is not understood for it"
    )
