"""Regimes: borders recovered from synthetic data, classes against brute force, and the shapes that could mislead."""

import numpy as np
import numpy.typing as npt
import pytest

from tremor.statistics.regimes import (
    REGIMES,
    RegimeAccount,
    fit_ramp,
    quantile_bands,
    ramp_shape,
    regimes,
    resampling,
    switch,
)

Array = npt.NDArray[np.float64]
NOISE, SIGMA, CURVATURE, FIRST = 1e-5, 50.0, 4e3, 1e-9


def synthetic(
    *, sigma: float = SIGMA, curvature: float = CURVATURE, scatter: float = 0.25, seed: int = 0, first: float = FIRST
) -> dict[str, Array]:
    """A function with known borders: noise N, smooth part sigma r, curvature c r^2."""
    generator = np.random.default_rng(seed)
    nominal = 10.0 ** np.arange(-13, 1, 1 / 16)
    realised = np.where(nominal > first / 10, nominal, 0.0)
    noise = NOISE * np.exp(scatter * generator.normal(size=len(nominal)))
    smooth = sigma * realised
    residual = np.hypot(noise, curvature * realised**2)
    output = np.hypot(smooth, residual)
    silent = nominal < first
    return {
        "nominal": nominal,
        "realised": realised,
        "output": np.where(silent, 0.0, output),
        "smooth": smooth,
        "residual": np.where(silent, smooth, residual),
    }


def measured(sigma: float = SIGMA, **changes: float) -> RegimeAccount:
    return regimes(**synthetic(sigma=sigma, **changes), sigma=sigma, draws=200)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
def test_known_borders_lie_in_their_bands(seed: int) -> None:
    found = measured(seed=seed)
    # 64 chaotic and more steps of scatter 0.25: the median is known to 0.25 / 8, three percent; three times that.
    assert found.noise_floor.value == pytest.approx(NOISE, rel=0.1)
    assert found.crossover.value == pytest.approx(NOISE / SIGMA, rel=0.1)
    assert found.crossover.low <= found.crossover.value <= found.crossover.high
    # Both arms are known to a few percent, and the corner goes with the root of their ratio.
    assert found.curvature.value == pytest.approx(np.sqrt(NOISE / CURVATURE), rel=0.1)
    # Signal ends where c r^2 = sigma r; a step of the grid is 15 %.
    assert found.crossover_seen.value == pytest.approx(NOISE / SIGMA, rel=0.4)
    assert FIRST / 1.16 < found.first_change_nominal.value < FIRST * 1.16
    assert abs(found.noise_slope) < 0.1


def test_the_band_covers_the_truth_as_often_as_it_says() -> None:
    """95 % bands: of 60 draws at least 50 hold the true floor (binomial, p < 1e-3 to fail for an honest band)."""
    hits = [found.noise_floor.low <= NOISE <= found.noise_floor.high for found in map(_seeded, range(60))]
    assert sum(hits) >= 50


def _seeded(seed: int) -> RegimeAccount:
    return regimes(**synthetic(seed=seed), sigma=SIGMA, draws=100, seed=seed)


def test_every_class_is_what_the_data_say() -> None:
    data = synthetic(scatter=0.0)
    found = measured(scatter=0.0)
    r = data["realised"]
    for number, (low, high) in enumerate(
        [(0.0, FIRST), (FIRST, NOISE / SIGMA), (NOISE / SIGMA, SIGMA / CURVATURE), (SIGMA / CURVATURE, np.inf)]
    ):
        inside = (data["nominal"] > low * 1.2) & (data["nominal"] < high / 1.2)
        assert inside.any()
        assert (found.regime[inside] == number).all(), REGIMES[number]
    assert (found.regime[data["output"] == 0] == 0).all()
    gains = data["output"][found.regime == 2] / r[found.regime == 2]
    assert found.signal_gain.value == pytest.approx(np.median(gains))


def test_saturated_steps_are_not_signal() -> None:
    """Where the answer cannot follow, output << sigma r: residual is below the smooth part, and yet it is no signal."""
    data = synthetic(scatter=0.0, curvature=0.0)
    limit = 1e-2
    data["output"] = np.minimum(data["output"], SIGMA * limit)
    data["residual"] = np.maximum(data["residual"], np.abs(data["smooth"] - data["output"]))
    found = regimes(**data, sigma=SIGMA, draws=20)
    assert (data["residual"] < data["smooth"])[-1]
    assert REGIMES[found.regime[-1]] == "nonlinear"
    # residual < output holds up to sigma r = 2 sigma limit.
    assert found.signal_end.value == pytest.approx(2 * limit, rel=0.2)


def test_a_flat_direction_has_no_signal() -> None:
    """Curvature outgrows the noise before a tiny sigma does: the crossover is named, but no step is signal."""
    found = measured(sigma=1e-6)
    assert not (found.regime == 2).any()
    assert found.crossover.value > found.curvature.value
    assert np.isnan(found.signal_gain.value)
    assert np.isnan(found.crossover_seen.value)


