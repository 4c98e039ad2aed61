"""Intervals, controls and p values against scipy, brute force and textbook numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tremor.errors import ConfigError, NumericsError
from tremor.evaluate import effects


def test_intervals_agree_with_scipy():
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 40, 80)
    delta = rng.normal(0.3, 1.0, 80)
    found = effects.Resampler(tokens, draws=20_000, seed=1).interval(delta)

    def mean(d, t, axis=-1):
        return (d * t).sum(axis) / t.sum(axis)

    theirs = stats.bootstrap(
        (delta, tokens), mean, paired=True, vectorized=True, method="percentile", n_resamples=20_000, random_state=2
    ).confidence_interval
    assert found.estimate == pytest.approx(mean(delta, tokens))
    # A 2.5 % quantile of 20 000 draws has a standard error of 0.0027 / density: 2.7 % of the half width here.
    width = theirs.high - theirs.low
    assert found.low == pytest.approx(theirs.low, abs=0.06 * width)
    assert found.high == pytest.approx(theirs.high, abs=0.06 * width)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(3)
    tokens = np.full(60, 10)
    judge = effects.Resampler(tokens, draws=500, seed=0)
    inside = sum(
        found.low <= 0.5 <= found.high for found in (judge.interval(rng.normal(0.5, 1, 60)) for _ in range(400))
    )
    # 400 intervals of 95 %: 380 +- 4 * 4.4; percentile intervals of 60 values cover about 94 %.
    assert 355 <= inside <= 396


def test_an_effect_that_is_the_same_everywhere_has_no_width_and_none_is_zero():
    judge = effects.Resampler([3, 9, 4])
    assert judge.interval([0.0, 0.0, 0.0]) == effects.Interval(0.0, 0.0, 0.0)
    found = judge.interval([0.25, 0.25, 0.25])
    assert found.low == pytest.approx(0.25, abs=1e-15)
    assert found.high == pytest.approx(0.25, abs=1e-15)


def test_no_interval_of_what_has_no_value():
    with pytest.raises(NumericsError, match="status"):
        effects.Resampler([3, 4]).interval([0.0, np.nan])
    with pytest.raises(ConfigError, match="at least two texts"):
        effects.Resampler([3])


def test_contrast_is_the_z_and_p_of_the_textbook():
    controls = [0.0, 1.0, 2.0, 3.0, 4.0]
    found = effects.contrast(5.0, controls)
    assert found.z == pytest.approx((5 - 2) / np.std(controls, ddof=1))
    assert found.p == pytest.approx(1 / 6)
    assert effects.contrast(2.0, controls).p == pytest.approx((1 + 3) / 6)  # equal counts as at least as large
    assert effects.contrast(-1.0, controls).p == 1.0
    assert effects.contrast(1.0, [0.0, 0.0]).z is None
    destroyed = effects.contrast(np.inf, controls)
    assert destroyed.z is None
    assert destroyed.p == pytest.approx(1 / 6)
    assert effects.contrast(1.0, [0.0, np.inf]).p == pytest.approx(2 / 3)
    with pytest.raises(NumericsError, match="NaN"):
        effects.contrast(np.nan, controls)
    with pytest.raises(NumericsError, match="no distribution"):
        effects.contrast(1.0, [0.0])


def test_p_values_of_nothing_are_uniform():
    rng = np.random.default_rng(0)
    p = [effects.contrast(x[0], x[1:]).p for x in rng.normal(size=(2000, 20))]
    # Under no effect P(p <= 1/20) = 1/20 for 19 controls; with 19 here: 2000 trials, 100 +- 4 * 9.7.
    assert 61 <= np.count_nonzero(np.array(p) <= 0.05 + 1e-9) <= 139


@given(st.data())
def test_controls_match_in_count_and_tensor_and_never_hit_the_selected(data):
    sizes = data.draw(st.lists(st.integers(2, 60), min_size=1, max_size=4))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    tensors, flat = [], []
    for number, size in enumerate(sizes):
        picked = data.draw(st.lists(st.integers(0, size - 1), unique=True, max_size=size // 2))
        tensors += [f"t{number}"] * len(picked)
        flat += picked
    if not flat:
        return
    order = rng.permutation(len(flat))
    tensors, flat = [tensors[i] for i in order], [flat[i] for i in order]
    magnitudes = {f"t{n}": rng.random(size) for n, size in enumerate(sizes)}
    for given_magnitudes in (None, magnitudes):
        found = effects.matched_control(
            tensors, flat, {f"t{n}": s for n, s in enumerate(sizes)}, rng, magnitudes=given_magnitudes, bins=3
        )
        assert list(found.tensors) == tensors
        pairs = list(zip(found.tensors, found.flat_index.tolist(), strict=True))
        assert len(set(pairs)) == len(pairs)
        assert all(0 <= i < sizes[int(t[1:])] for t, i in pairs)
        if found.disjoint:
            assert not set(pairs) & set(zip(tensors, flat, strict=True))
        else:
            assert given_magnitudes is not None


def test_controls_are_uniform_over_what_is_left():
    rng = np.random.default_rng(0)
    counts = np.zeros(10)
    for _ in range(4000):
        counts[effects.matched_control(["t"] * 3, [0, 4, 9], {"t": 10}, rng).flat_index] += 1
    assert counts[[0, 4, 9]].sum() == 0
    left = counts[[1, 2, 3, 5, 6, 7, 8]]
    assert stats.chisquare(left).pvalue > 1e-4


def test_controls_keep_the_quantile_of_the_magnitude():
    magnitude = np.random.default_rng(1).permutation(1000) / 1000.0
    picked = np.argsort(magnitude)[-20:]
    found = effects.matched_control(
        ["t"] * 20, picked, {"t": 1000}, np.random.default_rng(0), magnitudes={"t": magnitude}
    )
    assert (magnitude[found.flat_index] >= 0.9).all()
    assert found.disjoint


def test_controls_stay_in_the_part_that_is_selected():
    """The values of a fused projection: every third position, and no control is a query or a key."""
    inside = np.arange(2, 90, 3)
    magnitude = np.random.default_rng(1).random(90)
    picked = inside[[0, 7, 29]]
    for known in (None, {"t": magnitude}):
        drawn = [
            effects.matched_control(
                ["t"] * 3, picked, {"t": 90}, np.random.default_rng(i), magnitudes=known, bins=2, allowed={"t": inside}
            ).flat_index
            for i in range(200)
        ]
        assert set(np.concatenate(drawn).tolist()) == set(inside.tolist()) - set(picked.tolist())
    with pytest.raises(NumericsError, match="outside the part"):
        effects.matched_control(["t"], [3], {"t": 90}, np.random.default_rng(0), allowed={"t": inside})


def test_more_than_half_of_a_tensor_has_no_disjoint_control():
    found = effects.matched_control(["t"] * 6, range(6), {"t": 10}, np.random.default_rng(0))
    assert not found.disjoint
    assert len(set(found.flat_index.tolist())) == 6


def test_doses_are_rounded_and_never_empty():
    assert effects.doses(10, [0.01, 0.25, 0.7, 1.0]) == {0.01: 1, 0.25: 3, 0.7: 7, 1.0: 10}
    assert effects.doses(100, [0.29])[0.29] == 29  # int(100 * 0.29) is 28


def test_dose_and_response():
    found = effects.dose_response([1, 10, 100], [0.0, 1.0, 2.0])
    assert found["monotonic"] is True
    assert found["slope"] == pytest.approx(1.0)
    assert found["half_dose"] == 10
    assert effects.dose_response([1, 10], [1.0, 0.5])["monotonic"] is False
    assert effects.dose_response([1, 10], [1.0, np.inf])["slope"] is None
    assert effects.dose_response([1, 10], [-1.0, -0.5])["half_dose"] is None


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, made non-decreasing.
    assert np.allclose(effects.holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
    assert effects.holm([0.9, 0.8]).max() == 1.0
