"""Flips along rays: the grid against one call for each step, the nearest flip against random and neighbouring steps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tremor.floats import nudge
from tremor.models.loader import LoadedModel
from tremor.probe.base import base_point, moved_to
from tremor.probe.flips import nearest_flips, sweep_flips, symmetric_steps
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
