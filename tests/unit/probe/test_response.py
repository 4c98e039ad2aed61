"""The response: both modes compute the same function, padding and neighbours do not matter, controls bite."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from families import EXPERTS, FAMILIES, UNCACHED
from tremor.errors import ModelError, NumericsError, PlatformError
from tremor.models.loader import LoadedModel
from tremor.probe.base import BasePoint, base_point, to_array, to_tensor
from tremor.probe.jacobian import jacobian
from tremor.probe.prefix import Prefix
from tremor.probe.response import AUTO_BATCHES, Response, as_bits, row_bytes

Models = Callable[..., LoadedModel]
Array = npt.NDArray[Any]
CACHED = tuple(family for family in FAMILIES if family not in UNCACHED)
PROMPT = "The capital of France is"
# Longer than every window of the tiny models (8), so that a wrong mask or position of the cache shows.
LONG = "The capital of Spain is Madrid, and the one of Peru is Lima; I like"


def nudged(base: BasePoint, count: int, *, size: float = 0.1, seed: int = 0) -> Array:
    noise = np.random.default_rng(seed).normal(size=(count, len(base.x)))
    return (base.x * (1 + size * noise)).astype(np.float32)


def same_bits(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("family", CACHED)
def test_modes_agree_and_leave_the_prefix_alone(loaded_model: Models, family: str) -> None:
    loaded = loaded_model(family)
    base = base_point(loaded, LONG)
    assert len(base.ids) > 12
    before = base.embeddings.clone()
    inputs = nudged(base, 6)
    full = Response(loaded, base, mode="reference").evaluate(inputs)
    batched = Response(loaded, base, mode="batched", batch_size=1 if family in EXPERTS else 4)
    answers = batched.evaluate(inputs)
    scale = np.abs(full).max()
    # Two orders of sums of at most 64 terms in two blocks: some tens of eps (1.2e-7); measured at most 4e-7.
    # A wrong mask, position or state moves the answer by a large fraction of itself.
    np.testing.assert_allclose(answers, full, rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(batched.h0, Response(loaded, base, mode="reference").h0, atol=1e-5 * scale)
    # The check above is empty unless both the prefix and the nudged input matter.
    alone = Response(loaded, base_point(loaded, base.text[-1]), mode="reference").evaluate(inputs)
    assert np.abs(alone - full).max() > 1e-2 * scale
    assert np.abs(full - full[0]).max() > 1e-2 * scale
    # Derivatives run on the same cache classes; nothing an evaluation writes may reach the next one.
    jacobian(loaded, base)
    assert same_bits(batched.evaluate(inputs), answers)
    assert torch.equal(as_bits(base.embeddings), as_bits(before))


@pytest.mark.parametrize("family", ["llama", "mamba", "gpt2"])
def test_one_token_prompt(loaded_model: Models, family: str) -> None:
    loaded = loaded_model(family)
    base = base_point(loaded, "a")
    assert len(base.ids) == 1
    inputs = nudged(base, 3)
    full = Response(loaded, base, mode="reference").evaluate(inputs)
    batched = Response(loaded, base, mode="batched", batch_size=2).evaluate(inputs)
    np.testing.assert_allclose(batched, full, rtol=0, atol=1e-5 * np.abs(full).max())


def test_reference_mode_is_the_plain_model(loaded_model: Models) -> None:
    """Bit for bit what a user gets from the ids alone."""
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    response = Response(loaded, base, mode="reference", batch_size=64)
    with torch.no_grad():
        plain = loaded.anatomy.base(torch.from_numpy(base.ids)[None], use_cache=False).last_hidden_state
    assert same_bits(response.h0, to_array(plain[0, -1]))
    assert same_bits(response.evaluate(base.x[None])[0], response.h0)
    assert response.batch_size == 1
    assert response.output_format == "float32"


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mamba"])
def test_padding_and_place_do_not_change_bits(loaded_model: Models, family: str) -> None:
    loaded = loaded_model(family)
    base = base_point(loaded, PROMPT)
    response = Response(loaded, base, mode="batched", batch_size=4)
    inputs = nudged(base, 7)
    together = response.evaluate(inputs)  # 4 rows, then 3 rows and one of padding
    rows = response.rows_evaluated
    for k, one in enumerate(inputs):
        assert same_bits(response.evaluate(one[None])[0], together[k])
    assert response.rows_evaluated == rows + 7 * 4  # every batch has the fixed shape
    assert same_bits(response.evaluate(inputs[::-1])[::-1].copy(), together)
    flags, answers = response.changed(np.concatenate([inputs, base.x[None]]))
    assert flags.tolist() == [True] * 7 + [False]
    assert same_bits(answers[:7], together)


@pytest.mark.parametrize("family", EXPERTS)
def test_experts_run_one_row_at_a_time(loaded_model: Models, family: str) -> None:
    loaded = loaded_model(family)
    base = base_point(loaded, PROMPT)
    response = Response(loaded, base, mode="batched")
    assert response.batch_size == 1
    # Large nudges, so that rows are routed to different experts within one batch.
    inputs = np.concatenate([nudged(base, 20, size=1.0), np.stack([base.x] * 3)])
    order = np.random.default_rng(1).permutation(len(inputs))
    together, shuffled = response.evaluate(inputs), response.evaluate(inputs[order])
    assert same_bits(together[order], shuffled)
    assert all(same_bits(row, response.h0) for row in together[-3:])


def test_nothing_asked_nothing_answered(loaded_model: Models) -> None:
    response = Response(loaded_model("gpt2"), base_point(loaded_model("gpt2"), "ab"), mode="batched", batch_size=2)
    none = np.zeros((0, len(response.base.x)), dtype=np.float32)
    assert response.evaluate(none).shape == (0, len(response.h0))
    assert [part.shape for part in response.changed(none)] == [(0,), (0, len(response.h0))]


def test_taps_are_read_at_the_last_position(loaded_model: Models) -> None:
    loaded = loaded_model("gpt2")
    base = base_point(loaded, PROMPT)
    inputs = nudged(base, 3)
    plain = Response(loaded, base, mode="batched", batch_size=4)
    tapped = Response(loaded, base, mode="batched", batch_size=4, taps=("final_prenorm", "final"))
    found = next(answer for _, answer in tapped.batches(inputs))
    assert same_bits(to_array(found["final"]), plain.evaluate(inputs))
    assert same_bits(tapped.evaluate(inputs), to_array(found["final_prenorm"]))
    assert torch.equal(loaded.anatomy.normalise(found["final_prenorm"]), found["final"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_dtypes(loaded_model: Models, dtype: str) -> None:
    loaded = loaded_model("llama", dtype)
    base = base_point(loaded, PROMPT)
    response = Response(loaded, base, mode="batched", batch_size=2)
    assert response.output_format == dtype
    flags, answers = response.changed(np.stack([base.x, -base.x, base.x]))
    assert flags.tolist() == [False, True, False]
    assert same_bits(answers[0], response.h0)


def test_no_cache_is_refused(loaded_model: Models) -> None:
    loaded = loaded_model("rwkv")
    base = base_point(loaded, PROMPT)
    with pytest.raises(ModelError, match=r"RwkvModel takes neither .* set probe\.mode: reference"):
        Response(loaded, base, mode="batched")
    assert np.isfinite(Response(loaded, base, mode="reference").h0).all()


def test_a_cache_that_stays_empty_is_refused(loaded_model: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    forward = loaded.anatomy.base.forward

    def forgetful(*args: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    monkeypatch.setattr(loaded.anatomy.base, "forward", forgetful)
    with pytest.raises(ModelError, match="without filling its cache"):
        Prefix(loaded.anatomy.base, base.embeddings[:-1], 2)


def test_unknown_mode(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    with pytest.raises(ValueError, match="unknown mode 'fast'"):
        Response(loaded, base_point(loaded, PROMPT), mode="fast")  # type: ignore[arg-type]


class Tampered(Response):
    """A response whose forward goes through :meth:`tamper`; ``calls`` counts the forwards."""

    calls = 0

    def _forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        self.calls += 1
        answer = super()._forward(rows)["final"]
        return {"final": self.tamper(rows, answer)}

    def tamper(self, rows: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class RowDependent(Tampered):
    """Wide batches treat their last row differently, by one ulp."""

    widest = 0

    def tamper(self, rows: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        if len(rows) > self.widest:
            answer[-1, 0] = torch.nextafter(answer[-1, 0], torch.tensor(torch.inf))
        return answer


class RowDependentBeyond8(RowDependent):
    widest = 8


class Neighbourly(Tampered):
    """A row feels what stands beside it."""

    def tamper(self, rows: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        return answer * (1 + 1e-6 * (rows - rows[0]).abs().mean())


class Drifting(Tampered):
    """No two runs agree."""

    def tamper(self, rows: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        return answer * (1 + 1e-6 * self.calls)


class SignOfZero(Tampered):
    """The second run gives -0 where the first gave +0: equal as numbers, not as bits."""

    def tamper(self, rows: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(answer) * (-1) ** (self.calls - 1)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (RowDependent, r"batch size 16: equal rows of one batch differed.*\(up to 1 ulp\)"),
        (Neighbourly, "batch size 16: a row's answer depended on its neighbours"),
        (Drifting, "batch size 16: two equal runs differed"),
        (SignOfZero, r"two equal runs differed.*\(up to 1 ulp\)"),
    ],
)
def test_control_fails_loudly(loaded_model: Models, kind: type[Tampered], said: str) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    with pytest.raises(PlatformError, match=said) as failure:
        kind(loaded, base, mode="batched", batch_size=16)
    assert "probe.batch_size: auto or 1, or probe.mode: reference" in str(failure.value)


def test_control_of_reference_mode(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    with pytest.raises(PlatformError, match="the same forward pass gave different bits twice"):
        Drifting(loaded, base, mode="reference")
    with pytest.raises(PlatformError, match="at batch size 1: two equal runs differed"):
        Drifting(loaded, base, mode="batched", batch_size="auto")


def test_control_sees_a_late_difference(loaded_model: Models) -> None:
    """More repeats see what the second run does not."""

    class Late(Tampered):
        def tamper(self, rows: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
            return answer * (2.0 if self.calls == 4 else 1.0)

    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    with pytest.raises(PlatformError, match="two equal runs differed"):
        Late(loaded, base, mode="batched", batch_size=2, repeats=4)


def test_auto_falls_back_to_a_size_that_is_exact(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    assert RowDependentBeyond8(loaded, base, mode="batched", max_memory=1e6).batch_size == 8
    # With one row nothing can depend on its place; only a failure of every size is an error.
    assert RowDependent(loaded, base, mode="batched", max_memory=1e6).batch_size == 1
    report = RowDependentBeyond8(loaded, base, mode="batched", max_memory=1e6).control
    assert report.exact
    assert report.worst_ulps == 0


def test_memory_limits_the_batch(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    row = row_bytes(loaded, base)
    for rows, expected in ((40.5, 32), (8.5, 8), (0.1, 1)):
        assert Response(loaded, base, mode="batched", max_memory=rows * row).batch_size == expected
    assert expected in AUTO_BATCHES
    # A row needs at least its share of the cache and one residual state.
    layers, heads, width = 2, 2, 8
    assert row >= 4 * (2 * layers * len(base.ids) * heads * width + loaded.anatomy.d_model)


def test_each_row_is_compared_with_its_own_baseline(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    response = Response(loaded, base, mode="batched", batch_size=3)
    plain = response._forward

    def lopsided(rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"final": plain(rows)["final"] + torch.arange(3.0)[:, None]}

    response._forward = lopsided  # type: ignore[method-assign]
    response._baseline = lopsided(to_tensor(base.x, base.embeddings)[None].repeat(3, 1))
    inputs = np.stack([base.x] * 7)
    inputs[4] = -base.x
    assert np.flatnonzero(response.changed(inputs)[0]).tolist() == [4]


@pytest.mark.parametrize("mode", ["reference", "batched"])
def test_nan_is_an_error_never_unchanged(loaded_model: Models, mode: Any) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    response = Response(loaded, base, mode=mode, batch_size=2)
    inputs = np.stack([base.x, base.x, base.x])
    inputs[2, 0] = np.nan
    for ask in (response.evaluate, response.changed):
        with pytest.raises(NumericsError, match=r"'final' became NaN or infinite under a nudge; lower s_max"):
            ask(inputs)


def test_nan_at_the_base_point(loaded_model: Models) -> None:
    class Broken(Tampered):
        def tamper(self, rows: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
            return answer * torch.nan

    loaded = loaded_model("llama")
    with pytest.raises(NumericsError, match="the unperturbed prompt is NaN or infinite"):
        Broken(loaded, base_point(loaded, PROMPT), mode="batched", batch_size=2)


def test_threshold_counts_single_coordinates(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    response = Response(loaded, base, mode="batched", batch_size=4)
    inputs = nudged(base, 4, size=1e-4)
    _, answers = response.changed(inputs)
    moved = np.abs(answers.astype(np.float64) - response.h0).max(axis=1)
    middle = float(np.sort(moved)[1:3].mean())
    np.testing.assert_array_equal(response.changed(inputs, threshold=middle)[0], moved > middle)
    # "More than": a coordinate that differs by exactly the threshold has not changed.
    assert not response.changed(inputs, threshold=float(moved.max()))[0].any()


def test_a_size_that_was_asked_for_is_kept(loaded_model: Models) -> None:
    """Only "auto" bends to memory: the batch shape is part of the function that is measured."""
    loaded = loaded_model("llama")
    assert Response(loaded, base_point(loaded, PROMPT), mode="batched", batch_size=24, max_memory=1).batch_size == 24
