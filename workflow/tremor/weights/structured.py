"""Whole structures as edits, found through the anatomy: attention heads, MLP neurons, channels, components, blocks.

Weights that *write* are what is named: an attention head is the part of the output projection that reads it, so that
zeroing these weights removes exactly what the head adds to the residual stream, for grouped keys and values too.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tremor.errors import ModelError
from tremor.models.anatomy import Anatomy, Slice
from tremor.weights.mutate import Edit

PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")
Side = Literal["output", "input"]


def _projection(anatomy: Anatomy, block: int, name: str) -> Slice:
    if not 0 <= block < anatomy.n_layers:
        raise ModelError(f"there is no block {block}; this model has blocks 0 to {anatomy.n_layers - 1}")
    if name not in PROJECTIONS:
        raise ModelError(f"there is no projection '{name}'; choose among {', '.join(PROJECTIONS)}")
    found = getattr(anatomy.block_parts[block], name)
    if found is None:
        has = [p for p in PROJECTIONS if getattr(anatomy.block_parts[block], p) is not None]
        raise ModelError(f"block {block} has no projection '{name}', only {', '.join(has) or 'none'}")
    assert isinstance(found, Slice)
    return found


def _places(anatomy: Anatomy, part: Slice) -> Tensor:
    """Flat positions of a projection inside its parameter, in the projection's shape."""
    shape = anatomy.parameter(part.parameter).shape
    return part.take(torch.arange(shape.numel()).view(shape))


def _input_axis(places: Tensor, part: Slice) -> int:
    """Axis of the inputs: the other one of the last two."""
    return places.ndim - 1 if part.axis == places.ndim - 2 else places.ndim - 2


def _joined(parts: Sequence[tuple[str, Tensor]]) -> list[Edit]:
    """One edit per parameter: fused projections share theirs."""
    grouped: dict[str, list[Tensor]] = {}
    for name, places in parts:
        grouped.setdefault(name, []).append(places.reshape(-1))
    return [Edit(name, torch.cat(found)) for name, found in grouped.items()]


def _bias(anatomy: Anatomy, part: Slice) -> list[tuple[str, Tensor]]:
    if part.bias is None:
        return []
    shape = anatomy.parameter(part.bias).shape
    return [(part.bias, part.take_bias(torch.arange(shape.numel()).view(shape)))]


def component(anatomy: Anatomy, block: int, name: str, *, bias: bool = True) -> list[Edit]:
    """A whole projection of a block, with its bias.

    Args:
        anatomy: The model's anatomy.
        block: Index of the block.
        name: q, k, v, o, gate, up or down.
        bias: Whether its bias belongs to it.

    Raises:
        ModelError: The block has no such projection.
    """
    part = _projection(anatomy, block, name)
    return _joined([(part.parameter, _places(anatomy, part)), *(_bias(anatomy, part) if bias else [])])


def channel(anatomy: Anatomy, block: int, name: str, index: int, *, side: Side = "output") -> list[Edit]:
    """One output channel (with its bias) or one input channel of a projection; of all experts where they are stacked.

    Raises:
        ModelError: The block has no such projection, or the projection no such channel.
    """
    part = _projection(anatomy, block, name)
    places = _places(anatomy, part)
    axis = part.axis if side == "output" else _input_axis(places, part)
    _check(index, places.shape[axis], f"{side} channel", f"{name} of block {block}")
    chosen = [(part.parameter, places.select(axis, index))]
    if side == "output":
        chosen += [(bias, found[..., index]) for bias, found in _bias(anatomy, part)]
    return _joined(chosen)


def neuron(anatomy: Anatomy, block: int, index: int) -> list[Edit]:
    """One hidden unit of an MLP: its row of gate and up (with biases) and its column of down.

    Raises:
        ModelError: The block has no MLP with up and down projections, or no such unit.
    """
    has_gate = 0 <= block < anatomy.n_layers and anatomy.block_parts[block].gate is not None
    parts: list[tuple[str, Tensor]] = []
    for name, side in (("gate", "output"), ("up", "output"), ("down", "input")):
        if name != "gate" or has_gate:
            found = channel(anatomy, block, name, index, side=side)  # type: ignore[arg-type]
            parts += [(edit.tensor, edit.flat_index) for edit in found if edit.flat_index is not None]
    return _joined(parts)


def heads(anatomy: Anatomy, block: int) -> int:
    """Number of attention heads of a block.

    Raises:
        ModelError: The block has no attention, or the output projection does not divide into heads.
    """
    part = _projection(anatomy, block, "o")
    kind = anatomy.block_parts[block].mixer_kind
    count = getattr(anatomy.model.config.get_text_config(), "num_attention_heads", None)
    if kind != "attention" or not count:
        raise ModelError(f"block {block} has no attention heads: its mixer is '{kind}'")
    places = _places(anatomy, part)
    inputs = places.shape[_input_axis(places, part)]
    if inputs % count:
        raise ModelError(
            f"the output projection of block {block} reads {inputs} numbers, not a multiple of {count} heads"
        )
    return int(count)


def head(anatomy: Anatomy, block: int, index: int) -> list[Edit]:
    """One attention head: the inputs of the output projection that read it.

    Raises:
        ModelError: The block has no such head.
    """
    count = heads(anatomy, block)
    _check(index, count, "head", f"block {block}")
    part = _projection(anatomy, block, "o")
    places = _places(anatomy, part)
    axis = _input_axis(places, part)
    width = places.shape[axis] // count
    return _joined([(part.parameter, places.narrow(axis, index * width, width))])


def block(anatomy: Anatomy, index: int) -> list[Edit]:
    """Everything a block writes into the residual stream: the output projections of mixer and MLP, with biases.

    Zeroing these makes the block add nothing (where a norm follows the branch, what that norm makes of zero).

    Raises:
        ModelError: There is no such block, or its output projections are not known.
    """
    _projection(anatomy, index, "o")
    parts: list[tuple[str, Tensor]] = []
    for name in ("o", "down"):
        if getattr(anatomy.block_parts[index], name) is not None:
            found = component(anatomy, index, name)
            parts += [(edit.tensor, edit.flat_index) for edit in found if edit.flat_index is not None]
    return _joined(parts)


def _check(index: int, count: int, what: str, where: str) -> None:
    if not 0 <= index < count:
        raise ModelError(f"{where} has no {what} {index}; its {what}s are 0 to {count - 1}")
