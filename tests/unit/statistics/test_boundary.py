"""Statistics of boundaries and distances against plain recomputation."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from tremor.statistics.boundary import (
    angle_statistics,
    boundary_counts,
    describe,
    distance_summary,
    vector_statistics,
)

NAMES = ("mean", "median", "min", "max", "std", "range")


def test_describe() -> None:
    values = np.array([3.0, np.nan, 1.0, np.inf, 4.0, 1.5])
    finite = [3.0, 1.0, 4.0, 1.5]
    found = describe(values)
    assert tuple(found) == NAMES
    # The spread is that of the values measured (1/n), not an estimate for a population.
    expected = (np.mean(finite), np.median(finite), 1.0, 4.0, np.std(finite), 3.0)
    assert [found[n] for n in NAMES] == pytest.approx(expected, rel=1e-15)
    assert describe(np.array([2.0]))["std"] == 0.0


@pytest.mark.parametrize("values", [[], [np.nan], [np.inf, -np.inf, np.nan]])
def test_describe_nothing(values: list[float]) -> None:
    assert describe(np.array(values)) == dict.fromkeys(NAMES)


def angles(count: int, **changes: Any) -> tuple[Any, dict[str, Any]]:
    generator = np.random.default_rng(0)
    theta = np.linspace(0, 2 * np.pi, count, endpoint=False)
    first = generator.uniform(1e-9, 1e-8, count).astype(np.float32)
    data = {
        "max_s": (first * generator.uniform(1, 5, count)).astype(np.float32),
        "first_breakpoint": first,
        "censored": np.zeros(count, dtype=bool),
        "certified": np.ones(count, dtype=bool),
        "evaluations": generator.integers(1, 20, count),
    }
    return theta, {**data, **changes}


def test_angle_statistics() -> None:
    theta, data = angles(36)
    data["censored"][[4, 9]] = True
    data["max_s"][[4, 9]] = 1.0  # s_max: the largest of all, and no boundary
    data["certified"][7] = False
    data["max_s"][3] = 0.0
    found = angle_statistics(theta, data)
    kept = np.delete(data["max_s"].astype(np.float64), [4, 9])
    kept_theta = np.delete(np.degrees(theta), [4, 9])
    ratio = kept / np.delete(data["first_breakpoint"].astype(np.float64), [4, 9])
    assert (found["rays"], found["certified_rays"], found["censored_rays"]) == (36, 35, 2)
    assert found["nonzero_rays"] == 35
    assert found["mean_evaluations"] == pytest.approx(data["evaluations"].mean())
    assert found["max_s_mean"] == pytest.approx(kept.mean(), rel=1e-14)
    assert found["max_s_max"] == kept.max() < 1
    assert found["max_s_min"] == 0.0
    assert found["argmin_angle_degrees"] == pytest.approx(30.0)
    assert found["argmax_angle_degrees"] == pytest.approx(kept_theta[np.argmax(kept)])
    assert found["median_max_s_over_first_breakpoint"] == pytest.approx(np.median(ratio), rel=1e-14)
    for name, index in (("e1", 0), ("e2", 9), ("minus_e1", 18), ("minus_e2", 27)):
        cardinal = found["cardinal"][name]
        assert cardinal["angle_degrees"] == pytest.approx(index * 10.0)
        assert cardinal["max_s"] == (None if index == 9 else float(data["max_s"][index]))


def test_nearest_angle_goes_round_the_circle() -> None:
    """359 degrees is nearer to 0 than 5 degrees is."""
    degrees = np.array([5.0, 85.0, 178.0, 269.0, 359.0])
    _, data = angles(5)
    found = angle_statistics(np.radians(degrees), data)["cardinal"]
    assert found["e1"]["angle_degrees"] == pytest.approx(359.0)
    assert found["e1"]["max_s"] == float(data["max_s"][4])
    assert [found[n]["angle_degrees"] for n in ("e2", "minus_e1", "minus_e2")] == pytest.approx([85.0, 178.0, 269.0])


def test_all_censored() -> None:
    theta, data = angles(8)
    data.update(censored=np.ones(8, dtype=bool), first_breakpoint=np.full(8, np.nan, np.float32))
    found = angle_statistics(theta, data)
    assert found["censored_rays"] == 8
    for name in (*(f"max_s_{n}" for n in NAMES), "argmin_angle_degrees", "argmax_angle_degrees"):
        assert found[name] is None
    assert found["median_max_s_over_first_breakpoint"] is None
    assert all(c["max_s"] is None for c in found["cardinal"].values())


def vectors(count: int = 12, draws: int = 9, signs: tuple[int, ...] = (1, -1)) -> dict[str, Any]:
    generator = np.random.default_rng(1)
    total = count * len(signs) + draws
    sigma = np.geomspace(10, 0.1, count)
    return {
        "kind": np.array(["singular"] * (count * len(signs)) + ["random"] * draws),
        "vector": np.concatenate([np.tile(np.arange(count), len(signs)), np.arange(draws)]),
        "sign": np.concatenate([np.repeat(signs, count), np.ones(draws, dtype=int)]),
        "sigma": np.concatenate([np.tile(sigma, len(signs)), generator.uniform(1, 2, draws)]),
        "max_s": generator.uniform(1, 9, total).astype(np.float32),
        "censored": np.zeros(total, dtype=bool),
        "certified": np.ones(total, dtype=bool),
        "evaluations": np.full(total, 7),
    }


def test_vector_statistics() -> None:
    data = vectors()
    data["censored"][[2, 30]] = True
    data["max_s"][[2, 30]] = 100.0
    found = vector_statistics(data)
    singular = np.flatnonzero((data["kind"] == "singular") & ~data["censored"])
    random = np.flatnonzero((data["kind"] == "random") & ~data["censored"])
    max_s = data["max_s"].astype(np.float64)
    spearman = stats.spearmanr(data["sigma"][singular], max_s[singular])
    assert found["rays"] == 33
    assert found["spearman_max_s_sigma"] == pytest.approx(spearman.statistic, rel=1e-12)
    assert found["spearman_p"] == pytest.approx(spearman.pvalue, rel=1e-12)
    test = stats.mannwhitneyu(max_s[singular], max_s[random], alternative="two-sided")
    assert found["mann_whitney_p"] == pytest.approx(test.pvalue, rel=1e-12)
    assert found["singular"]["rays"] == 24
    assert found["random"]["rays"] == 9
    assert found["singular"]["max_s_median"] == pytest.approx(np.median(max_s[singular]))
    assert found["random"]["max_s_max"] == max_s[random].max() < 100
    assert found["argmin_vector"] == data["vector"][singular][np.argmin(max_s[singular])]
    assert found["argmax_vector"] == data["vector"][singular][np.argmax(max_s[singular])]
    # The original wrote the number of a vector as a float.
    assert isinstance(found["argmin_vector"], int)
    assert isinstance(found["argmax_vector"], int)
    ratios = [abs(np.log10(max_s[v] / max_s[v + 12])) for v in range(12) if v != 2]
    assert found["median_abs_log10_sign_ratio"] == pytest.approx(np.median(ratios), rel=1e-12)


def test_spearman_is_of_ranks() -> None:
    data = vectors(signs=(1,))
    data["max_s"][:12] = data["sigma"][:12] ** 3
    assert vector_statistics(data)["spearman_max_s_sigma"] == pytest.approx(1.0)
    data["max_s"][:12] = 1 / data["sigma"][:12]
    assert vector_statistics(data)["spearman_max_s_sigma"] == pytest.approx(-1.0)


def test_no_control_no_signs_no_boundary() -> None:
    """What cannot be said is None, not a number."""
    found = vector_statistics(vectors(draws=0, signs=(1,)))
    assert found["mann_whitney_p"] is None
    assert found["median_abs_log10_sign_ratio"] is None
    assert found["random"]["max_s_mean"] is None
    assert vector_statistics(vectors(count=2, signs=(1,)))["spearman_max_s_sigma"] is None
    flat = vectors()
    flat["max_s"][:] = 1.0
    assert vector_statistics(flat)["spearman_max_s_sigma"] is None
    censored = vectors()
    censored["censored"][:] = True
    found = vector_statistics(censored)
    for name in ("spearman_max_s_sigma", "spearman_p", "mann_whitney_p", "argmin_vector", "argmax_vector"):
        assert found[name] is None
    assert found["median_abs_log10_sign_ratio"] is None
    assert found["censored_rays"] == 33


def test_a_boundary_of_zero_has_no_sign_ratio() -> None:
    data = vectors(count=3, draws=0)
    data["max_s"][:] = [1, 0, 10, 10, 5, 10]
    assert vector_statistics(data)["median_abs_log10_sign_ratio"] == pytest.approx(0.5)
    assert vector_statistics(data)["nonzero_rays"] == 5


def test_counts() -> None:
    found = boundary_counts(np.array([True, False]), np.array([False, False]), np.array([0.0, 1.0]), np.array([1, 4]))
    assert found == {
        "rays": 2, "certified_rays": 0, "censored_rays": 1, "nonzero_rays": 1, "mean_evaluations": 2.5,
    }  # fmt: skip


def distances() -> dict[str, Any]:
    return {
        "embedding_l2": np.array([1e-8, 3e-8, 9.0]),
        "hidden_l2": np.array([1e-6, 5e-6, 9.0]),
        "smooth_prediction_l2": np.array([2e-8, 2e-8, 9.0]),
        "noise_floor_l2": np.full(3, 2e-6),
        "certified": np.array([True, False, True]),
        "censored": np.array([False, False, True]),
        "violations": np.array([False, True, False]),
    }


def test_distance_summary() -> None:
    """Ratios are of means, over the rays that crossed."""
    row = distance_summary(distances())
    assert [row[n] for n in ("rays", "certified_rays", "censored_rays", "violations")] == [3, 2, 1, 1]
    assert row["hidden_l2_mean"] == pytest.approx(3e-6)
    assert row["hidden_l2_std"] == pytest.approx(2e-6)
    assert row["embedding_l2_std"] == pytest.approx(1e-8)
    assert row["embedding_l2_max"] == 3e-8
    assert row["hidden_over_embedding"] == pytest.approx(3e-6 / 2e-8)
    assert row["gain_smooth"] == pytest.approx(1.0)
    assert row["noise_floor_l2"] == 2e-6


def test_distance_summary_of_nothing_crossed() -> None:
    data = distances()
    data["censored"][:] = True
    row = distance_summary(data)
    assert row["censored_rays"] == 3
    assert row["hidden_l2_mean"] is None
    assert np.isnan([row[n] for n in ("hidden_over_embedding", "gain_smooth", "noise_floor_l2")]).all()
