"""True float64: against two other implementations, through the probe's instruments, and what must be refused."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from families import EXPERTS, FAMILIES, NOT_FLOAT64, UNCACHED, save_tiny, tiny
from tremor.errors import NumericsError
from tremor.models import loader, true64, true64_gate
from tremor.models.loader import LoadedModel
from tremor.probe.base import BasePoint, base_point
from tremor.probe.jacobian import JacobianOperator, jacobian
from tremor.probe.response import Response

Models = Callable[..., LoadedModel]
Array = npt.NDArray[Any]
# Longer than every window of the tiny models (8), so that masks and rotations matter.
LONG = "The capital of Spain is Madrid, and the one of Peru is Lima; I like"
SHORT = "The capital of France is"
# What the A/A control of a Response does to the float32 noise that it draws.
_DRAWING = ("randn.generator", "normal_.default", "_to_copy.default", "add.Tensor", "mul.Tensor")
CONTROL = {f"aten.{name}{side}" for name in _DRAWING for side in ("", " (input)")}
CACHED = tuple(family for family in FAMILIES if family not in UNCACHED)

_converted: dict[str, LoadedModel] = {}


@pytest.fixture
def wide(loaded_model: Models) -> Models:
    """Family -> its tiny model in true float64, shared by all tests."""

    def get(family: str) -> LoadedModel:
        if family not in _converted:
            _converted[family] = true64.convert(loaded_model(family))
        return _converted[family]

    return get


def hidden(loaded: LoadedModel, base: BasePoint) -> Array:
    """Last hidden state at all positions [T, d]."""
    with torch.no_grad():
        states = loaded.anatomy.base(inputs_embeds=base.embeddings[None], use_cache=False).last_hidden_state
    return np.asarray(states[0].double().numpy())


def off(a: Array, b: Array) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def forwards(model: nn.Module) -> int:
    """Modules with a forward of their own."""
    return sum("forward" in module.__dict__ for module in model.modules())


# --- against other implementations -----------------------------------------------------------------------------------


def dense_llama(model: PreTrainedModel, embeddings: Array) -> Array:
    """The forward of Llama (Touvron et al. 2023; GQA, RoPE in halves, SwiGLU) in float64 numpy: [T, d] -> [T, d]."""
    config = model.config
    weights = {name: np.asarray(value.double().numpy()) for name, value in model.state_dict().items()}
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    width = embeddings.shape[1] // heads
    angles = np.arange(len(embeddings))[:, None] * 10000.0 ** (-np.arange(0, width, 2) / width)
    cos, sin = np.cos(np.hstack([angles, angles])), np.sin(np.hstack([angles, angles]))

    def norm(x: Array, name: str) -> Array:
        return weights[name] * x / np.sqrt((x**2).mean(-1, keepdims=True) + config.rms_norm_eps)

    def turn(x: Array) -> Array:  # [h, T, width]
        half = width // 2
        return x * cos + np.concatenate([-x[..., half:], x[..., :half]], -1) * sin

    x = embeddings
    future = np.triu(np.ones((len(x), len(x)), dtype=bool), 1)
    for k in range(config.num_hidden_layers):
        at = f"model.layers.{k}."
        y = norm(x, at + "input_layernorm.weight")
        q, key, value = (
            (y @ weights[f"{at}self_attn.{p}_proj.weight"].T).reshape(len(x), -1, width).swapaxes(0, 1) for p in "qkv"
        )
        q, key = turn(q), turn(key).repeat(heads // groups, 0)
        scores = np.where(future, -np.inf, q @ key.swapaxes(1, 2) / np.sqrt(width))
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = (shares @ value.repeat(heads // groups, 0)).swapaxes(0, 1).reshape(len(x), -1)
        x = x + mixed @ weights[at + "self_attn.o_proj.weight"].T
        y = norm(x, at + "post_attention_layernorm.weight")
        gate = y @ weights[at + "mlp.gate_proj.weight"].T
        up = y @ weights[at + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[at + "mlp.down_proj.weight"].T
    return norm(x, "model.norm.weight")


def test_llama_equals_a_dense_implementation_at_every_position(wide: Models, loaded_model: Models) -> None:
    loaded = wide("llama")
    base = base_point(loaded, LONG)
    expected = dense_llama(loaded.model, base.embeddings.numpy())
    answer = hidden(loaded, base)
    assert answer.dtype == np.float64
    # Two blocks of sums of at most 48 terms: some tens of eps (2.2e-16). One rounding to float32 would show as 1e-8.
    for position in range(len(base.ids)):
        assert off(answer[position], expected[position]) < 1e-12
    narrow = loaded_model("llama")
    assert 1e-8 < off(hidden(narrow, base_point(narrow, LONG)), expected) < 1e-5


def test_angles_cast_by_double_are_off(private_model: Models) -> None:
    """The dense implementation sees what no step test can: RoPE's table computed in float32."""
    loaded = private_model("llama", "float64")
    base = base_point(loaded, LONG)
    expected = dense_llama(loaded.model, base.embeddings.numpy())
    assert off(hidden(loaded, base), expected) > 1e-9  # eps of float32 is 1.2e-7


