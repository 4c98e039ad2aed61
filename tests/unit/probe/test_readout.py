"""The readout: logits in a fixed shape, choices, ties, and the chosen token as something that changes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from tremor.models.loader import LoadedModel
from tremor.probe.base import base_point, moved_to
from tremor.probe.noise import lattice_neighbours
from tremor.probe.readout import Readout, TokenChoice
from tremor.probe.response import Response

Models = Callable[..., LoadedModel]
PROMPT = "The capital of France is"


def readout(loaded: LoadedModel, *, rows: int = 8, **keywords: float) -> Readout:
    response = Response(loaded, base_point(loaded, PROMPT), mode="batched", batch_size=rows)
    return Readout(response, **keywords)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gptj", "mamba"])
def test_choices_are_those_of_the_model(loaded_model: Models, family: str) -> None:
    loaded = loaded_model(family)
    reader = readout(loaded)
    base = reader.response.base
    inputs = np.concatenate([base.x[None], lattice_neighbours(base.x, 10, seed=0, fmt="float32")])
    found = reader.decide(inputs, (5, 3))
    for row, x in enumerate(inputs):
        sequence = moved_to(base, x).embeddings[None]
        with torch.no_grad():
            own = loaded.model(inputs_embeds=sequence, use_cache=False).logits[0, -1].double().numpy()
        # Another shape of the products: some ulps of logits of order one.
        np.testing.assert_allclose(found.logits[row], own[[5, 3]], rtol=0, atol=2e-5)
        np.testing.assert_allclose(found.top[row], np.sort(own)[::-1][:2], rtol=0, atol=2e-5)
        assert found.log_normaliser[row] == pytest.approx(logsumexp(own), abs=2e-5)
        assert found.probability[row] == pytest.approx(np.exp(own - logsumexp(own)).max(), abs=2e-5)
        assert own[found.token[row]] >= own.max() - 2e-5
        assert found.token[row] != found.runner_up[row]


def test_an_answer_does_not_depend_on_its_neighbours_or_its_chunk(loaded_model: Models) -> None:
    reader = readout(loaded_model("llama"))
    x = reader.response.base.x
    inputs = lattice_neighbours(x, 19, seed=3, fmt="float32")
    whole = reader.decide(inputs, (1,))
    for row in (0, 7, 8, 18):
        alone = reader.decide(inputs[[row]], (1,))
        assert alone.logits.tobytes() == whole.logits[[row]].tobytes()
        assert alone.top.tobytes() == whole.top[[row]].tobytes()
        assert alone.token[0] == whole.token[row]


def test_memory_bounds_the_rows_of_a_chunk(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    small = readout(loaded, max_memory=2.5 * 24 * loaded.anatomy.vocab)
    assert small.rows == 2
    x = small.response.base.x
    np.testing.assert_allclose(
        small.decide(x[None].repeat(5, 0)).top, readout(loaded).decide(x[None].repeat(5, 0)).top, atol=2e-5
    )


def test_equal_logits_are_a_tie_and_the_lowest_id_is_chosen(private_model: Models) -> None:
    loaded = private_model("llama")
    reader = readout(loaded)
    first = int(reader.decide(reader.response.base.x[None]).token[0])
    other = 3 if first != 3 else 4
    with torch.no_grad():
        weight = loaded.anatomy.unembedding.weight
        loaded.anatomy.unembedding.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
        loaded.anatomy.unembedding.weight[other] = weight[first]
    found = readout(loaded).decide(reader.response.base.x[None], (first, other))
    assert found.leaders[0] == 2
    assert found.logits[0, 0] == found.logits[0, 1]
    assert (found.token[0], found.runner_up[0]) == (min(first, other), max(first, other))


def test_token_choice_changes_with_the_token_only(loaded_model: Models) -> None:
    reader = readout(loaded_model("llama"))
    choice = TokenChoice(reader, (0, 1))
    x = reader.response.base.x
    near = lattice_neighbours(x, 6, seed=1, fmt="float32")
    far = (x + np.random.default_rng(0).normal(size=(40, len(x)))).astype(np.float32)
    inputs = np.concatenate([near, far])
    changed, answers = choice.changed(inputs)
    token = reader.decide(inputs).token
    np.testing.assert_array_equal(changed, token != choice.reference)
    np.testing.assert_array_equal(answers[:, 0], token)
    assert changed.any()
    assert not changed[: len(near)].any()  # the hidden state moved, the token did not
    with pytest.raises(ValueError, match="the threshold must be 0"):
        choice.changed(inputs, threshold=1e-3)


def test_logits_are_read_from_the_final_state(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    response = Response(loaded, base_point(loaded, PROMPT), mode="batched", batch_size=2, taps=("residual.1",))
    with pytest.raises(ValueError, match="tap 'final'"):
        Readout(response)
