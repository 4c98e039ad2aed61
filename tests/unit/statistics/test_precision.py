"""Rounding to significant bits against the formats themselves; distances against plain numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tremor import floats
from tremor.statistics.precision import distance, significant, survivors

# Away from denormal numbers and overflow of all three formats.
NORMAL = st.floats(min_value=2.0**-10, max_value=2.0**10)


@given(NORMAL)
def test_levels_of_the_formats_are_the_formats(value: float) -> None:
    array = np.array([value, -value])
    for bits, fmt in ((24, "float32"), (11, "float16"), (8, "bfloat16")):
        np.testing.assert_array_equal(significant(array, bits), floats.round_to(array, fmt).astype(np.float64))
    np.testing.assert_array_equal(significant(array, 53), array)


def test_ties_go_to_even_and_zero_stays() -> None:
    assert significant(np.array([0.0, 2.5, 3.5, 1.25]), 2).tolist() == [0.0, 2.0, 4.0, 1.0]
    for bits in (0, 54):
        with pytest.raises(ValueError, match="1 to 53"):
            significant(np.ones(1), bits)


def test_survivors_are_those_of_float32_addition() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=500).astype(np.float32) * 0.01
    step = 1e-9 * generator.normal(size=500)
    moved = (x.astype(np.float64) + step).astype(np.float32) != x
    np.testing.assert_array_equal(survivors(x, step, 24), moved)
    assert 0 < moved.sum() < 500


def test_rounding_alone_moves_nothing() -> None:
    # np.round on float32 with many decimals, the original's yardstick, alters a tenth of the values by itself.
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32) * 0.01
    assert any(np.mean(np.round(x, d) != x) > 0.05 for d in range(10, 13))
    for bits in range(1, 25):
        assert not survivors(x, np.zeros(1000), bits).any()


def test_distance_is_numpys() -> None:
    generator = np.random.default_rng(0)
    reference = generator.normal(size=64)
    values = floats.round_to(reference * (1 + 1e-3 * generator.normal(size=64)), "float16")
    found = distance(values, reference, "float16")
    step = values.astype(np.float64) - reference
    assert found["l2"] == np.linalg.norm(step)
    assert found["relative_l2"] == pytest.approx(np.linalg.norm(step) / np.linalg.norm(reference))
    assert found["max_abs"] == np.abs(step).max()
    cosine = values @ reference / np.linalg.norm(values.astype(np.float64)) / np.linalg.norm(reference)
    assert found["cosine_distance"] == pytest.approx(1 - cosine, rel=1e-6)  # 1 - cosine itself loses ten digits
    ulps = np.abs(
        values.astype(np.float16).view(np.int16).astype(int) - reference.astype(np.float16).view(np.int16).astype(int)
    )
    assert found["ulps_median"] == np.median(ulps)
    assert found["ulps_max"] == ulps.max()
    assert found["equal"] == (ulps == 0).sum()
    same = distance(values, values.astype(np.float64), "float16")
    assert same["l2"] == same["ulps_max"] == same["cosine_distance"] == 0
    assert same["equal"] == 64