def mp_llama(model: PreTrainedModel, embeddings: Array) -> list[Any]:
    """One block of Llama with one group of heads at the last position, in mpmath's precision."""
    mp = mpmath.mp
    config = model.config
    weights = {name: value.double().tolist() for name, value in model.state_dict().items()}
    heads = config.num_attention_heads
    width = embeddings.shape[1] // heads
    half = width // 2

    def times(name: str, x: list[Any]) -> list[Any]:
        return [mp.fsum(mp.mpf(w) * v for w, v in zip(row, x, strict=True)) for row in weights[name]]

    def norm(name: str, x: list[Any]) -> list[Any]:
        scale = mp.sqrt(mp.fsum(v * v for v in x) / len(x) + mp.mpf(config.rms_norm_eps))
        return [mp.mpf(w) * v / scale for w, v in zip(weights[name], x, strict=True)]

    def turn(x: list[Any], position: int) -> list[Any]:
        angles = [position * mp.mpf(10000) ** (-mp.mpf(2 * (i % half)) / width) for i in range(width)]
        other = [-v for v in x[half:]] + x[:half]
        return [v * mp.cos(a) + o * mp.sin(a) for v, o, a in zip(x, other, angles, strict=True)]

    at = "model.layers.0."
    rows = [[mp.mpf(float(v)) for v in row] for row in embeddings]
    normed = [norm(at + "input_layernorm.weight", row) for row in rows]
    keys = [turn(times(at + "self_attn.k_proj.weight", row), t) for t, row in enumerate(normed)]
    values = [times(at + "self_attn.v_proj.weight", row) for row in normed]
    q = times(at + "self_attn.q_proj.weight", normed[-1])
    mixed = []
    for h in range(heads):
        query = turn(q[h * width : (h + 1) * width], len(rows) - 1)
        scores = [mp.exp(mp.fsum(a * b for a, b in zip(query, key, strict=True)) / mp.sqrt(width)) for key in keys]
        total = mp.fsum(scores)
        mixed += [mp.fsum(s * v[i] for s, v in zip(scores, values, strict=True)) / total for i in range(width)]
    x = [a + b for a, b in zip(rows[-1], times(at + "self_attn.o_proj.weight", mixed), strict=True)]
    y = norm(at + "post_attention_layernorm.weight", x)
    gates, ups = times(at + "mlp.gate_proj.weight", y), times(at + "mlp.up_proj.weight", y)
    inner = [g / (1 + mp.exp(-g)) * u for g, u in zip(gates, ups, strict=True)]
    x = [a + b for a, b in zip(x, times(at + "mlp.down_proj.weight", inner), strict=True)]
    return norm("model.norm.weight", x)


