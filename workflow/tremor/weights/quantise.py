"""Real quantise-dequantise of weights: INT8, INT4, NF4, and true rounding to fewer mantissa bits.

Scales are computed in float64 from the whole tensor (per tensor, per output channel, or per group of inputs of a
channel), so that a weight's result does not depend on which others are changed. Source of NF4: Dettmers et al. 2023,
appendix E (quantiles of a normal distribution, rescaled to [-1, 1], with an exact zero).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from tremor.errors import ConfigError
from tremor.floats import format_of
from tremor.weights.mutate import INTEGER, Operation, Target

Granularity = Literal["tensor", "channel", "group"]
NF4_OFFSET = 0.9677083  # outermost quantile that is used, from the paper


def rows(tensor: Tensor, transposed: bool) -> Tensor:
    """View or copy of a parameter as [output channels, inputs]; a vector is one row."""
    if tensor.ndim < 2:
        return tensor.reshape(1, -1)
    stored = tensor.transpose(-1, -2) if transposed else tensor
    return stored.reshape(-1, stored.shape[-1])


def unrows(matrix: Tensor, like: Tensor, transposed: bool) -> Tensor:
    """Inverse of :func:`rows`: back to the stored shape of `like`."""
    if like.ndim < 2 or not transposed:
        return matrix.reshape(like.shape)
    turned = (*like.shape[:-2], like.shape[-1], like.shape[-2])
    return matrix.reshape(turned).transpose(-1, -2)


def scale_of(tensor: Tensor, transposed: bool, granularity: Granularity, group: int) -> Tensor:
    """Largest |w| of each weight's neighbours that share a scale, float64, in the stored shape.

    Raises:
        ConfigError: An unknown granularity, or a group below 1.
    """
    matrix = rows(tensor.double(), transposed).abs()
    if granularity == "tensor":
        top = matrix.max().expand(matrix.shape)
    elif granularity == "channel":
        top = matrix.amax(1, keepdim=True).expand(matrix.shape)
    elif granularity == "group" and group >= 1:
        padding = -matrix.shape[1] % group  # the last group of a row may be short
        blocks = torch.nn.functional.pad(matrix, (0, padding)).reshape(matrix.shape[0], -1, group)
        wide = blocks.amax(-1, keepdim=True).expand(blocks.shape).reshape(matrix.shape[0], -1)
        top = wide[:, : matrix.shape[1]]
    else:
        raise ConfigError(f"granularity '{granularity}' with group {group} is unknown; use tensor, channel or group")
    return unrows(top.contiguous(), tensor, transposed)


def codes_of(target: Target, *, bits: int, granularity: Granularity, group: int) -> tuple[Tensor, Tensor]:
    """Integer codes int64 [m] and scales float64 [m] of a target's positions.

    The grid is symmetric: code q stands for q * scale, |q| <= 2^(bits-1) - 1, and the largest |w| has the largest code.
    """
    if not 2 <= bits <= 16:
        raise ConfigError(f"codes of {bits} bits are not supported; use 2 to 16, usually 8 or 4")
    top = target.pick(scale_of(target.tensor, target.transposed, granularity, group))
    highest = 2 ** (bits - 1) - 1
    scales = top / highest
    safe = torch.where(scales > 0, scales, 1.0)
    # torch.round breaks ties to even, as IEEE does.
    codes = torch.round(target.pick(target.tensor).double() / safe).clamp(-highest, highest).to(torch.int64)
    return codes, scales


def dequantised(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Codes times scales, rounded once to the weights' dtype."""
    return (codes.double() * scales).to(dtype)


def integer(bits: int, *, granularity: Granularity = "channel", group: int = 64) -> Operation:
    """Operation: nearest value of a symmetric integer grid (INT8, INT4), as the weights' own dtype.

    Args:
        bits: Width of a code.
        granularity: Which weights share a scale: all of a tensor, an output channel, or a group of its inputs.
        group: Their number with "group".
    """

    def operation(values: Tensor, target: Target) -> Tensor:
        codes, scales = codes_of(target, bits=bits, granularity=granularity, group=group)
        return dequantised(codes, scales, values.dtype)

    return operation


