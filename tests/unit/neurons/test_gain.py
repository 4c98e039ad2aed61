"""Gain of a layer: against torch's own Jacobian, a linear model of known singular values, and finite differences."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from families import FAMILIES
from tremor.errors import NumericsError
from tremor.models.loader import LoadedModel
from tremor.neurons.gain import NOISES, SOURCES, LayerGraph, Source, finite_differences, twice_differentiable
from tremor.neurons.resume import Resume

IDS = np.array([5, 9, 100, 33, 7, 250], dtype=np.int64)


def oracle(loaded: LoadedModel, layer: int, target: str) -> np.ndarray:
    """d(answer at the last position) / d(states behind a block) [out, positions, d], by torch.func on the model's own
    forward with the state put in by a hook: shares no code with the instrument but the model."""
    anatomy = loaded.anatomy
    ids = torch.from_numpy(IDS)[None]
    state = Resume(anatomy, ids).states[layer]

    def answer(hidden: torch.Tensor) -> torch.Tensor:
        def put(module: nn.Module, args: Any, output: Any) -> Any:
            return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

        handle = anatomy.blocks[layer].register_forward_hook(put)
        try:
            if target == "final":
                return anatomy.base(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
            logits = anatomy.model(input_ids=ids, use_cache=False).logits[0, -1]
        finally:
            handle.remove()
        return logits - logits.mean() if target == "centred_logits" else logits

    with twice_differentiable(loaded):
        jacobian = torch.autograd.functional.jacobian(answer, state)
    return jacobian[:, 0].double().numpy()


@pytest.mark.parametrize("family", ["gpt2", "llama", "mamba"])
@pytest.mark.parametrize("target", ["logits", "centred_logits", "final"])
def test_norms_are_those_of_the_whole_jacobian(loaded_model: Any, family: str, target: Any) -> None:
    loaded = loaded_model(family, "float64")
    graph = LayerGraph(loaded, IDS, [0, 1])
    # As many probes as there are outputs, and then some: 4 standard errors hold with near certainty.
    norms = graph.frobenius(target, probes=400, seed=1)
    for place, layer in enumerate((0, 1)):
        whole = oracle(loaded, layer, target)
        matrices: dict[Source, np.ndarray] = {"last": whole[:, -1], "all": whole.reshape(len(whole), -1)}
        for source, matrix in matrices.items():
            found = graph.spectral(layer, target, source, tolerance=1e-5, max_iterations=64, seed=0)
            assert found.converged
            # The value is off by about the square of the residual; RMSNorm rounds to float32 even in a float64 model.
            assert found.singular_values[0] == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-6)
            told = norms[source]
            assert abs(told.value[place] - np.linalg.norm(matrix)) < 4 * told.error[place]
            assert told.error[place] < 0.1 * told.value[place]
    if target == "logits":  # only the last position's state reaches the answer behind the last block
        np.testing.assert_allclose(norms["last"].value[1], norms["all"].value[1], rtol=1e-12)
        assert norms["all"].value[0] > norms["last"].value[0]


@pytest.mark.parametrize(("family", "chunk"), [("gpt2", 2e9), ("mamba", 1.0), ("gemma2", 2e9)])
def test_dense_norms_are_exact(loaded_model: Any, family: str, chunk: float) -> None:
    """Gemma 2 caps its logits: the head's derivative is not its matrix alone. One byte allows one row at a time."""
    loaded = loaded_model(family, "float64")
    targets: tuple[Any, ...] = ("logits", "centred_logits", "final")
    norms = LayerGraph(loaded, IDS, [0, 1]).dense(targets, max_memory=chunk, tolerance=1e-12)
    assert len(norms) == 2 * 2 * 3
    for (layer, target, source), (square, frobenius) in norms.items():
        whole = oracle(loaded, layer, target)
        matrix = whole[:, -1] if source == "last" else whole.reshape(len(whole), -1)
        # RMSNorm rounds to float32 even in a float64 model, and the two ways round it differently.
        assert np.sqrt(square.singular_values[0]) == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-6)
        assert frobenius == pytest.approx(np.linalg.norm(matrix), rel=1e-6)


