"""A walk along one direction: its grid, its distinct inputs, and which step changes what."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tremor import floats
from tremor.models.loader import LoadedModel
from tremor.probe import walk
from tremor.probe.base import base_point
from tremor.probe.response import Response
from tremor.probe.sweep import distinct

Array = npt.NDArray[Any]
START, STEP = 1.000363e-6, 6e-14  # of the original study


class Scripted:
    """A response by a formula, which counts the rows it runs."""

    def __init__(self, rules: dict[str, Callable[[Array], Array]]) -> None:
        self.taps, self.rules, self.rows = tuple(rules), rules, 0

    def batches(self, inputs: Array) -> Any:
        for start in range(0, len(inputs), 4):
            part = inputs[start : start + 4]
            self.rows += len(part)
            yield (
                slice(start, start + len(part)),
                {name: torch.from_numpy(rule(part)) for name, rule in self.rules.items()},
            )


def unit(seed: int, width: int) -> Array:
    v = np.random.default_rng(seed).normal(size=width)
    return (v / np.linalg.norm(v)).astype(np.float32)


def test_the_grid_is_not_a_running_sum() -> None:
    multiples = np.arange(1001)
    grid = walk.grid(START, STEP, multiples)
    from fractions import Fraction

    exact = [float(Fraction(START) + int(k) * Fraction(STEP)) for k in multiples]
    # Product and sum are rounded once each: off by at most one ulp of the sum (2^-73 near 1e-6).
    assert np.abs(grid - exact).max() <= 2.0**-73
    running = np.concatenate([[START], START + np.cumsum(np.full(1000, STEP))])
    assert (running != grid).any()


@pytest.mark.parametrize(("step", "sizes"), [(2e-14, 89), (6e-14, 265)])
def test_float32_arithmetic_rounds_the_size_itself(step: float, sizes: int) -> None:
    """Spec exp14: 501 sizes are 89 or 265 float32 numbers, so most inputs of the original are repeats."""
    grid = walk.grid(START, step, np.arange(501))
    assert len(np.unique(grid.astype(np.float32))) == sizes
    x = (np.random.default_rng(0).normal(size=4096) * 0.0065).astype(np.float32)
    inputs = walk.inputs_at(x, unit(1, 4096), grid, arithmetic="float32", fmt="float32")
    assert len(distinct(inputs).first) <= sizes
    wide = walk.inputs_at(x, unit(1, 4096), grid, arithmetic="float64", fmt="float32")
    assert 1 < len(distinct(wide).first) < 501


def test_resume_runs_only_what_is_new() -> None:
    response = Scripted({"a": lambda p: p[:, :1] * 2, "b": lambda p: p.sum(axis=1, keepdims=True)})
    inputs = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]], dtype=np.float32)
    known = walk.resume(response, inputs)  # type: ignore[arg-type]
    assert response.rows == 2
    more = np.array([[5.0, 6.0], [3.0, 4.0], [7.0, 8.0], [5.0, 6.0], [1.0, 2.0]], dtype=np.float32)
    again, answers = walk.resume(response, more, known)  # type: ignore[arg-type]
    assert response.rows == 4
    np.testing.assert_array_equal(answers["a"][again.index], more[:, :1] * 2)
    np.testing.assert_array_equal(answers["b"][again.index], more.sum(axis=1, keepdims=True))
    same, old = walk.resume(response, inputs, known)  # type: ignore[arg-type]
    assert response.rows == 4
    np.testing.assert_array_equal(old["a"][same.index], inputs[:, :1] * 2)


def test_zeros_of_two_signs_are_two_inputs() -> None:
    response = Scripted({"a": lambda p: 1 / np.where(p == 0, np.copysign(1.0, p), p).astype(np.float32)})
    inputs = np.array([[0.0], [-0.0]], dtype=np.float32)
    found, answers = walk.resume(response, inputs)  # type: ignore[arg-type]
    np.testing.assert_array_equal(answers["a"][found.index], [[1.0], [-1.0]])


def test_moves_tell_input_from_answer_and_place_jumps_between_sizes() -> None:
    """Four sizes: the input stands, moves by one ulp (answer stands), moves by two (answer jumps by 3, 4)."""
    x = np.array([1.0, 1.0], dtype=np.float32)
    ulp = 2.0**-23
    inputs = np.array([[1.0, 1.0], [1 + ulp, 1.0], [1 + ulp, 1 + 2 * ulp]], dtype=np.float32)
    answers = np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]], dtype=np.float32)
    sizes = np.array([1.0, 2.0, 3.0, 4.0])
    direction = np.array([0.0, 1.0], dtype=np.float32)
    found = walk.moves(x, direction, sizes=sizes, index=np.array([0, 0, 1, 2]), inputs=inputs, answers=answers)
    np.testing.assert_array_equal(found.input_changed, [0, 1, 1])
    np.testing.assert_array_equal(found.input_l2, [0.0, ulp, 2 * ulp])
    np.testing.assert_array_equal(found.input_along, [0.0, 0.0, 2 * ulp])
    np.testing.assert_array_equal(found.position, [0.0, 0.0, 2 * ulp])
    np.testing.assert_array_equal(found.output_changed, [0, 0, 2])
    np.testing.assert_array_equal(found.output_l2, [0.0, 0.0, 5.0])
    np.testing.assert_array_equal(found.jumps, [2])
    assert (found.low[2], found.high[2]) == (3.0, 4.0)


def test_a_change_of_sign_of_zero_is_a_change() -> None:
    x = np.zeros(2, dtype=np.float32)
    inputs = np.array([[0.0, 0.0], [0.0, -0.0]], dtype=np.float32)
    found = walk.moves(
        x, np.array([0, 1], np.float32), sizes=np.array([0.0, 1.0]), index=np.array([0, 1]), inputs=inputs,
        answers=inputs,
    )  # fmt: skip
    assert found.input_changed.tolist() == found.output_changed.tolist() == [1]
    assert found.output_l2.tolist() == [0.0]


@pytest.mark.parametrize("arithmetic", ["float64", "float32"])
@pytest.mark.parametrize("mode", ["batched", "reference"])
def test_on_a_model_it_is_the_originals_walk_with_fewer_runs(
    loaded_model: Callable[..., LoadedModel], arithmetic: floats.Arithmetic, mode: Any
) -> None:
    """Every step run by itself gives the same differences."""
    loaded = loaded_model("llama")
    base = base_point(loaded, "The capital of France is")
    direction = unit(3, len(base.x))
    sizes = walk.grid(1e-6, 1e-9, np.arange(41))
    inputs = walk.inputs_at(base.x, direction, sizes, arithmetic=arithmetic, fmt=base.fmt)
    response = Response(loaded, base, mode=mode, batch_size=8 if mode == "batched" else "auto")
    before = response.rows_evaluated
    found, answers = walk.resume(response, inputs)
    ran = response.rows_evaluated - before
    assert ran <= len(found.inputs) + 7  # the last batch is padded
    assert len(found.inputs) < len(inputs)
    moves = walk.moves(base.x, direction, sizes=sizes, index=found.index, inputs=found.inputs, answers=answers["final"])
    plain = np.concatenate([response.evaluate(row[None]) for row in inputs]).astype(np.float64)
    np.testing.assert_array_equal(moves.output_l2, np.linalg.norm(np.diff(plain, axis=0), axis=1))
    assert (moves.output_changed[moves.input_changed == 0] == 0).all()
    assert moves.jumps.size > 0


def test_walks_are_silent_where_the_format_is_too_coarse() -> None:
    x = floats.round_to(np.array([0.5, -0.25]), "bfloat16")
    inputs = walk.inputs_at(
        x, np.array([0.6, 0.8], np.float32), walk.grid(1e-6, 1e-9, np.arange(5)), arithmetic="float64", fmt="bfloat16"
    )
    found, answers = walk.resume(
        Scripted({"final": lambda p: p}),
        inputs,  # type: ignore[arg-type]
    )
    moves = walk.moves(
        x, np.array([0.6, 0.8], np.float32), sizes=np.arange(5.0), index=found.index, inputs=found.inputs,
        answers=answers["final"],
    )  # fmt: skip
    assert len(found.inputs) == 1
    assert not moves.jumps.size