def nf4_levels() -> Tensor:
    """The 16 values of NF4, float64, ascending from -1 to 1."""
    upper = torch.special.ndtri(torch.linspace(NF4_OFFSET, 0.5, 9, dtype=torch.float64))[:-1]
    lower = -torch.special.ndtri(torch.linspace(NF4_OFFSET, 0.5, 8, dtype=torch.float64))[:-1]
    levels = torch.cat([lower, torch.zeros(1, dtype=torch.float64), upper])
    return torch.sort(levels / levels.abs().max()).values


def nf4(*, group: int = 64) -> Operation:
    """Operation: nearest NF4 value of a block of `group` inputs of one output channel, scaled by its largest |w|."""

    def operation(values: Tensor, target: Target) -> Tensor:
        scales = target.pick(scale_of(target.tensor, target.transposed, "group", group))
        levels = nf4_levels().to(values.device)
        safe = torch.where(scales > 0, scales, 1.0)
        borders = (levels[1:] + levels[:-1]) / 2
        return (levels[torch.bucketize(values.double() / safe, borders)] * scales).to(values.dtype)

    return operation


def on_grid(name: str, group: int) -> Operation:
    """The operation of a grid by its name, `int8`, `int4` or `nf4`, with a scale for each group of inputs."""
    return nf4(group=group) if name == "nf4" else integer(int(name[3:]), granularity="group", group=group)


def held_out(operation: Operation, kept: Mapping[str, Tensor]) -> Operation:
    """Operation: another one around some weights, which keep their bits and have no part in its scales.

    Args:
        operation: What becomes of all others.
        kept: Parameter name to flat indices int64 of the weights that stay in full precision.
    """

    def around(values: Tensor, target: Target) -> Tensor:
        if target.name not in kept:
            return operation(values, target)
        mine = kept[target.name].to(values.device)
        without = target.tensor.clone()
        without.view(-1)[mine] = 0
        stays = torch.zeros(without.numel(), dtype=torch.bool, device=values.device)
        stays[mine] = True
        blind = replace(target, tensor=without)
        return torch.where(target.pick(stays), values, operation(blind.pick(without), blind))

    return around


def rounded(values: Tensor, mantissa: int) -> Tensor:
    """Round to `mantissa` stored mantissa bits, to nearest with ties to even; the exponent's range stays.

    Args:
        values: Any shape, floating point.
        mantissa: Bits that are kept, 0 up to those of the dtype (float32: 23, bfloat16: 7, float16: 10).

    Returns:
        Same shape and dtype. A carry may reach the next power of two, and from the largest numbers infinity. NaN stays.

    Raises:
        ConfigError: The dtype has fewer bits, or is no float.
    """
    try:
        form = format_of(str(values.dtype).removeprefix("torch."))
    except ValueError:
        raise ConfigError(f"mantissa bits of {values.dtype} are not supported") from None
    stored = form.precision - 1
    if not 0 <= mantissa <= stored:
        raise ConfigError(f"{form.name} has {stored} mantissa bits, so {mantissa} cannot be kept; use 0 to {stored}")
    drop = stored - mantissa
    if not drop:
        return values.clone()
    raw = values.contiguous().view(INTEGER[values.element_size()])
    highest = 2 ** (form.width - 1) - 1
    magnitude = raw & highest
    odd = (magnitude >> drop) & 1
    # Adding just below half of the last kept bit, and the kept bit itself, carries exactly where RNE rounds up.
    up = (magnitude + (2 ** (drop - 1) - 1) + odd) & ~(2**drop - 1)
    result = ((raw & ~highest) | up).view(values.dtype)
    return torch.where(torch.isnan(values), values, result)


def to_mantissa(mantissa: int) -> Operation:
    """Operation: round to fewer mantissa bits (2 to 23 in a precision sweep)."""
    return lambda values, target: rounded(values, mantissa)
