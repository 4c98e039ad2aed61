"""Two vectors: bits, lattice steps and numbers, against hand-made cases, fractions and scipy."""

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.distance import cosine

from tremor import floats
from tremor.compare import bits
from tremor.store.arrays import Bf16

Array = npt.NDArray[Any]


def bf16(values: Array) -> Bf16:
    return Bf16(floats.bits(floats.round_to(values, "bfloat16"), "bfloat16"))


def test_by_hand() -> None:
    a = np.array([1.0, 2.0, 0.0, -4.0], np.float32)
    b = np.array([np.nextafter(np.float32(1), np.float32(2)), 2.0, -0.0, -3.0], np.float32)
    found = bits.compare_vectors(a, b)
    assert (found.width, found.lattice, found.equal_bits) == (4, "float32", False)
    assert found.n_changed_bits == 3
    # 1 -> next: one bit. +0 -> -0: the sign. -4 is 0xC0800000, -3 is 0xC0400000: two bits.
    assert found.n_flipped_bits == 1 + 1 + 2
    assert found.n_signed_zero == 1
    assert found.max_abs == 1.0
    assert found.l1 == 1.0 + 2.0**-23
    assert found.mean_abs == (1.0 + 2.0**-23) / 4
    assert found.median_abs == 2.0**-24
    assert found.ulp_max == 2.0**22  # half a binade of 2^23 numbers lies between 3 and 4
    assert found.ulp_median == 0.5
    assert (found.n_nan_a, found.n_nan_b, found.n_inf_a, found.n_inf_b) == (0, 0, 0, 0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_distances_against_fractions(dtype: Any) -> None:
    generator = np.random.default_rng(1)
    a = generator.normal(size=40).astype(dtype)
    b = (a.astype(np.float64) * (1 + 0.01 * generator.normal(size=40))).astype(dtype)
    found = bits.compare_vectors(a, b)
    gaps = [abs(Fraction(float(x)) - Fraction(float(y))) for x, y in zip(a, b, strict=True)]
    # Gaps of floats of one size are exact in float64, sums of 40 lose at most 40 roundings of 1.1e-16.
    assert found.l1 == pytest.approx(float(sum(gaps)), rel=1e-14)
    assert found.max_abs == pytest.approx(float(max(gaps)), rel=1e-15)
    assert found.median_abs == pytest.approx(float((sorted(gaps)[19] + sorted(gaps)[20]) / 2), rel=1e-15)
    assert found.l2 == pytest.approx(float(sum(g * g for g in gaps)) ** 0.5, rel=1e-14)
    assert found.relative_l2 == pytest.approx(found.l2 / np.linalg.norm(a.astype(np.float64)), rel=1e-14)
    assert found.cosine == pytest.approx(1 - cosine(a.astype(np.float64), b.astype(np.float64)), abs=1e-15)
    assert found.cosine == 1 - found.cosine_distance
    steps = [int(abs(p - q)) for p, q in zip(*(floats.ordered(v, a.dtype.name) for v in (a, b)), strict=True)]
    assert (found.ulp_max, found.ulp_mean) == (max(steps), pytest.approx(sum(steps) / 40, rel=1e-15))
    assert found.lattice == a.dtype.name


def test_bfloat16_is_compared_as_its_bits() -> None:
    """One step of bfloat16 is one step, not the 65536 of the float32 that carries it."""
    a = bf16(np.array([1.0, -2.0]))
    b = Bf16(a.bits + np.array([1, 0], np.int16))
    found = bits.compare_vectors(a, b)
    assert (found.lattice, found.ulp_max, found.n_changed_bits, found.n_flipped_bits) == ("bfloat16", 1, 1, 1)
    assert found.max_abs == 2.0**-7


def test_two_types_are_compared_where_both_are_exact() -> None:
    wide = np.array([1.0, 0.1, 3.0], np.float32)
    found = bits.compare_vectors(wide, bf16(wide))
    assert (found.lattice, found.n_changed_bits) == ("float32", 1)
    assert found.max_abs == abs(float(np.float32(0.1)) - float(floats.round_to(np.array([0.1]), "bfloat16")[0]))
    assert bits.common_lattice(wide.astype(np.float16), bf16(wide)) == "float32"
    assert bits.common_lattice(wide.astype(np.float64), wide) == "float64"
    assert bits.compare_vectors(wide.astype(np.float16), np.array([1, 0.1, 3], np.float16)).equal_bits


def test_equal_vectors_differ_by_nothing() -> None:
    a = np.array([1.5, -0.0, 1e-40], np.float32)
    found = bits.compare_vectors(a, a.copy())
    assert found.equal_bits
    numbers = {name: getattr(found, name) for name in bits.METRICS if name not in ("equal_bits", "cosine")}
    assert set(numbers.values()) == {0}
    assert found.cosine == 1.0


def test_nan_is_never_unchanged_and_has_no_distance() -> None:
    a = np.array([1.0, np.nan, np.inf], np.float32)
    found = bits.compare_vectors(a, a.copy())
    assert not found.equal_bits
    assert (found.n_changed_bits, found.n_nan_a, found.n_nan_b, found.n_inf_a, found.n_inf_b) == (1, 1, 1, 1, 1)
    assert np.isnan([found.l2, found.max_abs, found.ulp_max, found.cosine]).all()
    infinite = bits.compare_vectors(np.array([1, np.inf], np.float32), np.array([1, 2], np.float32))
    assert np.isnan(infinite.l2)
    assert infinite.ulp_max == 0x7F800000 - 0x40000000  # infinity is the number after the largest


def test_zero_vectors() -> None:
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert bits.compare_vectors(zero, zero).relative_l2 == 0
    assert np.isnan(bits.compare_vectors(zero, one).relative_l2)
    assert np.isnan(bits.compare_vectors(zero, one).cosine)


def test_rows_are_the_vectors_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    a = generator.normal(size=(7, 5)).astype(np.float32)
    b = a + np.float32(1e-3) * generator.normal(size=(7, 5)).astype(np.float32)
    b[3, 1] = np.nan
    a[5] = b[5]
    monkeypatch.setattr(bits, "_AT_ONCE", 10)  # two rows at a time
    found = bits.compare_rows(a, b)
    assert found.equal_bits.tolist() == [False] * 5 + [True, False]
    for row in range(7):
        one, other = bits.compare_vectors(a[row], b[row]), found.row(row)
        assert all(np.array_equal(getattr(one, n), getattr(other, n), equal_nan=True) for n in bits.METRICS)
    assert bits.compare_rows(bf16(a), bf16(b)).equal_bits.shape == (7,)


@pytest.mark.parametrize("other", [np.zeros(3, np.float32), np.zeros((2, 2), np.float32)])
def test_other_shapes_are_refused(other: Array) -> None:
    with pytest.raises(ValueError, match=r"cannot compare|takes vectors"):
        bits.compare_vectors(np.zeros(2, np.float32) if other.ndim == 1 else other, other)
    with pytest.raises(ValueError, match="no floats"):
        bits.compare_vectors(np.zeros(2, np.int32), np.zeros(2, np.int32))


def test_counts_above_thresholds() -> None:
    a = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], np.float32)
    b = np.array([0.25, 0.5, 1e-9, 1.0, np.nan, np.inf], np.float32)
    assert bits.count_above(a, b, [1.0, 0.25, 0.1, 1e-10, 0.0]).tolist() == [2, 3, 4, 5, 5]
    assert bits.changed_coordinates(a, b).tolist() == [True, True, True, False, True, True]
    inf = np.array([np.inf], np.float32)
    assert bits.count_above(inf, inf, [0.0]).tolist() == [0]
    assert bits.count_above(inf, -inf, [1e300]).tolist() == [1]
    assert bits.ulps(a[:3], b[:3])[2] == floats.ordered(b[2:3], "float32")[0]
