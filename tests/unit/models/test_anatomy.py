"""The anatomy of every family: the known structure, and bit-for-bit agreement with the model's outputs."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from families import CONTEXT, FAMILIES, VOCAB, WIDTH, tiny
from tremor.models.anatomy import Anatomy, Slice, describe

IDS = torch.tensor([[5, 9, 200, 31, 7], [11, 300, 2, 40, 9]])


class Expected(NamedTuple):
    """What a family is known to be."""

    tied: bool = False
    transposed: bool = False
    parallel: bool = False
    softcap: float | None = None
    kind: str | tuple[str, ...] = "attention"  # of all blocks, or of blocks in turn
    mlp: int = 1
    gated: bool = True
    experts: int = 0
    final_norm: bool = True
    mid: bool = True


_GPT = Expected(tied=True, gated=False)
EXPECTED: dict[str, Expected] = {
    "llama": Expected(),
    "mistral": Expected(),
    "mixtral": Expected(experts=4),
    "gpt2": _GPT._replace(transposed=True),
    "gpt_neo": _GPT,
    "gptj": Expected(parallel=True, gated=False, mid=False),
    "gpt_neox": Expected(parallel=True, gated=False, mid=False),
    "gpt_neox_sequential": Expected(gated=False),
    "opt": _GPT._replace(mlp=2),
    "opt_350m": _GPT._replace(mlp=2, final_norm=False),
    "bloom": _GPT,
    "falcon": _GPT._replace(parallel=True, mid=False),
    "falcon_alibi": _GPT,
    "falcon_new": _GPT._replace(parallel=True, mid=False),
    "codegen": Expected(parallel=True, gated=False, mid=False),
    "gpt_bigcode": _GPT,
    "gpt_oss": Expected(experts=4, transposed=True),
    "mamba": Expected(tied=True, kind="ssm", mlp=0, gated=False, mid=False),
    "mamba2": Expected(kind="ssm", mlp=0, gated=False, mid=False),
    "qwen2": Expected(),
    "qwen3": Expected(),
    "gemma2": Expected(tied=True, softcap=30.0),
    "phi": Expected(parallel=True, gated=False, mid=False),
    "olmo": Expected(),
    "olmo2": Expected(),
    "stablelm": Expected(),
    "rwkv": Expected(kind="recurrent", gated=False),
    "granite": Expected(),
    "llama3": Expected(tied=True),
    "starcoder2": Expected(tied=True, gated=False),
    "mpt": _GPT,
    "falcon_mamba": Expected(tied=True, kind="ssm", mlp=0, gated=False, mid=False),
    "qwen2_moe": Expected(experts=4),
    "qwen3_moe": Expected(experts=4),
    "qwen3_next": Expected(experts=4, kind=("ssm", "attention")),
    "qwen3_5": Expected(kind=("ssm", "attention")),
    "qwen3_5_moe": Expected(experts=4, kind=("ssm", "attention")),
    "gemma": Expected(tied=True),
    "gemma3": Expected(tied=True),
    "gemma4": Expected(tied=True, softcap=30.0),
    "gemma4_shared_values": Expected(tied=True, softcap=30.0),
    "gemma3_multimodal": Expected(tied=True),
    "gemma4_multimodal": Expected(tied=True, softcap=30.0),
    "vaultgemma": Expected(tied=True, softcap=30.0),
    "recurrent_gemma": Expected(tied=True, softcap=30.0, kind=("recurrent", "attention")),
    "phi3": Expected(),
    "phi4_multimodal": Expected(),
    "phimoe": Expected(experts=4),
    "olmoe": Expected(experts=4),
    "olmo3": Expected(),
    "flex_olmo": Expected(experts=4),
    "olmo_hybrid": Expected(kind=("ssm", "attention")),
}


def kind_of(family: str, block: int) -> str:
    kind = EXPECTED[family].kind
    return kind if isinstance(kind, str) else kind[block % len(kind)]


STAGES = ("mixer", "mixer.input", "mlp", "mlp.input", "mid")

# These list the output of every block and no embedding in `hidden_states` (shared facts, section 1).
BLOCK_OUTPUTS = ("mamba", "mamba2", "rwkv", "falcon_mamba")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Every family in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def anatomy(family: str) -> Anatomy:
    """Anatomy of a tiny random model."""
    return describe(tiny(family))


def bits(tensor: Tensor) -> Tensor:
    """Integer view: equality of bits, where -0 differs from 0 and NaN equals itself."""
    return tensor.contiguous().view(torch.int32)


def hooks(model: nn.Module) -> int:
    """Number of forward hooks in a model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_every_family_has_an_expectation() -> None:
    assert set(EXPECTED) == set(FAMILIES)


