"""Decoding against Hugging Face's own generate, and against decoding without a cache."""

import numpy as np
import pytest
import torch

from families import FAMILIES, NO_CACHE
from tremor.errors import ModelError, NumericsError, PromptError
from tremor.record import decode
from tremor.record.decode import Decoder, check_decoder, generate, prompt_ids, read_logits

TEXT = "The capital of France is"


def tokens(loaded, text=TEXT, mode="cached", count=10):
    steps = list(generate(loaded, [prompt_ids(loaded, text)], mode=mode, tokens=count))
    return np.array([step.chosen[0] for step in steps]), np.stack([step.logits[0] for step in steps]), steps


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_uncached_and_hugging_face_agree(family, loaded_model):
    """Three ways to the same tokens: our two and `generate`, whose logits the cached way has bit for bit."""
    loaded = loaded_model(family)
    ids = prompt_ids(loaded, TEXT)
    with torch.no_grad():
        oracle = loaded.model.generate(
            torch.from_numpy(ids)[None],
            max_new_tokens=10,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            pad_token_id=0,
        )
    expected = oracle.sequences[0, len(ids) :].numpy()
    plain, plain_logits, _ = tokens(loaded, mode="uncached")
    assert plain.tolist() == expected.tolist()
    if family in NO_CACHE:
        with pytest.raises(ModelError, match="without returning its cache; set decode: uncached"):
            check_decoder(loaded, [ids], "cached")
        return
    cached, logits, _ = tokens(loaded)
    check_decoder(loaded, [ids], "cached")
    assert cached.tolist() == expected.tolist()
    theirs = torch.stack([row[0] for row in oracle.logits]).float().numpy()
    # 32 coordinates wide, two blocks: sums of tens of terms of order 1, so some 100 ulps of 1e-7 at most.
    np.testing.assert_allclose(logits, theirs, atol=1e-4)
    np.testing.assert_allclose(logits, plain_logits, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba", "bloom", "opt", "falcon_alibi", "gemma2"])
def test_padding_on_the_left_changes_nothing_but_rounding(family, loaded_model):
    loaded = loaded_model(family)
    texts = [TEXT, "Rome", "Où est la forêt de Zorblax ?"]
    prompts = [prompt_ids(loaded, text) for text in texts]
    assert len({len(ids) for ids in prompts}) == 3
    for mode in ("cached", "uncached"):
        check_decoder(loaded, prompts, mode)
        together = list(generate(loaded, prompts, mode=mode, tokens=6))
        for row, text in enumerate(texts):
            alone, logits, _ = tokens(loaded, text, "uncached", 6)
            mine = [step for step in together if step.active[row]]
            assert [int(step.chosen[row]) for step in mine] == alone.tolist()
            np.testing.assert_allclose(np.stack([step.logits[row] for step in mine]), logits, atol=1e-4)


def test_a_family_that_ignores_the_mask_is_refused_in_a_batch(loaded_model):
    """RWKV takes a mask and ignores it: padding would be read as text."""
    loaded = loaded_model("rwkv")
    prompts = [prompt_ids(loaded, text) for text in (TEXT, "Rome")]
    with pytest.raises(ModelError, match="batch: 1"):
        check_decoder(loaded, prompts, "uncached")


def test_a_cache_that_is_not_read_is_refused(private_model, monkeypatch):
    """A model that returns its cache but starts afresh from every token is off by its own size."""
    loaded = private_model("llama")
    honest = loaded.model.forward

    def forgetful(input_ids, past_key_values=None, use_cache=None, logits_to_keep=0):
        return honest(input_ids=input_ids, use_cache=True, logits_to_keep=logits_to_keep)

    monkeypatch.setattr(loaded.model, "forward", forgetful)
    with pytest.raises(ModelError, match="decode: uncached"):
        check_decoder(loaded, [prompt_ids(loaded, TEXT)], "cached")


def test_a_family_without_a_cache_argument_is_refused(private_model, monkeypatch):
    loaded = private_model("llama")
    honest = loaded.model.forward
    monkeypatch.setattr(loaded.model, "forward", lambda input_ids, use_cache=None: honest(input_ids))
    with pytest.raises(ModelError, match="no cache to continue; set decode: uncached"):
        Decoder(loaded, [prompt_ids(loaded, TEXT)], "cached")
    with pytest.raises(ModelError, match="set batch: 1"):
        Decoder(loaded, [prompt_ids(loaded, TEXT)] * 2, "uncached")


def test_the_generated_ids_go_in_again_not_their_text(loaded_model):
    """The originals' defect: text with half a character in it was tokenised again, and became other ids."""
    loaded = loaded_model("llama")
    ids, logits, _ = tokens(loaded, "Où", "uncached", 20)
    sequence = np.concatenate([prompt_ids(loaded, "Où"), ids])
    text = loaded.tokenizer.decode(sequence, skip_special_tokens=True)
    again = prompt_ids(loaded, text)
    assert again.tolist() != sequence.tolist(), "this model's text happens to survive; choose another question"
    with torch.no_grad():
        whole = loaded.model(torch.from_numpy(sequence)[None]).logits[0]
    expected = whole[-len(ids) - 1 : -1].float().numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_an_end_token_stops_and_is_recorded(private_model):
    loaded = private_model("llama")
    free, _, steps = tokens(loaded, count=10)
    assert steps[-1].stopped == ["length"]
    first = int(free[3])
    loaded.model.generation_config.eos_token_id = [first, 1]
    stopped, _, steps = tokens(loaded, count=10)
    place = free.tolist().index(first)
    assert stopped.tolist() == free[: place + 1].tolist()
    assert steps[-1].stopped == ["eos"]


def test_a_question_may_end_at_once(private_model):
    loaded = private_model("llama")
    loaded.model.generation_config.eos_token_id = int(tokens(loaded, count=1)[0][0])
    ids, _, steps = tokens(loaded, count=10)
    assert (len(ids), steps[0].stopped) == (1, ["eos"])


@pytest.mark.parametrize("mode", ["cached", "uncached"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_context_ends_a_text_too(family, mode, loaded_model):
    loaded = loaded_model(family)
    ids = prompt_ids(loaded, "a" * (loaded.anatomy.context - 3))
    steps = list(generate(loaded, [ids], mode=mode, tokens=10))
    # Sequences of 61, 62, 63 and 64 positions: four tokens.
    assert len(steps) == 4 or steps[-1].stopped == ["eos"]
    assert steps[-1].stopped in (["context"], ["eos"])


def test_a_row_that_has_ended_waits_for_the_others(loaded_model):
    """Its positions stay in the model's table (GPT-2 learns one for each), and nothing of it is active any more."""
    loaded = loaded_model("gpt2")
    long = prompt_ids(loaded, "a" * (loaded.anatomy.context - 1))
    steps = list(generate(loaded, [long, prompt_ids(loaded, "Rome")], mode="cached", tokens=12))
    assert steps[1].stopped[0] == "context" or steps[0].stopped[0] == "eos"
    assert not steps[2].active[0]
    assert len(steps) == 12 or steps[-1].stopped[1] == "eos"


def test_questions_that_do_not_fit_are_refused(loaded_model):
    loaded = loaded_model("llama")
    with pytest.raises(PromptError, match=r"the context of the model 64; shorten it"):
        prompt_ids(loaded, "xyz " * 60)
    with pytest.raises(PromptError, match="gives no token"):
        prompt_ids(loaded, "")


def test_nan_stops_the_recording(private_model):
    loaded = private_model("llama")
    with torch.no_grad():
        loaded.anatomy.unembedding.weight[5, 0] = float("nan")
    with pytest.raises(NumericsError, match="a logit of token 0"):
        tokens(loaded)


def test_readings_against_a_plain_sort():
    rng = np.random.default_rng(0)
    for _ in range(50):
        # Few distinct values: ties everywhere, also at the edge of the ten.
        logits = rng.integers(-4, 4, 40).astype(np.float32)
        found = read_logits(logits)
        order = sorted(range(40), key=lambda i: (-logits[i], i))[: decode.TOP]
        assert found.top_ids.tolist() == order
        wide = logits.astype(np.float64)
        total = np.log(np.exp(wide).sum())
        # logsumexp of 40 numbers of order 1 in float64.
        assert found.logsumexp == pytest.approx(total, abs=1e-12)
        np.testing.assert_allclose(found.top_probs, np.exp(wide[order] - total), rtol=1e-12)
        assert found.ties == int((logits == logits.max()).sum())
        assert found.margin == logits[order[0]] - logits[order[1]]


def test_ties_are_of_bits_and_minus_zero_is_not_zero():
    assert read_logits(np.array([0.0, -0.0, -1.0, 0.0], dtype=np.float32)).ties == 2
    assert read_logits(np.array([3.0, 3.0], dtype=np.float32)).margin == 0.0


def test_logits_may_be_minus_infinity():
    found = read_logits(np.array([1.0, -np.inf, 0.0], dtype=np.float32))
    assert found.top_probs[2] == 0.0
    assert np.isfinite(found.logsumexp)
