"""The Jacobian: against autograd over the whole sequence, finite differences, and closed forms."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from tremor.errors import NumericsError
from tremor.models.loader import LoadedModel
from tremor.probe import attention
from tremor.probe.base import BasePoint, base_point
from tremor.probe.jacobian import JacobianOperator, LastPositionMap, Method, gradient_bytes, jacobian
from tremor.probe.response import Response

Models = Callable[..., LoadedModel]
Array = npt.NDArray[Any]
PROMPT = "The capital of Spain is Madrid, the capital"
METHODS: tuple[Method, ...] = ("batched", "replicated")

# Both sides sum products of float32 over at most 64 terms in each of some ten stages: tens of eps (1.2e-7) of the
# largest entry; measured at most 7e-7. A lost path (a cached key, a gate, the skip) changes a sizable part.
ROUNDING = 2e-5


def full_jacobian(loaded: LoadedModel, base: BasePoint) -> Array:
    """Torch's own Jacobian of the uncached forward over the full sequence, then the last position's columns."""

    def final(embeddings: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = loaded.anatomy.base(inputs_embeds=embeddings[None], use_cache=False)[0][0, -1]
        return answer

    return np.asarray(torch.autograd.functional.jacobian(final, base.embeddings)[:, -1].numpy())


@pytest.mark.parametrize("family", ["llama", "mamba", "opt_350m"])
@pytest.mark.parametrize("method", METHODS)
def test_chunks_do_not_matter(loaded_model: Models, family: str, method: Method) -> None:
    """One row at a time, chunks that leave a rest, all at once, and more rows than there are."""
    loaded = loaded_model(family)
    base = base_point(loaded, PROMPT)
    whole = jacobian(loaded, base, method=method)
    assert whole.shape == ((16, 16) if family == "opt_350m" else (32, 32))
    for chunk in (1, 7, len(whole), len(whole) + 5):
        part = jacobian(loaded, base, method=method, chunk=chunk)
        np.testing.assert_allclose(part, whole, rtol=0, atol=ROUNDING * np.abs(whole).max())


def test_memory_sets_the_chunk(loaded_model: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    seen = []
    forward = LastPositionMap.forward

    def spy(self: LastPositionMap, rows: torch.Tensor, prefix: Any) -> torch.Tensor:
        seen.append(len(rows))
        return forward(self, rows, prefix)

    monkeypatch.setattr(LastPositionMap, "forward", spy)
    jacobian(loaded, base, method="replicated", max_memory=5.5 * gradient_bytes(loaded, base))
    assert seen == [5] * 6 + [2]
    seen.clear()
    jacobian(loaded, base, method="replicated", max_memory=1)
    assert seen == [1] * 32


@pytest.mark.parametrize("method", METHODS)
def test_one_token_prompt(loaded_model: Models, method: Method) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, "a")
    expected = full_jacobian(loaded, base)
    found = jacobian(loaded, base, method=method)
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * np.abs(expected).max())


@pytest.mark.parametrize("method", METHODS)
def test_central_differences_in_float64(loaded_model: Models, method: Method) -> None:
    """GPT-2 has no stage that falls back to float32, so ``.double()`` is honest enough here."""
    loaded = loaded_model("gpt2", "float64")
    base = base_point(loaded, PROMPT)
    response = Response(loaded, base, mode="reference")
    # Error h^2 f'''/6 ~ 1e-10 f''' from the series and eps |f| / h ~ 1e-11 from rounding.
    h = 1e-5
    steps = h * np.eye(len(base.x))
    expected = (response.evaluate(base.x + steps) - response.evaluate(base.x - steps)).T / (2 * h)
    found = jacobian(loaded, base, method=method)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


def test_other_taps(loaded_model: Models) -> None:
    """The input of block 0 of Llama is the embedding itself; its derivative is the identity, exactly."""
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    for method in METHODS:
        np.testing.assert_array_equal(jacobian(loaded, base, tap="residual.0", method=method), np.eye(32))
    # final = norm(final_prenorm): the chain rule joins the two Jacobians.
    inner = jacobian(loaded, base, tap="final_prenorm").astype(np.float64)
    prenorm = torch.from_numpy(Response(loaded, base, mode="reference", taps=("final_prenorm",)).h0)
    outer = torch.autograd.functional.jacobian(loaded.anatomy.normalise, prenorm).numpy()
    whole = jacobian(loaded, base)
    np.testing.assert_allclose(outer @ inner, whole, rtol=0, atol=ROUNDING * np.abs(whole).max())


class Toy(nn.Module):
    """One position, no cache: tanh(W x), or W x itself."""

    def __init__(self, weight: torch.Tensor, *, linear: bool) -> None:
        super().__init__()
        self.weight, self.linear = weight, linear

    def forward(self, inputs_embeds: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        answer = inputs_embeds @ self.weight.T
        return SimpleNamespace(last_hidden_state=answer if self.linear else torch.tanh(answer))


def toy(*, linear: bool, rows: int = 5, columns: int = 3) -> tuple[Any, BasePoint, Array]:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(rows, columns, generator=generator)
    x = torch.randn(1, columns, generator=generator)
    model: Any = nn.Module()
    model.config, model._supports_attention_backend = SimpleNamespace(_attn_implementation="eager"), False
    loaded = SimpleNamespace(
        anatomy=SimpleNamespace(base=Toy(weight, linear=linear), d_model=rows),
        model=model,
        attention="eager",
    )
    base = BasePoint(text="", ids=np.zeros(1, np.int64), embeddings=x, x=x[0].numpy(), fmt="float32")
    return loaded, base, weight.numpy()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_closed_forms(method: Method, chunk: int) -> None:
    """A non-square linear map gives its own weights, bit for bit: unit cotangents only pick rows."""
    loaded, base, weight = toy(linear=True)
    np.testing.assert_array_equal(jacobian(loaded, base, method=method, chunk=chunk), weight)
    loaded, base, weight = toy(linear=False)
    slope = 1 - np.tanh(weight.astype(np.float64) @ base.x) ** 2
    # A few roundings on numbers of order 1.
    np.testing.assert_allclose(
        jacobian(loaded, base, method=method, chunk=chunk), slope[:, None] * weight, rtol=0, atol=1e-6
    )


def test_operator_of_closed_forms() -> None:
    loaded, base, weight = toy(linear=True)
    operator = JacobianOperator(loaded, base)
    assert operator.shape == (5, 3)
    np.testing.assert_allclose(operator.matvec(np.array([1.0, 0, -2])), weight[:, 0] - 2 * weight[:, 2], atol=1e-6)
    np.testing.assert_allclose(operator.rmatvec(np.array([0, 1.0, 0, 0, 3])), weight[1] + 3 * weight[4], atol=1e-6)
    assert operator.products == 2


@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba", "opt_350m", "gpt_neox"])
def test_operator_is_the_matrix(loaded_model: Models, family: str) -> None:
    loaded = loaded_model(family)
    base = base_point(loaded, PROMPT)
    matrix = jacobian(loaded, base).astype(np.float64)
    operator = JacobianOperator(loaded, base)
    assert operator.shape == matrix.shape
    generator = np.random.default_rng(0)
    v, u = (generator.normal(size=n) for n in reversed(matrix.shape))
    bound = ROUNDING * np.linalg.norm(matrix, 2)
    assert np.linalg.norm(operator.matvec(v) - matrix @ v) < bound * np.linalg.norm(v)
    assert np.linalg.norm(operator.rmatvec(u) - matrix.T @ u) < bound * np.linalg.norm(u)
    assert operator.matvec(v).dtype == np.float64
    # Products leave nothing behind: the same question has the same answer.
    assert operator.matvec(v).tobytes() == operator.matvec(v).tobytes()


def test_forward_mode_that_is_not_there_is_said(loaded_model: Models) -> None:
    loaded = loaded_model("bloom")
    operator = JacobianOperator(loaded, base_point(loaded, PROMPT))
    with pytest.raises(NumericsError, match=r"BloomForCausalLM has a part without forward-mode.*method: dense"):
        operator.matvec(np.ones(32))


def test_attention_comes_back_after_an_exception(loaded_model: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    config = loaded.model.config
    assert config._attn_implementation == loaded.attention == "sdpa"
    seen = []

    def fails(self: LastPositionMap, rows: torch.Tensor, prefix: Any) -> torch.Tensor:
        seen.append(config._attn_implementation)
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr(LastPositionMap, "forward", fails)
        for method in METHODS:
            with pytest.raises(RuntimeError, match="out of luck"):
                jacobian(loaded, base, method=method)
        with pytest.raises(RuntimeError, match="out of luck"):
            JacobianOperator(loaded, base)
    assert seen == [attention.NAME] * 3
    assert config._attn_implementation == "sdpa"
    before = Response(loaded, base, mode="batched", batch_size=2).h0
    with attention.differentiable(loaded):
        assert config._attn_implementation == attention.NAME
    jacobian(loaded, base)
    assert config._attn_implementation == "sdpa"
    assert Response(loaded, base, mode="batched", batch_size=2).h0.tobytes() == before.tobytes()


def test_an_infinite_derivative_is_refused() -> None:
    loaded, base, weight = toy(linear=True)
    loaded.anatomy.base.weight = torch.from_numpy(weight).clone()
    loaded.anatomy.base.weight[2, 1] = torch.inf
    with pytest.raises(NumericsError, match=r"Jacobian of 'final' for a torch.float32 model has NaN or infinite"):
        jacobian(loaded, base)


def test_narrow_models_give_their_own_derivative(loaded_model: Models) -> None:
    """Bfloat16 keeps 8 bits; some ten stages of such roundings leave about 10 % of the norm."""
    wide, narrow = (loaded_model("llama", dtype) for dtype in ("float32", "bfloat16"))
    expected = jacobian(wide, base_point(wide, PROMPT))
    found = jacobian(narrow, base_point(narrow, PROMPT))
    assert found.dtype == np.float32
    assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected)
