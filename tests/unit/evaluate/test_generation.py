"""Generated text: greedy as transformers', sampled from the right distribution, the same for the same seed."""

import numpy as np
import pytest
import torch

from tremor.errors import ConfigError
from tremor.evaluate.generation import _draw, common_prefix, generate

PROMPT = "The capital of France is"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_greedy_text_is_that_of_transformers(loaded_model, family):
    loaded = loaded_model(family)
    ids = loaded.tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    theirs = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    mine = generate(loaded, PROMPT, tokens=12)
    assert list(mine.ids) == theirs[0, ids.shape[1] :].tolist()
    assert mine.stopped in ("length", "eos")


def test_the_same_seed_writes_the_same_text_and_another_seed_another(loaded_model):
    """The originals sampled without a seed on both sides, and called the difference an effect of pruning."""
    loaded = loaded_model("llama")
    first, again = (generate(loaded, PROMPT, tokens=12, temperature=0.7, seed=4) for _ in range(2))
    assert first == again
    assert first.ids != generate(loaded, PROMPT, tokens=12, temperature=0.7, seed=5).ids


def test_a_draw_is_the_inverse_of_the_cumulative_distribution():
    logits = torch.tensor([0.3, -1.0, 2.0, 0.0])
    weights = np.exp(np.array([0.3, -1.0, 2.0, 0.0]) / 0.7)
    edges = np.cumsum(weights / weights.sum())
    uniform = np.random.default_rng(0).random(200)
    expected = [int(np.flatnonzero(edges > u)[0]) for u in uniform]
    assert [_draw(logits, 0.7, 1.0, float(u)) for u in uniform] == expected
    assert _draw(logits, 0.7, 1.0, 1.0 - 2**-53) == 3


def test_a_model_without_finite_logits_stops_and_says_so(private_model):
    loaded = private_model("llama")
    loaded.model.get_parameter("model.norm.weight").data[0] = torch.nan
    assert generate(loaded, PROMPT, tokens=5) == generate(loaded, PROMPT, tokens=5, temperature=1.0)
    assert generate(loaded, PROMPT, tokens=5).stopped == "nan_logits"


def test_limits_and_errors(loaded_model):
    with pytest.raises(ConfigError, match="temperature 0 is not positive"):
        generate(loaded_model("llama"), PROMPT, tokens=3, temperature=0)
    assert len(generate(loaded_model("llama"), PROMPT, tokens=1).ids) == 1
    assert common_prefix([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_prefix([], [1]) == 0
