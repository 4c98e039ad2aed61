"""Parts of blocks: complete, and taken out exactly."""

import copy
from collections import Counter

import pytest
import torch

from tremor.weights import mutate
from tremor.weights.activations import intervened
from tremor.weights.mutate import mutated
from tremor.weights.parts import mean_outputs, parts_of, replaced

IDS = torch.tensor([[5, 9, 200, 31, 7], [3, 250, 17, 17, 80]])
FAMILIES = ["llama", "gpt2", "gpt_neox", "falcon_new", "mixtral", "opt", "bloom", "gemma2", "mamba"]


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def part(anatomy, block, name):
    return next(part for part in parts_of(anatomy, block) if part.name == name)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_of_a_block_is_in_exactly_one_component(loaded_model, family):
    """The original looked at the first five blocks, one MLP and one attention tensor, or the first five names."""
    anatomy = loaded_model(family).anatomy
    for block in range(anatomy.n_layers):
        counts: Counter[str] = Counter()
        for found in parts_of(anatomy, block):
            if found.level in ("component", "norm"):
                for edit in found.edits:
                    size = anatomy.parameter(edit.tensor).numel()
                    counts[edit.tensor] += size if edit.flat_index is None else len(edit.flat_index)
        name = anatomy.block_parts[block].name
        expected = {f"{name}.{n}": p.numel() for n, p in anatomy.blocks[block].named_parameters()}
        assert counts == expected


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_block_taken_out_is_a_model_without_it(private_model, family):
    """By hand: the block is deleted from the list of blocks. x + 0 is x, so not one bit may differ."""
    loaded = private_model(family)
    whole = logits(loaded.model)
    with intervened(loaded.anatomy, replaced({}, part(loaded.anatomy, 1, "block").outputs)):
        without = logits(loaded.model)
    assert not torch.equal(without, whole)
    shorter = copy.deepcopy(loaded.model)
    blocks = shorter.model.layers if family == "llama" else shorter.transformer.h
    del blocks[1]
    shorter.config.num_hidden_layers = 1
    assert torch.equal(logits(shorter), without)
    assert torch.equal(logits(loaded.model), whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_taken_out_leaves_the_stream_as_it_was(loaded_model, family):
    """Also where a module adds the residual itself (BLOOM), blocks flatten it (OPT) or norms follow (Gemma 2)."""
    anatomy = loaded_model(family).anatomy
    cut = replaced({}, part(anatomy, 0, "block").outputs)
    with anatomy.record(["residual.0", "residual.1"]) as found, intervened(anatomy, cut):
        logits(anatomy.model)
    assert torch.equal(found["residual.0"], found["residual.1"])


@pytest.mark.parametrize("family", ["llama", "gpt2", "falcon_new", "mamba"])
def test_a_branch_cut_by_a_hook_is_its_output_weights_set_to_zero(loaded_model, family):
    """Two mechanisms, one on activations and one on weights, agree to the last bit."""
    loaded = loaded_model(family)
    anatomy = loaded.anatomy
    pairs = [("mixer", "o")] + ([] if family == "mamba" else [("mlp", "down")])
    for branch, projection in pairs:
        with intervened(anatomy, replaced({}, part(anatomy, 0, branch).outputs)):
            cut = logits(anatomy.model)
        with mutated(loaded, part(anatomy, 0, projection).edits, mutate.zero):
            zeroed = logits(anatomy.model)
        assert torch.equal(cut, zeroed)
        assert not torch.equal(cut, logits(anatomy.model))


def test_means_are_those_of_all_tokens_and_replace_one_projection_of_a_fused_one(loaded_model):
    loaded = loaded_model("gpt2")
    anatomy = loaded.anatomy
    value = part(anatomy, 0, "v")
    (output,) = value.outputs
    sequences = [IDS[0], IDS[1, :3]]
    mean = mean_outputs(loaded, sequences, [output.tap])[output.tap]
    rows = []
    for ids in sequences:
        with anatomy.record([output.tap]) as found, torch.no_grad():
            anatomy.model(input_ids=ids[None])
        rows.append(found[output.tap][0])
    # Sums of 8 float32 numbers of size 1 in float64.
    assert torch.allclose(mean, torch.cat(rows).double().mean(0), atol=1e-12)
    with anatomy.record([output.tap]) as before, torch.no_grad():
        anatomy.model(input_ids=IDS)
    clean = before[output.tap]
    changed = replaced({output.tap: mean}, value.outputs)[output.tap](clean)
    inside = torch.zeros(clean.shape[-1], dtype=torch.bool)
    inside[output.units] = True
    assert torch.equal(changed[..., ~inside], clean[..., ~inside])
    assert torch.equal(changed[..., inside], mean.float()[inside].expand_as(changed[..., inside]))
    assert int(inside.sum()) * 3 == len(inside)


def test_what_has_no_output_of_its_own_says_so(loaded_model):
    """Stacked experts and the parameters that Mamba's mixer holds itself have weights and no tap."""
    mixtral, mamba = (loaded_model(family).anatomy for family in ("mixtral", "mamba"))
    assert part(mixtral, 0, "gate").outputs == ()
    assert part(mixtral, 0, "gate").edits
    names = {found.name for found in parts_of(mamba, 0)}
    assert {"A_log", "D", "in_proj", "x_proj", "dt_proj", "conv1d", "o"} <= names
    assert not any(name.startswith("head") for name in names)
