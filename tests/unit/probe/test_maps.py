"""Small maps: what they give is what the model gives there, and their Jacobians are those of closed forms."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tremor.errors import ConfigError, NumericsError
from tremor.models.loader import LoadedModel
from tremor.probe import maps
from tremor.probe.base import base_point
from tremor.probe.spectrum import lanczos_spectrum

PROMPT = "The capital of France is"


def test_matrices_are_their_product() -> None:
    drawn = maps.random_matrices(dim=8, count=3, scale=0.3, weight_seed=1, input_seed=2, device=torch.device("cpu"))
    generator = np.random.default_rng(1)
    product = np.eye(8)
    for _ in range(3):
        product = (0.3 * generator.standard_normal((8, 8))).astype(np.float32).astype(np.float64) @ product
    operator = drawn.jacobian()
    # Products in float64 of the same float32 matrices: only the order of sums of 8 terms differs.
    np.testing.assert_allclose(np.stack([operator.matvec(row) for row in np.eye(8)]).T, product, atol=1e-14)
    np.testing.assert_allclose(drawn.evaluate(drawn.x[None])[0], product @ drawn.x, rtol=1e-4, atol=1e-6)
    top = lanczos_spectrum(operator, top_k=1, tolerance=1e-10).singular_values[0]
    assert top == pytest.approx(np.linalg.norm(product, 2), rel=1e-9)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2"])
def test_the_mlp_is_the_models_own_behind_its_norm(loaded_model: Callable[..., LoadedModel], family: str) -> None:
    """The original fed the raw embedding to it: no attention, no norm."""
    loaded = loaded_model(family)
    base = base_point(loaded, PROMPT)
    found = maps.feed_forward(loaded, base, 0)
    assert found.norm != "none"
    block = loaded.anatomy.block_parts[0]
    seen: list[Any] = []
    handle = block.mlp[0].register_forward_hook(lambda module, args, output: seen.append(output[0, -1]))
    with torch.no_grad():
        loaded.anatomy.base(inputs_embeds=base.embeddings[None], use_cache=False)
    handle.remove()
    # One position instead of six: the same sums in another order, a few float32 roundings.
    np.testing.assert_allclose(found.evaluate(found.x[None])[0], seen[0].numpy(), rtol=2e-5, atol=2e-6)
    operator = found.jacobian()
    generator = np.random.default_rng(0)
    direction = generator.normal(size=len(found.x))
    source = torch.from_numpy(found.x.astype(np.float64))[None, None]
    with torch.no_grad():
        ends = [found.wide(source + sign * 1e-4 * torch.from_numpy(direction)).reshape(-1) for sign in (1, -1)]
    # Central difference: an error of step^2 (1e-8) times a third derivative of size one to a hundred, and what is left
    # of float32 inside the norm (6e-8) over the step (1e-4).
    difference = ((ends[0] - ends[1]) / 2e-4).numpy()
    np.testing.assert_allclose(operator.matvec(direction), difference, rtol=2e-3, atol=5e-3)


@pytest.mark.parametrize(("family", "part"), [("llama", "k"), ("gpt2", "v"), ("mamba", "auto"), ("llama", "up")])
def test_a_weight_behind_its_norm(loaded_model: Callable[..., LoadedModel], family: str, part: str) -> None:
    loaded = loaded_model(family)
    base = base_point(loaded, PROMPT)
    found = maps.projection(loaded, base, 1, part)
    assert found.weight is not None
    matrix, x = found.weight.double().numpy(), found.x.astype(np.float64)
    block = loaded.anatomy.block_parts[1]
    roles = ("mlp_in", "both_in") if part == "up" else ("mixer_in", "both_in")
    norm = next(block.norms[name] for name, role in block.roles.items() if role in roles)
    with torch.no_grad():
        normed = norm(torch.from_numpy(found.x)[None, None]).reshape(-1).double().numpy()
    bias = found.evaluate(found.x[None])[0] - matrix @ normed
    if family == "gpt2":  # its projections have a bias, and its matrices lie transposed in one tensor
        piece = block.projections.v
        assert piece is not None
        assert piece.bias is not None
        expected = piece.take_bias(loaded.anatomy.parameter(piece.bias)).numpy()
        np.testing.assert_allclose(bias, expected, atol=1e-5)
    else:
        np.testing.assert_allclose(bias, 0, atol=1e-5)  # a float32 product of 32 terms of size one
    if family != "gpt2":
        # RMSNorm in closed form: d(norm)/dx = diag(g) (I - x x^T / (n ms)) / sqrt(ms), ms = mean square + eps.
        gain = norm.weight.detach().double().numpy()
        eps = float(getattr(norm, "variance_epsilon", 1e-5))
        square = np.mean(x**2) + eps
        inner = (np.eye(len(x)) - np.outer(x, x) / (len(x) * square)) / np.sqrt(square)
        jacobian = matrix @ (gain[:, None] * inner)
        found_matrix = np.stack([found.jacobian().matvec(row) for row in np.eye(len(x))]).T
        # The norm computes in float32 inside: 6e-8 relative, some terms.
        np.testing.assert_allclose(found_matrix, jacobian, rtol=1e-4, atol=1e-5 * np.abs(jacobian).max())


def test_what_a_block_does_not_have(loaded_model: Callable[..., LoadedModel]) -> None:
    loaded = loaded_model("mamba")
    base = base_point(loaded, PROMPT)
    assert not maps.has_feed_forward(loaded, 0)
    with pytest.raises(ConfigError, match="no MLP"):
        maps.feed_forward(loaded, base, 0)
    with pytest.raises(ConfigError, match=r"exp10\.weight"):
        maps.projection(loaded, base, 0, "q")


def test_a_map_that_is_not_the_models_is_refused(
    private_model: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = private_model("llama")
    base = base_point(loaded, PROMPT)
    monkeypatch.setattr(maps, "_norm", lambda parts, roles: None)
    assert maps.feed_forward(loaded, base, 0).norm == "none"  # the module's own input: still the same vector
    parts = loaded.anatomy.block_parts[0]
    wrong = parts.norms[next(name for name, role in parts.roles.items() if role == "mixer_in")]
    monkeypatch.setattr(maps, "_norm", lambda parts, roles: wrong)
    with pytest.raises(NumericsError, match="another vector"):
        maps.feed_forward(loaded, base, 0)
