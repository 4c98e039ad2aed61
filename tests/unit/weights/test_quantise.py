"""Quantise-dequantise and mantissa rounding against decimal, brute force and published values."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tremor.errors import ConfigError
from tremor.weights import quantise
from tremor.weights.mutate import Target

# Values published with QLoRA (Dettmers et al. 2023) and shipped in its code, to 7 digits.
NF4 = (
    -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0,
)  # fmt: skip


def exact(value: float, mantissa: int) -> float:
    """Round to `mantissa` stored bits with exact rational arithmetic; float32's exponent range."""
    if value == 0 or not math.isfinite(value):
        return value
    exponent = max(math.frexp(abs(value))[1] - 1, -126)
    unit = Fraction(2) ** (exponent - mantissa)
    result = float(round(Fraction(value) / unit) * unit)  # Python rounds halves of fractions to even
    return math.copysign(result if abs(result) < 2.0**128 else math.inf, value)


@given(st.floats(width=32, allow_nan=False), st.integers(2, 23))
def test_float32_mantissa_rounding_is_exact(value, mantissa):
    found = float(quantise.rounded(torch.tensor([value]), mantissa))
    expected = exact(value, mantissa)
    assert found == expected
    assert math.copysign(1, found) == math.copysign(1, expected)


@given(st.integers(-(2**31), 2**31 - 1), st.integers(2, 22))
def test_patterns_near_ties_round_like_numpy_where_it_has_the_format(pattern, mantissa):
    value = torch.tensor([pattern], dtype=torch.int32).view(torch.float32)
    found = quantise.rounded(value, mantissa)
    if torch.isnan(value[0]):
        assert torch.equal(found.view(torch.int32), value.view(torch.int32))
        return
    if mantissa == 7:  # bfloat16, by a second implementation
        assert torch.equal(found, value.to(torch.bfloat16).float())
    assert float(found) == exact(float(value), mantissa)


def test_rounding_float32_to_seven_bits_is_bfloat16():
    values = torch.randn(5000, generator=torch.Generator().manual_seed(1)) * 10 ** torch.linspace(-30, 30, 5000)
    assert torch.equal(quantise.rounded(values, 7), values.to(torch.bfloat16).float())
    half = values.to(torch.float16)
    keep = torch.isfinite(half) & (half.abs() >= 2.0**-14)
    assert torch.equal(quantise.rounded(values, 10)[keep], half[keep].float())


def test_mantissa_bits_that_do_not_exist_are_refused():
    assert torch.equal(quantise.rounded(torch.tensor([0.1]), 23), torch.tensor([0.1]))
    with pytest.raises(ConfigError, match="7 mantissa bits"):
        quantise.rounded(torch.zeros(1, dtype=torch.bfloat16), 8)
    with pytest.raises(ConfigError, match="not supported"):
        quantise.rounded(torch.zeros(1, dtype=torch.int8), 3)


def test_nf4_levels_are_the_published_ones():
    assert np.allclose(quantise.nf4_levels().numpy(), NF4, atol=1e-6)


def brute(row: np.ndarray, levels: np.ndarray, scale: float) -> np.ndarray:
    return np.array([min(levels, key=lambda level: abs(value / scale - level)) * scale for value in row])


@pytest.mark.parametrize("transposed", [False, True])
def test_grids_against_brute_force(transposed):
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((5, 11))  # outputs, inputs; 11 leaves a short last group of 3
    stored = torch.tensor(matrix.T.copy() if transposed else matrix, dtype=torch.float32)
    wide = (stored.T if transposed else stored).double().numpy()
    target = Target("w", stored, None, transposed)

    def run(operation):
        found = operation(stored.reshape(-1), target).reshape(stored.shape)
        return (found.T if transposed else found).numpy()

    for width in (8, 4):
        top = 2 ** (width - 1) - 1
        levels = np.arange(-top, top + 1)
        per_channel = np.stack([brute(row, levels, np.abs(row).max() / top) for row in wide])
        assert np.array_equal(run(quantise.integer(width)), per_channel.astype(np.float32))
        whole = np.stack([brute(row, levels, np.abs(wide).max() / top) for row in wide])
        assert np.array_equal(run(quantise.integer(width, granularity="tensor")), whole.astype(np.float32))
        groups = [slice(0, 4), slice(4, 8), slice(8, 11)]
        grouped = np.stack(
            [np.concatenate([brute(row[g], levels, np.abs(row[g]).max() / top) for g in groups]) for row in wide]
        )
        assert np.array_equal(run(quantise.integer(width, granularity="group", group=4)), grouped.astype(np.float32))
    levels = quantise.nf4_levels().numpy()
    normal = np.stack([np.concatenate([brute(row[g], levels, np.abs(row[g]).max()) for g in groups]) for row in wide])
    assert np.array_equal(run(quantise.nf4(group=4)), normal.astype(np.float32))


@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 8]), st.sampled_from([torch.float32, torch.bfloat16]))
def test_quantising_twice_is_quantising_once(seed, width, dtype):
    tensor = torch.randn(4, 9, generator=torch.Generator().manual_seed(seed)).to(dtype)
    operation = quantise.integer(width)
    once = operation(tensor.reshape(-1), Target("w", tensor, None)).reshape(tensor.shape)
    codes = [
        quantise.codes_of(Target("w", t, None), bits=width, granularity="channel", group=0)[0] for t in (tensor, once)
    ]
    assert torch.equal(*codes)


def test_zeros_and_vectors_and_stacks():
    empty = torch.zeros(3, 4)
    assert torch.equal(quantise.integer(8)(empty.reshape(-1), Target("w", empty, None)), empty.reshape(-1))
    vector = torch.linspace(-1, 1, 9)
    assert quantise.integer(4)(vector, Target("w", vector, None)).unique().numel() <= 15
    stack = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    turned = stack.transpose(1, 2).contiguous()
    plain = quantise.integer(4)(stack.reshape(-1), Target("w", stack, None)).reshape(stack.shape)
    other = quantise.integer(4)(turned.reshape(-1), Target("w", turned, None, True)).reshape(turned.shape)
    assert torch.equal(plain, other.transpose(1, 2))
    with pytest.raises(ConfigError, match="granularity"):
        quantise.integer(8, granularity="row")(vector, Target("w", vector, None))
