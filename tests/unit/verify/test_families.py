"""Every family from end to end: all checks of `tremor verify`, their numbers held to oracles, and the page of models.

One verification a family serves all tests of it; the oracles share nothing with the instruments but the model.
"""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from families import FAMILIES, NOT_FLOAT64, REFUSED, UNCACHED
from make_models_page import BEGIN, END, verified
from tremor.models.loader import LoadedModel
from tremor.neurons.gain import LayerGraph
from tremor.probe.base import base_point
from tremor.probe.boundary import find_boundaries
from tremor.probe.jacobian import jacobian
from tremor.probe.response import Response
from tremor.probe.spectrum import dense_spectrum
from tremor.verify import report, run
from tremor.verify.report import CHECKS, Verification

Array = npt.NDArray[Any]
Models = Callable[..., LoadedModel]
PAGE = Path(__file__).resolve().parents[3] / "docs/models.md"
CACHED = [family for family in FAMILIES if family not in UNCACHED]
# Sums of at most 100 float32 products in some ten stages; measured at most 6e-7 of the largest entry.
ROUNDING = 1e-5


# The tests of a family follow one another, so that one worker of pytest-xdist verifies it once for all of them.
by_family = pytest.mark.parametrize("family", FAMILIES, scope="module")


@pytest.fixture(scope="module")
def verification(loaded_model: Models) -> Callable[[str], Verification]:
    """Family -> its verification, made once."""

    @cache
    def get(family: str) -> Verification:
        return run.verify(loaded_model(family), name=family)

    return get


def numbers(found: Verification, check: str) -> dict[str, float]:
    return dict(next(c.numbers for c in found.checks if c.name == check))


def expected_refusals(family: str, experts: bool) -> set[str]:
    refused = {"batched", "jacobian", "spectrum"} if family in UNCACHED else set()
    refused |= {"float64", "jacobian"} if family in NOT_FLOAT64 else set()
    return refused | ({"super_weights"} if experts else set())


@by_family
def test_nothing_fails_and_what_is_refused_is_known(
    family: str, verification: Callable[[str], Verification], loaded_model: Models
) -> None:
    found = verification(family)
    verdicts = {check.name: check.verdict for check in found.checks}
    assert list(verdicts) == list(CHECKS)
    refused = expected_refusals(family, loaded_model(family).experts is not None)
    assert {name for name, verdict in verdicts.items() if verdict != "pass"} == refused, found.checks
    assert set(verdicts.values()) <= {"pass", "refused"}
    assert found.sound
    assert numbers(found, "boundary")["certified"] == 16
    if "jacobian" not in refused:
        # Central differences in float64, step eps^(1/3): some 1e-10, where float32 could not give more than 1e-5.
        assert numbers(found, "jacobian")["relative_error"] < 1e-7


def last_row_jacobian(loaded: LoadedModel, embeddings: torch.Tensor) -> Array:
    """Torch's Jacobian of the plain forward over the full sequence by the last row."""

    def final(row: torch.Tensor) -> torch.Tensor:
        sequence = torch.cat([embeddings[:-1], row[None]])[None]
        answer: torch.Tensor = loaded.anatomy.base(inputs_embeds=sequence, use_cache=False).last_hidden_state[0, -1]
        return answer

    return np.asarray(torch.autograd.functional.jacobian(final, embeddings[-1]).numpy())


@pytest.mark.parametrize("family", CACHED)
def test_jacobian_and_spectrum_are_those_of_autograd(
    family: str, verification: Callable[[str], Verification], loaded_model: Models
) -> None:
    loaded = loaded_model(family)
    base = base_point(loaded, run.TEXT)
    expected = last_row_jacobian(loaded, base.embeddings)
    assert expected.shape == (len(Response(loaded, base, mode="reference").h0), len(base.x))
    for method in ("batched", "replicated"):
        found = jacobian(loaded, base, method=method)  # type: ignore[arg-type]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * np.abs(expected).max(), err_msg=method)
    values = np.linalg.svd(expected.astype(np.float64), compute_uv=False)
    # Weyl: no singular value moves by more than the norm of the difference.
    slack = float(ROUNDING * np.abs(expected).max() * len(expected))
    np.testing.assert_allclose(dense_spectrum(found).singular_values, values, rtol=0, atol=slack)
    assert numbers(verification(family), "spectrum")["sigma_1"] == pytest.approx(values[0], abs=slack)


def distinct_inputs(x: Array, direction: Array, end: float) -> Iterator[tuple[np.float32, Array]]:
    """Every distinct float32 input x + s d for 0 < s <= end with the first float32 s that has it, by brute force.

    Each coordinate's midpoints are divided by its direction in float64, and all float32 numbers near are tried.
    """
    wide, d = x.astype(np.float64), direction.astype(np.float64)
    near = []
    for value, slope in zip(x, d, strict=True):
        here, towards = value, np.copysign(np.float32(np.inf), np.float32(slope))
        while slope != 0:
            after = np.nextafter(here, towards)
            crossing = ((float(here) + float(after)) / 2 - float(value)) / slope
            if crossing > end:
                break
            around = np.float32(crossing).view(np.int32) + np.arange(-2, 3)
            near.append(around[around > 0])
            here = after
    steps = np.unique(np.concatenate([*near, [np.float32(end).view(np.int32)]])).astype(np.int32).view(np.float32)
    last = x.tobytes()
    for s in steps[steps <= end]:
        moved = (wide + np.float64(s) * d).astype(np.float32)
        if moved.tobytes() != last:
            last = moved.tobytes()
            yield s, moved