def test_a_block_equals_fifty_digits() -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = tiny("llama", layers=1, **sizes)
    true64.install(model)
    with torch.no_grad():
        embeddings = model.get_input_embeddings()(torch.tensor([[7, 40, 300, 12, 90]]))
        answer = model.base_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[0, -1]
    with mpmath.workdps(50):
        expected = np.array([float(v) for v in mp_llama(model, embeddings[0].numpy())])
    # Sums of at most 12 terms, five of them one after another: about 10 eps, 2e-15.
    assert np.abs(answer.numpy() - expected).max() < 1e-13 * np.abs(expected).max()


# --- the gate, family by family --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2", "falcon_alibi", "gpt_oss", "mamba", "rwkv", "gemma2", "qwen3_5"])
def test_the_gate_passes_with_room(wide: Models, family: str) -> None:
    """Every family passes: tests/unit/verify. Here the errors are measured, and the audit is asked by itself."""
    loaded = wide(family)
    base = base_point(loaded, LONG)
    result = true64_gate.require(loaded, base)
    assert result.passed
    assert result.relative_error < true64_gate.LIMIT
    # 1e-16 over a step of 1e-9, times a small factor: measured at most 1e-6.
    assert result.coarse_error < 1e-5
    assert result.step == pytest.approx(1e-12 * float(base.embeddings[-1].norm()), rel=0.01)
    assert true64_gate.audit(loaded, base) == []


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in NOT_FLOAT64])
def test_every_family_is_the_same_function(wide: Models, loaded_model: Models, family: str) -> None:
    loaded, narrow = wide(family), loaded_model(family)
    base = base_point(loaded, LONG)
    assert base.fmt == "float64"
    answer, rounded = hidden(loaded, base)[-1], hidden(narrow, base_point(narrow, LONG))[-1]
    # Same weights and the same function up to float32's roundings, of which there are some.
    assert 1e-8 < off(rounded, answer) < 3e-6


def test_the_gate_predicts_with_the_jacobian(wide: Models) -> None:
    """Its derivative, by differentiating twice, is the dense Jacobian times the step."""
    loaded = wide("qwen3")
    base = base_point(loaded, LONG)
    row, _, steps = true64_gate._grid(base.embeddings[-1], 1e-12)
    products = true64_gate._derivative(loaded, base.embeddings, row, steps)
    matrix = jacobian(loaded, base)
    for step, product in zip(steps, products, strict=True):
        # Two ways through the same sums: tens of eps, and the gate's point is 1e-16 away.
        assert off(product.numpy(), matrix @ step.numpy()) < 1e-12


def test_double_alone_is_refused(private_model: Models) -> None:
    """The trap (anchors.md section 3): RMSNorm swallows the step altogether."""
    loaded = private_model("llama", "float64")
    base = base_point(loaded, LONG)
    result = true64_gate.gate(loaded, base)
    assert not result.passed
    assert result.relative_error > 0.99
    assert result.measured == 0 < result.predicted
    assert ("aten._to_copy.default", torch.float32) in true64_gate.audit(loaded, base)
    expected = (
        r"may not be called float64: .* are narrower \(.* in float32.*moved the output by 0 where .* true64\.load"
    )
    with pytest.raises(NumericsError, match=expected):
        true64_gate.require(loaded, base)


def test_rounding_that_no_step_meets_is_refused(private_model: Models) -> None:
    """GPT-NeoX cast by `.double()` answers every step; but its angles are float32, and the audit says so."""
    loaded = private_model("gpt_neox", "float64")
    result = true64_gate.gate(loaded, base_point(loaded, LONG))
    assert result.relative_error < true64_gate.LIMIT
    assert result.narrow
    assert not result.passed


