"""Which experts a mixture-of-experts model chooses at the last position, layer by layer.

The choice is a step function of the state: where a nudge changes it, the answer jumps, and no derivative knows of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tremor.errors import ModelError
from tremor.models.loader import LoadedModel

Choice = tuple[frozenset[int], ...]  # experts chosen in each layer, without order: their outputs are summed


class Routing:
    """The choices of the forward that ran last; see :func:`recorded`."""

    def __init__(self, layers: tuple[int, ...]) -> None:
        self.layers = layers  # blocks that have a router, from 0
        self._found: dict[int, frozenset[int]] = {}

    def _keep(self, layer: int, output: Any) -> None:
        parts = output if isinstance(output, tuple | list) else (output,)
        indices = [part for part in parts if isinstance(part, torch.Tensor) and not part.is_floating_point()]
        if len(indices) != 1:
            raise ModelError(
                f"the router of block {layer} does not answer with one tensor of expert numbers, so its choice cannot "
                "be recorded; set lipschitz.routing: false"
            )
        last = indices[0].reshape(-1, indices[0].shape[-1])[-1]  # one row: its last position comes last
        self._found[layer] = frozenset(int(expert) for expert in last)

    def take(self) -> Choice:
        """The choices of the last forward, layer by layer."""
        missing = [layer for layer in self.layers if layer not in self._found]
        if missing:
            raise ModelError(f"the router of block {missing[0]} did not run; set lipschitz.routing: false")
        found = tuple(self._found[layer] for layer in self.layers)
        self._found = {}
        return found

    @staticmethod
    def flips(before: Choice, after: Choice) -> npt.NDArray[np.int64]:
        """[layers] experts of ``after`` that ``before`` did not choose."""
        return np.array([len(b - a) for a, b in zip(before, after, strict=True)], dtype=np.int64)


@contextmanager
def recorded(loaded: LoadedModel) -> Iterator[Routing | None]:
    """Record the choices of the routers inside the context; None for a model without routers."""
    parts = [part for part in loaded.anatomy.block_parts if part.router is not None]
    if not parts:
        yield None
        return
    routing = Routing(tuple(part.index for part in parts))
    handles = []
    try:
        for part in parts:
            assert part.router is not None

            def hook(module: torch.nn.Module, args: Any, output: Any, layer: int = part.index) -> None:
                routing._keep(layer, output)

            handles.append(part.router.register_forward_hook(hook))
        yield routing
    finally:
        for handle in handles:
            handle.remove()
