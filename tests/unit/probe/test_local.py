"""Local Jacobians: their product is the whole Jacobian, branches make up their block, products are the matrix's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from families import FAMILIES, UNCACHED, save_tiny
from tremor.errors import NumericsError
from tremor.models.loader import LoadedModel, load
from tremor.probe.base import base_point
from tremor.probe.jacobian import jacobian
from tremor.probe.local import Chain, DenseMap, LocalJacobians
from tremor.probe.modules import block_modules
from tremor.probe.response import Response
from tremor.probe.spectrum import lanczos_spectrum

Models = Callable[..., LoadedModel]
PROMPT = "The capital of Spain is Madrid, the capital"
# Sums of float32 products over at most 64 terms in some ten stages; measured at most 6e-7 of the largest entry.
ROUNDING = 2e-5
STATEFUL = [family for family in FAMILIES if family not in UNCACHED]


@pytest.mark.parametrize("family", STATEFUL)
def test_the_chain_is_the_whole(loaded_model: Models, family: str) -> None:
    loaded = loaded_model(family)
    base = base_point(loaded, PROMPT)
    local = LocalJacobians(loaded, base)
    whole = jacobian(loaded, base).astype(np.float64)
    matrices = [local.dense(stage).astype(np.float64) for stage in local.chain]
    product = matrices[0]
    for matrix in matrices[1:]:
        product = matrix @ product
    assert [stage.name for stage in local.chain][:3] == ["embedding", "block.0", "block.1"]
    np.testing.assert_allclose(product, whole, rtol=0, atol=ROUNDING * np.abs(whole).max())
    sigma = np.linalg.norm(whole, 2)
    assert np.linalg.norm(product, 2) == pytest.approx(sigma, rel=ROUNDING)
    # sigma_1 of the product is at most the product of the norms.
    assert sigma <= np.prod([np.linalg.norm(m, 2) for m in matrices]) * (1 + ROUNDING)


# OPT-350m norms the stream itself between its branches, so its blocks are no sums.
@pytest.mark.parametrize("family", [family for family in STATEFUL if family != "opt_350m"])
def test_branches_make_up_their_block(loaded_model: Models, family: str) -> None:
    loaded = loaded_model(family)
    local = LocalJacobians(loaded, base_point(loaded, PROMPT))
    unit = np.eye(loaded.anatomy.d_model)
    for k, parts in enumerate(loaded.anatomy.block_parts):
        block = local.dense(local.chain[1 + k]).astype(np.float64)
        branch = {s.part: local.dense(s).astype(np.float64) for s in local.branches if s.block == k}
        if not parts.mlp:
            expected = unit + branch["mixer"]
        elif parts.parallel:
            expected = unit + branch["mixer"] + branch["mlp"]
        else:
            expected = parts.scale * (unit + branch["mlp"]) @ (unit + branch["mixer"])
        np.testing.assert_allclose(block, expected, rtol=0, atol=ROUNDING * np.abs(block).max())


@pytest.mark.parametrize("family", ["llama", "bloom", "falcon_new", "mamba", "opt_350m"])
def test_products_are_the_matrix(loaded_model: Models, family: str) -> None:
    loaded = loaded_model(family)
    local = LocalJacobians(loaded, base_point(loaded, PROMPT))
    generator = np.random.default_rng(0)
    for stage in (*local.chain, *local.branches):
        matrix, operator = local.dense(stage).astype(np.float64), local.operator(stage)
        assert operator.shape == matrix.shape == local.shape(stage)
        v, u = (generator.normal(size=n) for n in reversed(matrix.shape))
        bound = ROUNDING * np.linalg.norm(matrix, 2)
        assert np.linalg.norm(operator.matvec(v) - matrix @ v) <= bound * np.linalg.norm(v), stage.name
        assert np.linalg.norm(operator.rmatvec(u) - matrix.T @ u) <= bound * np.linalg.norm(u), stage.name


def test_lanczos_of_the_chain(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    local = LocalJacobians(loaded, base, branches=False)
    assert local.branches == ()
    whole = jacobian(loaded, base).astype(np.float64)
    found = lanczos_spectrum(Chain(tuple(local.operator(s) for s in local.chain)), top_k=1)
    assert found.singular_values[0] == pytest.approx(np.linalg.norm(whole, 2), rel=ROUNDING)
    exact = lanczos_spectrum(DenseMap(whole), top_k=1, tolerance=1e-10)
    assert exact.singular_values[0] == pytest.approx(np.linalg.norm(whole, 2), rel=1e-12)


def test_chunks_do_not_matter_and_the_model_is_left_alone(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    before = Response(loaded, base, mode="reference").h0
    local = LocalJacobians(loaded, base)
    stage = local.chain[1]
    whole = local.dense(stage)
    for chunk in (1, 7, 100):
        np.testing.assert_allclose(local.dense(stage, chunk=chunk), whole, rtol=0, atol=ROUNDING * np.abs(whole).max())
    assert Response(loaded, base, mode="reference").h0.tobytes() == before.tobytes()
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in loaded.model.modules())


def test_infinite_entries_are_refused(private_model: Models) -> None:
    loaded = private_model("llama")
    local = LocalJacobians(loaded, base_point(loaded, PROMPT))
    stage = local.chain[1]
    local._outputs["residual.1"] = local._inputs["residual.0"].reshape(1, -1) * torch.inf
    with pytest.raises(NumericsError, match=r"stage 'block\.0' has NaN or infinite"):
        local.dense(stage)


def test_block_1_is_not_block_10(tmp_path: Path) -> None:
    """The original matched names by text: its layer 1 took the modules of layers 10 to 19 too."""
    save_tiny("llama", tmp_path, layers=12)
    loaded = load(tmp_path, dtype="float32", device="cpu")
    found = block_modules(loaded, base_point(loaded, PROMPT), 1)
    assert "model.layers.1" in found.taps
    assert "model.layers.1.self_attn.q_proj" in found.taps
    assert all(name == "model.layers.1" or name.startswith("model.layers.1.") for name in found.taps)
    assert len(found.taps) == 13
    by_text = [name for name, _ in loaded.model.named_modules() if "layers.1" in name]
    assert any(name.startswith("model.layers.10") for name in by_text)  # what the text match would have taken


@pytest.mark.parametrize("family", ["llama", "gemma2", "opt", "mixtral", "mamba", "qwen3"])
def test_modules_answer_with_what_their_hooks_see(loaded_model: Models, family: str) -> None:
    """Full names, the block itself among them, and in reference mode the last row of each module's own output."""
    loaded = loaded_model(family)
    base = base_point(loaded, PROMPT)
    last = loaded.anatomy.n_layers - 1
    parts = loaded.anatomy.block_parts[last]
    found = block_modules(loaded, base, last)
    assert parts.name in found.taps
    assert all(name == parts.name or name.startswith(parts.name + ".") for name in found.taps)
    # A part that has a tap of the same short name elsewhere (Gemma's MLP, normed after) is the module itself here.
    for module in parts.mlp:
        name = next(n for n, m in loaded.model.named_modules() if m is module)
        assert name in found.taps or name in found.left_out
    seen: dict[str, torch.Tensor] = {}
    handles = [
        loaded.model.get_submodule(name).register_forward_hook(
            lambda m, a, out, name=name: seen.__setitem__(name, (out if torch.is_tensor(out) else out[0]).clone())
        )
        for name in found.taps
    ]
    response = Response(found.loaded, base, mode="reference", taps=tuple(found.taps.values()))
    _, answer = next(response.batches(base.x[None]))
    for handle in handles:
        handle.remove()
    for name, tap in found.taps.items():
        expected = seen[name].reshape(len(base.ids), -1)[-1]
        assert torch.equal(answer[tap][0].reshape(-1), expected), name


def test_heads_are_not_positions(loaded_model: Models) -> None:
    """Qwen 3 norms queries head by head: these modules give no vector a position and are left out by name."""
    loaded = loaded_model("qwen3")
    found = block_modules(loaded, base_point(loaded, PROMPT), 0)
    assert {name.rsplit(".", 1)[-1] for name in found.left_out} == {"q_norm", "k_norm"}
