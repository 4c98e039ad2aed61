"""The parts of every block that can be taken out alone: weights of each component, and what each branch adds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tremor.errors import ModelError
from tremor.models.anatomy import Anatomy, BlockParts, Slice
from tremor.models.loader import LoadedModel
from tremor.weights import structured
from tremor.weights.activations import Change, intervened
from tremor.weights.mutate import Edit

Level = Literal["block", "branch", "component", "norm", "head"]


@dataclass(frozen=True, eq=False)
class Output:
    """Where a part's output can be replaced.

    Attributes:
        tap: Name of the tap.
        units: Coordinates int64 [n] of its last axis; None for all.
    """

    tap: str
    units: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """One part of one block.

    Attributes:
        block: Number of the block.
        level: "block", "branch" (what mixer or MLP adds to the stream), "component", "norm" or "head".
        name: "block", "mixer", "mlp", a projection, a norm, "head.3", or the path of another module in the block.
        edits: Its weights; empty for blocks and branches, which are cut out at their outputs.
        outputs: Where its output is; empty where no module gives it by itself (stacked experts, single heads).
    """

    block: int
    level: Level
    name: str
    edits: tuple[Edit, ...] = ()
    outputs: tuple[Output, ...] = ()


def parts_of(anatomy: Anatomy, block: int, *, heads: bool = True) -> Iterator[Part]:
    """All parts of a block, the whole first.

    Args:
        anatomy: Of the model.
        block: Number of the block.
        heads: Whether attention heads are among them.
    """
    own = anatomy.block_parts[block]
    branches = [name for name in ("mixer", "mlp") if f"block.{block}.{name}" in anatomy.taps]
    taps = [Output(f"block.{block}.{name}") for name in branches]
    yield Part(block, "block", "block", outputs=tuple(taps))
    for name, tap in zip(branches, taps, strict=True):
        yield Part(block, "branch", name, outputs=(tap,))
    places = {id(point.module): name for name, point in anatomy.taps.items() if point.side == "output"
              and name.startswith(f"block.{block}.")}  # fmt: skip
    claimed: set[str] = set()
    for name in structured.PROJECTIONS:
        part: Slice | None = getattr(own, name)
        if part is not None:
            claimed |= {part.parameter, *((part.bias,) if part.bias is not None else ())}
            yield Part(block, "component", name, tuple(structured.component(anatomy, block, name)),
                       _projected(anatomy, part, places))  # fmt: skip
    norms = [(name, module) for name, module in own.norms.items() if any(True for _ in module.parameters())]
    for path, edits, module in _others(anatomy, own, claimed, {id(m) for _, n in norms for m in n.modules()}):
        yield Part(block, "component", path, tuple(edits), _whole(places.get(id(module))))
    for name, module in norms:
        prefix = next(n for n, m in anatomy.model.named_modules() if m is module)
        edits = [Edit(f"{prefix}.{inner}") for inner, _ in module.named_parameters()]
        yield Part(block, "norm", name, tuple(edits), _whole(places.get(id(module))))
    if heads and own.mixer_kind == "attention":
        for index in range(structured.heads(anatomy, block)):
            yield Part(block, "head", f"head.{index}", tuple(structured.head(anatomy, block, index)))


def _whole(tap: str | None) -> tuple[Output, ...]:
    return () if tap is None else (Output(tap),)


def _projected(anatomy: Anatomy, part: Slice, places: dict[int, str]) -> tuple[Output, ...]:
    """The output of a projection: some units of the module that holds its weights."""
    holder = anatomy.model.get_submodule(part.parameter.rpartition(".")[0])
    tap = places.get(id(holder))
    if tap is None or anatomy.parameter(part.parameter).ndim != 2:
        return ()
    width = anatomy.parameter(part.parameter).shape[part.axis]
    return (Output(tap, part.take_bias(torch.arange(width))),)


def _others(
    anatomy: Anatomy, own: BlockParts, claimed: set[str], norms: set[int]
) -> Iterator[tuple[str, list[Edit], nn.Module | None]]:
    """Weights of a block in no projection and no norm (Mamba's, routers): by the module that holds them.

    Parameters that a mixer holds itself (A_log, D) stand by themselves: they are no matrix of one layer.
    """
    direct = {id(module) for module in (own.module, own.mixer, *own.mlp)}
    grouped: dict[str, tuple[list[Edit], nn.Module | None]] = {}
    for name, _ in own.module.named_parameters():
        full = f"{own.name}.{name}"
        holder_path = name.rpartition(".")[0]
        holder = own.module.get_submodule(holder_path)
        if full in claimed or id(holder) in norms:
            continue
        alone = id(holder) in direct and not isinstance(holder, nn.Linear)
        path, module = (name, None) if alone else (holder_path, holder)
        grouped.setdefault(path, ([], module))[0].append(Edit(full))
    for path, (edits, module) in grouped.items():
        yield path.removeprefix("mixer."), edits, module


def replaced(values: dict[str, Tensor], outputs: Sequence[Output]) -> dict[str, Change]:
    """Changes that put fixed values in the place of outputs.

    Args:
        values: By tap, [width] each; taps that are missing are set to zero.
        outputs: What is replaced.
    """

    def change_of(output: Output) -> Change:
        def change(tensor: Tensor) -> Tensor:
            value = values.get(output.tap)
            full = torch.zeros_like(tensor) if value is None else value.to(tensor).expand_as(tensor)
            if output.units is None:
                return full.clone()
            new = tensor.clone()
            units = output.units.to(tensor.device)
            new[..., units] = full[..., units]
            return new

        return change

    return {output.tap: change_of(output) for output in outputs}


@torch.no_grad()
def mean_outputs(loaded: LoadedModel, sequences: Sequence[Tensor], taps: Sequence[str]) -> dict[str, Tensor]:
    """Mean of taps over the tokens of some texts.

    Args:
        loaded: The model.
        sequences: Token ids int64 [positions] each.
        taps: Names.

    Returns:
        Float64 [width] by tap.

    Raises:
        ModelError: There is no text.
    """
    if not sequences:
        raise ModelError("means of activations need at least one text")
    sums: dict[str, Tensor] = {}
    names = list(dict.fromkeys(taps))

    def taken(name: str) -> Change:
        def take(tensor: Tensor) -> Tensor:
            total = tensor.detach().reshape(-1, tensor.shape[-1]).double().sum(0)
            sums[name] = sums[name] + total if name in sums else total
            return tensor

        return take

    with intervened(loaded.anatomy, {name: taken(name) for name in names}):
        for ids in sequences:
            loaded.model(input_ids=ids[None], use_cache=False)
    tokens = sum(len(ids) for ids in sequences)
    return {name: total / tokens for name, total in sums.items()}
