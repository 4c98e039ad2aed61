"""Bit flips against struct: spec 7.3 test 5, defect B-D15 (a bit flip that flipped no bits)."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tremor.errors import ConfigError
from tremor.floats import bits, from_bits
from tremor.weights import bits as flips
from tremor.weights import quantise
from tremor.weights.mutate import Edit, Target, mutated

WIDTH = {torch.float32: 32, torch.float16: 16, torch.bfloat16: 16, torch.float64: 64}
KIND = {32: torch.int32, 16: torch.int16, 64: torch.int64}


@given(st.sampled_from(list(WIDTH)), st.data())
def test_twice_is_the_identity_and_once_changes_one_bit(dtype, data):
    width = WIDTH[dtype]
    position = data.draw(st.integers(0, width - 1))
    pattern = data.draw(st.integers(-(2 ** (width - 1)), 2 ** (width - 1) - 1))
    values = torch.tensor([pattern], dtype=KIND[width]).view(dtype)
    once = flips.flipped(values, position)
    twice = flips.flipped(once, position)
    assert int(twice.view(KIND[width])[0]) == pattern  # also for NaN patterns
    changed = (int(once.view(KIND[width])[0]) ^ pattern) & (2**width - 1)
    assert changed == 1 << position


@given(st.floats(width=32, allow_nan=False), st.integers(0, 31))
def test_float32_flips_are_those_of_struct(value, position):
    (pattern,) = struct.unpack("<I", struct.pack("<f", value))
    expected = struct.pack("<I", pattern ^ (1 << position))
    assert flips.flipped(torch.tensor([value]), position).numpy().tobytes() == expected


def test_the_famous_flip():
    # Bit 30 of 0.05 turns its exponent 122 into 250: 1.6 * 2^123.
    found = float(flips.flipped(torch.tensor([0.05]), 30))
    assert found == float(np.float32(0.05)) * 2.0**128
    assert found == pytest.approx(1.7014e37, rel=1e-4)


def test_sign_flips_work_for_negative_values():
    values = torch.tensor([-1.5, 2.0, -0.0])
    for dtype in WIDTH:
        position = flips.positions(dtype, "sign")[0]
        found = flips.flipped(values.to(dtype), position)
        assert found.tolist() == [1.5, -2.0, 0.0]
        assert not torch.signbit(found[2])


def test_fields_tile_every_format():
    assert list(flips.positions(torch.float32, "mantissa")) == list(range(23))
    assert list(flips.positions(torch.float32, "exponent")) == list(range(23, 31))
    assert list(flips.positions(torch.bfloat16, "exponent")) == list(range(7, 15))
    assert list(flips.positions(torch.float16, "exponent")) == list(range(10, 15))
    for dtype, width in WIDTH.items():
        tiled = sorted(p for field in flips.FIELDS for p in flips.positions(dtype, field))
        assert tiled == list(range(width))
        assert all(p in flips.positions(dtype, flips.field_of(dtype, p)) for p in range(width))


def test_a_position_for_each_weight():
    values = torch.tensor([1.0, 1.0, 1.0])
    found = flips.flipped(values, torch.tensor([31, 23, 22]))
    assert found.tolist() == [-1.0, 0.5, 1.5]


def test_positions_that_do_not_exist_are_refused():
    for position in (-1, 16):
        with pytest.raises(ConfigError, match="0 to 15"):
            flips.flipped(torch.zeros(1, dtype=torch.bfloat16), position)
    with pytest.raises(ConfigError, match="bit 32"):
        flips.field_of(torch.float32, 32)
    with pytest.raises(ConfigError, match="not supported"):
        flips.positions(torch.int8, "sign")
    with pytest.raises(ConfigError, match="code of 4 bits"):
        flips.flip_code(4, bits=4)


def test_random_positions_stay_in_their_field():
    rng = np.random.default_rng(0)
    found = flips.random_positions(torch.float16, 500, rng, field="exponent")
    assert set(found.tolist()) == set(range(10, 15))
    assert set(flips.random_positions(torch.float16, 500, rng).tolist()) == set(range(16))


@pytest.mark.parametrize("width", [8, 4])
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_a_flipped_code_is_its_twos_complement_neighbour(width, granularity):
    tensor = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    target = Target("w", tensor, torch.tensor([0, 13, 59]))
    picked = target.pick(tensor)
    codes, scales = quantise.codes_of(target, bits=width, granularity=granularity, group=4)
    for position in range(width):
        found = flips.flip_code(position, bits=width, granularity=granularity, group=4)(picked, target)
        for number in range(3):
            code = int(codes[number])
            raw = (code % 2**width) ^ (1 << position)
            signed = int.from_bytes((raw << (8 - width)).to_bytes(1, "little"), "little", signed=True) >> (8 - width)
            assert float(found[number]) == float(np.float32(signed * float(scales[number])))


def test_a_flip_on_a_quantised_model_moves_that_weight_only(loaded_model):
    loaded = loaded_model("llama")
    name = "model.layers.1.mlp.down_proj.weight"
    with mutated(loaded, [Edit(name)], quantise.integer(8)):
        grid = loaded.anatomy.parameter(name).detach().clone()
        with mutated(loaded, [Edit(name, torch.tensor([17]))], flips.flip_code(7, bits=8)) as record:
            assert record.changed == 1
            now = loaded.anatomy.parameter(name).detach()
            step = float(grid[0].abs().max()) / 127
            assert abs(float(now.view(-1)[17] - grid.view(-1)[17])) == pytest.approx(128 * step, rel=1e-6)


def test_shares_of_ones_and_outcomes():
    values = torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.bfloat16)  # 0x3f80, 0xbf80
    shares = flips.ones(values)
    assert shares[15] == 0.25
    assert shares[:7].sum() == 0
    assert (shares[7:14] == 1).all()
    old = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    new = torch.tensor([float("nan"), float("inf"), 0.0, -1.0, 2.0, 1.0])
    assert set(flips.outcomes(old, new).values()) == {1}


@given(st.integers(-(2**15), 2**15 - 1), st.integers(0, 15))
def test_bfloat16_flips_agree_with_the_float_lattice(pattern, position):
    value = from_bits(np.array([pattern], dtype=np.int16), "bfloat16")
    if np.isnan(value[0]):
        return  # numpy may quieten a NaN on the way through float32; the pattern test above covers these
    found = flips.flipped(torch.tensor([pattern], dtype=torch.int16).view(torch.bfloat16), position).float().numpy()
    if not np.isnan(found[0]):
        assert (int(bits(found, "bfloat16")[0]) ^ pattern) & 0xFFFF == 1 << position
