"""The float lattice against brute force, exact rationals and numpy's own neighbours."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tremor import floats

NARROW = ("float16", "bfloat16")
TORCH = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
finite64 = st.floats(allow_nan=False, allow_infinity=False)


def lattice(fmt: str) -> st.SearchStrategy[float]:
    """Numbers of a format, with zeros, denormals and powers of two drawn often."""
    width = {"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64}[fmt]
    patterns = st.integers(-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    special = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0**-14, -(2.0**-14), 2.0**-24, 0.0078125])
    drawn = patterns.map(lambda p: float(floats.from_bits(np.array([p]), fmt)[0])).filter(np.isfinite)
    return st.one_of(drawn, special)


def carried(values: object, fmt: str) -> np.ndarray:
    return np.asarray(values, dtype=floats.FORMATS[fmt].carrier)


def nearest_even(value: float, fmt: str) -> float:
    """Round by exact rational arithmetic: an oracle that shares no code with the library."""
    form = floats.FORMATS[fmt]
    exact = Fraction(value)
    if exact == 0:
        return value
    magnitude = abs(exact)
    exponent = form.min_exponent
    while Fraction(2) ** (exponent + 1) <= magnitude:
        exponent += 1
    quantum = Fraction(2) ** (exponent - form.precision + 1)
    steps = magnitude / quantum
    whole = steps.numerator // steps.denominator
    rest = steps - whole
    if rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1):
        whole += 1
    result = float(whole * quantum)
    return -result if exact < 0 else result


@pytest.mark.parametrize("fmt", NARROW)
@given(value=st.floats(-60000, 60000))
def test_rounding_from_float64_is_one_correct_rounding(fmt: str, value: float) -> None:
    got = floats.round_to(np.array([value]), fmt)
    assert got.dtype == np.float32
    assert got[0] == nearest_even(value, fmt)
    assert np.signbit(got[0]) == np.signbit(value)


def test_bfloat16_rounding_avoids_the_double_rounding_trap() -> None:
    # 1 + 2^-8 is the midpoint of two bfloat16 numbers; 2^-40 above it float64 still sees the upper side,
    # but rounding through float32 lands on the tie and goes to even, downward.
    value = np.array([1 + 2.0**-8 + 2.0**-40])
    assert floats.round_to(value, "bfloat16")[0] == 1 + 2.0**-7
    assert floats.round_to(value.astype(np.float32), "bfloat16")[0] == 1.0


@pytest.mark.parametrize("fmt", NARROW)
@given(value=st.floats(width=32, allow_nan=False))
def test_rounding_from_float32_agrees_with_torch(fmt: str, value: float) -> None:
    got = floats.round_to(np.array([value], dtype=np.float32), fmt)
    expected = torch.tensor([value], dtype=torch.float32).to(TORCH[fmt]).float().numpy()
    np.testing.assert_array_equal(got.view(np.int32), expected.view(np.int32))


def test_rounding_keeps_nan_and_overflows_to_infinity() -> None:
    for fmt in NARROW:
        got = floats.round_to(np.array([np.nan, 1e39, -1e39, np.inf]), fmt)
        assert np.isnan(got[0])
        assert list(got[1:]) == [np.inf, -np.inf, np.inf]
    # Just under half an ulp beyond the largest bfloat16 stays finite though float32 has overflowed... it has not:
    largest = float(floats.from_bits(np.array([0x7F7F], dtype=np.int16), "bfloat16")[0])
    assert floats.round_to(np.array([largest * (1 + 2.0**-10)]), "bfloat16")[0] == largest


@pytest.mark.parametrize("fmt", list(floats.FORMATS))
@given(data=st.data())
def test_bits_and_lattice_positions_round_trip(fmt: str, data: st.DataObject) -> None:
    value = carried([data.draw(lattice(fmt))], fmt)
    pattern = floats.bits(value, fmt)
    np.testing.assert_array_equal(floats.bits(floats.from_bits(pattern, fmt), fmt), pattern)
    back = floats.from_ordered(floats.ordered(value, fmt), fmt)
    assert back[0] == value[0]  # -0 comes back as +0, which == accepts and the order defines


@pytest.mark.parametrize("fmt", ["float32", "float64"])
@given(data=st.data())
def test_neighbours_equal_numpy(fmt: str, data: st.DataObject) -> None:
    value = carried([data.draw(lattice(fmt))], fmt)
    infinity = value.dtype.type(np.inf)
    assert floats.next_up(value, fmt)[0] == np.nextafter(value[0], infinity)
    assert floats.next_down(value, fmt)[0] == np.nextafter(value[0], -infinity)


@pytest.mark.parametrize("fmt", NARROW)
@given(data=st.data())
def test_narrow_neighbours_equal_torch(fmt: str, data: st.DataObject) -> None:
    value = carried([data.draw(lattice(fmt))], fmt)
    up = torch.nextafter(torch.tensor(value).to(TORCH[fmt]), torch.tensor(float("inf"), dtype=TORCH[fmt]))
    assert floats.next_up(value, fmt)[0] == up.float().numpy()[0]


@pytest.mark.parametrize("fmt", list(floats.FORMATS))
@given(data=st.data())
def test_ulp_is_the_gap_to_the_next_larger_magnitude(fmt: str, data: st.DataObject) -> None:
    value = carried([abs(data.draw(lattice(fmt)))], fmt)
    above = floats.next_up(value, fmt)
    assume(np.isfinite(above[0]))
    assert Fraction(float(above[0])) - Fraction(float(value[0])) == Fraction(float(floats.ulp(value, fmt)[0]))


def test_below_a_power_of_two_the_spacing_halves() -> None:
    one = np.array([1.0], dtype=np.float32)
    assert 1.0 - floats.next_down(one, "float32")[0] == floats.ulp(one, "float32")[0] / 2


@pytest.mark.parametrize("fmt", list(floats.FORMATS))
@given(data=st.data(), steps=st.integers(0, 300))
def test_ulp_distance_counts_steps(fmt: str, data: st.DataObject, steps: int) -> None:
    start = carried([data.draw(lattice(fmt))], fmt)
    position = floats.ordered(start, fmt)
    end = floats.from_ordered(position + steps, fmt)
    assume(np.isfinite(end[0]))
    assert floats.ulp_distance(start, end, fmt)[0] == steps
    assert floats.ulp_distance(end, start, fmt)[0] == steps


def test_ulp_distance_over_the_whole_float64_line_does_not_overflow() -> None:
    top = np.array([np.finfo(np.float64).max])
    assert int(floats.ulp_distance(-top, top, "float64")[0]) == 2 * int(floats.ordered(top, "float64")[0])


def test_zeros_are_one_place_but_two_patterns() -> None:
    zeros = np.array([0.0, -0.0], dtype=np.float32)
    assert floats.ulp_distance(zeros[:1], zeros[1:], "float32")[0] == 0
    assert floats.bits(zeros, "float32")[0] != floats.bits(zeros, "float32")[1]


def test_nan_and_off_lattice_values_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN has no place"):
        floats.ulp_distance(np.array([np.nan], dtype=np.float32), np.zeros(1, dtype=np.float32), "float32")
    with pytest.raises(ValueError, match="not on the bfloat16 lattice"):
        floats.bits(np.array([1.001], dtype=np.float32), "bfloat16")
    with pytest.raises(ValueError, match="not on the float16 lattice"):
        floats.bits(np.array([1.0001], dtype=np.float32), "float16")
    with pytest.raises(ValueError, match="unknown float format 'float8'"):
        floats.ulp(np.zeros(1), "float8")


def scalar_nudge(x: float, d: np.float32, s: np.float32, arithmetic: str, fmt: str) -> float:
    """design.md 5.2 written once more, scalar by scalar with torch: the oracle of the vector code."""
    if s == 0:
        return x
    if arithmetic == "float64":
        wide = float(x) + float(s) * float(d)
        return float(nearest_even(wide, fmt)) if wide != 0 else wide
    total = torch.tensor(x, dtype=torch.float32) + torch.tensor(s) * torch.tensor(d)
    return float(total.to(TORCH[fmt]).float())


@pytest.mark.parametrize("arithmetic", ["float64", "float32"])
@pytest.mark.parametrize("fmt", ["float32", *NARROW])
@given(data=st.data())
@settings(max_examples=60)
def test_nudge_is_the_defined_rounding(arithmetic: str, fmt: str, data: st.DataObject) -> None:
    x = data.draw(lattice(fmt).filter(lambda v: abs(v) < 1e4))
    d = np.float32(data.draw(st.floats(-1, 1, width=32)))
    s = np.float32(data.draw(st.floats(0, 1, width=32)))
    got = floats.nudge(carried([x], fmt), np.array([d]), s, arithmetic=arithmetic, fmt=fmt)[0]
    assert got == scalar_nudge(x, d, s, arithmetic, fmt)


def test_float32_arithmetic_rounds_the_step_itself_first() -> None:
    # 1e-6 + 6e-14 is nearer to the float32 below: the spacing at 1e-6 is 1.14e-13 (spec 0.4).
    x, d = np.array([0.01], dtype=np.float32), np.ones(1, dtype=np.float32)
    a = floats.nudge(x, d, 1e-6, arithmetic="float32")
    b = floats.nudge(x, d, 1e-6 + 5e-14, arithmetic="float32")
    assert np.float32(1e-6) == np.float32(1e-6 + 5e-14)
    assert a == b


def brute_force(x: np.ndarray, d: np.ndarray, low: int, high: int, arithmetic: str, fmt: str) -> list[int]:
    """Every step index in (low, high] whose input differs in bits from the input one step before."""
    index = np.arange(low, high + 1)
    inputs = floats.nudge(x, d, floats.step_value(index)[:, None], arithmetic=arithmetic, fmt=fmt)
    patterns = floats.bits(inputs, fmt)
    changed = np.any(patterns[1:] != patterns[:-1], axis=1)
    return list(index[1:][changed])


@pytest.mark.parametrize("arithmetic", ["float64", "float32"])
@pytest.mark.parametrize("fmt", ["float32", *NARROW])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_staircase_equals_brute_force_over_all_steps(arithmetic: str, fmt: str, data: st.DataObject) -> None:
    """All representable s of a short interval (6000 floats), any coordinates: the same distinct inputs."""
    n = data.draw(st.integers(1, 4))
    small = lattice(fmt).filter(lambda v: v == 0 or 1e-6 < abs(v) < 8)
    x = carried(data.draw(st.lists(small, min_size=n, max_size=n)), fmt)
    d = np.array(data.draw(st.lists(st.floats(-1, 1, width=32), min_size=n, max_size=n)), dtype=np.float32)
    # Choose the interval around a real breakpoint of the first coordinate, so that it holds something to find.
    scale = floats.ulp(x[:1], fmt)[0] / (2 * max(abs(float(d[0])), 1e-3))
    top = int(floats.step_index(min(max(scale, 1e-38), 1e3)))
    low, high = max(top - 3_000, 0), top + 3_000
    # Starting at the interval spares the walk there.
    s_max = float(floats.step_value(high))
    stairs = floats.Staircase(x, d[None], s_max, arithmetic=arithmetic, fmt=fmt, start=np.array([low]))
    found = [int(floats.step_index(s)) for s, _ in stairs.walk(0)]
    assert found == brute_force(x, d, low, high, arithmetic, fmt)


def test_staircase_from_zero_crosses_denormals_and_signed_zeros() -> None:
    """An exactly zero coordinate moves at the smallest steps there are; +0 and -0 count as different inputs."""
    x = np.array([0.0, -0.0, 0.0], dtype=np.float32)
    d = np.array([1.0, 1.0, -0.5], dtype=np.float32)
    high = 4000
    stairs = floats.Staircase(x, d[None], float(floats.step_value(high)), arithmetic="float64")
    found = [int(floats.step_index(s)) for s, _ in stairs.walk(0)]
    assert found == brute_force(x, d, 0, high, "float64", "float32")
    assert found[0] == 1


def test_staircase_of_many_rays_equals_each_alone() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(0, 0.02, 24).astype(np.float32)
    d = rng.normal(size=(9, 24)).astype(np.float32)
    together = floats.Staircase(x, d, 3e-9, arithmetic="float64")
    steps: dict[int, list[int]] = {ray: [] for ray in range(9)}
    while True:
        live = np.flatnonzero(together.peek() <= together.end)
        if not live.size:
            break
        index, inputs = together.advance(live)
        for ray, i, p in zip(live, index, inputs, strict=True):
            steps[ray].append(int(i))
            expected = floats.nudge(x, d[ray], floats.step_value(i), arithmetic="float64")
            np.testing.assert_array_equal(p, expected)
    for ray in range(9):
        alone = floats.Staircase(x, d[ray : ray + 1], 3e-9, arithmetic="float64")
        assert steps[ray] == [int(floats.step_index(s)) for s, _ in alone.walk(0)]
        assert len(steps[ray]) > 5


def test_staircase_refuses_a_step_range_that_is_empty() -> None:
    for s_max in (0.0, -1.0, 1e-60, float("nan")):
        with pytest.raises(ValueError, match="s_max must be > 0"):
            floats.Staircase(np.zeros(2, np.float32), np.ones((1, 2), np.float32), s_max, arithmetic="float64")


@given(data=st.data())
def test_realised_step_accounts_for_every_coordinate(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 6))
    value = st.floats(-4, 4, width=32)
    x = np.array(data.draw(st.lists(value, min_size=n, max_size=n)), dtype=np.float32)
    d = np.array(data.draw(st.lists(value, min_size=n, max_size=n)), dtype=np.float32)
    p = floats.nudge(x, d, 1e-3, arithmetic="float64")
    step = floats.realised_step(x, p[None], d)
    difference = p.astype(np.float64) - x.astype(np.float64)
    assert step.moved_coordinates[0] == sum(a.tobytes() != b.tobytes() for a, b in zip(p, x, strict=True))
    # float64 sums of at most 6 squares: relative error below 1e-15
    assert step.l2[0] == pytest.approx(np.sqrt((difference**2).sum()), rel=1e-12, abs=1e-300)
    assert np.hypot(step.along[0], step.off_direction[0]) == pytest.approx(step.l2[0], rel=1e-9, abs=1e-18)
    assert step.ulps[0] == sum(int(u) for u in floats.ulp_distance(p, x, "float32"))
