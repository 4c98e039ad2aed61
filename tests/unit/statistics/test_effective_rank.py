"""Effective rank: closed forms, iid Gaussian states, and what the sample size does to each of its variants."""

import numpy as np
import pytest

from tremor.errors import NumericsError
from tremor.statistics.effective_rank import effective_rank, gaussian_rank, participation_ratio


def gaussian(count: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width))


def with_spectrum(values: list[float], count: int, width: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    left = np.linalg.qr(generator.standard_normal((count, len(values))))[0]
    right = np.linalg.qr(generator.standard_normal((width, len(values))))[0]
    return (left * values) @ right.T


def test_closed_forms() -> None:
    # k equal singular values spread over exactly k directions, whatever the power.
    for power in (1, 2):
        found = effective_rank(with_spectrum([3.0] * 5, 40, 12), centred=False, power=power)  # type: ignore[arg-type]
        assert found.value == pytest.approx(5.0, rel=1e-12)
        assert (found.samples, found.width, found.limit) == (40, 12, 12)
    # Two values 2 and 1: shares 2/3, 1/3 of sigma, 4/5, 1/5 of sigma^2.
    states = with_spectrum([2.0, 1.0], 30, 10)
    for power, share in ((1, 2 / 3), (2, 4 / 5)):
        expected = np.exp(-share * np.log(share) - (1 - share) * np.log(1 - share))
        found = effective_rank(states, centred=False, power=power)  # type: ignore[arg-type]
        assert found.value == pytest.approx(expected, rel=1e-12)


def test_a_common_mean_hides_what_is_below_it_unless_it_is_taken_away() -> None:
    """D-D16: uncentred, a mean ten times as long as the spread leaves little more than one direction."""
    states = gaussian(200, 32)
    shifted = states + 10 * np.ones(32)
    centred = effective_rank(shifted, centred=True, power=2)
    assert centred.value == pytest.approx(effective_rank(states, centred=True, power=2).value, rel=1e-9)
    assert effective_rank(shifted, centred=False, power=2).value < 1.2
    assert centred.value > 25


@pytest.mark.parametrize("power", [1, 2])
def test_iid_gaussian_states_approach_the_limit_from_below(power: int) -> None:
    width = 20
    found = [
        effective_rank(gaussian(count, width), centred=True, power=power)  # type: ignore[arg-type]
        for count in (10, 20, 100, 1000, 20000)
    ]
    values = [each.value for each in found]
    assert values == sorted(values)
    assert [each.limit for each in found] == [9, 19, 20, 20, 20]
    assert all(each.value < each.limit for each in found)
    # log rank falls short by d / 2n = 5e-4 for sigma^2, and by a quarter of that for sigma.
    assert found[-1].value == pytest.approx(width, rel=1e-3)
    assert found[1].value < 0.8 * width


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(("count", "width"), [(30, 128), (128, 128), (400, 64)])
def test_the_gaussian_reference_is_what_simulation_gives(power: int, count: int, width: int) -> None:
    seen = [
        effective_rank(gaussian(count, width, seed), centred=False, power=power).value  # type: ignore[arg-type]
        for seed in range(20)
    ]
    # Corrections to the large-size formula are of order 1/d; below one percent at these sizes.
    assert np.mean(seen) == pytest.approx(gaussian_rank(count, width, power), rel=0.01)  # type: ignore[arg-type]


def test_extrapolation_takes_most_of_the_bias_away() -> None:
    truth, width = 16.0, 64
    scale = np.zeros(width)
    scale[:16] = 1.0
    plain, corrected = [], []
    for seed in range(20):
        found = effective_rank(gaussian(80, width, seed) * scale, centred=True, power=2, seed=seed)
        plain.append(found.value)
        corrected.append(found.corrected)
    # log rank of the sample is short by 16 / 160 = 10 %; what is left is of second order, a percent.
    assert np.mean(plain) < 0.92 * truth
    assert np.mean(corrected) == pytest.approx(truth, rel=0.02)
    assert np.isnan(effective_rank(gaussian(7, 5), centred=True, power=2).corrected)


def test_participation_ratio_has_no_bias_of_sample_size_or_mean() -> None:
    """10 directions of equal variance have ratio 10; the plug-in estimate from 12 states has 6."""
    scale = np.zeros(40)
    scale[:10] = 1.0
    moments = []
    for seed in range(400):
        states = gaussian(12, 40, seed) * scale + 5.0
        moments.append(participation_ratio(states))
    centred = [gaussian(12, 40, seed) * scale for seed in range(400)]
    plug_in = []
    for states in centred:
        covariance = np.cov(states.T)
        plug_in.append(np.trace(covariance) ** 2 / np.trace(covariance @ covariance))
    assert np.mean(plug_in) < 6.5
    # Only the ratio of two unbiased moments of 12 states: right to some percent in the median.
    assert np.median(moments) == pytest.approx(10.0, rel=0.1)


def test_participation_ratio_is_that_of_sums_over_distinct_states() -> None:
    """Against the definition, summed state by state."""
    from itertools import permutations

    states = gaussian(6, 3) + 1.0
    square = [
        (states[i] @ states[j]) ** 2 - 2 * (states[i] @ states[j]) * (states[j] @ states[k])
        + (states[i] @ states[j]) * (states[k] @ states[m])
        for i, j, k, m in permutations(range(6), 4)
    ]  # fmt: skip
    trace = [
        np.sum((states[i] - states[j]) ** 2) * np.sum((states[k] - states[m]) ** 2) / 4
        for i, j, k, m in permutations(range(6), 4)
    ]
    assert participation_ratio(states) == pytest.approx(np.mean(trace) / np.mean(square), rel=1e-9)


def test_what_has_no_rank_is_an_error() -> None:
    with pytest.raises(NumericsError, match="at least two states, not 1"):
        effective_rank(gaussian(1, 4), centred=False, power=1)
    with pytest.raises(NumericsError, match="all states are equal"):
        effective_rank(np.ones((9, 4)) * 0.1, centred=True, power=1)
    bad = gaussian(9, 4)
    bad[3, 2] = np.nan
    with pytest.raises(NumericsError, match="NaN or infinite"):
        effective_rank(bad, centred=True, power=2)
    with pytest.raises(NumericsError, match="at least four states"):
        participation_ratio(gaussian(3, 4))


def test_the_seed_decides_the_halves_alone() -> None:
    states = gaussian(31, 6)
    one, two = (effective_rank(states, centred=True, power=2, seed=seed) for seed in (1, 2))
    assert one.value == two.value
    assert one.corrected != two.corrected
    assert one == effective_rank(states, centred=True, power=2, seed=1)