@by_family
def test_a_boundary_is_that_of_a_walk_over_every_input(family: str, loaded_model: Models) -> None:
    """The plain forward, input after input along one ray, until a bit of the answer differs."""
    loaded = loaded_model(family)
    base = base_point(loaded, run.TEXT)
    drawn = np.random.default_rng(5).normal(size=len(base.x))
    direction = (drawn / np.linalg.norm(drawn)).astype(np.float32)
    response = Response(loaded, base, mode="reference")
    found = find_boundaries(response, direction[None], s_max=1.0, arithmetic="float64")
    assert bool(found.certified[0])
    assert not found.censored[0]

    def answer(row: Array) -> bytes:
        sequence = base.embeddings[None].clone()
        sequence[0, -1] = torch.from_numpy(row)
        with torch.no_grad():
            hidden = loaded.anatomy.base(inputs_embeds=sequence, use_cache=False).last_hidden_state[0, -1]
        return bytes(hidden.numpy().tobytes())

    before = answer(base.x)
    changed = next(
        s for s, row in distinct_inputs(base.x, direction, 2 * float(found.min_t[0])) if answer(row) != before
    )
    assert changed == found.min_t[0]
    assert np.nextafter(changed, np.float32(0)) == found.max_s[0]


def put_behind(loaded: LoadedModel, layer: int, ids: torch.Tensor) -> Array:
    """d final / d state behind a block, at the last position, by a hook that puts the state in the block's place."""
    block, kept = loaded.anatomy.blocks[layer], []
    handle = block.register_forward_hook(lambda module, args, output: kept.append(output))
    with torch.no_grad():
        loaded.anatomy.base(input_ids=ids, use_cache=False)
    handle.remove()
    state = kept[0] if isinstance(kept[0], torch.Tensor) else kept[0][0]

    def answer(row: torch.Tensor) -> torch.Tensor:
        hidden = torch.cat([state[:, :-1], row[None, None]], dim=1)

        def put(module: nn.Module, args: Any, output: Any) -> Any:
            return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

        hook = block.register_forward_hook(put)
        try:
            final: torch.Tensor = loaded.anatomy.base(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
            return final
        finally:
            hook.remove()

    return np.asarray(torch.autograd.functional.jacobian(answer, state[0, -1].clone()).double().numpy())


@by_family
def test_the_gain_of_a_layer_is_the_norm_of_its_jacobian(
    family: str, verification: Callable[[str], Verification], loaded_model: Models
) -> None:
    loaded = loaded_model(family)
    base = base_point(loaded, run.TEXT)
    expected = np.linalg.norm(put_behind(loaded, 0, torch.from_numpy(base.ids)[None]), 2)
    # The verification measured it in true float64 (in float32 where there is none); here it is float32.
    assert numbers(verification(family), "gain")["block.0"] == pytest.approx(expected, rel=ROUNDING)
    assert LayerGraph(loaded, base.ids, [0]).answers["final"].shape == (
        len(Response(loaded, base, mode="reference").h0),
    )


def table() -> dict[str, str]:
    """Family -> its line in the page."""
    generated = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    lines = [line for line in generated.splitlines() if line.startswith("| `")]
    return {line.split("`")[1]: line for line in lines}


def test_the_page_lists_every_family_and_no_other() -> None:
    assert list(table()) == [*FAMILIES, *REFUSED], "run python tests/make_models_page.py"


@by_family
def test_the_page_says_what_is_so(family: str, verification: Callable[[str], Verification]) -> None:
    expected = "| " + " | ".join(report.row(verification(family))) + " |"
    assert table()[family] == expected, "run python tests/make_models_page.py"


REASONS = {
    "gemma3n": "reads something else than the residual stream",
    "gemma4_per_layer": "several feed-forward parts: mlp, per_layer_input_gate, per_layer_projection",
    "gemma4_moe": "several feed-forward parts: mlp, router, experts",
    "qwen4_exp": "keeps several residual streams",
}


@pytest.mark.parametrize("family", REFUSED)
def test_refused_families_are_refused_with_their_reason(family: str, tmp_path: Path) -> None:
    found = verified(family, tmp_path)
    (check,) = found.checks
    assert (check.name, check.verdict) == ("anatomy", "refused")
    assert REASONS[family] in check.detail
    assert not found.sound
    assert "is not understood" in report.conclusion(found)
    assert table()[family] == "| " + " | ".join(report.row(found)) + " |"
