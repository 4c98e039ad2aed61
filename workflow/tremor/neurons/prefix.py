"""Ablations below a block share what comes before it: its input is kept from the clean pass, and taken up again.

Blocks before it are told to hand the kept residual stream on; masks, positions and rotations stay the model's own, so
that the rest of a forward has the bits of the whole one, which `evaluate.facts` checks each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from tremor.models.anatomy import Anatomy
from tremor.models.anatomy_trace import first_output


class Kept:
    """The residual stream before one block, batch by batch.

    Args:
        anatomy: Of the model.
        block: The block, `n_layers` for what follows the last. 0 keeps nothing; nor does a family whose blocks hand
            on more than the stream (RWKV).
    """

    def __init__(self, anatomy: Anatomy, block: int) -> None:
        recurrent = any(part.mixer_kind == "recurrent" for part in anatomy.block_parts)
        self.block = 0 if recurrent else block
        self._blocks = anatomy.blocks
        self._streams: dict[int, Tensor] = {}
        self._extra = 0  # what a block returns after the stream: attention weights, None unless asked for

    @contextmanager
    def keeping(self, batch: int) -> Iterator[None]:
        """Keep the stream of the forward made inside."""
        if not self.block:
            yield
            return

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            stream = first_output(output)
            if stream is not None:
                # A copy: some models add into the stream in place.
                self._streams[batch] = stream.detach().clone()
            self._extra = len(output) - 1 if isinstance(output, tuple) else 0

        # The output of the block before: behind the last block there is no other to ask for its input.
        handle = self._blocks[self.block - 1].register_forward_hook(after)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def resumed(self, batch: int) -> Iterator[None]:
        """Let the forward made inside begin at the block, for the batch of that number."""
        skipped = list(self._blocks[: self.block])
        stream = self._streams[batch] if skipped else None
        handed: Any = (stream, *[None] * self._extra) if self._extra else stream
        try:
            for module in skipped:
                # On the instance: taking it away brings the class's own method back.
                module.__dict__["forward"] = lambda *_, **__: handed
            yield
        finally:
            for module in skipped:
                module.__dict__.pop("forward", None)
