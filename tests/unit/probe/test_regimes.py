"""Gain maps of functions in closed form: a linear map, a quadratic one, one with a dead zone; and of a real model."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tremor.models.loader import LoadedModel
from tremor.probe.base import base_point
from tremor.probe.jacobian import jacobian
from tremor.probe.regimes import gain_map, named_directions, step_sizes
from tremor.probe.response import Response
from tremor.statistics.regimes import REGIMES, regimes

Array = npt.NDArray[Any]
WIDTH = 24


class Toy:
    """Answers x -> f(x) in float64 at two taps, and counts the rows."""

    taps = ("residual.0", "final")

    def __init__(self, function: Callable[[Array], Array], x: Array, batch: int = 7) -> None:
        self.base = SimpleNamespace(x=x, fmt="float32")
        self.rows, self._function, self._batch = 0, function, batch

    def batches(self, inputs: Array) -> Iterator[tuple[slice, dict[str, torch.Tensor]]]:
        for start in range(0, len(inputs), self._batch):
            part = inputs[start : start + self._batch].astype(np.float64)
            self.rows += len(part)
            answer = {"residual.0": torch.from_numpy(part), "final": torch.from_numpy(self._function(part))}
            yield slice(start, start + len(part)), answer


@pytest.fixture(scope="module")
def matrix() -> Array:
    return np.asarray(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))


@pytest.fixture(scope="module")
def x() -> Array:
    return np.random.default_rng(1).normal(size=WIDTH).astype(np.float32)


def test_linear_map(matrix: Array, x: Array) -> None:
    """The gain is |W d| wherever the step is far above an ulp, and |W dx| / |dx| wherever the input moves at all."""
    _, sigma, vh = np.linalg.svd(matrix)
    names, directions = named_directions(vh.astype(np.float32), [1, "middle", "last", "random"], seed=0)
    assert names == ["v1", "v12", "v24", "random"]
    toy = Toy(lambda rows: rows @ matrix.T, x)
    sizes = step_sizes(1.0, decades=14, per_decade=8)
    found = gain_map(toy, directions, sizes, lambda steps: steps @ matrix.T)  # type: ignore[arg-type]
    assert sizes[0] == pytest.approx(1e-14)
    assert sizes[-1] == 1.0
    for row, value in zip(range(3), (sigma[0], sigma[11], sigma[23]), strict=True):
        index, realised = found.index[row], found.realised[row]
        assert ((index == 0) == (realised == 0)).all()
        large = sizes > 1e-1  # an ulp of x is 1e-7: rounding of the input is 1e-6 of the step
        gain = found.output[index, -1][large] / realised[large]
        # What rounding puts across the direction is stretched by sigma_1 at most.
        np.testing.assert_allclose(gain, value, atol=1e-5 * sigma[0])
        # The smooth map explains every step but for float64 rounding of the products.
        assert (found.residual[index] <= 1e-12).all()
        np.testing.assert_allclose(found.smooth[index], found.output[index, -1], atol=1e-12)
        told = regimes(
            sizes, realised, found.output[index, -1], found.smooth[index], found.residual[index], sigma=value, draws=20
        )
        moved = realised > 0
        assert (told.regime[~moved] == 0).all()
        assert (told.regime[moved & (found.smooth[index] > 1e-10)] == 2).all()
        if row == 0:
            assert told.signal_gain.value == pytest.approx(value, rel=0.05)


def test_identical_inputs_run_once_and_taps_are_told_apart(matrix: Array, x: Array) -> None:
    toy = Toy(lambda rows: rows @ matrix.T, x)
    directions = np.stack([matrix[0] / np.linalg.norm(matrix[0])] * 2).astype(np.float32)
    sizes = step_sizes(1e-6, decades=14, per_decade=16)
    found = gain_map(toy, directions, sizes, lambda steps: steps @ matrix.T)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.index[0], found.index[1])
    assert toy.rows == len(found.output) == len(np.unique(found.index)) < sizes.size / 4
    # Tap 0 is the input itself: its change is the realised step, its share the moved coordinates.
    index = found.index[0]
    np.testing.assert_allclose(found.output[index, 0], found.realised[0], rtol=1e-12)
    np.testing.assert_allclose(found.changed[index, 0] * WIDTH, found.moved_coordinates[0])
    np.testing.assert_allclose(np.hypot(found.along, found.off_direction), found.realised, rtol=1e-12)


def test_quadratic_map(matrix: Array, x: Array) -> None:
    """h = W x + c |x - x0|^2 e: the residual is c r^2, and signal ends where that is |W d| r."""
    curvature, unit = 30.0, np.eye(WIDTH)[0]
    _, sigma, vh = np.linalg.svd(matrix)

    def function(rows: Array) -> Array:
        step = rows - x.astype(np.float64)
        return step @ matrix.T + curvature * np.sum(step**2, axis=1)[:, None] * unit

    sizes = step_sizes(10.0, decades=14, per_decade=16)
    toy = Toy(function, x)
    found = gain_map(toy, vh[:1].astype(np.float32), sizes, lambda steps: steps @ matrix.T)  # type: ignore[arg-type]
    index, realised = found.index[0], found.realised[0]
    large = sizes > 1e-4
    np.testing.assert_allclose(found.residual[index][large], curvature * realised[large] ** 2, rtol=1e-6)
    told = regimes(
        sizes, realised, found.output[index, -1], found.smooth[index], found.residual[index],
        sigma=float(sigma[0]), draws=50,
    )  # fmt: skip
    # The grid is 15 % fine. "Signal" also asks residual < output, which moves the border within that.
    assert told.signal_end.value == pytest.approx(sigma[0] / curvature, rel=0.16)
    assert REGIMES[told.regime[-1]] == "nonlinear"


def test_dead_zone(x: Array) -> None:
    """A function that ignores steps below 1e-4 and then answers with a jump: stable, then chaotic."""

    def function(rows: Array) -> Array:
        length = np.linalg.norm(rows - x.astype(np.float64), axis=1)
        return np.where(length[:, None] > 1e-4, 1.0, 0.0) * np.ones((1, WIDTH))

    sizes = step_sizes(1.0, decades=14, per_decade=16)
    direction = np.full((1, WIDTH), WIDTH**-0.5, dtype=np.float32)
    found = gain_map(Toy(function, x), direction, sizes, np.zeros_like)  # type: ignore[arg-type]
    index = found.index[0]
    told = regimes(
        sizes, found.realised[0], found.output[index, -1], found.smooth[index], found.residual[index], sigma=0.0
    )
    assert told.first_change.value == pytest.approx(1e-4, rel=0.08)  # half a step of the grid
    assert told.last_silent_nominal <= 1e-4 * 1.01 < told.first_changing_nominal * 1.01
    assert told.absorbed > 16
    assert set(told.regime) == {0, 1}
    assert told.noise_floor.value == pytest.approx(WIDTH**0.5)
    assert told.noise_slope == pytest.approx(0.0, abs=1e-9)


def test_directions_by_name() -> None:
    right = np.eye(5, dtype=np.float32)
    names, found = named_directions(right, [2, "middle", 3, "last", "random"], seed=4)
    assert names == ["v2", "v3", "v5", "random"]  # the middle one is the third: not twice
    np.testing.assert_array_equal(found[:3], right[[1, 2, 4]])
    assert np.linalg.norm(found[3]) == pytest.approx(1.0, rel=1e-6)
    np.testing.assert_array_equal(named_directions(right, ["random"], seed=4)[1][0], found[3])
    with pytest.raises(ValueError, match="no singular vector 6, only 5"):
        named_directions(right, [6], seed=0)


def test_a_real_model(loaded_model: Callable[..., LoadedModel]) -> None:
    """A tiny Llama: at steps of 1e-3 the gain is that of its Jacobian, at the least ones it is rounding."""
    loaded = loaded_model("llama")
    base = base_point(loaded, "The capital of France is")
    smooth = jacobian(loaded, base).astype(np.float64)
    response = Response(loaded, base, mode="batched", batch_size=16, taps=("residual.1", "final"))
    _, sigma, vh = np.linalg.svd(smooth)
    sizes = step_sizes(1e-3, decades=14, per_decade=4)
    found = gain_map(response, vh[:1].astype(np.float32), sizes, lambda steps: steps @ smooth.T)
    index, realised = found.index[0], found.realised[0]
    assert (found.index[0][sizes < 1e-12] == 0).all()
    near = np.argmin(np.abs(sizes - 1e-3))
    assert found.output[index[near], -1] / realised[near] == pytest.approx(sigma[0], rel=0.02)
    least = np.flatnonzero(found.output[index, -1])[0]
    assert found.residual[index[least]] > found.smooth[index[least]]
