"""Statistics of directions, walks and counts against definitions and by hand."""

import numpy as np
import pytest
from scipy import stats

from tremor.floats import nudge, ulp
from tremor.statistics.walk import (
    count_statistics,
    describe_direction,
    expected_changes,
    slope,
    summary,
    walk_statistics,
)


def test_a_direction_is_described() -> None:
    v = np.array([0.6, -0.08, 0.0, 0.79], dtype=np.float32)
    found = describe_direction(v)
    wide = v.astype(np.float64)
    assert (found["dimension"], found["positive"], found["negative"], found["zero"]) == (4, 2, 1, 1)
    assert found["l2"] == pytest.approx(np.sqrt(np.sum(wide**2)), rel=1e-15)
    assert found["skewness"] == pytest.approx(np.mean((wide - wide.mean()) ** 3) / wide.std() ** 3, rel=1e-12)
    assert found["excess_kurtosis"] == pytest.approx(
        np.mean((wide - wide.mean()) ** 4) / wide.var() ** 2 - 3, rel=1e-12
    )
    assert found["magnitude_counts"] == [1, 0, 0, 0, 1, 2]
    assert found["magnitude_percentiles"]["50"] == found["median_magnitude"]
    flat = describe_direction(np.full(3, 0.5, np.float32))
    assert flat["skewness"] is flat["excess_kurtosis"] is None


def test_a_walk_is_counted_by_what_each_step_changes() -> None:
    values = {
        "low": np.arange(6.0),
        "high": np.arange(1.0, 7.0),
        "input_changed": np.array([0, 1, 2, 0, 1, 1]),
        "input_l2": np.array([0, 3.0, 4.0, 0, 1.0, 2.0]),
        "position": np.array([0, 1.0, 5.0, 5.0, 5.5, 8.0]),
        "output_changed": np.array([0, 0, 9, 0, 9, 9]),
        "output_l2": np.array([0, 0, 6.0, 0, 2.0, 3.0]),
    }
    found = walk_statistics(values, distinct_sizes=7, distinct_inputs=5)
    assert (found["steps"], found["input_unchanged"], found["input_changed_output_not"], found["both_changed"]) == (
        6,
        2,
        1,
        3,
    )
    assert (found["jumps"], found["jump_percent"]) == (3, 50.0)
    assert found["jump_size"] == {
        "mean": pytest.approx(11 / 3), "std": pytest.approx(np.std([6, 2, 3])), "min": 2.0, "max": 6.0, "median": 3.0,
    }  # fmt: skip
    assert found["difference"]["mean"] == pytest.approx(11 / 6)
    assert (found["spacing_steps"]["mean"], found["spacing_nominal"]["max"]) == (1.5, 2.0)
    assert found["spacing_realised"]["mean"] == pytest.approx(1.5)
    assert found["gain_rms"] == pytest.approx(np.sqrt(49 / 30))


def test_a_walk_without_jumps_has_no_sizes_but_a_result() -> None:
    """The original left its file of jumps out, and a reader could not tell that from a failure."""
    zero = np.zeros(3)
    names = ("input_changed", "input_l2", "position", "output_changed", "output_l2")
    found = walk_statistics(
        {"low": zero, "high": zero, **dict.fromkeys(names, zero)}, distinct_sizes=1, distinct_inputs=1
    )
    assert (found["jumps"], found["input_unchanged"], found["gain_rms"]) == (0, 3, None)
    assert found["jump_size"] == found["spacing_steps"] == dict.fromkeys(("mean", "std", "min", "max", "median"))
    assert summary(np.zeros(0)) == found["jump_size"]


def test_slope_of_a_power_law() -> None:
    x = [1e-9, 1e-8, None, 1e-6, 1e-5]
    assert slope(x, [3e-4, 3e-3, 1.0, 3e-1, 3.0]) == pytest.approx(1.0, rel=1e-12)
    assert slope(x, [2e-4, 2e-4, 2e-4, 2e-4, 0.0]) == pytest.approx(0.0, abs=1e-12)
    assert slope([1.0, 1.0], [2.0, 3.0]) is None
    assert slope([1.0, None], [2.0, 3.0]) is None


def test_expected_changes_are_the_mean_over_places_in_the_ulp() -> None:
    """Monte Carlo over the low bits of x: the move crosses a midpoint with probability |gap d| / ulp."""
    generator = np.random.default_rng(0)
    direction = (generator.normal(size=64) / 8).astype(np.float32)
    start, gap = 1e-6, 4e-10
    low = generator.uniform(0.0101, 0.0149, 64)  # one binade, so that noise does not change the spacing
    counts = []
    for _ in range(400):
        x = (low + generator.uniform(-1e-4, 1e-4, 64)).astype(np.float32)
        a, b = (nudge(x, direction, s, arithmetic="float64") for s in (start, start + gap))
        counts.append(np.sum(a != b))
    expected = expected_changes(ulp(low.astype(np.float32), "float32"), direction[None], gap)[0]
    # x lies on the lattice and start * d is fixed: each coordinate crosses or not, whatever x in the binade is. The
    # mean over coordinates is what the expectation is about; 64 coordinates of variance p (1 - p) <= 1/4.
    assert abs(np.mean(counts) - expected) < 3 * np.sqrt(64 / 4)
    assert expected_changes(np.full(2, 1e-9), np.array([[1.0, 0.5]], np.float32), 1e-9)[0] == pytest.approx(1.5)
    assert expected_changes(np.full(2, 1e-9), np.array([[1.0, 0.5]], np.float32), 1.0)[0] == 2.0


def test_counts_by_kind() -> None:
    kind = np.array(["shift"] * 4 + ["random"] * 4)
    count, expected = np.array([1, 2, 3, 4, 11, 12, 13, 14]), np.arange(8.0)
    found = count_statistics(kind, count, expected)
    assert found["by_kind"]["shift"]["mean"] == 2.5
    assert found["by_kind"]["shift"]["dispersion"] == pytest.approx(1.25 / 2.5)
    assert found["kruskal_p"] == stats.kruskal(count[:4], count[4:]).pvalue
    assert found["spearman_expected"] == pytest.approx(1.0)
    silent = count_statistics(kind, np.zeros(8), expected)
    assert silent["kruskal_p"] is silent["spearman_expected"] is None
    assert silent["by_kind"]["random"]["dispersion"] is None
    assert count_statistics(kind, count, np.full(8, np.nan))["spearman_expected"] is None