def test_structure(family: str, anatomy: Anatomy) -> None:
    expected = EXPECTED[family]
    assert (anatomy.n_layers, anatomy.d_model, anatomy.vocab) == (3, WIDTH, VOCAB)
    assert anatomy.d_input == (16 if family == "opt_350m" else WIDTH)
    assert anatomy.tied is expected.tied
    assert bool(anatomy.transposed) is expected.transposed
    assert anatomy.parallel is expected.parallel
    assert anatomy.logit_softcap == expected.softcap
    assert (anatomy.final_norm is not None) is expected.final_norm
    assert anatomy.embedding is anatomy.model.get_input_embeddings()
    assert anatomy.unembedding is anatomy.model.get_output_embeddings()
    for index, parts in enumerate(anatomy.block_parts):
        assert parts.module is anatomy.blocks[index]
        assert parts.mixer_kind == kind_of(family, index)
        assert len(parts.mlp) == expected.mlp
        assert parts.parallel is expected.parallel
        assert ("mid" in parts.taps) is expected.mid
        assert (parts.gate is not None) is expected.gated
        assert parts.n_experts == expected.experts
        assert (parts.router is not None) is (expected.experts > 0)
        assert parts.norms
    assert anatomy.recurrent is (expected.kind != "attention")
    without_limit = ("bloom", "mamba", "mamba2", "falcon_mamba", "mpt", "recurrent_gemma")
    assert (anatomy.context is None) is (family in without_limit)
    if family not in (*without_limit, "rwkv"):
        assert anatomy.context == CONTEXT


def test_residual_taps_are_the_hidden_states(family: str, anatomy: Anatomy) -> None:
    """Bit for bit, including the last block's output that transformers does not list."""
    names = ["embedding", *(f"residual.{k}" for k in range(3)), "final_prenorm", "final"]
    with torch.no_grad():
        with anatomy.record(names) as taps:
            output = anatomy.model(IDS, output_hidden_states=True, use_cache=False)
        states = output.hidden_states
        assert bits(taps["embedding"]).equal(bits(anatomy.embed(IDS)))
        if family in BLOCK_OUTPUTS:
            listed = [taps["residual.1"], taps["residual.2"], taps["final_prenorm"], taps["final"]]
            assert bits(taps["residual.0"]).equal(bits(taps["embedding"]))
        else:
            listed = [taps["residual.0"], taps["residual.1"], taps["residual.2"], taps["final"]]
        assert len(states) == len(listed)
        for state, tap in zip(states, listed, strict=True):
            assert bits(state).equal(bits(tap))
        assert bits(anatomy.normalise(taps["final_prenorm"])).equal(bits(taps["final"]))
        assert bits(anatomy.unembed(taps["final"])).equal(bits(output.logits))


def test_inputs_embeds_give_the_forward_from_ids(anatomy: Anatomy) -> None:
    names = ["embedding", "residual.0", "final"]
    with torch.no_grad():
        with anatomy.record(names) as from_ids:
            a = anatomy.model(IDS, use_cache=False).logits
        with anatomy.record(names) as from_embeds:
            b = anatomy.model(inputs_embeds=anatomy.embed(IDS), use_cache=False).logits
    assert bits(a).equal(bits(b))
    for name in names:
        assert bits(from_ids[name]).equal(bits(from_embeds[name]))


