"""Flips along rays: the grid against one call for each step, the nearest flip against random and neighbouring steps."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tremor.errors import NumericsError
from tremor.floats import nudge
from tremor.models.loader import LoadedModel
from tremor.probe.base import base_point, moved_to
from tremor.probe.boundary import find_boundaries
from tremor.probe.flips import nearest_flips, sweep_flips, symmetric_steps, tightened
from tremor.probe.readout import Readout
from tremor.probe.response import Response
from tremor.probe.tie import Tie, find_tie

Models = Callable[..., LoadedModel]
PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def at_tie(loaded_model: Models) -> tuple[Readout, Tie, Any]:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    tie = find_tie(Readout(Response(loaded, base, mode="batched", batch_size=8)), method="geometric")
    there = Readout(Response(loaded, moved_to(base, tie.x), mode="batched", batch_size=8))
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(len(base.x), 3)))[0].T.astype(np.float32)
    return there, tie, directions


def test_steps_are_symmetric_and_hold_exactly_zero() -> None:
    # The original's arange has 7.5e-20 in its middle, and one step more or less by luck.
    steps = symmetric_steps(1e-6, 2001)
    assert len(steps) == 2001
    assert steps[1000] == 0
    np.testing.assert_array_equal(steps, -steps[::-1])
    np.testing.assert_array_equal(steps, steps.astype(np.float32))
    with pytest.raises(ValueError, match="odd and at least 3, got 4"):
        symmetric_steps(1e-6, 4)


@pytest.mark.parametrize("arithmetic", ["float64", "float32"])
def test_grid_is_what_each_step_gives_alone(at_tie: tuple[Readout, Tie, Any], arithmetic: Any) -> None:
    readout, tie, directions = at_tie
    pair = (tie.first, tie.second)
    steps = symmetric_steps(2e-7, 41)
    before = readout.response.rows_evaluated
    found = sweep_flips(readout, directions, steps, pair, arithmetic=arithmetic)
    batches = sum(-(-(int(row.max()) + 1) // 8) for row in found.distinct_input)
    assert readout.response.rows_evaluated - before == 8 * batches  # each distinct input once, in whole batches
    x = readout.response.base.x
    v1, v2 = (readout.response.loaded.anatomy.unembedding.weight[t].double().numpy() for t in pair)
    for k, direction in enumerate(directions):
        for n in (0, 7, 20, 33, 40):
            moved = nudge(x, direction, steps[n], arithmetic=arithmetic)
            one = readout.decide(moved[None], pair)
            assert found.token[k, n] == one.token[0]
            assert found.leaders[k, n] == one.leaders[0]
            assert found.gap[k, n] == float(one.logits[0, 0]) - float(one.logits[0, 1])
            assert found.gap_float64[k, n] == pytest.approx(one.final[0].astype(float) @ (v1 - v2), abs=1e-13)
            assert found.moved_coordinates[k, n] == np.sum(moved != x)
            assert found.realised_l2[k, n] == pytest.approx(np.linalg.norm(moved.astype(float) - x), abs=1e-20)
    assert (found.moved_coordinates[:, 20] == 0).all()


@pytest.mark.parametrize("arithmetic", ["float64", "float32"])
def test_nearest_flip_is_the_first_one(at_tie: tuple[Readout, Tie, Any], arithmetic: Any) -> None:
    readout, tie, directions = at_tie
    pair = (tie.first, tie.second)
    reference, found = nearest_flips(readout, directions, pair, s_max=1e-4, arithmetic=arithmetic, max_evaluations=4096)
    x = readout.response.base.x
    assert reference == readout.decide(x[None]).token[0]
    assert found.certified.all()
    assert not found.censored.all()
    generator = np.random.default_rng(1)
    for ray, direction in enumerate([*directions, *(-directions)]):
        largest = found.max_s[ray]
        # Uniform steps, and steps close to the flip on every scale.
        inside = np.concatenate(
            [generator.uniform(0, largest, 150), largest * (1 - 10.0 ** -generator.uniform(1, 7, 50))]
        )
        steps = np.concatenate([inside.astype(np.float32), [largest]])
        steps = steps[steps <= largest]
        tokens = readout.decide(nudge(x, direction, steps[:, None], arithmetic=arithmetic)).token
        assert (tokens == reference).all()
        if not found.censored[ray]:
            flip = np.nextafter(largest, np.float32(1))
            assert found.min_t[ray] == flip
            there = readout.decide(nudge(x, direction, flip, arithmetic=arithmetic)[None], pair)
            assert there.token[0] != reference
            assert found.changed_hidden[ray, 0] == there.token[0]
            np.testing.assert_array_equal(found.changed_hidden[ray, 1:], there.logits[0])


class Scripted:
    """Changed where the first coordinate lies from 50 to 53 ulps above 1; the leaps of a search pass that by."""

    def __init__(self) -> None:
        self.base = SimpleNamespace(x=np.ones(1, np.float32), fmt="float32")
        self.batch_size, self.rows_evaluated, self.h0 = 4, 0, np.zeros(1)

    def changed(self, inputs: Any, *, threshold: float = 0.0) -> tuple[Any, Any]:
        self.rows_evaluated += len(inputs)
        ulps = np.rint((inputs[:, 0].astype(float) - 1.0) * 2**23)
        flags = (ulps >= 50) & (ulps <= 53)
        return flags, flags[:, None].astype(float)


def test_a_flip_of_the_grid_is_not_lost_where_the_search_leaps() -> None:
    ulp = 2.0**-23
    ray, answering = np.ones((1, 1), np.float32), Scripted()
    options: Any = {"s_max": 64 * ulp, "arithmetic": "float64"}
    found = find_boundaries(answering, ray, max_evaluations=2, **options)  # type: ignore[arg-type]
    assert found.censored[0]
    assert not found.certified[0]
    known = {"below": np.array([45 * ulp]), "at": np.array([52 * ulp]), "arithmetic": "float64"}
    nearer = tightened(answering, ray, found, **known)  # type: ignore[arg-type]
    # The input turns from 49 to 50 ulps at 49.5, a tie that goes to the even 50; all in order says the same.
    exact = find_boundaries(answering, ray, max_evaluations=512, **options)  # type: ignore[arg-type]
    assert nearer.min_t[0] == exact.min_t[0] == np.float32(49.5 * ulp)
    for name in ("max_s", "censored", "moved_coordinates", "realised_l2", "changed_embedding", "changed_hidden"):
        np.testing.assert_array_equal(getattr(nearer, name), getattr(exact, name))
    assert not nearer.certified[0]
    assert nearer.model_rows > found.model_rows
    assert nearer.evaluations[0] > found.evaluations[0]
    # A certified boundary, and one that is nearer already, stay as they are.
    assert tightened(answering, ray, exact, **known) is exact  # type: ignore[arg-type]
    assert tightened(answering, ray, nearer, **known) is nearer  # type: ignore[arg-type]
    with pytest.raises(NumericsError, match="answered in two ways"):
        tightened(answering, ray, found, **{**known, "at": np.array([46 * ulp])})  # type: ignore[arg-type]


def test_an_uncertified_search_agrees_with_the_grid(at_tie: tuple[Readout, Tie, Any]) -> None:
    """The grid had a flip on a ray that the table of nearest flips called stable: here on one of six."""
    readout, tie, directions = at_tie
    pair, steps = (tie.first, tie.second), symmetric_steps(1e-6, 41)
    grid = sweep_flips(readout, directions, steps, pair, arithmetic="float64")
    options: Any = {"s_max": 1e-6, "arithmetic": "float64", "max_evaluations": 2}
    reference, found = nearest_flips(readout, directions, pair, tried=(steps, grid.token), **options)
    assert not found.certified.all()
    for ray, sign in enumerate((1, 1, 1, -1, -1, -1)):
        flipped = steps[(grid.token[ray % 3] != reference) & (sign * steps > 0)]
        assert (np.abs(flipped) > found.max_s[ray]).all()
        assert found.censored[ray] <= (len(flipped) == 0)
