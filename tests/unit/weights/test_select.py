"""Filters: whole layers and components of every family, never a substring, never nothing."""

import numpy as np
import pytest
import torch

from families import FAMILIES, tiny
from tremor.errors import ConfigError
from tremor.models.anatomy import describe
from tremor.weights.select import COMPONENTS, layouts, select


@pytest.fixture(scope="module")
def anatomy():
    built = {}

    def get(family, layers=2):
        if (family, layers) not in built:
            built[family, layers] = describe(tiny(family, layers=layers))
        return built[family, layers]

    return get


def test_layer_1_is_not_layer_10_or_11(anatomy):
    model = anatomy("llama", 12)
    selection = select(model, layers=[1])
    assert selection.tensors
    assert all(name.startswith("model.layers.1.") for name in selection.tensors)
    assert selection.count == sum(p.numel() for n, p in model.model.named_parameters()
                                  if n.startswith("model.layers.1.") and p.ndim == 2)  # fmt: skip


@pytest.mark.parametrize(
    ("family", "tensor"),
    [
        ("llama", "model.layers.0.self_attn.v_proj.weight"),
        ("gpt_neo", "transformer.h.0.attn.attention.v_proj.weight"),
        ("gpt2", "transformer.h.0.attn.c_attn.weight"),
        ("gpt_neox", "gpt_neox.layers.0.attention.query_key_value.weight"),
        ("bloom", "transformer.h.0.self_attention.query_key_value.weight"),
        ("falcon", "transformer.h.0.self_attention.query_key_value.weight"),
        ("codegen", "transformer.h.0.attn.qkv_proj.weight"),
    ],
)
def test_value_is_found_in_every_family(anatomy, family, tensor):
    """Exactly the scalars of the anatomy's slice, in fused parameters too."""
    model = anatomy(family)
    selection = select(model, layers=[0], components=["value"])
    assert selection.tensors == (tensor,)
    part = model.block_parts[0].v
    whole = torch.arange(model.parameter(tensor).numel()).view(model.parameter(tensor).shape)
    mask = selection.chosen[tensor].mask()
    mine = whole if mask is None else whole[mask]
    assert sorted(mine.reshape(-1).tolist()) == sorted(part.take(whole).reshape(-1).tolist())
    assert selection.count == part.take(whole).numel()
    assert {p.component for p in selection.locate(tensor, mine.reshape(-1).numpy())} == {"v"}


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "gpt_oss"])
def test_every_scalar_has_one_place(anatomy, family):
    """Blocks and components partition the parameters; a tied parameter counts once."""
    model = anatomy(family)
    everything = select(model, vectors=True)
    assert everything.count == sum(p.numel() for p in model.model.parameters())
    counts = dict.fromkeys(COMPONENTS, 0)
    for name, entry in everything.chosen.items():
        every = np.arange(entry.count)
        for part in everything.locate(name, every):
            counts[part.component] += 1
            assert part.block == entry.layout.block
    assert sum(counts.values()) == everything.count
    blocks = sum(select(model, layers=[k], vectors=True).count for k in range(model.n_layers))
    assert blocks == sum(p.numel() for n, p in model.model.named_parameters()
                         if n.startswith(tuple(part.name + "." for part in model.block_parts)))  # fmt: skip


def test_groups_and_aliases(anatomy):
    llama, mamba = anatomy("llama"), anatomy("mamba")
    attention = select(llama, components=["attention"])
    assert attention.count == select(llama, components=["query", "key", "value", "o"]).count
    assert select(llama, components=["mlp"]).count == select(llama, components=["gate", "up", "down"]).count
    assert select(llama, components=["mixer"]).count == attention.count
    assert select(mamba, components=["in_proj"]).tensors == tuple(
        f"backbone.layers.{k}.mixer.in_proj.weight" for k in range(2)
    )
    # Half a name is no name: "proj" is part of every projection's name, and the path element "proj" of none.
    with pytest.raises(ConfigError, match="no component 'proj'; it has q, k, v"):
        select(llama, components=["proj"])
    # A word of other architectures may be absent, as long as something is left.
    assert select(mamba, components=["mixer", "mlp"]).count == select(mamba, components=["ssm", "o"]).count


def test_tied_weights_count_once_under_both_names(anatomy):
    model = anatomy("gpt2")
    for name in ("embedding", "unembedding", "lm_head"):
        assert select(model, components=[name]).tensors == ("transformer.wte.weight",)
    assert len(layouts(model)) == len(list(model.model.parameters()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": [2]}, "no block 2: this model has blocks 0 to 1"),
        ({"layers": [-1]}, "no block -1"),
        ({"components": ["router"]}, "no router in this model.*it has q, k, v, o, gate, up, down, norm, embedding"),
        ({"components": ["norm"]}, "left out unless vectors is true"),
        ({"components": ["embedding"], "layers": [0]}, "no embedding in block 0"),
        ({"components": ["valeu"]}, "no component 'valeu'"),
    ],
)
def test_nothing_selected_is_an_error_that_says_what_there_is(anatomy, settings, message):
    with pytest.raises(ConfigError, match=message):
        select(anatomy("llama"), **settings)


def test_biases_follow_their_projection(anatomy):
    selection = select(anatomy("gpt2"), layers=[1], components=["v"], vectors=True)
    assert selection.tensors == ("transformer.h.1.attn.c_attn.weight", "transformer.h.1.attn.c_attn.bias")
    assert selection.chosen["transformer.h.1.attn.c_attn.bias"].count == 32