def test_all_taps_fire_and_leave_nothing_behind(anatomy: Anatomy) -> None:
    """Every hook fires, tensors have the shape of the residual stream, outputs are those without hooks."""
    model = anatomy.model
    # Inner modules of experts see tokens in another order; of all other taps the shape is checked.
    names = [name for name in anatomy.taps if "experts" not in name and "rotary" not in name]
    with torch.no_grad():
        plain = model(IDS, use_cache=False).logits
        before = hooks(model)  # transformers keeps hooks of its own once hidden states were asked for
        with anatomy.record(names) as taps:
            hooked = model(IDS, use_cache=False).logits
        again = model(IDS, use_cache=False).logits
    assert set(taps) == set(names)
    assert bits(plain).equal(bits(hooked))
    assert bits(plain).equal(bits(again))
    assert hooks(model) == before
    wide = [f"residual.{k}" for k in range(3)]
    wide += [f"block.{k}.{stage}" for k in range(3) for stage in STAGES if f"block.{k}.{stage}" in taps]
    for name in wide:
        assert taps[name].shape == (2, 5, WIDTH), name


def test_branches_add_up(family: str, anatomy: Anatomy) -> None:
    """The taps of a block are the summands of its residual stream: equal bits for sequential blocks."""
    sequential = anatomy.block_parts[1].taps.keys() >= {"mid", "mlp"}
    names = ["residual.1", "residual.2", "block.1.mixer"]
    names += [f"block.1.{n}" for n in ("mlp", "mid") if n in anatomy.block_parts[1].taps]
    with torch.no_grad(), anatomy.record(names) as taps:
        anatomy.model(IDS, use_cache=False)
    start, end, mixer = taps["residual.1"], taps["residual.2"], taps["block.1.mixer"]
    if family == "opt_350m":  # a norm follows each sum
        parts = anatomy.block_parts[1]
        assert bits(taps["block.1.mid"]).equal(bits(start + mixer))
        first, second = (parts.norms[n] for n in ("self_attn_layer_norm", "final_layer_norm"))
        assert bits(second(first(taps["block.1.mid"]) + taps["block.1.mlp"])).equal(bits(end))
    elif family == "rwkv":  # the stream is halved after every second block
        assert bits(taps["block.1.mid"]).equal(bits(start + mixer))
        assert bits((taps["block.1.mid"] + taps["block.1.mlp"]) / 2).equal(bits(end))
    elif sequential:
        assert bits(taps["block.1.mid"]).equal(bits(start + mixer))
        scale = anatomy.block_parts[1].scale
        assert scale == (0.75 if family.startswith("gemma4") else 1.0)  # see `tiny`
        assert bits((taps["block.1.mid"] + taps["block.1.mlp"]) * scale).equal(bits(end))
    elif "block.1.mlp" in taps:
        # The order of the three summands differs by family: two roundings of half an ulp of values < 32.
        torch.testing.assert_close(start + mixer + taps["block.1.mlp"], end, rtol=0, atol=2 * 32 * 2**-24)
    else:
        assert bits(start + mixer).equal(bits(end))


def _project(anatomy: Anatomy, part: Slice, hidden: Tensor) -> Tensor:
    """Apply one projection to hidden states by its slice."""
    weight = anatomy.select(part)
    weight = weight.T if part.parameter in anatomy.transposed else weight
    bias = None if part.bias is None else part.take_bias(anatomy.parameter(part.bias))
    return functional.linear(hidden, weight, bias)


# RecurrentGemma gives its cache to nobody.
ATTENTION = tuple(f for f in FAMILIES if "attention" in (kind_of(f, 0), kind_of(f, 1)) and f != "recurrent_gemma")


