"""Likelihood against a slow per-token reference: spec 7.3 test 6 and 14, defects B-D3, B-D25, B-D29."""

import math
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from tremor.errors import ConfigError, NumericsError, PromptError
from tremor.evaluate import nll
from tremor.weights import mutate
from tremor.weights.mutate import Edit, mutated

TEXTS = (
    "The capital of France is Paris.",
    "Rome",
    "The capital of Spain is Madrid, the capital of Italy is Rome. É 你",
    "of of of of of of of of of of of of of",
)
# float32 forwards of other shapes add in another order: logits of a size near 4 differ by some 1e-6.
TOLERANCE = 1e-5


def reference(loaded, ids) -> list[float]:
    """-log p of each token but the first, one forward over each prefix, alone in its batch, without padding."""
    found = []
    with torch.no_grad():
        for end in range(1, len(ids)):
            logits = loaded.model(input_ids=torch.tensor([ids[:end]])).logits[0, -1].double().numpy()
            top = logits.max()
            found.append(float(top + math.log(np.exp(logits - top).sum()) - logits[ids[end]]))
    return found


@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba", "opt"])
def test_any_batch_size_gives_the_reference(loaded_model, family):
    loaded = loaded_model(family)
    texts = nll.tokenise(loaded, TEXTS, bos="always")
    ids = [[0, *loaded.tokenizer(t)["input_ids"]] for t in TEXTS]
    expected = [sum(reference(loaded, row)) for row in ids]
    assert texts.tokens.tolist() == [len(row) - 1 for row in ids]
    for batch_size in (1, 2, 3, 8):
        found = nll.evaluate(loaded, texts, batch_size=batch_size)
        assert found.overall == "ok"
        assert np.allclose(found.nll_sum / found.tokens, np.array(expected) / texts.tokens, atol=TOLERANCE, rtol=0)
    total = sum(expected)
    assert found.nll == pytest.approx(total / texts.tokens.sum(), abs=TOLERANCE)
    assert found.ppl == pytest.approx(math.exp(found.nll))
    assert found.bits_per_byte == pytest.approx(total / math.log(2) / sum(len(t.encode()) for t in TEXTS), rel=1e-5)