def test_nothing_changes_at_all() -> None:
    nominal = np.geomspace(1e-12, 1e-6, 50)
    zero = np.zeros(50)
    found = regimes(nominal, zero, zero, zero, zero, sigma=1.0, draws=10)
    assert (found.regime == 0).all()
    assert np.isnan(found.first_change.value)
    assert np.isnan(found.noise_floor.value)
    assert np.isnan(found.first_changing_nominal)
    assert found.largest_unchanged_nominal == nominal[-1]


def test_an_exact_function_has_no_noise() -> None:
    """Output = sigma r with no rest: all signal, nothing to fit, no floor invented."""
    nominal = np.geomspace(1e-12, 1e-6, 50)
    found = regimes(nominal, nominal, 3 * nominal, 3 * nominal, np.zeros(50), sigma=3.0, draws=10)
    assert (found.regime == 2).all()
    assert np.isnan(found.noise_floor.value)


def test_absorbed_steps_and_brackets() -> None:
    nominal = np.array([1.0, 2, 3, 4, 5, 6])
    realised = np.array([0.0, 2, 3, 4, 5, 6])
    output = np.array([0.0, 0, 1, 0, 1, 1])
    found = regimes(nominal, realised, output, output / 10, output, sigma=1.0, draws=50)
    assert found.absorbed == 2
    assert (found.last_silent_nominal, found.first_changing_nominal) == (2.0, 3.0)
    assert found.largest_unchanged_nominal == 4.0
    assert 2.0 < found.first_change.value < 5.0


def test_switch_against_brute_force() -> None:
    generator = np.random.default_rng(1)
    for _ in range(20):
        size = np.sort(generator.uniform(1, 100, 15))
        on = generator.random(15) < np.linspace(0, 1, 15)
        if on.all() or not on.any():
            continue
        u = np.log(size)
        places = np.concatenate([u[:1], (u[1:] + u[:-1]) / 2, u[-1:]])
        wrong = [np.sum(on[:i]) + np.sum(~on[i:]) for i in range(16)]
        expected = np.exp(np.median(places[np.array(wrong) == min(wrong)]))
        assert switch(size, on, np.ones((1, 15))).value == pytest.approx(expected)
    assert np.isnan(switch(size, np.ones(15, bool), np.ones((1, 15))).value)


def test_ramp_against_brute_force() -> None:
    """The best of the grid for each sample of repeated points, and the corner and the power that made the data."""
    generator = np.random.default_rng(2)
    r = np.geomspace(1e-8, 1, 120)
    n = np.hypot(1e-4, r**2) * np.exp(0.1 * generator.normal(size=120))
    weights = resampling(120, 5, seed=3)
    assert (weights.sum(axis=1) == 120).all()
    found = fit_ramp(r, n, weights)
    # n leaves the floor at 1e-2; ten points a decade of scatter 0.1 tell the level of both arms to 2 %.
    np.testing.assert_allclose(found.start[0], np.log(1e-2), atol=0.1)
    assert found.power[0] == 2
    knots = np.linspace(np.log(1e-8), 0.0, 36)
    for row in range(6):
        points = np.repeat(np.arange(120), weights[row].astype(int))

        def cost(start: float, end: float, power: float, points: npt.NDArray[np.int64] = points) -> float:
            where = (np.array([value]) for value in (start, end, power))
            return float((np.log(n[points]) - ramp_shape(np.log(r[points]), *where)).var())

        own = cost(found.start[row], found.end[row], found.power[row])
        tried = [cost(a, b, p) for a in knots[::3] for b in knots[::3] if b > a for p in (1.0, 2.0, 3.0)]
        assert own <= min(tried) + 1e-12


def test_shape_of_a_ramp() -> None:
    u = np.log(np.array([1e-9, 1e-4, 1e3, 1e9]))
    start, end = np.log(1e-4), np.log(1e-1)
    expected = [0.0, 0.5 * np.log(2), 2 * np.log(1e3), 2 * np.log(1e3)]
    np.testing.assert_allclose(ramp_shape(u, np.array([start]), np.array([end]), np.array([2.0])), expected, atol=1e-6)


def test_a_floor_without_rise_is_never_left() -> None:
    r = np.geomspace(1e-8, 1, 60)
    found = fit_ramp(r, np.full(60, 2.0), resampling(60, 3, seed=0))
    np.testing.assert_allclose(np.exp(found.level), 2.0)
    assert np.isinf(found.start).all()


def test_quantile_bands() -> None:
    size = np.array([1.1, 1.2, 1.3, 9.0, 11, 12, 13, 14])
    value = np.array([1.0, 2, 3, 99, 5, 6, 7, 8])
    middle, band, count = quantile_bands(size, value, per_decade=1)
    np.testing.assert_allclose(middle, [10**0.5, 10**1.5])
    assert count.tolist() == [4, 4]
    assert band[1, 1] == 6.5
    empty = quantile_bands(np.array([1.0]), np.array([1.0]), per_decade=1)
    assert empty[0].shape == (0,)
    assert empty[1].shape == (0, 3)
