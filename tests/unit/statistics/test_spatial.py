"""Spatial statistics against brute force, and against the defects of the original's randomness study."""

from itertools import pairwise

import numpy as np
import pytest

from tremor.statistics import spatial


def dense_moran(values: np.ndarray) -> float:
    """The definition, with the whole weight matrix."""
    rows, columns = values.shape
    n = values.size
    weight = np.zeros((n, n))
    for i in range(rows):
        for j in range(columns):
            for a, b in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                if 0 <= a < rows and 0 <= b < columns:
                    weight[i * columns + j, a * columns + b] = 1
    z = (values - values.mean()).ravel()
    return float(n / weight.sum() * (z @ weight @ z) / (z @ z))


def plain_entropy(sign: np.ndarray, window: int) -> np.ndarray:
    edge = window // 2
    out = np.zeros((sign.shape[0] - 2 * edge, sign.shape[1] - 2 * edge))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            _, counts = np.unique(sign[i : i + window, j : j + window], return_counts=True)
            share = counts / counts.sum()
            out[i, j] = -np.sum(share * np.log2(share))
    return out


def plain_crossings(sign: np.ndarray) -> float:
    total = 0
    for line in [*sign, *sign.T]:
        signed = [value for value in line if value != 0]
        total += sum(a != b for a, b in pairwise(signed))
    return total / sum(sign.shape)


