"""Super weights: single weights that make a spike of activation, found by forward passes alone.

The procedure of Yu et al., "The Super Weight in Large Language Models" (2024), made automatic. For each block the
projection that writes into the residual stream is watched: the coordinate of largest magnitude in its input names a
column, that of its output a row. The earliest block that spikes in both, at one token, and whose stream did not carry
the spike before, is where it is made; the weight [row, column] is set to zero, and the search starts again until
no block spikes. Blocks at the end, which remove the massive activation, are no origin: the stream holds it already.

Several prompts, with and without a begin-of-text token, vote: a super weight does not depend on the prompt. Of spikes
that only some prompts have, the peaks tell.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tremor.errors import ConfigError, ModelError
from tremor.models.anatomy import Anatomy, Slice
from tremor.models.anatomy_projections import is_linear
from tremor.models.loader import LoadedModel
from tremor.weights.mutate import Edit, mutated, zero
from tremor.weights.scores.base import wide

Scale = Literal["absolute", "relative"]
CARRIED = 0.5  # a stream that holds half of the spike before the block's projection has it from elsewhere


@dataclass(frozen=True)
class Watched:
    """The projection of one block that writes last into the residual stream.

    Attributes:
        block: Number of the block.
        tensor: Name of its weight.
        module: The linear module.
        transposed: Whether the weight is stored as [inputs, outputs].
    """

    block: int
    tensor: str
    module: nn.Module
    transposed: bool


@dataclass(frozen=True)
class Peak:
    """Largest activations of one watched projection in one forward pass.

    Attributes:
        block: Number of the block.
        input_value: Signed value of largest magnitude in the input.
        input_token: Its position.
        column: Its coordinate.
        output_value: Signed value of largest magnitude in the output.
        output_token: Its position.
        row: Its coordinate.
        input_scale: Median magnitude of the input.
        output_scale: Median magnitude of the output.
        carried: What the stream held at that token and coordinate at the block's beginning.
        share: w[row, column] * input / output at the output's token: how much of the spike this weight makes.
    """

    block: int
    input_value: float
    input_token: int
    column: int
    output_value: float
    output_token: int
    row: int
    input_scale: float
    output_scale: float
    carried: float
    share: float

    def spikes(self, threshold: float, scale: Scale) -> bool:
        """Whether both the input and the output spike, at the same token."""
        units = (1.0, 1.0) if scale == "absolute" else (self.input_scale, self.output_scale)
        above = abs(self.input_value) > threshold * units[0] and abs(self.output_value) > threshold * units[1]
        return above and self.input_token == self.output_token

    def originates(self) -> bool:
        """Whether the stream did not hold most of the spike before."""
        return abs(self.carried) < CARRIED * abs(self.output_value)


@dataclass(frozen=True)
class SuperWeight:
    """A super weight.

    Attributes:
        order: In which it was found, from 1.
        block: Number of the block.
        tensor: Name of the parameter.
        row: Output coordinate.
        column: Input coordinate.
        flat_index: Flat index in the parameter as stored.
        weight: Its value.
        votes: Prompts in which it is the origin of the spike.
        prompts: Prompts tried, with and without begin token.
        input_value: Input at its column, in the prompt with the largest output.
        output_value: Output at its row there.
        share: Share of that output that the weight makes.
    """

    order: int
    block: int
    tensor: str
    row: int
    column: int
    flat_index: int
    weight: float
    votes: int
    prompts: int
    input_value: float
    output_value: float
    share: float


def watched(anatomy: Anatomy) -> list[Watched]:
    """The projections to watch, one a block that has one.

    Raises:
        ModelError: No block has one that is a linear module.
    """
    modules = {name: module for name, module in anatomy.model.named_modules() if is_linear(module)}
    found = []
    for part in anatomy.block_parts:
        writer: Slice | None = part.down or part.o
        module = None if writer is None else modules.get(writer.parameter.rpartition(".")[0])
        if writer is not None and module is not None:
            found.append(Watched(part.index, writer.parameter, module, writer.parameter in anatomy.transposed))
    if not found:
        raise ModelError(
            "no block of this model writes into its stream through a linear module; stacked experts have none"
        )
    return found


@torch.no_grad()
def peaks(loaded: LoadedModel, ids: Tensor) -> list[Peak]:
    """Largest activations of every watched projection in one forward pass.

    Args:
        loaded: The model.
        ids: Token ids, int64 [positions].
    """
    points = watched(loaded.anatomy)
    seen: dict[int, tuple[Tensor, Tensor]] = {}

    def watch(block: int):  # type: ignore[no-untyped-def]  # a hook's type says nothing
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            size = args[0].shape[-1], output.shape[-1]
            seen[block] = wide(args[0]).reshape(-1, size[0]), wide(output).reshape(-1, size[1])

        return hook

    handles = [point.module.register_forward_hook(watch(point.block)) for point in points]
    try:
        with loaded.anatomy.record([f"residual.{point.block}" for point in points]) as stream:
            loaded.model(input_ids=ids[None], use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    missed = [point.tensor for point in points if point.block not in seen]
    if missed:
        raise ModelError(f"{missed[0]} was never used by the forward pass; a fused kernel goes around it")
    return [_peak(loaded, point, *seen[point.block], wide(stream[f"residual.{point.block}"][0])) for point in points]


def _peak(loaded: LoadedModel, point: Watched, given: Tensor, made: Tensor, stream: Tensor) -> Peak:
    (token_in, column), (token_out, row) = _largest(given), _largest(made)
    weight = wide(loaded.anatomy.parameter(point.tensor).detach())
    entry = float(weight[column, row] if point.transposed else weight[row, column])
    output = float(made[token_out, row])
    return Peak(
        block=point.block,
        input_value=float(given[token_in, column]),
        input_token=token_in,
        column=column,
        output_value=output,
        output_token=token_out,
        row=row,
        input_scale=float(given.abs().median()),
        output_scale=float(made.abs().median()),
        carried=float(stream[token_out, row]),
        share=entry * float(given[token_out, column]) / output if output else 0.0,
    )


def _largest(values: Tensor) -> tuple[int, int]:
    place = int(values.abs().argmax())
    return place // values.shape[1], place % values.shape[1]


def find(
    loaded: LoadedModel,
    prompts: Sequence[Tensor],
    *,
    threshold: float = 50.0,
    scale: Scale = "absolute",
    agreement: float = 0.5,
    most: int = 16,
) -> tuple[list[SuperWeight], list[list[Peak]]]:
    """Find super weights one after the other until no prompt has a spike.

    Args:
        loaded: The model; its weights are as before on return.
        prompts: Token ids, int64 [positions] each; the same text with and without begin token counts as two.
        threshold: What counts as a spike.
        scale: Whether the threshold is a number of activation units, as in the paper, or of medians of |activation|
            of the same tensor, for models whose activations have another scale.
        agreement: Share of the prompts in which a weight must be the origin of the spike.
        most: Stop after so many.

    Returns:
        The super weights in the order they were found, and the peaks of every prompt before anything was changed.

    Raises:
        ConfigError: No prompt.
        ModelError: There is nothing to watch.
    """
    if not prompts:
        raise ConfigError("super weights are looked for in forward passes; give at least one prompt")
    found: list[SuperWeight] = []
    before: list[list[Peak]] = []
    points = {point.block: point for point in watched(loaded.anatomy)}
    with ExitStack() as zeroed:
        while len(found) < most:
            traces = [peaks(loaded, ids) for ids in prompts]
            before = before or traces
            origins = [_origin(trace, threshold, scale) for trace in traces]
            votes = Counter((peak.block, peak.row, peak.column) for peak in origins if peak is not None)
            if not votes or max(votes.values()) < agreement * len(prompts):
                break
            # Most votes; then the earliest block, so that the order of prompts decides nothing.
            (block, row, column), count = min(votes.items(), key=lambda item: (-item[1], item[0]))
            loudest = max(
                (p for p in origins if p is not None and (p.block, p.row, p.column) == (block, row, column)),
                key=lambda peak: abs(peak.output_value),
            )
            point = points[block]
            weight = loaded.anatomy.parameter(point.tensor).detach()
            flat = column * weight.shape[1] + row if point.transposed else row * weight.shape[1] + column
            value = float(weight.reshape(-1)[flat])
            if (
                value == 0
            ):  # it spikes all the same: this weight is not what makes it, and zeroing it again is no search
                break
            found.append(
                SuperWeight(
                    order=len(found) + 1,
                    block=block,
                    tensor=point.tensor,
                    row=row,
                    column=column,
                    flat_index=flat,
                    weight=value,
                    votes=count,
                    prompts=len(prompts),
                    input_value=loudest.input_value,
                    output_value=loudest.output_value,
                    share=loudest.share,
                )
            )
            zeroed.enter_context(mutated(loaded, [Edit(point.tensor, torch.tensor([flat]))], zero))
    return found, before


def _origin(trace: Sequence[Peak], threshold: float, scale: Scale) -> Peak | None:
    """The earliest block that makes a spike; None where none does."""
    return next((peak for peak in trace if peak.spikes(threshold, scale) and peak.originates()), None)
