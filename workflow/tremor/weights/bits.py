"""Bits of weights: exact flips in IEEE formats and in integer codes, by position or field, and what came of them.

Position 0 is the least significant bit. A flip is an exclusive or on the integer view of the stored value, so that two
of them are the identity for every pattern, NaN included. Flipping the code of a quantised weight goes through
:mod:`tremor.weights.quantise`: the code is a two's complement number, and the grid stays that of the whole tensor.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tremor.errors import ConfigError
from tremor.floats import FloatFormat, format_of
from tremor.weights.mutate import INTEGER, Operation, Target
from tremor.weights.quantise import Granularity, codes_of, dequantised

Field = Literal["sign", "exponent", "mantissa"]
FIELDS: tuple[Field, ...] = ("sign", "exponent", "mantissa")


def format_for(dtype: torch.dtype) -> FloatFormat:
    """Layout of a floating-point dtype.

    Raises:
        ConfigError: It is no IEEE format that Tremor knows.
    """
    try:
        return format_of(str(dtype).removeprefix("torch."))
    except ValueError:
        raise ConfigError(f"bits of {dtype} are not supported; use float32, float16, bfloat16 or float64") from None


def positions(dtype: torch.dtype, field: Field) -> range:
    """Bit positions of a field: the mantissa is the lowest, the sign the highest."""
    form = format_for(dtype)
    stored = form.precision - 1  # the leading 1 is not stored
    return {
        "mantissa": range(stored),
        "exponent": range(stored, form.width - 1),
        "sign": range(form.width - 1, form.width),
    }[field]


def field_of(dtype: torch.dtype, position: int) -> Field:
    """The field a position belongs to.

    Raises:
        ConfigError: The format has no such position.
    """
    for field in FIELDS:
        if position in positions(dtype, field):
            return field
    raise ConfigError(f"bit {position} does not exist in {dtype}, whose bits are 0 to {format_for(dtype).width - 1}")


def flipped(values: Tensor, position: int | Tensor) -> Tensor:
    """Values with one bit flipped in each.

    Args:
        values: Any shape, floating point.
        position: The bit, or int64 positions in the shape of `values`.

    Returns:
        Same shape and dtype.

    Raises:
        ConfigError: A position does not exist.
    """
    width = format_for(values.dtype).width
    places = torch.as_tensor(position, dtype=torch.int64, device=values.device)
    if places.numel() and (int(places.min()) < 0 or int(places.max()) >= width):
        raise ConfigError(f"bit positions of {values.dtype} are 0 to {width - 1}")
    kind = INTEGER[values.element_size()]
    raw = values.contiguous().view(kind)
    # Shifted in the target's own width: the highest bit is then its sign, as it must be.
    mask = torch.bitwise_left_shift(torch.ones((), dtype=kind, device=values.device), places.to(kind))
    return torch.bitwise_xor(raw, mask).view(values.dtype)


def flip(position: int | Tensor) -> Operation:
    """Operation: flip a bit of every weight, or position i of an int64 tensor [m] in weight i of the (only) edit."""
    return lambda values, target: flipped(values, position)


def random_positions(
    dtype: torch.dtype, count: int, rng: np.random.Generator, *, field: Field | None = None
) -> npt.NDArray[np.int64]:
    """Draw positions [count] uniformly over a field, or over all bits."""
    width = format_for(dtype).width
    return rng.choice(np.array(positions(dtype, field) if field else range(width), dtype=np.int64), count)


def flip_code(position: int, *, bits: int, granularity: Granularity = "channel", group: int = 64) -> Operation:
    """Operation: quantise the tensor to integer codes, flip a bit in the codes of the chosen weights, dequantise these.

    The other weights are left as they are: quantise the whole tensor with
    :func:`tremor.weights.quantise.integer` in an outer mutation where they should be on the grid too.

    Args:
        position: 0 to `bits` - 1, the last being the sign of the two's complement code.
        bits: Width of a code, 8 or 4.
        granularity: Which weights share a scale.
        group: Their number with "group".

    Raises:
        ConfigError: A code has no such bit.
    """
    if not 0 <= position < bits:
        raise ConfigError(f"bit {position} does not exist in a code of {bits} bits")

    def operation(values: Tensor, target: Target) -> Tensor:
        codes, scales = codes_of(target, bits=bits, granularity=granularity, group=group)
        raw = torch.bitwise_xor(codes & (2**bits - 1), 1 << position)
        signed = torch.where(raw >= 2 ** (bits - 1), raw - 2**bits, raw)
        return dequantised(signed, scales, values.dtype)

    return operation


def ones(tensor: Tensor) -> npt.NDArray[np.float64]:
    """Share of ones at each bit position of a tensor, [width], position 0 first."""
    form = format_for(tensor.dtype)
    raw = tensor.detach().contiguous().view(-1).view(INTEGER[tensor.element_size()])
    shares = [float(torch.count_nonzero((raw >> place) & 1)) / max(raw.numel(), 1) for place in range(form.width)]
    return np.array(shares, dtype=np.float64)


def outcomes(old: Tensor, new: Tensor) -> dict[str, int]:
    """Count what became of values: `nan`, `infinite`, `zero`, `sign` (only the sign), `finite` and `unchanged`."""
    kind = INTEGER[old.element_size()]
    same = old.contiguous().view(kind) == new.contiguous().view(kind)
    nan = torch.isnan(new) & ~same
    infinite = torch.isinf(new) & ~same
    zero = (new == 0) & ~same
    sign = (new == -old) & ~same & ~zero & ~infinite
    left = ~(same | nan | infinite | zero | sign)
    kinds = {"nan": nan, "infinite": infinite, "zero": zero, "sign": sign, "finite": left, "unchanged": same}
    return {name: int(torch.count_nonzero(mask)) for name, mask in kinds.items()}


def exponents(tensor: Tensor) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How often each exponent field occurs in a tensor.

    Returns:
        Exponents without bias, int64 [values of the field], and counts, int64. The first, one
        below that of normal numbers, stands for zeros and denormals; the last for infinities and NaN.
    """
    form = format_for(tensor.dtype)
    stored = form.precision - 1
    size = 2 ** (form.width - 1 - stored)
    raw = tensor.detach().contiguous().view(-1).view(INTEGER[tensor.element_size()])
    field = (raw >> stored) & (size - 1)
    counts = torch.bincount(field.to(torch.int64), minlength=size).cpu().numpy().astype(np.int64)
    # Field 1 is the smallest normal exponent.
    return np.arange(size, dtype=np.int64) - 1 + form.min_exponent, counts
