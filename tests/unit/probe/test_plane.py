"""Maps over a plane: inputs rounded once, realised coordinates, and every cell as if asked alone."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tremor.models.loader import LoadedModel
from tremor.probe.base import base_point
from tremor.probe.flips import symmetric_steps
from tremor.probe.plane import gap_map, plane_inputs, realised_coordinates
from tremor.probe.readout import Readout
from tremor.probe.response import Response

Models = Callable[..., LoadedModel]


def synthetic(width: int = 64) -> tuple[Any, Any]:
    generator = np.random.default_rng(3)
    x = generator.normal(0, 0.013, width).astype(np.float32)
    return x, np.linalg.qr(generator.normal(size=(width, 2)))[0].T.astype(np.float32)


def nearest_float32(value: Fraction) -> np.float32:
    """The float32 nearest to a rational number, ties to even."""
    guess = np.float32(float(value))
    near = [guess, np.nextafter(guess, np.float32(np.inf)), np.nextafter(guess, np.float32(-np.inf))]
    return min(near, key=lambda f: (abs(Fraction(float(f)) - value), int(f.view(np.int32)) & 1))


def test_a_sum_in_float64_is_rounded_once() -> None:
    x, h = synthetic()
    e1, e2 = np.array([5e-9, -1e-8]), np.array([6e-9, 3e-9])
    found = plane_inputs(x, h, e1, e2, arithmetic="float64", fmt="float32")
    for row in range(2):
        for i in range(len(x)):
            exact = Fraction(float(x[i])) + sum(
                Fraction(float(e)) * Fraction(float(d[i])) for e, d in ((e1[row], h[0]), (e2[row], h[1]))
            )
            assert found[row, i] == nearest_float32(exact)


def test_two_sums_in_float32_are_rounded_twice() -> None:
    # The original adds one direction after the other: at (5e-9, 6e-9) the spec counts 274 of 4096 coordinates
    # that differ from a sum rounded once.
    x, h = synthetic(4096)
    e1, e2 = np.array([5e-9]), np.array([6e-9])
    twice = plane_inputs(x, h, e1, e2, arithmetic="float32", fmt="float32")
    np.testing.assert_array_equal(twice[0], (x + np.float32(5e-9) * h[0]) + np.float32(6e-9) * h[1])
    once = plane_inputs(x, h, e1, e2, arithmetic="float64", fmt="float32")
    assert 100 < (once != twice).sum() < 500


@pytest.mark.parametrize("arithmetic", ["float64", "float32"])
def test_the_origin_is_the_base_point_bit_for_bit(arithmetic: Any) -> None:
    x, h = synthetic()
    x[0] = -0.0
    found = plane_inputs(x, h, np.zeros(1), np.zeros(1), arithmetic=arithmetic, fmt="float32")
    assert found[0].tobytes() == x.tobytes()


def test_realised_coordinates_are_the_projection() -> None:
    x, h = synthetic()
    generator = np.random.default_rng(0)
    a1, a2 = generator.normal(0, 1e-3, (2, 5))
    off = generator.normal(0, 1e-3, (5, len(x)))
    wide = h.astype(np.float64)
    off -= off @ np.linalg.pinv(wide) @ wide
    moved = x.astype(np.float64) + a1[:, None] * wide[0] + a2[:, None] * wide[1] + off
    found = realised_coordinates(x, moved, h)
    # Cancellation of numbers near 0.01 in float64: 1e-18.
    np.testing.assert_allclose(found[0], a1, atol=1e-15)
    np.testing.assert_allclose(found[1], a2, atol=1e-15)
    np.testing.assert_allclose(found[2], np.linalg.norm(off, axis=1), atol=1e-15)


def test_small_nominal_steps_are_mostly_off_the_plane() -> None:
    """What the original does not disclose: at 1e-8 the inputs are further from its plane than they move within it."""
    generator = np.random.default_rng(0)
    x = generator.normal(0, 0.013, 4096).astype(np.float32)
    h = np.linalg.qr(generator.normal(size=(4096, 2)))[0].T.astype(np.float32)
    inputs = plane_inputs(x, h, np.array([1e-8]), np.array([0.0]), arithmetic="float32", fmt="float32")
    along, _, off = realised_coordinates(x, inputs, h)
    assert along[0] < 0.6e-8
    assert off[0] > along[0]


@pytest.mark.parametrize("arithmetic", ["float64", "float32"])
def test_every_cell_is_as_if_asked_alone(loaded_model: Models, arithmetic: Any) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, "The capital of France is")
    readout = Readout(Response(loaded, base, mode="batched", batch_size=8))
    h = np.linalg.qr(np.random.default_rng(0).normal(size=(len(base.x), 2)))[0].T.astype(np.float32)
    e1, e2 = symmetric_steps(2e-8, 9), symmetric_steps(1e-8, 7)
    before = readout.response.rows_evaluated
    found = gap_map(readout, h, e1, e2, (5, 9), arithmetic=arithmetic)
    distinct = int(found.distinct_input.max()) + 1
    assert readout.response.rows_evaluated - before == 8 * -(-distinct // 8)
    assert found.gap.shape == (9, 7)
    inputs = {}
    for i, j in np.ndindex(9, 7):
        x = plane_inputs(base.x, h, e1[[i]], e2[[j]], arithmetic=arithmetic, fmt="float32")
        one = readout.decide(x, (5, 9))
        assert found.gap[i, j] == float(one.logits[0, 0]) - float(one.logits[0, 1])
        assert found.token[i, j] == one.token[0]
        assert inputs.setdefault(x.tobytes(), found.distinct_input[i, j]) == found.distinct_input[i, j]
        assert found.moved_coordinates[i, j] == np.sum(x[0] != base.x)
        assert found.off_plane[i, j] == pytest.approx(realised_coordinates(base.x, x, h)[2][0], abs=1e-22)
    assert len(inputs) == distinct