@pytest.mark.parametrize("name", ATTENTION)
def test_query_key_value_slices_by_the_cache(name: str) -> None:
    """Keys and values that the model itself caches, recomputed from the slices.

    At position 0 rotary embeddings turn by the angle 0, so the cached key is the plain projection (families
    that norm keys or values are compared after their norm).
    """
    anatomy = describe(tiny(name))
    config = anatomy.model.config.get_text_config()
    with torch.no_grad(), anatomy.record([f"block.{k}.mixer.input" for k in range(3)]) as taps:
        cache = anatomy.model(IDS, use_cache=True).past_key_values
    for k, parts in enumerate(anatomy.block_parts):
        if parts.mixer_kind != "attention":
            assert parts.q is parts.k is parts.v is None
            continue
        assert parts.q is not None
        assert parts.k is not None
        assert (parts.v is None) is (name == "gemma4_shared_values" and k != 1)
        assert parts.o is not None
        hidden = taps[f"block.{k}.mixer.input"]
        query, key, value = (_project(anatomy, part, hidden) for part in (parts.q, parts.k, parts.v or parts.k))
        outputs = anatomy.select(parts.o)
        inner = outputs.shape[0 if parts.o.parameter in anatomy.transposed else 1]
        gated = name in ("qwen3_next", "qwen3_5", "qwen3_5_moe")  # one projection makes queries and a gate
        assert query.shape[-1] == inner * (2 if gated else 1)
        head = inner // config.num_attention_heads
        norm = getattr(parts.mixer, "k_norm", None)
        whole = norm is not None and norm.weight.numel() == key.shape[-1] != head  # OLMo norms all heads together
        key = norm(key) if whole else key
        key, value = (x.unflatten(-1, (-1, head)).transpose(1, 2) for x in (key, value))
        key = norm(key) if norm is not None and not whole else key
        value = parts.mixer.v_norm(value) if hasattr(parts.mixer, "v_norm") else value
        cached_key, cached_value = cache.layers[k].keys, cache.layers[k].values
        if name == "falcon_new":  # caches the groups broadcast to all heads
            key, value = (x.repeat_interleave(2, dim=1) for x in (key, value))
        # Another matrix shape may add in another order: d roundings of half an ulp of values below 8.
        scale = float(cached_key.abs().max())
        close = {"rtol": 0.0, "atol": WIDTH * 2**-24 * max(8.0, scale)}
        torch.testing.assert_close(value, cached_value, **close)
        if name == "gpt_oss":  # YaRN multiplies the rotation by a constant
            factor = cached_key[:, :, 0] / key[:, :, 0]
            torch.testing.assert_close(factor, factor[0, 0, 0].expand_as(factor), rtol=1e-3, atol=0.0)
        else:
            torch.testing.assert_close(key[:, :, 0], cached_key[:, :, 0], **close)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "bloom", "falcon", "falcon_new", "codegen", "gpt_bigcode"])
def test_fused_slices_are_a_partition(name: str) -> None:
    """Query, key and value take every output feature of the fused parameter exactly once."""
    anatomy = describe(tiny(name))
    parts = anatomy.block_parts[2]
    assert parts.q is not None
    assert parts.k is not None
    assert parts.v is not None
    assert parts.q.parameter == parts.k.parameter == parts.v.parameter
    size = anatomy.parameter(parts.q.parameter).shape[parts.q.axis]
    counter = torch.arange(size)
    taken = torch.cat([Slice("", 0, part.index).take(counter) for part in (parts.q, parts.k, parts.v)])
    assert sorted(taken.tolist()) == list(range(size))


def test_gate_and_up_of_llama_are_those_by_name() -> None:
    parts = describe(tiny("llama")).block_parts[0]
    assert parts.gate is not None
    assert parts.up is not None
    assert parts.down is not None
    assert parts.gate.parameter.endswith("gate_proj.weight")
    assert parts.up.parameter.endswith("up_proj.weight")
    assert parts.down.parameter.endswith("down_proj.weight")


