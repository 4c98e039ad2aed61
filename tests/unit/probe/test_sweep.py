"""Sweeps run each distinct input once; taps before the end stop the forward there, with the same bits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tremor.floats import nudge
from tremor.models.loader import LoadedModel
from tremor.probe import sweep
from tremor.probe.base import base_point
from tremor.probe.response import Mode, Response, blocks_needed

Models = Callable[..., LoadedModel]
PROMPT = "The capital of France is"


def test_distinct_rows_are_those_that_differ_in_bits() -> None:
    rows = np.array([[1, 0], [2, 0], [1, 0], [1, -0.0], [2, 0], [np.nan, 1], [np.nan, 1]], dtype=np.float32)
    found = sweep.distinct(rows)
    assert found.index.tolist() == [0, 1, 0, 2, 1, 3, 3]
    assert found.first.tolist() == [0, 1, 3, 5]
    assert found.inputs[found.index].tobytes() == rows.tobytes()
    # A view that is not contiguous has the same rows.
    assert sweep.distinct(np.asfortranarray(rows)).index.tolist() == found.index.tolist()


def test_a_fine_grid_is_run_once_for_each_stair(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    response = Response(loaded, base, mode="batched", batch_size=4, taps=("final", "residual.1"))
    direction = np.zeros_like(base.x)
    direction[0] = 1
    quantum = float(np.spacing(np.abs(base.x[0])))
    steps = np.linspace(0, 5 * quantum, 301)
    inputs = nudge(base.x, direction, steps[:, None], arithmetic="float64")
    before = response.rows_evaluated
    found, answers = sweep.answers(response, inputs)
    assert len(found.inputs) == 6
    assert response.rows_evaluated - before == 8  # two batches of four
    plain = Response(loaded, base, mode="batched", batch_size=4)
    for number in (0, 100, 300):
        expected = plain.evaluate(inputs[number : number + 1])
        assert answers["final"][found.index[number]].tobytes() == expected.tobytes()
    assert answers["residual.1"].shape == (6, 32)
    streamed = [(rows, answer["final"].tobytes()) for rows, answer in sweep.stream(response, found.inputs)]
    assert [rows for rows, _ in streamed] == [slice(0, 4), slice(4, 6)]
    assert b"".join(part for _, part in streamed) == answers["final"].tobytes()


@pytest.mark.parametrize("mode", ["reference", "batched"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba", "opt"])
def test_early_stop_has_the_bits_of_the_whole_forward(loaded_model: Models, family: str, mode: Mode) -> None:
    """Each tap alone (a forward that ends there) against all taps together (a forward to the end)."""
    loaded = loaded_model(family)
    base = base_point(loaded, PROMPT)
    names = ("embedding", "residual.0", "residual.1", "block.0.mixer", "final_prenorm", "final")
    inputs = (base.x * (1 + 0.1 * np.random.default_rng(0).normal(size=(3, len(base.x))))).astype(np.float32)
    whole = Response(loaded, base, mode=mode, batch_size=2, taps=names)
    _, expected = sweep.answers(whole, inputs)
    np.testing.assert_array_equal(expected["embedding"], inputs)
    for name in names:
        _, found = sweep.answers(Response(loaded, base, mode=mode, batch_size=2, taps=(name,)), inputs)
        assert found[name].tobytes() == expected[name].tobytes(), name
    assert (expected["residual.1"] != expected["residual.0"]).any()


def test_early_stop_runs_no_block_more(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    ran: list[int] = []
    handles = [
        block.register_forward_hook(lambda *_, k=k: ran.append(k)) for k, block in enumerate(loaded.anatomy.blocks)
    ]
    try:
        for taps, blocks in ((("residual.0",), set()), (("residual.1",), {0}), (("residual.1", "final"), {0, 1})):
            response = Response(loaded, base, mode="reference", taps=taps)
            ran.clear()
            response.evaluate(base.x[None])
            assert set(ran) == blocks
    finally:
        for handle in handles:
            handle.remove()
    # The hooks that stop a forward are gone: the model runs to its end.
    ids: Any = torch.from_numpy(base.ids)[None]
    with torch.no_grad():
        assert loaded.model(ids).logits.shape[:2] == ids.shape
    assert not any(block._forward_pre_hooks for block in loaded.anatomy.blocks)


def test_blocks_needed() -> None:
    names = ("embedding", "residual.0", "residual.3", "block.3.mlp", "final_prenorm", "final")
    assert [blocks_needed(name, 6) for name in names] == [0, 0, 3, 4, 6, 6]
