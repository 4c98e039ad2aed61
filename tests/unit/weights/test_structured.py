"""Structures through the anatomy: what zeroing them does to the function, in several families."""

import pytest
import torch

from tremor.errors import ModelError
from tremor.models.anatomy import Anatomy
from tremor.weights import mutate, structured
from tremor.weights.mutate import mutated

IDS = torch.tensor([[5, 9, 200, 31, 7]])


def taps(anatomy: Anatomy, *names: str) -> dict[str, torch.Tensor]:
    with anatomy.record(names) as found, torch.no_grad():
        anatomy.model(input_ids=IDS)
    return dict(found)


@pytest.mark.parametrize("family", ["llama", "gpt2", "falcon_new", "gpt_neox", "mixtral", "mamba"])
def test_a_zeroed_block_adds_nothing(loaded_model, family):
    loaded = loaded_model(family)
    anatomy = loaded.anatomy
    with mutated(loaded, structured.block(anatomy, 0), mutate.zero):
        found = taps(anatomy, "residual.0", "residual.1")
    assert torch.equal(found["residual.0"], found["residual.1"])


@pytest.mark.parametrize("family", ["llama", "gpt2", "falcon_new"])
def test_zeroing_every_head_silences_attention_and_heads_are_disjoint(loaded_model, family):
    loaded = loaded_model(family)
    anatomy = loaded.anatomy
    count = structured.heads(anatomy, 1)
    seen = [set(structured.head(anatomy, 1, h)[0].flat_index.tolist()) for h in range(count)]
    assert count == 4
    assert len(set.union(*seen)) == sum(map(len, seen)) == anatomy.select(anatomy.block_parts[1].o).numel()


def test_a_zeroed_head_removes_what_that_head_adds(loaded_model):
    loaded = loaded_model("llama")
    anatomy = loaded.anatomy
    name = anatomy.block_parts[0].o.parameter.removesuffix(".weight").split("layers.0.")[1]
    clean = taps(anatomy, f"block.0.{name}.input", "block.0.mixer")
    mixed = clean[f"block.0.{name}.input"]
    weight = anatomy.parameter(anatomy.block_parts[0].o.parameter).detach()
    with mutated(loaded, structured.head(anatomy, 0, 2), mutate.zero):
        without = taps(anatomy, "block.0.mixer")["block.0.mixer"]
    lost = mixed[..., 16:24] @ weight[:, 16:24].T
    # Four products of 8 terms of size 1: some float32 roundings of 1e-7.
    assert torch.allclose(clean["block.0.mixer"] - without, lost, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "mixtral"])
def test_a_neuron_is_its_rows_and_its_column(loaded_model, family):
    anatomy = loaded_model(family).anatomy
    part = anatomy.block_parts[1]
    edits = structured.neuron(anatomy, 1, 3)
    count = sum(edit.flat_index.numel() for edit in edits)
    experts = max(part.n_experts, 1)
    gated = part.gate is not None
    biases = (part.up.bias is not None) + (gated and part.gate.bias is not None)
    assert count == experts * (32 * (2 + gated) + biases)


def test_components_of_fused_parameters_are_their_own_slices(loaded_model):
    for family in ("gpt2", "gpt_neox", "falcon_new"):
        loaded = loaded_model(family)
        anatomy = loaded.anatomy
        parts = {n: structured.component(anatomy, 0, n, bias=False) for n in "qkv"}
        flat = [set(edits[0].flat_index.tolist()) for edits in parts.values()]
        assert len({edits[0].tensor for edits in parts.values()}) == 1
        assert len(set.union(*flat)) == sum(map(len, flat)) == anatomy.parameter(parts["q"][0].tensor).numel()
        with mutated(loaded, parts["v"], mutate.zero):
            assert not anatomy.select(anatomy.block_parts[0].v).any()
            assert anatomy.select(anatomy.block_parts[0].q).any()


def test_channels_are_rows_or_columns_of_what_the_layer_computes(loaded_model):
    for family in ("llama", "gpt2"):
        anatomy = loaded_model(family).anatomy
        name = anatomy.block_parts[0].down.parameter
        weight = anatomy.parameter(name)
        for side, size in (("output", weight.numel() // 32), ("input", 32)):
            edits = structured.channel(anatomy, 0, "down", 5, side=side)
            assert edits[0].flat_index.numel() == size


def test_what_is_not_there_is_refused(loaded_model):
    llama, mamba = loaded_model("llama").anatomy, loaded_model("mamba").anatomy
    for call, match in (
        (lambda: structured.block(llama, 2), "blocks 0 to 1"),
        (lambda: structured.component(llama, 0, "w"), "no projection 'w'"),
        (lambda: structured.component(mamba, 0, "q"), "only o"),
        (lambda: structured.neuron(mamba, 0, 1), "no projection 'up'"),
        (lambda: structured.neuron(llama, 0, 48), "channel 48"),
        (lambda: structured.head(llama, 0, 4), "no head 4"),
        (lambda: structured.head(mamba, 0, 0), "no attention heads"),
    ):
        with pytest.raises(ModelError, match=match):
            call()