@pytest.mark.parametrize(("name", "axis", "gate", "up"), [
    ("mixtral", 1, slice(0, 48), slice(48, 96)),
    ("gpt_oss", 2, slice(0, 96, 2), slice(1, 96, 2)),
])  # fmt: skip
def test_experts_are_found_in_their_layout(name: str, axis: int, gate: slice, up: slice) -> None:
    """Mixtral chunks gate and up, GPT-OSS interleaves them and stores [expert, inputs, outputs]."""
    anatomy = describe(tiny(name))
    parts = anatomy.block_parts[0]
    assert parts.gate is not None
    assert parts.up is not None
    assert parts.down is not None
    everything = torch.arange(96)
    assert parts.gate.axis == parts.up.axis == axis
    assert everything[parts.gate.index].equal(everything[gate])
    assert everything[parts.up.index].equal(everything[up])
    assert (parts.gate.parameter in anatomy.transposed) is (name == "gpt_oss")
    assert anatomy.select(parts.down).shape[axis] == WIDTH


def test_scales_of_embedding_and_logits() -> None:
    gemma, granite = describe(tiny("gemma2")), describe(tiny("granite"))
    assert gemma.embedding_scale == pytest.approx(WIDTH**0.5, rel=1e-6)  # a float32 quotient
    assert granite.input_scale == 3.0
    assert granite.logit_scale == pytest.approx(1 / 7, rel=1e-15)  # one float64 division
    assert describe(tiny("llama")).embedding_scale is None


def test_describing_changes_no_parameter() -> None:
    for name in ("gpt2", "mixtral", "gpt_oss", "falcon"):
        model = tiny(name)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        describe(model)
        assert all(bits(value).equal(bits(before[key])) for key, value in model.state_dict().items())
        assert hooks(model) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mamba", "gemma2", "bloom", "gpt_oss"])
def test_other_dtypes(name: str, dtype: torch.dtype) -> None:
    """The same structure is found, and the head is exact, in another precision."""
    # The default kernel for experts (grouped_mm) refuses float64.
    settings = {"experts_implementation": "eager"} if name == "gpt_oss" else {}
    model = tiny(name, **settings).to(dtype)
    anatomy, plain = describe(model), describe(tiny(name))
    assert [p.roles for p in anatomy.block_parts] == [p.roles for p in plain.block_parts]
    assert [sorted(p.taps) for p in anatomy.block_parts] == [sorted(p.taps) for p in plain.block_parts]
    for a, b in zip(anatomy.block_parts, plain.block_parts, strict=True):
        assert (a.gate and a.gate.parameter) == (b.gate and b.gate.parameter)
    with torch.no_grad(), anatomy.record(["final"]) as taps:
        logits = model(IDS, use_cache=False).logits
    assert torch.equal(anatomy.unembed(taps["final"]), logits)


def test_eager_attention_gives_the_same_anatomy() -> None:
    model = tiny("gpt_neox", attn_implementation="eager")
    parts = describe(model).block_parts[0]
    reference = describe(tiny("gpt_neox")).block_parts[0]
    assert parts.k is not None
    assert reference.k is not None
    assert isinstance(parts.k.index, Tensor)
    assert isinstance(reference.k.index, Tensor)
    assert parts.k.index.equal(reference.k.index)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["gpt_neox", "falcon_new", "llama", "gpt_oss", "gemma2"])
def test_weights_do_not_change_the_anatomy(name: str, dtype: torch.dtype) -> None:
    """Norms with equal weights and activations past a clamp or a saturation do not blur the structure."""
    reference = describe(tiny(name))
    for norm_gain, factor in ((1.0, 1.0), (None, 6.0)):
        model = tiny(name)
        for key, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.data.mul_(factor)
            elif norm_gain is not None:
                parameter.data.fill_(norm_gain if key.endswith("weight") else 0.0)
        anatomy = describe(model.to(dtype))
        for parts, expected in zip(anatomy.block_parts, reference.block_parts, strict=True):
            assert parts.roles == expected.roles
            assert parts.parallel is expected.parallel
            assert parts.taps.keys() == expected.taps.keys()
            for part in ("q", "k", "v", "o", "gate", "up", "down"):
                found, wanted = getattr(parts, part), getattr(expected, part)
                assert (found is None) is (wanted is None)
                if found is not None:
                    everything = torch.arange(200)
                    assert found.parameter == wanted.parameter
                    assert torch.equal(everything[found.index], everything[wanted.index])
