"""The rounding noise floor: its inputs are neighbours on the lattice, its numbers are those of the definition."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tremor.floats import ulp_distance
from tremor.models.loader import LoadedModel
from tremor.probe.base import base_point
from tremor.probe.jacobian import jacobian
from tremor.probe.noise import lattice_neighbours, noise_floor
from tremor.probe.response import Response

Array = npt.NDArray[Any]


@pytest.mark.parametrize("fmt", ["float32", "bfloat16", "float16"])
def test_neighbours_are_one_ulp_away(fmt: str) -> None:
    x = np.array([1.0, -2.0, 0.0, 0.5, -0.0, 3.0, 0.375, -1.5], dtype=np.float32)
    inputs = lattice_neighbours(x, 200, seed=3, fmt=fmt)
    distance = ulp_distance(inputs, np.broadcast_to(x, inputs.shape), fmt)
    assert inputs.dtype == np.float32
    assert distance.max() == 1
    moved = distance.sum(axis=1)
    # From one coordinate to all of them, the small numbers more often (log-uniform).
    assert set(moved.tolist()) == set(range(1, 9))
    assert np.sum(moved == 1) > np.sum(moved == 8) > 0
    assert np.any(inputs > x)
    assert np.any(inputs < x)
    np.testing.assert_array_equal(inputs, lattice_neighbours(x, 200, seed=3, fmt=fmt))
    assert (inputs != lattice_neighbours(x, 200, seed=4, fmt=fmt)).any()


class Scripted:
    """A response by a formula, h0 = 0."""

    def __init__(self, rule: Callable[[Array], Array]) -> None:
        self.base = SimpleNamespace(x=np.array([1.0, -2.0, 0.5], np.float32), fmt="float32")
        self.h0, self.rule = np.zeros(2, np.float32), rule

    def evaluate(self, inputs: Array) -> Array:
        return self.rule(inputs).astype(np.float32)


def test_what_the_smooth_map_explains_is_no_noise() -> None:
    """Noise of known size beside a linear map of known steps."""
    matrix = np.array([[1e3, 0, 2e3], [0, -1e3, 0]])
    x = np.array([1.0, -2.0, 0.5])
    linear = noise_floor(
        Scripted(lambda p: (p - x) @ matrix.T),  # type: ignore[arg-type]
        lambda steps: steps @ matrix.T,
        samples=50,
    )
    # Steps are 1e-7, answers 1e-4, rounded to float32 at 1e-11.
    assert linear.changed == 50
    assert linear.high_l2 < 1e-10
    shifted = noise_floor(
        Scripted(lambda p: (p - x) @ matrix.T + np.array([3.0, 4.0])),  # type: ignore[arg-type]
        lambda steps: steps @ matrix.T,
        samples=50,
    )
    for value in (shifted.low_l2, shifted.median_l2, shifted.high_l2):
        assert value == pytest.approx(5.0, rel=1e-6)


def test_samples_that_change_nothing_are_not_in_the_quantiles() -> None:
    def steps_up(p: Array) -> Array:
        return np.where(p[:, :1] > 1, [[0.6, 0.8]], 0.0)

    found = noise_floor(Scripted(steps_up), lambda steps: np.zeros((len(steps), 2)), samples=64)  # type: ignore[arg-type]
    assert 0 < found.changed < found.samples == 64
    assert found.low_l2 == found.high_l2 == pytest.approx(1.0, rel=1e-6)
    silent = noise_floor(
        Scripted(lambda p: np.zeros((len(p), 2))),  # type: ignore[arg-type]
        lambda steps: np.ones((len(steps), 2)),
        samples=8,
    )
    assert (silent.changed, silent.low_l2, silent.median_l2, silent.high_l2) == (0, 0.0, 0.0, 0.0)


def test_floor_of_a_model(loaded_model: Callable[..., LoadedModel]) -> None:
    """Recomputed by numpy from plain evaluations; and far above what the smooth map predicts."""
    loaded = loaded_model("llama")
    base = base_point(loaded, "The capital of France is")
    response = Response(loaded, base, mode="batched", batch_size=8)
    matrix = jacobian(loaded, base).astype(np.float64)
    found = noise_floor(response, lambda steps: steps @ matrix.T, samples=40, seed=5)
    inputs = lattice_neighbours(base.x, 40, seed=5, fmt="float32")
    answers = np.stack([response.evaluate(one[None])[0] for one in inputs]).astype(np.float64)
    change = answers - response.h0
    rest = np.linalg.norm(change - (inputs.astype(np.float64) - base.x) @ matrix.T, axis=1)
    seen = rest[(change != 0).any(axis=1)]
    assert found.changed == len(seen)
    np.testing.assert_allclose(
        [found.low_l2, found.median_l2, found.high_l2], np.quantile(seen, [0.05, 0.5, 0.95]), rtol=1e-12
    )
    # Some eps (1.2e-7) of the answer's norm: not a gain, and not zero.
    assert 1e-9 < found.median_l2 / np.linalg.norm(response.h0) < 1e-5