class _Kernel(nn.Module):
    """Rounds a share of its input to float32 where torch does not look, as a foreign kernel would."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            lost = torch.from_numpy(x.numpy().astype(np.float32).astype(np.float64)) - x
        return nn.functional.silu(x + self.share * lost)


# With so small a share the fine step moves the output as predicted, within its noise; the coarse step sees it.
@pytest.mark.parametrize("share", [1.0, 0.004])
def test_rounding_inside_a_kernel_is_refused(loaded_model: Models, share: float) -> None:
    loaded = true64.convert(loaded_model("llama"))
    loaded.model.model.layers[1].mlp.act_fn = _Kernel(share)
    base = base_point(loaded, LONG)
    assert true64_gate.audit(loaded, base) == []
    result = true64_gate.gate(loaded, base)
    assert result.coarse_error > true64_gate.LIMIT
    assert (result.relative_error > true64_gate.LIMIT) == (share == 1.0)
    with pytest.raises(NumericsError, match=r"may not be called float64: a step .*; some kernel rounds inside"):
        true64_gate.require(loaded, base)


def test_narrow_models_and_points_are_refused(wide: Models, loaded_model: Models) -> None:
    narrow = loaded_model("llama")
    with pytest.raises(NumericsError, match=r"its parameters are float32; use true64\.load"):
        true64_gate.gate(narrow, base_point(narrow, SHORT))
    with pytest.raises(NumericsError, match="the base point is float32"):
        true64_gate.gate(wide("llama"), base_point(narrow, SHORT))
    with pytest.raises(NumericsError, match=r"a step of 1e-18 does not move the embedding"):
        true64_gate.gate(wide("llama"), base_point(wide("llama"), SHORT), step=1e-18)


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
        {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 8},
        {
            "rope_type": "longrope",
            "factor": 4.0,
            "original_max_position_embeddings": 8,
            "short_factor": [1.0, 1.1, 1.2, 1.3],
            "long_factor": [1.7, 2.3, 3.1, 4.1],
        },
    ],
    ids=lambda scaling: str(scaling["rope_type"]),
)
def test_scaled_rotations_pass(tmp_path: Path, scaling: dict[str, Any]) -> None:
    """Some recompute their frequencies inside the forward, once a prompt is long enough."""
    save_tiny("llama", tmp_path, layers=1, rope_parameters={"rope_theta": 10000.0, **scaling})
    loaded = true64.load(tmp_path, device="cpu")
    base = base_point(loaded, LONG)
    assert len(base.ids) > 16
    first = hidden(loaded, base)
    true64_gate.require(loaded, base)
    # A model that has met a long prompt converts to the same function.
    used = loader.load(tmp_path, device="cpu")
    rounded = hidden(used, base_point(used, LONG))
    again = true64.convert(used)
    assert hidden(again, base).tobytes() == first.tobytes()
    assert 1e-8 < off(rounded, first) < 3e-6


# --- through the instruments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", CACHED)
def test_modes_agree(wide: Models, family: str) -> None:
    loaded = wide(family)
    base = base_point(loaded, LONG)
    inputs = base.x * (1 + 0.1 * np.random.default_rng(0).normal(size=(4, len(base.x))))
    with true64_gate._Types() as types:
        reference = Response(loaded, base, mode="reference")
        full = reference.evaluate(inputs)
        # An expert runs on the rows routed to it, so a row's rounding depends on its neighbours.
        batched = Response(loaded, base, mode="batched", batch_size=1 if family in EXPERTS else 4)
        answers = batched.evaluate(inputs)
    # The control's noise is drawn in float32; nothing the model does is.
    assert {name for name, _ in types.found} <= CONTROL
    assert full.dtype == answers.dtype == np.float64
    assert reference.output_format == batched.output_format == "float64"
    # Two orders of sums: tens of eps. A float32 cache or state would leave 1e-7.
    np.testing.assert_allclose(answers, full, rtol=0, atol=1e-13 * np.abs(full).max())
    assert np.abs(full - full[0]).max() > 1e-2 * np.abs(full).max()


@pytest.mark.parametrize("family", ["llama", "gpt_oss", "mamba", "mamba2", "gemma2", "bloom", "gptj"])
def test_the_jacobian_is_float64(wide: Models, family: str) -> None:
    loaded = wide(family)
    base = base_point(loaded, LONG)
    with true64_gate._Types() as types:
        matrix = jacobian(loaded, base, chunk=8)
    assert types.found == {}
    assert matrix.dtype == np.float64
    scale = np.linalg.norm(matrix)
    # Both pull back through the same sums in another order: tens of eps.
    assert np.linalg.norm(jacobian(loaded, base, method="replicated", chunk=16) - matrix) < 1e-13 * scale
    direction = np.random.default_rng(1).normal(size=len(base.x))
    direction *= 1e-5 * np.linalg.norm(base.x) / np.linalg.norm(direction)
    response = Response(loaded, base, mode="reference")
    there, back = response.evaluate(np.stack([base.x + direction, base.x - direction]))
    # Central differences: cubic terms about (1e-5)^2, roundings 1e-16 / 1e-5; float32 would leave 1e-7 / 1e-5.
    assert off((there - back) / 2, matrix @ direction) < 1e-8


def test_products_with_the_jacobian_are_float64(wide: Models) -> None:
    loaded = wide("llama")
    base = base_point(loaded, LONG)
    matrix = jacobian(loaded, base)
    operator = JacobianOperator(loaded, base)
    vector = np.random.default_rng(2).normal(size=matrix.shape[1])
    # Forward and reverse mode of the same sums: tens of eps.
    assert off(operator.matvec(vector), matrix @ vector) < 1e-13
    assert off(operator.rmatvec(vector), matrix.T @ vector) < 1e-13


@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba", "gpt_oss"])
def test_taps_and_logits_are_float64(wide: Models, family: str) -> None:
    loaded = wide(family)
    base = base_point(loaded, SHORT)
    ids = torch.from_numpy(base.ids)[None]
    with torch.no_grad(), loaded.anatomy.record(loaded.anatomy.taps) as record:
        logits = loaded.model(ids, use_cache=False).logits
    floating = {tensor.dtype for tensor in record.values() if tensor.is_floating_point()}
    assert floating == {torch.float64}
    assert len(record) == len(loaded.anatomy.taps)
    # Modules called by themselves, outside the model's forward, are float64 as well.
    with torch.no_grad():
        final = loaded.anatomy.normalise(record["final_prenorm"])
        assert torch.equal(final, record["final"])
        assert torch.equal(loaded.anatomy.unembed(final), logits)
    assert logits.dtype == torch.float64


# --- the mechanism ---------------------------------------------------------------------------------------------------


def test_requests_for_narrow_types_mean_float64() -> None:
    ones = torch.ones(3, dtype=torch.float64)
    with true64.widened():
        given = [
            ones.float(),
            ones.half(),
            ones.to(torch.float32),
            ones.to("cpu", torch.bfloat16),
            ones.to(dtype=torch.float16),
            ones.type(torch.float32),
            ones.type("torch.FloatTensor"),
            ones.type(torch.HalfTensor),
            ones.softmax(-1, dtype=torch.float32),
            torch.nn.functional.softmax(ones, dim=-1, dtype=torch.float32),
            ones.sum(dtype=torch.float32),
            torch.zeros(3, dtype=torch.float32),
            torch.zeros(3),
            torch.tensor(0.1, dtype=torch.float32),
            torch.arange(3).float(),
            torch.arange(3) / 7,
            ones.new_zeros(3, dtype=torch.float32),
            torch.empty_like(ones, dtype=torch.float32),
        ]
        bits = torch.tensor([1], dtype=torch.int16).view(torch.bfloat16)
        assert torch.polar(ones.float(), ones).dtype == torch.complex128
        assert ones.to(torch.complex64).dtype == torch.complex128
        assert ones.to(torch.int32).dtype == torch.int32
    assert {tensor.dtype for tensor in given} == {torch.float64}
    assert float(given[13]) == 0.1  # not the float32 next to it
    assert bits.dtype == torch.bfloat16  # another reading of the same bits, no rounding
    assert torch.zeros(1).dtype == torch.float32


def test_the_mode_nests_and_ends_after_an_exception() -> None:
    def fail() -> None:
        with true64.widened():
            with true64.widened():
                assert torch.zeros(1).dtype == torch.float64
            assert torch.ones(1).float().dtype == torch.float64
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_default_dtype() == torch.float32
    assert torch.ones(1, dtype=torch.float64).float().dtype == torch.float32


def test_a_failing_forward_ends_the_mode(loaded_model: Models) -> None:
    loaded = true64.convert(loaded_model("llama"))

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    loaded.model.model.layers[1].register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        loaded.model(torch.tensor([[5, 6]]))
    assert torch.get_default_dtype() == torch.float32
    assert torch.ones(1, dtype=torch.float64).float().dtype == torch.float32


def test_convert_leaves_the_model_alone(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, LONG)
    before, random = hidden(loaded, base), torch.get_rng_state()
    wide = true64.convert(loaded)
    assert torch.equal(torch.get_rng_state(), random)
    assert forwards(loaded.model) == 0
    assert not true64.installed(loaded.model)
    assert true64.installed(wide.model)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert hidden(loaded, base).tobytes() == before.tobytes()
    for (name, a), b in zip(loaded.model.named_parameters(), wide.model.parameters(), strict=True):
        assert torch.equal(a.double(), b), name


def test_install_can_be_undone() -> None:
    model = tiny("gptj")
    tables = {name: value.clone() for name, value in model.named_buffers()}
    undo = true64.install(model)
    installed = forwards(model)
    assert installed > 0
    true64.install(model)  # a second time changes nothing
    assert forwards(model) == installed
    undo.close()
    assert forwards(model) == 0
    for name, value in model.named_buffers():
        assert torch.equal(value.to(tables[name].dtype), tables[name]), name


def test_a_copy_of_a_converted_model_runs_on_its_own_weights(wide: Models) -> None:
    loaded = wide("llama")
    ids = torch.tensor([[5, 9, 200]])
    with torch.no_grad():
        before = loaded.model(ids).logits
        other = copy.deepcopy(loaded.model)
        other.model.norm.weight.mul_(2)
        assert torch.equal(other(ids).logits, 2 * before)  # exact: a power of two
        assert torch.equal(loaded.model(ids).logits, before)
    assert true64.installed(other)


def test_load_is_convert(saved_model: Callable[[str], Path], wide: Models) -> None:
    loaded = true64.load(saved_model("gemma2"), device="cpu")
    other = wide("gemma2")
    assert loaded.dtype == torch.float64
    assert loaded.digest == other.digest
    base = base_point(loaded, LONG)
    assert hidden(loaded, base).tobytes() == hidden(other, base_point(other, LONG)).tobytes()


def test_half_weights_are_widened_as_they_are(private_model: Models) -> None:
    loaded = private_model("llama", "bfloat16")
    wide = true64.convert(loaded)
    for a, b in zip(loaded.model.parameters(), wide.model.parameters(), strict=True):
        assert torch.equal(a.double(), b)
    true64_gate.require(wide, base_point(wide, LONG))


@pytest.mark.parametrize(("factor", "known"), [(1.05, True), (float("nan"), True), (1.0, False)])
def test_tables_that_cannot_be_computed_again_are_refused(factor: float, known: bool) -> None:
    model = tiny("llama")
    rotation = model.model.rotary_emb
    if known:
        rotation.inv_freq *= factor
        expected = r"may not be called float64: table 'model\.rotary_emb\.inv_freq' .* is not the one its config"
    else:
        model.model.drift = torch.randn(3)  # an attribute that the class does not make
        expected = r"table 'model\.drift' of LlamaForCausalLM cannot be computed again"
    with pytest.raises(NumericsError, match=expected):
        true64.install(model)
    # Nothing is left half done.
    assert forwards(model) == 0
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert rotation.original_inv_freq.dtype == torch.float32


def test_a_spread_model_is_not_copied(private_model: Models) -> None:
    loaded = private_model("gpt2")
    loaded.model.hf_device_map = {"": "cpu"}
    with pytest.raises(NumericsError, match=r"spread over several devices .* use true64\.load"):
        true64.convert(loaded)


def test_the_loader_alone_is_not_true_float64(saved_model: Callable[[str], Path]) -> None:
    assert not true64.installed(loader.load(saved_model("llama"), dtype="float64", device="cpu").model)
