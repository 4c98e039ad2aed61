"""Ties: found within 30 evaluations, down to neighbouring inputs, and true of the model itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tremor import floats
from tremor.errors import NumericsError
from tremor.models.loader import LoadedModel
from tremor.probe.base import base_point, moved_to
from tremor.probe.readout import Readout
from tremor.probe.response import Response
from tremor.probe.tie import Tie, find_tie

Models = Callable[..., LoadedModel]
PROMPT = "The capital of France is"


def reader(loaded: LoadedModel, mode: Any = "batched") -> Readout:
    return Readout(Response(loaded, base_point(loaded, PROMPT), mode=mode, batch_size=4))


@pytest.mark.parametrize("method", ["geometric", "probability"])
@pytest.mark.parametrize(
    ("family", "dtype"), [("llama", "float32"), ("gpt2", "float32"), ("gptj", "float32"), ("mamba", "float32"),
                          ("llama", "bfloat16")]
)  # fmt: skip
def test_two_tokens_are_tied_for_the_model_itself(loaded_model: Models, family: str, dtype: str, method: Any) -> None:
    loaded = loaded_model(family, dtype)
    readout = reader(loaded)
    found = find_tie(readout, method=method)
    assert found.evaluations <= 30
    assert found.closed
    assert found.holds
    base = moved_to(readout.response.base, found.x)  # raises off the lattice
    with torch.no_grad():
        own = loaded.model(inputs_embeds=base.embeddings[None], use_cache=False).logits[0, -1].double()
    # One rounding of the state and one of each logit, in another shape: a few ulps of the logits.
    slack = 16 * found.gaps.logit_ulp
    assert abs(float(own[found.first] - own[found.second])) <= slack
    assert float(own.max()) - float(own[[found.first, found.second]].min()) <= slack
    assert abs(found.gaps.unembed) <= 4 * found.gaps.logit_ulp
    assert abs(found.gaps.probability) <= 4 * found.gaps.logit_ulp


def test_the_end_of_the_search_is_the_floor_of_the_lattice(loaded_model: Models) -> None:
    found = find_tie(reader(loaded_model("llama")), method="geometric")
    assert found.closed
    # Neighbours among inputs on a segment differ in few coordinates, each by one ulp.
    assert found.bracket_l2 < 1e-6
    gaps = [abs(t.gap) for t in found.trials]
    assert abs(found.gaps.float64) == pytest.approx(min(gaps), rel=1e-9)
    assert min(gaps) < 1e-6 * gaps[0] or min(gaps) < found.gaps.logit_ulp
    signs = {np.sign(t.gap) for t in found.trials}
    assert signs == {1.0, -1.0}


def test_probability_gap_is_zero_or_closed_and_its_second_token_is_the_best_of_the_rest(loaded_model: Models) -> None:
    readout = reader(loaded_model("llama"))
    found = find_tie(readout, method="probability")
    for trial in found.trials:
        one = readout.decide(trial.x[None], (found.first, trial.second))
        assert trial.second == (one.runner_up[0] if one.token[0] == found.first else one.token[0])
        assert trial.gap == float(one.logits[0, 0]) - float(one.logits[0, 1])


def test_a_search_is_reproducible_and_runs_no_input_twice(loaded_model: Models) -> None:
    first = find_tie(reader(loaded_model("llama")), method="geometric")
    again = find_tie(reader(loaded_model("llama")), method="geometric")
    assert first.x.tobytes() == again.x.tobytes()
    inputs = [t.x.tobytes() for t in first.trials]
    assert len(set(inputs)) == len(inputs)


def test_reference_mode_has_its_own_tie(loaded_model: Models) -> None:
    found = find_tie(reader(loaded_model("llama"), "reference"), method="probability")
    assert found.evaluations <= 30
    assert abs(found.gaps.unembed) <= 2 * found.gaps.logit_ulp


def overtaken(loaded: LoadedModel) -> LoadedModel:
    """A head in which token 7 overtakes the pair (3, 5) before these two are tied; all other logits are 0."""
    h = Response(loaded, base_point(loaded, PROMPT), mode="batched", batch_size=1).h0.astype(np.float64)
    across = np.random.default_rng(0).normal(size=h.shape)
    across -= across @ h / (h @ h) * h
    across *= np.linalg.norm(h) / np.linalg.norm(across)
    v3 = h / (h @ h) * 10
    v5 = 0.7 * v3 + across / (h @ h) * 5
    weight = torch.zeros_like(loaded.anatomy.unembedding.weight)
    # At the prompt the logits are 10, 7 and 5.4; where 3 and 5 are tied, that of 7 is 1.2 times theirs.
    for token, row in ((3, v3), (5, v5), (7, -v3 + 2.2 * v5)):
        weight[token] = torch.from_numpy(row)
    loaded.anatomy.unembedding.weight = torch.nn.Parameter(weight, requires_grad=False)
    return loaded


@pytest.mark.parametrize("method", ["geometric", "probability"])
def test_a_third_token_that_overtakes_the_pair_takes_its_place(private_model: Models, method: Any) -> None:
    readout = reader(overtaken(private_model("llama")))
    start = readout.decide(readout.response.base.x[None])
    assert (start.token[0], start.runner_up[0]) == (3, 5)
    found = find_tie(readout, method=method, max_evaluations=60)
    assert (found.first, found.second) == (3, 7)
    assert found.holds
    assert found.reselections == (1 if method == "geometric" else 0)
    assert abs(found.gaps.unembed) <= 4 * found.gaps.logit_ulp


def test_the_budget_is_kept_and_its_end_is_said(loaded_model: Models) -> None:
    readout = reader(loaded_model("llama"))
    full = find_tie(readout, method="geometric")
    short = find_tie(readout, method="geometric", max_evaluations=full.evaluations - 2)
    assert short.evaluations <= full.evaluations - 2
    assert not short.closed
    with pytest.raises(NumericsError, match=r"no tie of the two leading tokens within 2 evaluations.*max_evaluations"):
        find_tie(readout, method="geometric", max_evaluations=2)


def test_roundings_of_the_gap_agree_within_ulps(loaded_model: Models) -> None:
    found: Tie = find_tie(reader(loaded_model("gptj")), method="geometric")  # its head has a bias
    for name in ("dot", "difference_of_dots", "unembed"):
        assert abs(getattr(found.gaps, name) - found.gaps.float64) <= 16 * found.gaps.logit_ulp, name


def test_moved_to_refuses_what_is_not_on_the_lattice(loaded_model: Models) -> None:
    base = base_point(loaded_model("llama", "bfloat16"), PROMPT)
    with pytest.raises(NumericsError, match="not on the bfloat16 lattice"):
        moved_to(base, base.x + np.float32(1e-12) + np.float32(1.0000001) * base.x)
    same = moved_to(base, floats.round_to(base.x, "bfloat16"))
    assert torch.equal(same.embeddings, base.embeddings)
