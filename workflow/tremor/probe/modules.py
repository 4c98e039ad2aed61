"""The modules of a block by their full names, so that a response can answer with what each of them gives.

A module's name is its path in the model, and a block's modules are those inside the module object of that block:
nothing is matched by text, so block 1 is not block 10.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from tremor.models.anatomy_trace import first_output
from tremor.models.loader import LoadedModel
from tremor.models.taps import TapPoint
from tremor.probe.base import BasePoint


@dataclass(frozen=True)
class BlockModules:
    """The modules of one block that give one vector a position, in the order they are called."""

    loaded: LoadedModel  # the same model, with a tap for each of them
    taps: dict[str, str]  # full module name -> tap
    left_out: tuple[str, ...]  # called more than once, or not one vector a position


def block_modules(loaded: LoadedModel, base: BasePoint, block: int) -> BlockModules:
    """Find the modules of a block, the block itself among them.

    Args:
        loaded: The model.
        base: A base point; its last embedding serves for two short traces.
        block: Number of the block, from 0.
    """
    parts = loaded.anatomy.block_parts[block]
    named = {f"{parts.name}.{inner}".rstrip("."): module for inner, module in parts.module.named_modules()}
    # Two lengths, so that an axis of positions is not confused with one of heads or experts of the same size.
    traces = [_trace(loaded, base, named, length) for length in (2, 3)]
    called = list(dict.fromkeys(name for trace in traces for name in trace))
    fitting = [name for name in called if all(trace.get(name) == [True] for trace in traces)]
    taps = {name: f"block.{block}.{name}" for name in fitting}
    points = {tap: TapPoint(named[name], "output") for name, tap in taps.items()}
    anatomy = replace(loaded.anatomy, taps={**loaded.anatomy.taps, **points})
    return BlockModules(
        loaded=replace(loaded, anatomy=anatomy),
        taps=taps,
        left_out=tuple(name for name in called if name not in taps),
    )


@torch.no_grad()
def _trace(loaded: LoadedModel, base: BasePoint, named: dict[str, nn.Module], length: int) -> dict[str, list[bool]]:
    """For each module that is called, whether each call gave one vector a position; in the order of first calls."""
    seen: dict[str, list[bool]] = {}

    def watch(name: str, module: nn.Module) -> list[Any]:
        def before(module: nn.Module, args: Any) -> None:
            seen.setdefault(name, [])

        def after(module: nn.Module, args: Any, output: Any) -> None:
            value = first_output(output)
            # OPT flattens [batch, positions] inside its blocks; a recording undoes that.
            shapes = ((1, length), (length,))
            fits = value is not None and value.ndim > 1 and tuple(value.shape[:-1]) in shapes
            seen[name].append(fits and value is not None and value.is_floating_point())

        return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]

    handles = [handle for name, module in named.items() for handle in watch(name, module)]
    try:
        loaded.anatomy.base(inputs_embeds=base.embeddings[-1:].repeat(length, 1)[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return seen
