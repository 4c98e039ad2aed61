"""Which taps are recorded: each tensor once, in forward order, and with the values that Hugging Face reports."""

import numpy as np
import pytest
import torch

from families import FAMILIES, NO_CACHE
from tremor.record.decode import prompt_ids
from tremor.record.taps import LastRows, choose, stage_names

TEXT = "The capital of France is"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_its_stream_in_order(family, loaded_model):
    loaded = loaded_model(family)
    ids = prompt_ids(loaded, TEXT)
    for mode in ("cached", "uncached") if family not in NO_CACHE else ("uncached",):
        taps = choose(loaded, "all", ids, mode)
        names = [tap.name for tap in taps]
        assert len(names) == len(set(names))
        assert names[-1] == "final"
        assert names.index("embedding") < names.index("residual.1") < names.index("final_prenorm")
        stages = [tap.name for tap in choose(loaded, "stages", ids, mode)]
        assert stages == [name for name in stage_names(loaded.anatomy) if name in stages]
        assert {"embedding", "final_prenorm", "final"} <= set(stages) <= set(names)
    assert [tap.name for tap in choose(loaded, "final", ids, mode)] == ["final"]


def test_the_stages_of_a_llama_are_the_originals_five_and_its_parts_stand_once(loaded_model):
    loaded = loaded_model("llama")
    ids = prompt_ids(loaded, TEXT)
    stages = [tap.name for tap in choose(loaded, "stages", ids, "cached")]
    norms = ["block.0.input_layernorm", "block.0.post_attention_layernorm"]
    assert stages == ["embedding", *norms, "final_prenorm", "final"]
    names = [tap.name for tap in choose(loaded, "all", ids, "cached")]
    first = [name.removeprefix("block.0.") for name in names if name.startswith("block.0.")]
    attention = [f"self_attn.{name}_proj" for name in "qkv"]
    assert first[:6] == ["input_layernorm", *attention, "self_attn.o_proj.input", "mixer"]
    assert first[6:8] == ["mid", "post_attention_layernorm"]
    assert sorted(first[8:]) == sorted(["mlp.gate_proj", "mlp.act_fn", "mlp.up_proj", "mlp.down_proj.input", "mlp"])
    # self_attn is what o_proj returns and mlp what down_proj returns: the originals stored both twice.
    assert not {"block.0.self_attn", "block.0.self_attn.o_proj", "block.0.mlp.down_proj"} & set(names)
    widths = {tap.name: tap.width for tap in choose(loaded, "all", ids, "cached")}
    assert (widths["block.0.mlp.gate_proj"], widths["block.0.mid"], widths["block.0.self_attn.k_proj"]) == (48, 32, 16)


def test_falcon_adds_into_a_branch_and_the_row_is_what_the_branch_gave(loaded_model):
    """What the hook saw, not what the residual sum made of it later."""
    loaded = loaded_model("falcon")
    ids = prompt_ids(loaded, TEXT)
    taps = {tap.name: tap for tap in choose(loaded, "all", ids, "cached")}
    assert taps["block.0.mlp"].overwritten
    assert not any(tap.overwritten for tap in choose(loaded_model("llama"), "all", ids, "cached"))
    with torch.no_grad(), LastRows(loaded.anatomy, ["block.0.mlp", "block.0.mlp.dense_4h_to_h.input"], 1) as hooks:
        loaded.model(torch.from_numpy(ids)[None])
        rows = hooks.take()
        projection = loaded.anatomy.block_parts[0].module.mlp.dense_4h_to_h
        expected = projection(rows["block.0.mlp.dense_4h_to_h.input"])
    np.testing.assert_allclose(rows["block.0.mlp"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_rows_are_hugging_faces_hidden_states(family, loaded_model):
    """One forward, three reports of it: our hooks, output_hidden_states, and the logits that the final state gives."""
    loaded = loaded_model(family)
    ids = torch.from_numpy(prompt_ids(loaded, TEXT))[None]
    names = ["embedding", "residual.0", "residual.1", "final_prenorm", "final"]
    with torch.no_grad(), LastRows(loaded.anatomy, names, 1) as hooks:
        output = loaded.model(ids, output_hidden_states=True)
        rows = hooks.take()
    assert torch.equal(rows["residual.0"], output.hidden_states[0][:, -1])
    assert torch.equal(rows["residual.1"], output.hidden_states[1][:, -1])
    assert torch.equal(rows["final"], output.hidden_states[-1][:, -1])  # normed once: the originals normed it again
    with torch.no_grad():
        np.testing.assert_allclose(loaded.anatomy.unembed(rows["final"]), output.logits[:, -1], rtol=1e-5, atol=1e-6)
        assert torch.equal(loaded.anatomy.normalise(rows["final_prenorm"]), rows["final"])


def test_hooks_are_removed_also_after_an_error(loaded_model):
    loaded = loaded_model("llama")

    def hooks():  # transformers keeps some of its own
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in loaded.model.modules())

    before = hooks()
    recorder = LastRows(loaded.anatomy, ["final", "final_prenorm"], 1)
    during = []

    def fails():
        with recorder:
            during.append(hooks())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert (during, hooks()) == ([before + 2], before)
