"""Difference quotients and noisy averages against closed forms of linear and quadratic models and plain loops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tremor import floats
from tremor.errors import ModelError
from tremor.models.loader import LoadedModel
from tremor.probe.base import BasePoint, base_point
from tremor.probe.jacobian import jacobian
from tremor.probe.quotient import averages, observe, quotients
from tremor.probe.readout import Readout
from tremor.probe.response import Response
from tremor.probe.routing import Routing, recorded

Array = npt.NDArray[Any]
WIDTH, VOCAB = 6, 5


class Toy:
    """h(p) by a formula in float64, logits by a matrix; counts the rows it runs."""

    def __init__(self, rule: Callable[[Array], Array], *, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        x = generator.normal(size=WIDTH)
        self.base = BasePoint("toy", np.zeros(1, dtype=np.int64), torch.from_numpy(x[None]), x, "float64")
        self.head = generator.normal(size=(WIDTH, VOCAB))
        self.rule, self.rows, self.batch_size, self.taps = rule, 0, 4, ("final",)
        self.h0 = rule(x[None])[0]
        self.response = self  # a readout knows its response, and that its anatomy
        self.loaded: Any = self
        self.anatomy: Any = self
        self.vocab = VOCAB

    def batches(self, inputs: Array) -> Any:
        for start in range(0, len(inputs), self.batch_size):
            part = inputs[start : start + self.batch_size]
            self.rows += len(part)
            yield slice(start, start + len(part)), {"final": torch.from_numpy(self.rule(part))}

    def logits(self, final: torch.Tensor) -> Any:
        for start in range(0, len(final), 3):
            part = final[start : start + 3]
            yield slice(start, start + len(part)), part @ torch.from_numpy(self.head)


MATRIX = np.random.default_rng(7).normal(size=(WIDTH, WIDTH))
CURVE = np.random.default_rng(8).normal(size=(WIDTH, WIDTH))


def times(p: Array, matrix: Array) -> Array:
    """Row by row: a matrix product rounds a row by its place in the batch."""
    return np.array([(matrix * row).sum(axis=1) for row in p]).reshape(len(p), -1)


def linear(p: Array) -> Array:
    return times(p, MATRIX)


def quadratic(p: Array) -> Array:
    return times(p, MATRIX) + times(p, CURVE) ** 2


def measure(toy: Toy, directions: Array, steps: list[float], product: Any) -> Any:
    return quotients(toy, toy, directions, steps, product, arithmetic="float64")  # type: ignore[arg-type]


def unit(seed: int = 1) -> Array:
    v = np.random.default_rng(seed).normal(size=WIDTH)
    return v / np.linalg.norm(v)


def test_a_linear_model_has_its_gain_at_every_step() -> None:
    toy = Toy(linear)
    _, sigma, right = np.linalg.svd(MATRIX)
    found = measure(toy, right, [1e-1, 1e-4, 1e-7], lambda s: s @ MATRIX.T)
    # Rounding of p and h to float64: some 1e-15 against a change of sigma * 1e-7, where sigma_6 is some 0.1.
    np.testing.assert_allclose(found.realised, np.repeat(sigma[:, None], 3, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.nominal, found.realised, rtol=1e-6)
    np.testing.assert_allclose(found.smooth_l2, sigma[:, None] * found.realised_l2, rtol=1e-6)
    change = found.realised_along.ravel()[:, None] * np.repeat(right, 3, axis=0) @ MATRIX.T @ toy.head
    np.testing.assert_allclose(found.observed.logit_l2, np.linalg.norm(change, axis=1), rtol=1e-6)


def test_a_quadratic_model_bends_away_as_its_second_derivative_says() -> None:
    toy, v = Toy(quadratic), unit()
    steps = [1.0, 1e-1, 1e-2, 1e-3]
    found = measure(toy, v[None], steps, lambda s: s)
    x = toy.base.x
    first = v @ MATRIX.T + 2 * (x @ CURVE.T) * (v @ CURVE.T)
    exact = [np.linalg.norm(first + e * (v @ CURVE.T) ** 2) for e in steps]
    np.testing.assert_allclose(found.nominal[0], exact, rtol=1e-9)  # 1e-16 over a step of 1e-3, and some roundings


def test_steps_that_do_not_move_the_input_have_no_realised_quotient() -> None:
    toy, v = Toy(linear), unit()
    found = measure(toy, v[None], [10.0**-k for k in range(1, 19)], lambda s: s @ MATRIX.T)
    still = found.moved_coordinates[0] == 0
    assert still[-1]
    assert np.isnan(found.realised[0, still]).all()
    assert (found.nominal[0, still] == 0).all()
    assert np.isfinite(found.realised[0, ~still]).all()
    # By the step asked for the quotient falls to 0 where nothing moves; by the step made it never does.
    last = np.flatnonzero(~still)[-1]
    assert abs(found.realised_l2[0, last] / found.epsilon[0, last] - 1) > 1e-3


def test_every_distinct_input_is_run_once_and_x_once() -> None:
    toy = Toy(linear)
    directions = np.stack([unit(1), unit(2), unit(1)])  # one of them twice
    found = measure(toy, directions, [10.0**-k for k in range(1, 19)], lambda s: s @ MATRIX.T)
    inputs = {toy.base.x.tobytes()}
    for v in directions:
        for k in range(1, 19):
            inputs.add((toy.base.x + 10.0**-k * v.astype(np.float64)).tobytes())
    assert toy.rows == len(inputs) == found.observed.evaluated < 54


def test_tokens_are_those_of_numpy() -> None:
    toy = Toy(quadratic)
    inputs = toy.base.x + np.random.default_rng(3).normal(size=(9, WIDTH))
    found = observe(toy, toy, inputs)  # type: ignore[arg-type]
    logits = quadratic(inputs) @ toy.head
    np.testing.assert_array_equal(found.token, logits.argmax(axis=1))
    np.testing.assert_allclose(found.logit, logits.max(axis=1))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found.probability, 1 / shares.sum(axis=1))
    base = quadratic(toy.base.x[None]) @ toy.head
    assert found.base_token == base.argmax()
    np.testing.assert_allclose(found.logit_l2, np.linalg.norm(logits - base, axis=1))


def noise(generator: np.random.Generator, count: int) -> Array:
    return generator.uniform(-1, 1, (count, WIDTH))


def by_hand(toy: Toy, shifts: Array, n: int, seed: int) -> Array:
    """The same averages with everything kept in memory."""
    draws = np.concatenate([noise(np.random.default_rng([seed, c]), 64) for c in range(-(-n // 64))])[:n]
    return np.array([np.mean([toy.rule((toy.base.x + (s + r))[None])[0] for r in draws], axis=0) for s in shifts])


def test_averages_are_means_over_nested_prefixes_of_paired_draws() -> None:
    toy, shifts = Toy(quadratic), np.stack([np.zeros(WIDTH), 1e-2 * unit(), 1e-3 * unit()])
    found = averages(toy, toy, shifts, noise, (1, 5, 64, 150), seed=3)  # type: ignore[arg-type]
    for k, n in enumerate(found.samples):
        expected = by_hand(toy, shifts, n, 3)
        np.testing.assert_allclose(found.hidden[:, k], expected, rtol=1e-12)
        np.testing.assert_allclose(found.logits[:, k], expected @ toy.head, rtol=1e-9, atol=1e-12)
    shorter = averages(toy, toy, shifts, noise, (5,), seed=3)  # type: ignore[arg-type]
    np.testing.assert_allclose(shorter.hidden[:, 0], found.hidden[:, 1], rtol=1e-13)
    other = averages(toy, toy, shifts, noise, (5,), seed=4)  # type: ignore[arg-type]
    assert np.abs(other.hidden - shorter.hidden).max() > 1e-3


def test_pairing_makes_a_linear_average_exact() -> None:
    toy, v = Toy(linear), unit()
    found = averages(toy, toy, np.stack([0 * v, 1e-3 * v]), noise, (1, 7), seed=0)  # type: ignore[arg-type]
    change = np.linalg.norm(found.hidden[1] - found.hidden[0], axis=-1) / 1e-3
    # Unpaired noise of size one would be off by a thousand.
    np.testing.assert_allclose(change, np.linalg.norm(v @ MATRIX.T), rtol=1e-9)


def test_copies_that_round_to_one_input_are_run_once() -> None:
    toy, v = Toy(linear), unit()
    found = averages(toy, toy, np.stack([0 * v, 1e-3 * v]), lambda g, n: 1e-30 * noise(g, n), (1, 200), seed=0)  # type: ignore[arg-type]
    assert found.evaluated == toy.rows == 2
    np.testing.assert_allclose(found.hidden[:, 0], found.hidden[:, 1], rtol=1e-13)


def test_a_real_model_shows_its_jacobian_between_floor_and_curvature(loaded_model: Callable[..., LoadedModel]) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, "The capital of France is")
    response = Response(loaded, base, mode="batched", batch_size=4)
    matrix = jacobian(loaded, base).astype(np.float64)
    v = np.linalg.svd(matrix)[2][0].astype(np.float32)
    found = quotients(response, Readout(response), v[None], [1e-3], lambda s: s @ matrix.T, arithmetic="float32")
    # Curvature of a random tiny model over 1e-3, and float32 noise of 1e-6 over it: per mille.
    assert found.realised[0, 0] == pytest.approx(np.linalg.norm(matrix @ v), rel=5e-3)
    p = floats.nudge(base.x, v, 1e-3, arithmetic="float32")
    change = response.evaluate(p[None])[0].astype(np.float64) - response.h0
    assert found.observed.output_l2[0] == np.linalg.norm(change)
    logits = loaded.anatomy.unembed(torch.from_numpy(response.evaluate(p[None])))
    assert found.observed.token[0] == int(logits.argmax())


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_router_flips_are_those_of_the_experts_chosen(family: str, loaded_model: Callable[..., LoadedModel]) -> None:
    loaded = loaded_model(family)
    base = base_point(loaded, "The capital of France is")
    response = Response(loaded, base, mode="batched", batch_size=1)
    far = base.x + np.random.default_rng(0).normal(size=(6, len(base.x))).astype(np.float32)
    with recorded(loaded) as routing:
        found = observe(response, Readout(response), np.concatenate([base.x[None], far]), routing=routing)
    assert found.flips is not None
    assert not found.flips[0].any()
    assert found.flips[1:].any()

    def chosen(x: Array) -> list[set[int]]:
        """Top-2 of the router's own weights applied to the router's input."""
        seen: dict[int, set[int]] = {}
        hooks = []
        for part in loaded.anatomy.block_parts:
            assert part.router is not None

            def look(module: Any, args: Any, k: int = part.index) -> None:
                scores = args[0].reshape(-1, args[0].shape[-1])[-1] @ module.weight.T + getattr(module, "bias", 0)
                seen[k] = set(torch.topk(scores, 2).indices.tolist())

            hooks.append(part.router.register_forward_pre_hook(look))
        response.evaluate(x[None])
        for hook in hooks:
            hook.remove()
        return [seen[k] for k in sorted(seen)]

    before = chosen(base.x)
    expected = [[len(b - a) for a, b in zip(before, chosen(row), strict=True)] for row in far]
    np.testing.assert_array_equal(found.flips[1:], expected)


def test_routing_needs_a_router_and_one_row(loaded_model: Callable[..., LoadedModel]) -> None:
    with recorded(loaded_model("llama")) as routing:
        assert routing is None
    toy = Toy(linear)
    with pytest.raises(ValueError, match="one row at a time"):
        observe(toy, toy, toy.base.x[None], routing=Routing((0,)))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="did not run"):
        Routing((0,)).take()
    with pytest.raises(ModelError, match="one tensor of expert numbers"):
        Routing((0,))._keep(0, (torch.zeros(1, 2),))