def test_the_standard_error_is_that_of_repeated_estimates(loaded_model: Any) -> None:
    graph = LayerGraph(loaded_model("llama", "float64"), IDS, [0])
    told = [graph.frobenius("final", probes=16, seed=seed)["last"] for seed in range(200)]
    spread = np.std([each.value[0] for each in told], ddof=1)
    # The standard deviation of 200 values is known to 5 %, and a mean of 200 errors better.
    assert np.mean([each.error[0] for each in told]) == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize("family", FAMILIES)
def test_products_of_every_family_are_each_other_s_transpose(loaded_model: Any, family: str) -> None:
    loaded = loaded_model(family)
    graph = LayerGraph(loaded, IDS, [0, 1])
    generator = np.random.default_rng(0)
    for source in SOURCES:
        operator = graph.operator(0, "logits", source)
        width = loaded.anatomy.d_model * (1 if source == "last" else len(IDS))
        assert operator.shape == (loaded.anatomy.vocab, width)
        right, left = generator.normal(size=operator.shape[1]), generator.normal(size=operator.shape[0])
        forward, backward = operator.matvec(right), operator.rmatvec(left)
        scale = float(np.linalg.norm(left) * np.linalg.norm(forward))
        # u.Jv and J^Tu.v sum some thousand float32 products in other orders.
        assert abs(left @ forward - backward @ right) < 1e-4 * scale
    with torch.no_grad():
        plain = loaded.anatomy.model(input_ids=torch.from_numpy(IDS)[None], use_cache=False).logits[0, -1]
    # The plain formula of attention is the same function: only roundings of float32 differ.
    np.testing.assert_allclose(graph.answers["logits"], plain.double().numpy(), atol=1e-4)


class Linear(nn.Module):
    """A block that is one matrix."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> torch.Tensor:
        return hidden_states @ self.matrix.T


class Straight(nn.Module):
    """What stands in for the final norm: nothing, but called."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states.clone()


def test_a_linear_model_has_its_known_singular_values(private_model: Any) -> None:
    """Blocks and head replaced by matrices of planted singular values: the gain of each layer is known."""
    loaded = private_model("llama", "float64")
    anatomy = loaded.anatomy
    width, vocab = anatomy.d_model, anatomy.vocab
    generator = torch.Generator().manual_seed(0)

    def planted(rows: int, values: torch.Tensor) -> torch.Tensor:
        left = torch.linalg.qr(torch.randn(rows, width, generator=generator, dtype=torch.float64))[0]
        right = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]
        return left @ torch.diag(values) @ right.T

    last = torch.linspace(3.0, 0.5, width, dtype=torch.float64)
    head = planted(vocab, last)
    second = planted(width, torch.linspace(7.0, 1.0, width, dtype=torch.float64))
    anatomy.blocks[0] = Linear(torch.eye(width, dtype=torch.float64))
    anatomy.blocks[1] = Linear(second)
    anatomy.unembedding.weight = nn.Parameter(head, requires_grad=False)
    norm = anatomy.after_blocks[0]
    norm.forward = Straight().forward
    graph = LayerGraph(loaded, IDS, [0, 1])

    def gain(layer: int, target: Any) -> float:
        found = graph.spectral(layer, target, "last", tolerance=1e-9, max_iterations=64, seed=0)
        return float(found.singular_values[0])

    assert gain(1, "logits") == pytest.approx(3.0, rel=1e-9)
    assert gain(0, "final") == pytest.approx(7.0, rel=1e-9)
    assert gain(1, "final") == pytest.approx(1.0, rel=1e-9)
    assert gain(0, "logits") == pytest.approx(float(torch.linalg.matrix_norm(head @ second, 2)), rel=1e-9)
    told = graph.frobenius("logits", probes=200, seed=0)["last"]
    assert abs(told.value[1] - float(last.norm())) < 4 * told.error[1]
    # Nothing mixes positions here: the states before the last have no gain.
    np.testing.assert_allclose(graph.frobenius("logits", probes=4, seed=0)["all"].value[1], told.value[1], rtol=0.5)