def test_padding_that_is_the_end_token_and_real_end_tokens_are_told_apart(loaded_model):
    loaded = loaded_model("llama")
    tokenizer = copy(loaded.tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    as_eos = replace(loaded, tokenizer=tokenizer)
    texts = ("Paris</s>", "The capital of France is Paris.</s>")
    rows = [tokenizer(t)["input_ids"] for t in texts]
    assert all(row[-1] == tokenizer.eos_token_id == tokenizer.pad_token_id for row in rows)
    found = nll.evaluate(as_eos, nll.tokenise(as_eos, texts), batch_size=2)
    assert found.tokens.tolist() == [len(row) - 1 for row in rows]  # the real end token is predicted, padding is not
    for number, row in enumerate(rows):
        assert found.nll_sum[number] == pytest.approx(sum(reference(loaded, row)), abs=TOLERANCE * len(row))


def test_the_begin_token_is_read_and_not_scored(loaded_model):
    loaded = loaded_model("llama")
    text = "Paris is."
    plain = loaded.tokenizer(text)["input_ids"]
    with_bos = nll.tokenise(loaded, [text], bos="always")
    without = nll.tokenise(loaded, [text], bos="never")
    assert with_bos.tokens[0] == len(plain) == without.tokens[0] + 1
    assert with_bos.bytes[0] == len(text)
    assert without.bytes[0] == len(text) - len(loaded.tokenizer.decode(plain[:1]))
    # A tokenizer that adds the token itself gives the same under "auto".
    assert nll.tokenise(loaded, [text]).digest == without.digest


def rolling(ids: list[int], width: int) -> list[tuple[list[int], list[int]]]:
    """Rolling windows as lm-evaluation-harness documents them: (what is read, what is scored), context of one token.

    Written from its description: predict `width` tokens at a time; the last window is moved left to be full.
    """
    tokens, windows, done = ids[1:], [], 0
    while done < len(tokens):
        size = min(width, len(tokens) - done)
        end = done + size
        read = ids[max(0, end - width) : end]
        windows.append((read, tokens[done:end]))
        done = end
    return windows


@pytest.mark.parametrize("width", [1, 2, 5, 7, 64])
def test_windows_are_those_of_the_harness(loaded_model, width):
    loaded = loaded_model("llama")
    ids = [0, *loaded.tokenizer(TEXTS[2])["input_ids"]]
    texts = nll.tokenise(loaded, [TEXTS[2]], bos="always", window=width)
    assert [(w.ids.tolist(), w.targets.tolist()) for w in texts.windows] == rolling(ids, width)


@pytest.mark.parametrize("width", [5, 64])
def test_the_harness_itself_scores_the_same_tokens(loaded_model, width):
    harness = pytest.importorskip("lm_eval.utils", reason="lm-eval is an optional oracle")
    loaded = loaded_model("llama")
    ids = [0, *loaded.tokenizer(TEXTS[2])["input_ids"]]
    texts = nll.tokenise(loaded, [TEXTS[2]], bos="always", window=width)
    theirs = map(harness.make_disjoint_window, harness.get_rolling_token_windows(ids[1:], 0, width, 1))
    # Theirs are (context, continuation); what is read is both but the last token.
    assert [([*a, *b][:-1], list(b)) for a, b in theirs] == [
        (w.ids.tolist(), w.targets.tolist()) for w in texts.windows
    ]


def test_windows_score_every_token_once_and_match_the_reference(loaded_model):
    loaded = loaded_model("llama")
    ids = loaded.tokenizer(TEXTS[2])["input_ids"]
    for width, overlap in ((5, 1), (6, 3), (4, 4)):
        texts = nll.tokenise(loaded, [TEXTS[2]], window=width, overlap=overlap)
        assert [t for w in texts.windows for t in w.targets.tolist()] == ids[1:]
        assert all(len(w.ids) <= width for w in texts.windows)
        assert all(len(w.ids) - len(w.targets) + 1 >= overlap for w in texts.windows[1:])
        expected = sum(sum(reference(loaded, [*w.ids, w.targets[-1]])[-len(w.targets) :]) for w in texts.windows)
        found = nll.evaluate(loaded, texts, batch_size=3)
        assert found.nll_sum[0] == pytest.approx(expected, abs=TOLERANCE * len(ids))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("memory", [1e9, 0])
def test_a_model_that_was_not_changed_shows_no_effect_at_all(loaded_model, dtype, memory):
    loaded = loaded_model("llama", dtype)
    texts = nll.tokenise(loaded, TEXTS)
    clean = nll.baseline(loaded, texts, batch_size=3, memory=memory)
    assert clean.logits.on_disk == (memory == 0)
    same = nll.evaluate(loaded, texts, batch_size=3, clean=clean)
    assert (same.delta_nll == 0).all()
    assert (same.kl == 0).all()
    assert (same.flips == 0).all()
    assert (same.changed == 0).all()


def test_divergence_and_flips_against_scipy(loaded_model):
    from scipy.special import log_softmax
    from scipy.stats import entropy

    loaded = loaded_model("llama")
    texts = nll.tokenise(loaded, TEXTS)
    clean = nll.baseline(loaded, texts, batch_size=2)
    ids = [torch.tensor([loaded.tokenizer(t)["input_ids"]]) for t in TEXTS]

    def logits():
        with torch.no_grad():
            return [loaded.model(input_ids=i).logits[0, :-1].double().numpy() for i in ids]

    before = logits()
    with mutated(loaded, [Edit("model.layers.1.mlp.down_proj.weight")], mutate.scale(3.0)):
        found = nll.evaluate(loaded, texts, batch_size=2, clean=clean)
        after = logits()
    for number, (a, b) in enumerate(zip(before, after, strict=True)):
        kl = entropy(np.exp(log_softmax(a, -1)), np.exp(log_softmax(b, -1)), axis=-1)
        assert found.kl[number] == pytest.approx(kl.mean(), abs=1e-5)
        assert found.flips[number] == (a.argmax(-1) != b.argmax(-1)).sum()
        assert found.changed[number] == len(a)
    assert found.corpus_kl == pytest.approx((found.kl * found.tokens).sum() / found.tokens.sum())
    assert found.corpus_delta_nll == pytest.approx(found.nll - clean.evaluation.nll)
    assert found.flip_rate == found.flips.sum() / found.tokens.sum()


def test_nan_and_infinite_losses_have_a_status_and_no_number(private_model):
    loaded = private_model("llama")
    texts = nll.tokenise(loaded, TEXTS)
    clean = nll.baseline(loaded, texts, batch_size=2)
    head = "lm_head.weight"
    with mutated(loaded, [Edit(head, torch.tensor([0]))], mutate.set_to(math.nan)):
        found = nll.evaluate(loaded, texts, batch_size=2, clean=clean)
    assert found.overall == "nan_logits"
    assert all(math.isnan(v) for v in (found.nll, found.ppl, found.corpus_delta_nll, found.corpus_kl, found.flip_rate))
    token = int(texts.windows[1].targets[0])
    row = torch.arange(token * 32, token * 32 + 32)
    with mutated(loaded, [Edit(head, row)], mutate.set_to(-3e38)):
        found = nll.evaluate(loaded, texts, batch_size=2, clean=clean)
    if found.overall == "inf_loss":  # the sign of the hidden state decides between overflow up and down
        assert math.isinf(found.nll)
    assert found.overall != "ok" or math.isfinite(found.nll)


def test_an_infinite_loss_is_told_and_a_huge_one_is_not_capped(private_model):
    loaded = private_model("gpt2")  # its tied head has no bias; a huge final gain makes huge logits
    texts = nll.tokenise(loaded, TEXTS)
    with mutated(loaded, [Edit("transformer.ln_f.weight")], mutate.scale(1e4)):
        found = nll.evaluate(loaded, texts, batch_size=4)
    assert found.overall == "ok"
    assert found.nll > 1000  # the ancestor wrote 1e10 perplexity for all of these
    assert found.ppl == math.inf
    with mutated(loaded, [Edit("transformer.ln_f.weight")], mutate.scale(1e38)):
        found = nll.evaluate(loaded, texts, batch_size=4)
    assert found.overall in ("inf_loss", "nan_logits")
    assert not math.isfinite(found.nll)


def test_a_damaged_model_is_no_baseline(private_model):
    loaded = private_model("llama")
    texts = nll.tokenise(loaded, TEXTS)
    with (
        mutated(loaded, [Edit("lm_head.weight", torch.tensor([0]))], mutate.set_to(math.nan)),
        pytest.raises(NumericsError, match="unchanged model has nan_logits"),
    ):
        nll.baseline(loaded, texts, batch_size=2)


def test_a_baseline_of_other_texts_is_refused(loaded_model):
    loaded = loaded_model("llama")
    clean = nll.baseline(loaded, nll.tokenise(loaded, TEXTS), batch_size=2)
    with pytest.raises(ConfigError, match="other texts"):
        nll.evaluate(loaded, nll.tokenise(loaded, TEXTS[:2]), batch_size=2, clean=clean)
    with pytest.raises(ConfigError, match="batch size"):
        nll.evaluate(loaded, nll.tokenise(loaded, TEXTS), batch_size=3, clean=clean)
    with pytest.raises(NumericsError, match="no clean baseline"):
        _ = clean.evaluation.corpus_kl


def test_what_cannot_be_evaluated_is_refused(loaded_model):
    loaded = loaded_model("llama")
    with pytest.raises(ConfigError, match="no text"):
        nll.tokenise(loaded, [])
    with pytest.raises(PromptError, match="nothing to predict"):
        nll.tokenise(loaded, ["fine", "x"], bos="never")
    with pytest.raises(ConfigError, match="does not fit a context of 64"):
        nll.tokenise(loaded, TEXTS, window=65)
    with pytest.raises(ConfigError, match="overlap 0"):
        nll.tokenise(loaded, TEXTS, overlap=0)
    with pytest.raises(ConfigError, match="batch_size"):
        nll.evaluate(loaded, nll.tokenise(loaded, TEXTS), batch_size=0)


def test_a_campaign_shares_one_baseline(loaded_model):
    loaded = loaded_model("llama")
    texts = nll.tokenise(loaded, TEXTS)
    forwards = 0

    def count(*_):
        nonlocal forwards
        forwards += 1

    handle = loaded.model.register_forward_hook(count)
    try:
        clean = nll.baseline(loaded, texts, batch_size=4)
        for _ in range(5):
            nll.evaluate(loaded, texts, batch_size=4, clean=clean)
    finally:
        handle.remove()
    assert forwards == 6
