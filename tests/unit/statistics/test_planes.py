"""Classes of cells and crops of maps."""

import numpy as np
import pytest

from tremor.statistics.flips import nearest_on_grid, token_intervals
from tremor.statistics.planes import classes, windowed


def test_exact_zeros_and_other_tokens_are_classes_of_their_own() -> None:
    gap = np.array([[2.0, -1.0, 0.0], [2.0, -0.0, -3.0]])
    token = np.array([[7, 9, 7], [5, 7, 5]])
    np.testing.assert_array_equal(classes(gap, token, (7, 9)), [[1, -1, 0], [2, 0, 2]])


def test_crop_takes_the_points_of_the_window() -> None:
    axis = np.linspace(-1e-8, 1e-8, 201)
    values = {"gap": np.arange(201 * 201, dtype=float).reshape(1, 201, 201)}
    cut = windowed(values, axis, axis, ((5e-9, 0.0), (-1e-8, -5e-9)))  # ends in either order
    assert cut["gap"].shape == (1, 51, 51)
    np.testing.assert_allclose((cut["e1"][0], cut["e1"][-1]), (0.0, 5e-9), atol=1e-20)
    assert cut["gap"][0, 0, 0] == 100 * 201


def test_crop_does_not_clamp() -> None:
    # The original's own examples ask for 1e-7 of a map of 1e-8, and silently get one row.
    axis = np.linspace(-1e-8, 1e-8, 21)
    values = {"gap": np.zeros((21, 21))}
    with pytest.raises(ValueError, match="along e1 reaches out of the map, -1e-08 to 1e-08"):
        windowed(values, axis, axis, ((1e-7, 1e-6), (0.0, 1e-8)))
    with pytest.raises(ValueError, match="along e2 holds 1 points"):
        windowed(values, axis, axis, ((-1e-8, 1e-8), (0.0, 1e-10)))


def test_intervals_of_equal_token() -> None:
    steps = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    runs = token_intervals(steps, np.array([4, 4, 8, 4, 4]))
    assert runs.flips == 2
    assert runs.token.tolist() == [4, 8, 4]
    assert runs.start.tolist() == [-2.0, 0.0, 1.0]
    assert runs.end.tolist() == [-1.0, 0.0, 2.0]
    assert runs.steps.tolist() == [2, 1, 2]
    assert token_intervals(steps, np.full(5, 3)).flips == 0


def test_nearest_flip_is_the_smallest_in_size_not_the_first_row() -> None:
    # The original reports the first row that differs: the most negative step.
    steps = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    token = np.array([9, 9, 9, 5, 5, 9, 9])
    assert nearest_on_grid(steps, token, 5) == (2.0, -1.0)
    assert nearest_on_grid(steps, np.full(7, 5), 5) == (None, None)