def test_finite_differences_approach_the_derivative(loaded_model: Any) -> None:
    loaded = loaded_model("gpt2", "float64")
    recorded = Resume(loaded.anatomy, torch.from_numpy(IDS)[None].repeat(200, 1))
    for noise, source in (("relative_all", "all"), ("relative_last", "last"), ("absolute", "all")):
        matrix = oracle(loaded, 0, "logits")
        matrix = matrix[:, -1] if source == "last" else matrix.reshape(len(matrix), -1)
        told = finite_differences(recorded, 0, noise, epsilon=1e-6, seed=0)  # type: ignore[arg-type]
        expected = np.linalg.norm(matrix) / np.sqrt(matrix.shape[1])
        # The mean of 200 squares of a quadratic form in 32 or more Gaussians: some percent.
        assert np.sqrt(np.mean(told.ratio**2)) == pytest.approx(expected, rel=0.1)
        logits, state = recorded.logits[0, -1].norm(), recorded.states[0][0]
        length = float(state[-1].norm() if source == "last" else state.norm())
        np.testing.assert_allclose(told.relative, told.ratio * length / float(logits), rtol=1e-9)
        if noise != "absolute":
            # Rounding of h + d at 1e-16 of h, for d of 1e-6 of h.
            np.testing.assert_allclose(told.relative_step, 1e-6, rtol=1e-8)
        else:
            assert told.relative_step.mean() == pytest.approx(1e-6 * np.sqrt(6 * 32) / length, rel=0.02)


def test_relative_noise_does_not_depend_on_the_scale_of_the_stream(private_model: Any) -> None:
    """The original divides by the length of a noise of fixed size (D-D13): its ratio falls with the stream's scale.
    A stream twice as large, taken down again by the norm behind it, leaves the relative gain as it is."""
    loaded = private_model("llama", "float64")
    ids = torch.from_numpy(IDS)[None].repeat(4, 1)
    before = finite_differences(Resume(loaded.anatomy, ids), 1, "relative_last", epsilon=1e-3, seed=0)
    last = loaded.anatomy.blocks[1]
    last.register_forward_hook(lambda module, args, output: 2 * output)
    after = finite_differences(Resume(loaded.anatomy, ids), 1, "relative_last", epsilon=1e-3, seed=0)
    # RMSNorm's epsilon of 1e-6 to the mean square is all that tells the two apart.
    np.testing.assert_allclose(after.relative, before.relative, rtol=1e-4)
    np.testing.assert_allclose(after.ratio, before.ratio / 2, rtol=1e-4)


def test_noise_is_seeded_and_in_rows_of_its_own(loaded_model: Any) -> None:
    loaded = loaded_model("llama")
    recorded = Resume(loaded.anatomy, torch.from_numpy(IDS)[None].repeat(3, 1))
    for noise in NOISES:
        one = finite_differences(recorded, 0, noise, epsilon=0.01, seed=3)
        two = finite_differences(recorded, 0, noise, epsilon=0.01, seed=3)
        other = finite_differences(recorded, 0, noise, epsilon=0.01, seed=4)
        assert np.array_equal(one.ratio, two.ratio)
        assert not np.array_equal(one.ratio, other.ratio)
        assert len(set(one.ratio)) == 3


def test_noise_that_rounds_away_is_an_error(loaded_model: Any) -> None:
    loaded = loaded_model("llama", "bfloat16")
    recorded = Resume(loaded.anatomy, torch.from_numpy(IDS)[None])
    with pytest.raises(NumericsError, match="rounds to no change of block 0's output; raise epsilon"):
        finite_differences(recorded, 0, "relative_last", epsilon=1e-12, seed=0)


def test_attention_and_hooks_are_as_they_were(loaded_model: Any) -> None:
    loaded = loaded_model("gpt2")
    before = loaded.model.config._attn_implementation
    LayerGraph(loaded, IDS, [1])
    assert loaded.model.config._attn_implementation == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in loaded.model.modules())
