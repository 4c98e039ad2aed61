"""The probe on a GPU: a random Llama, its control, its full Jacobian and its boundaries."""

import dataclasses

import numpy as np
import pytest
import torch

import families
from tremor import floats
from tremor.models.anatomy import describe
from tremor.models.loader import LoadedModel
from tremor.probe.base import BasePoint, to_array
from tremor.probe.boundary import find_boundaries
from tremor.probe.jacobian import jacobian
from tremor.probe.response import Response

S_MAX = 1e-5


def load(device: str, dtype: torch.dtype) -> LoadedModel:
    model = families.tiny("llama", hidden_size=64, intermediate_size=160).to(device=device, dtype=dtype)
    model.requires_grad_(False)
    model.set_attn_implementation("sdpa")
    return LoadedModel(
        model=model,
        tokenizer=families.tiny_tokenizer(),
        anatomy=describe(model),
        dtype=dtype,
        device=torch.device(device),
        attention="sdpa",
        experts=None,
        digest="random",
    )


def point(loaded: LoadedModel) -> BasePoint:
    ids = np.array([5, 80, 33, 121, 7, 200], dtype=np.int64)
    with torch.no_grad():
        embeddings = loaded.anatomy.embed(torch.from_numpy(ids)[None].to(loaded.device))[0]
    name = str(loaded.dtype).removeprefix("torch.")
    return BasePoint(text="", ids=ids, embeddings=embeddings, x=to_array(embeddings[-1]), fmt=name)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load("cuda", torch.float32)


def test_control_is_exact_in_both_modes(loaded: LoadedModel) -> None:
    base = point(loaded)
    for mode in ("reference", "batched"):
        control = Response(loaded, base, mode=mode, repeats=5).control
        assert control.exact, control
        assert control.worst_ulps == 0


def test_modes_agree_up_to_rounding(loaded: LoadedModel) -> None:
    base = point(loaded)
    reference = Response(loaded, base, mode="reference").h0
    batched = Response(loaded, base, mode="batched").h0
    # Two orders of summation of at most 160 float32 terms in 3 layers: a few tens of ulps of the largest coordinate.
    np.testing.assert_allclose(batched, reference, rtol=0, atol=64 * np.spacing(np.abs(reference).max()))


@pytest.mark.parametrize("method", ["batched", "replicated"])
def test_jacobian_is_that_of_the_cpu_in_float64(loaded: LoadedModel, method: str) -> None:
    base = point(loaded)
    found = jacobian(loaded, base, method=method, chunk=48)
    assert found.shape == (64, 64)
    exact_model = load("cpu", torch.float64)
    # The same weights and inputs, which float64 holds exactly; norms still round to float32 there.
    exact = jacobian(exact_model, point(exact_model))
    # float32 rounding through three layers, relative to the matrix: 1e-7 each step, amplified by sums of 160 terms.
    # A TF32 product (10 bits) would be off by 1e-3 and fail.
    assert np.linalg.norm(found - exact) < 2e-5 * np.linalg.norm(exact)


@pytest.mark.parametrize("mode", ["reference", "batched"])
def test_boundaries_are_exact(loaded: LoadedModel, mode: str) -> None:
    base = point(loaded)
    response = Response(loaded, base, mode=mode, **({"batch_size": 64} if mode == "batched" else {}))
    directions = np.random.default_rng(0).standard_normal((12, 64)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    found = find_boundaries(response, directions, s_max=S_MAX, arithmetic="float64")
    assert found.certified.all()
    assert not found.censored.any()
    for ray, direction in enumerate(directions):
        # No tolerance: a boundary is a statement about bits.
        at = floats.nudge(base.x, direction, found.max_s[ray], arithmetic="float64")
        beyond = floats.nudge(base.x, direction, found.min_t[ray], arithmetic="float64")
        changed, _ = response.changed(np.stack([at, beyond]))
        assert changed.tolist() == [False, True]
        assert found.min_t[ray] == np.nextafter(found.max_s[ray], np.float32(np.inf))


def test_boundaries_repeat_bit_for_bit(loaded: LoadedModel) -> None:
    base = point(loaded)
    directions = np.eye(64, dtype=np.float32)[:8]
    first, second = (
        find_boundaries(
            Response(loaded, base, mode="batched", batch_size=32), directions, s_max=S_MAX, arithmetic="float64"
        )
        for _ in range(2)
    )
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name), err_msg=field.name)
