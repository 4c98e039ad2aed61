"""A verification is worth what it finds: one planted defect for each check, and nothing else is blamed for it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tremor.errors import ConfigError, PromptError
from tremor.models.loader import LoadedModel
from tremor.verify import derivatives, forwards, report, run, weights
from tremor.verify.report import CHECKS, Check, Verification

Models = Callable[..., LoadedModel]


def verdict(loaded: LoadedModel, check: str) -> Check:
    """The one check that was asked for."""
    found = run.verify(loaded, name="model", only=[check])
    assert [c.name for c in found.checks] == ["anatomy", check]
    assert found.sound is (found.checks[1].verdict != "fail")
    return found.checks[1]


def test_a_tap_at_the_wrong_place_fails(private_model: Models) -> None:
    loaded = private_model("gpt2")
    taps = {**loaded.anatomy.taps, "block.1.mlp": loaded.anatomy.taps["block.0.mlp"]}
    wrong = replace(loaded, anatomy=replace(loaded.anatomy, taps=taps))
    found = verdict(wrong, "taps")
    assert (found.verdict, found.detail) == ("fail", "block 1: 'mid' and 'mlp' are not its output")


def test_a_head_with_another_scale_fails(private_model: Models) -> None:
    loaded = private_model("granite")
    head = replace(loaded.anatomy.head, divisor=7.5)
    found = verdict(replace(loaded, anatomy=replace(loaded.anatomy, head=head)), "taps")
    assert (found.verdict, found.detail) == ("fail", "the head does not lead from 'final' to the logits")


def test_a_container_that_changes_the_stream_is_refused(private_model: Models) -> None:
    loaded = private_model("llama")
    loaded.anatomy.blocks[1].register_forward_pre_hook(
        lambda module, args, kwargs: ((args[0] * 3, *args[1:]), kwargs), with_kwargs=True
    )
    found = verdict(loaded, "resume")
    assert found.verdict == "refused"
    assert "changes the residual stream between block 0 and what follows" in found.detail


def test_a_forward_that_does_not_repeat_is_refused(private_model: Models) -> None:
    loaded = private_model("llama")
    noise = torch.Generator().manual_seed(0)
    loaded.anatomy.blocks[0].register_forward_hook(
        lambda module, args, output: output + 1e-6 * torch.randn(output.shape, generator=noise)
    )
    assert "different bits twice" in verdict(loaded, "reference").detail
    found = verdict(loaded, "recording")
    assert found.verdict == "fail"
    assert found.detail.endswith("was recorded with other bits the second time")


def test_a_cache_that_is_not_read_fails(private_model: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batched answer then is that of the last token alone."""
    monkeypatch.setattr("tremor.probe.prefix.Prefix.arguments", lambda self: {"use_cache": False})
    found = verdict(private_model("llama"), "batched")
    assert found.verdict == "fail"
    assert found.detail.startswith("the answers of the two modes differ by")


def test_a_jacobian_off_by_a_thousandth_fails(loaded_model: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    right = derivatives.dense_jacobian
    monkeypatch.setattr(derivatives, "dense_jacobian", lambda *args: right(*args) * (1 + 1e-3))
    loaded = loaded_model("gpt2")
    assert verdict(loaded, "jacobian").verdict == "fail"
    found = verdict(loaded, "spectrum")
    assert found.verdict == "fail"
    assert "a step along v_1 is amplified by 0.999" in found.detail


def test_float64_that_is_none_is_refused(loaded_model: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model cast by `.double()` rounds to float32 in its norms."""
    narrow = loaded_model("llama", "float64")
    monkeypatch.setattr("tremor.models.true64.convert", lambda loaded: narrow)
    found = verdict(loaded_model("llama"), "float64")
    assert found.verdict == "refused"
    assert "may not be called float64" in found.detail
    # Swallowed steps make quotients that say nothing, and that is no pass.
    assert verdict(loaded_model("llama"), "jacobian").verdict == "fail"


@pytest.mark.parametrize(("change", "message"), [
    ({"max_s": 2.0}, "the answer has changed before a boundary"),
    ({"min_t": 1e-3}, "the answer is unchanged at a boundary"),
])  # fmt: skip
def test_boundaries_that_are_elsewhere_fail(
    loaded_model: Models, monkeypatch: pytest.MonkeyPatch, change: dict[str, float], message: str
) -> None:
    right = forwards.find_boundaries

    def wrong(*args: Any, **kwargs: Any) -> Any:
        found = right(*args, **kwargs)
        return replace(found, **{name: getattr(found, name) * np.float32(factor) for name, factor in change.items()})

    monkeypatch.setattr(forwards, "find_boundaries", wrong)
    found = verdict(loaded_model("llama"), "boundary")
    assert (found.verdict, found.detail) == ("fail", message)


def test_rows_and_columns_exchanged_fail(loaded_model: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    right = weights.spikes.peaks
    monkeypatch.setattr(
        weights.spikes, "peaks", lambda *args: [replace(p, row=p.column % 32, column=p.row) for p in right(*args)]
    )
    found = verdict(loaded_model("gpt2"), "super_weights")
    assert found.verdict == "fail"
    assert "is seen at" in found.detail


def test_a_gain_of_another_norm_fails(loaded_model: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    right = derivatives.LayerGraph.spectral

    def wrong(*args: Any, **kwargs: Any) -> Any:
        found = right(*args, **kwargs)
        return replace(found, singular_values=found.singular_values * (1 + 1e-5))

    monkeypatch.setattr(derivatives.LayerGraph, "spectral", wrong)
    found = verdict(loaded_model("gpt2"), "gain")
    assert found.verdict == "fail"
    assert "the gain behind block 0 is 1e-05 from the whole matrix's" in found.detail


def test_wrong_questions_are_errors(loaded_model: Models) -> None:
    with pytest.raises(ConfigError, match="no check 'spectra'; there are anatomy, taps"):
        run.verify(loaded_model("llama"), name="model", only=["spectra"])
    with pytest.raises(PromptError, match="two tokens or more"):
        run.verify(loaded_model("llama"), name="model", text="a")


def test_what_a_table_comes_to() -> None:
    checks = [Check(name, "pass", "") for name in CHECKS]
    found = Verification("mine", "llama", ("attention",), tuple(checks))
    assert found.sound
    assert report.conclusion(found) == "mine (llama) can be measured."
    assert report.row(found) == ["`mine`", "attention", *["yes"] * len(CHECKS)]
    checks[3] = Check(checks[3].name, "refused", "no cache")
    checks[4] = Check(checks[4].name, "refused", "no cache")
    found = Verification("mine", "llama", ("ssm", "attention"), tuple(checks))
    assert found.sound
    assert report.conclusion(found).endswith("but not reference, batched, for the reasons given.")
    assert report.page([found, replace(found, model="other")]).endswith(
        "\n- `mine`, `other`; reference mode, batched mode: no cache"
    )
    checks[5] = Check(checks[5].name, "fail", "other bits")
    found = Verification("mine", "llama", (), tuple(checks))
    assert not found.sound
    assert "do not trust recording" in report.conclusion(found)
    assert report.document(found)["checks"][5] == {
        "name": "recording", "verdict": "fail", "detail": "other bits", "numbers": {},
    }  # fmt: skip