def plain_components(sign: np.ndarray) -> int:
    seen = np.zeros(sign.shape, dtype=bool)
    count = 0
    for start in np.ndindex(*sign.shape):
        if seen[start]:
            continue
        count += 1
        stack = [start]
        while stack:
            i, j = stack.pop()
            if not (0 <= i < sign.shape[0] and 0 <= j < sign.shape[1]) or seen[i, j] or sign[i, j] != sign[start]:
                continue
            seen[i, j] = True
            stack += [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
    return count


@pytest.fixture(params=[0, 1, 2])
def gap(request: pytest.FixtureRequest) -> np.ndarray:
    """A map on a coarse lattice, with many exact zeros, as logits give it."""
    drawn = np.random.default_rng(request.param).normal(size=(13, 9))
    return np.round(drawn * 2) / 2


def test_moran_is_the_dense_definition(gap: np.ndarray) -> None:
    # Sums of about 100 terms of order one in another order: far below 1e-12.
    assert spatial.moran_i(gap) == pytest.approx(dense_moran(gap), abs=1e-12)


def test_moran_of_a_chessboard_and_of_halves() -> None:
    board = np.indices((10, 10)).sum(axis=0) % 2 * 2 - 1
    assert spatial.moran_i(board) == pytest.approx(-1.0, abs=1e-12)
    halves = np.where(np.arange(40) < 20, -1, 1)[:, None] * np.ones((1, 40))
    assert spatial.moran_i(halves) > 0.9


def test_moran_of_one_class_is_undefined_not_random() -> None:
    # The original gave 0 here, and counted it as a sign of randomness.
    assert np.isnan(spatial.moran_i(np.ones((6, 6))))


def test_moran_does_not_form_the_weight_matrix() -> None:
    # 401 x 401 cells would need a dense matrix of 207 GB.
    values = np.random.default_rng(0).normal(size=(401, 401))
    assert abs(spatial.moran_i(values)) < 0.02  # six standard deviations, each about sqrt(2 / (4 n)) = 0.002


def test_counts_are_those_of_brute_force(gap: np.ndarray) -> None:
    sign = np.sign(gap).astype(np.int8)
    assert spatial.component_count(sign) == plain_components(sign)
    assert spatial.crossings_per_line(sign) == pytest.approx(plain_crossings(sign), abs=1e-15)
    np.testing.assert_allclose(spatial.local_entropy(sign, 5), plain_entropy(sign, 5), atol=1e-12)
    unequal = sum(
        int(sign[i, j] != sign[a, b])
        for i, j in np.ndindex(*sign.shape)
        for a, b in ((i + 1, j), (i, j + 1))
        if a < sign.shape[0] and b < sign.shape[1]
    )
    assert spatial.flip_ratio(sign) == pytest.approx(unequal / (12 * 9 + 13 * 8))


def test_an_exact_zero_on_the_way_is_one_crossing_not_two() -> None:
    line = np.array([[-1, 0, 1, 1]] * 4)
    # Four rows cross once each; the columns never do.
    assert spatial.crossings_per_line(line) == pytest.approx(4 / 8)
    touching = np.array([[1, 0, 1, 1]] * 4)
    assert spatial.crossings_per_line(touching) == 0


def test_gradient_is_per_unit_of_the_axes() -> None:
    e1, e2 = np.linspace(-1e-8, 1e-8, 21), np.linspace(-2e-8, 2e-8, 11)
    plane = 3.0 * e1[:, None] + 4.0 * e2[None, :]
    slope = spatial.gradient_magnitude(plane, (e1[1] - e1[0], e2[1] - e2[0]))
    np.testing.assert_allclose(slope, 5.0, rtol=1e-6)  # cancellation in steps of 1e-9 of values of 1e-8


def test_a_flat_map_has_no_coefficient_of_variation() -> None:
    found = spatial.spatial_statistics(np.full((7, 7), 2.0), (1.0, 1.0))
    assert found["gradient_mean"] == 0
    assert np.isnan(found["gradient_cv"])
    tests = spatial.against_nulls(np.full((7, 7), 2.0), (1.0, 1.0), draws=5)
    assert all(np.isnan(t.p_two_sided) for t in tests if t.statistic in ("moran_i", "gradient_cv"))


@pytest.mark.parametrize("null", spatial.NULLS)
def test_null_maps_keep_the_values(gap: np.ndarray, null: str) -> None:
    drawn = list(spatial.draw(gap, null, 3, seed=4))
    for one in drawn:
        assert set(one.ravel()) <= set(gap.ravel())
        if null != "iid":
            np.testing.assert_array_equal(np.sort(one, axis=None), np.sort(gap, axis=None))
    again = list(spatial.draw(gap, null, 3, seed=4))
    np.testing.assert_array_equal(drawn, again)
    assert not np.array_equal(drawn[0], drawn[1])


def test_a_straight_map_has_one_boundary() -> None:
    values = np.random.default_rng(0).normal(size=(30, 30))
    for one in spatial.draw(values, "straight", 10, seed=0):
        assert spatial.component_count(np.sign(one)) == 2


def results(gap: np.ndarray) -> dict[tuple[str, str], spatial.NullTest]:
    return {(t.statistic, t.null): t for t in spatial.against_nulls(gap, (1.0, 1.0), draws=99, seed=1)}


def test_noise_is_told_from_a_boundary() -> None:
    noise = np.random.default_rng(5).normal(size=(31, 31))
    found = results(noise)
    for name in ("flip_ratio", "components", "moran_i", "crossings_per_line"):
        assert found[name, "permutation"].p_two_sided > 0.02, name  # like noise
        assert found[name, "straight"].p_two_sided == pytest.approx(0.02), name  # the least 99 draws can give


def test_a_balanced_straight_boundary_is_not_random() -> None:
    # The original's chi-square of the class counts passes this map as random (p = 0.32), for it looks at no position.
    rows, columns = np.indices((31, 31))
    gap = (np.cos(0.4) * (rows - 15) + np.sin(0.4) * (columns - 15)).astype(float)
    found = results(gap)
    for name in ("flip_ratio", "components", "moran_i", "local_entropy_bits", "crossings_per_line"):
        assert found[name, "permutation"].p_two_sided == pytest.approx(0.02), name
        assert found[name, "straight"].p_two_sided > 0.02, name


def test_p_values_are_uniform_under_the_null() -> None:
    generator = np.random.default_rng(9)
    p = []
    for number in range(60):
        gap = generator.normal(size=(9, 9))
        tests = spatial.against_nulls(gap, (1.0, 1.0), draws=39, seed=number)
        p.append(next(t.p_low for t in tests if t.statistic == "moran_i" and t.null == "permutation"))
    # The mean of 60 uniform numbers has a standard deviation of 0.037: four of them.
    assert abs(np.mean(p) - 0.5) < 0.15


def test_window_must_fit() -> None:
    with pytest.raises(ValueError, match="window must be odd and at most 4"):
        spatial.local_entropy(np.ones((4, 9)), 5)
