"""Answers to facts against loops over tokens, in every family's way of batching, and what is refused."""

import numpy as np
import pytest
import torch

from tremor.errors import ConfigError, NumericsError, PromptError
from tremor.evaluate import facts
from tremor.evaluate.relations import Sentence, asked
from tremor.models import corpus
from tremor.weights.activations import ablation


def short(text, answer, subject=None):
    start = text.rindex(answer)
    span = None if subject is None else (text.index(subject), text.index(subject) + len(subject))
    return Sentence("R", "train", text, span, (start, start + len(answer)))


SENTENCES = (
    short("The capital of France is Paris.", "Paris", "France"),
    short("The capital of Spain is Madrid or so.", "Madrid or so", "Spain"),
    short("Rome is the capital of Italy.", "Italy", "Rome"),
    short("France is in Paris.", "France"),
    Sentence("other", "passage", "It rained all day in Spain."),
    short("A b.", "b", "A"),
)


def slow(loaded, text, ids, answer):
    """One forward for each predicted token, each on its own prefix: (nll, answer log-probability, rank, greedy)."""
    total, own, rank, greedy = 0.0, 0.0, 0, True
    for place in range(1, len(ids)):
        with torch.no_grad():
            row = loaded.model(input_ids=torch.tensor([ids[:place]]), use_cache=False).logits[0, -1].double()
        value = float(row.log_softmax(-1)[ids[place]])
        total -= value
        if answer is not None and answer[0] <= place < answer[1]:
            own += value
            greedy &= int(row.argmax()) == ids[place]
            if place == answer[0]:
                rank = 1 + int((row > row[ids[place]]).sum())
    return total, own, rank, greedy


@pytest.mark.parametrize("family", ["gpt2", "mamba", "llama"])
@pytest.mark.parametrize("batch_tokens", [1, 64, 10_000])
def test_against_a_loop_over_tokens(family, batch_tokens, loaded_model):
    loaded = loaded_model(family)
    texts = facts.tokenise(loaded, SENTENCES, batch_tokens=batch_tokens)
    found = facts.evaluate(loaded, texts)
    assert len(texts.batches) == (6 if batch_tokens == 1 else len(texts.batches))
    for number, (ids, answer) in enumerate(zip(texts.ids, texts.answers, strict=True)):
        total, own, rank, greedy = slow(loaded, SENTENCES[number].text, list(ids), answer)
        # float32 logits of size 1 in batches of other shapes: 1e-6 a token, and some forty tokens.
        assert found.nll_sum[number] == pytest.approx(total, abs=2e-4)
        assert found.tokens[number] == len(ids) - 1
        if answer is None:
            assert np.isnan(found.answer_logprob[number])
            assert (found.answer_rank[number], found.answer_tokens[number]) == (0, 0)
        else:
            assert found.answer_logprob[number] == pytest.approx(own, abs=1e-4)
            assert found.answer_probability[number] == pytest.approx(np.exp(own), rel=2e-4)
            assert found.answer_rank[number] == rank
            assert found.recalled[number] == greedy
            assert found.answer_tokens[number] == answer[1] - answer[0]


def test_answer_tokens_spell_the_answer_and_subjects_the_subject(loaded_model):
    loaded = loaded_model("gpt2")
    texts = facts.tokenise(loaded, SENTENCES)
    for sentence, ids, answer, subject in zip(SENTENCES, texts.ids, texts.answers, texts.subjects, strict=True):
        if answer is not None:
            assert loaded.tokenizer.decode(ids[slice(*answer)]).strip() == sentence.answer
        if subject is not None:
            assert loaded.tokenizer.decode(ids[slice(*subject)]).strip() == sentence.subject
    assert len(texts.ids[1][slice(*texts.answers[1])]) > 1  # an answer of several tokens


def test_the_first_word_is_scored_and_padding_is_told_by_place(loaded_model):
    """D-D7: without a begin token the first word was not scored; tokens with the padding's id were left out."""
    loaded = loaded_model("gpt2")
    asked_later = [s for s in SENTENCES if s.answer_span != (0, 6)]
    own = facts.tokenise(loaded, asked_later)
    bare = facts.tokenise(loaded, asked_later, bos="never")
    assert all(a[1:] == b and a[0] == loaded.tokenizer.bos_token_id for a, b in zip(own.ids, bare.ids, strict=True))
    assert (facts.evaluate(loaded, own).tokens == facts.evaluate(loaded, bare).tokens + 1).all()
    # A row that holds the begin token inside loses none of it: compare with the same row alone.
    texts = facts.tokenise(loaded, (short("A<s><s>b.", "b"), SENTENCES[1]))
    assert texts.ids[0].count(loaded.tokenizer.bos_token_id) == 3
    assert facts.evaluate(loaded, texts).tokens[0] == len(texts.ids[0]) - 1


def test_tuples_never_reach_a_tokenizer(loaded_model):
    """D-D6: (sentence, target) was taken for a batch of two texts."""
    loaded = loaded_model("gpt2")
    for wrong in (("The capital of France is Paris.", "Paris"), "The capital of France is Paris.", None):
        with pytest.raises(ConfigError, match="holds sentences, not a"):
            facts.tokenise(loaded, [SENTENCES[0], wrong])  # type: ignore[list-item]


def test_what_cannot_be_asked_is_refused(loaded_model):
    loaded = loaded_model("gpt2")
    with pytest.raises(ConfigError, match="no sentence"):
        facts.tokenise(loaded, [])
    first = short("Amtrak operates it.", "Amtrak")
    with pytest.raises(PromptError, match="begins with its answer"):
        facts.tokenise(loaded, [first], bos="never")
    assert facts.tokenise(loaded, [first]).answers[0][0] == 1
    with pytest.raises(PromptError, match="context"):
        facts.tokenise(loaded, [short("word " * 90 + "b.", "b")])


def test_a_broken_model_is_an_error_and_no_number(private_model):
    """D-D9: a failure used to be written as zeros."""
    loaded = private_model("gpt2")
    texts = facts.tokenise(loaded, SENTENCES)
    with torch.no_grad():
        loaded.anatomy.blocks[1].mlp.c_proj.weight.fill_(float("nan"))
    with pytest.raises(NumericsError, match="not finite"):
        facts.evaluate(loaded, texts)


@pytest.mark.parametrize("family", ["gpt2", "mamba", "llama", "gptj", "bloom", "falcon", "opt", "rwkv", "gemma2"])
def test_resuming_gives_the_bits_of_the_whole(family, loaded_model):
    loaded = loaded_model(family)
    texts = facts.tokenise(loaded, SENTENCES, batch_tokens=64)
    clean = facts.evaluate(loaded, texts)
    # Block 2 of two: what follows the last block, for ablations of its output.
    for tap, start in (("block.0.output", 1), ("block.1.mixer", 1), ("block.1.output", 2)):
        change = {tap: ablation(tap, [1, 2, 7])}
        whole, resumed = (
            facts.evaluate(loaded, texts, changes=change, kept=kept)
            for kept in (None, facts.keep(loaded, texts, start))
        )
        assert np.array_equal(whole.nll_sum, resumed.nll_sum)
        assert np.array_equal(whole.answer_logprob, resumed.answer_logprob, equal_nan=True)
        assert not np.array_equal(clean.nll_sum, whole.nll_sum)


def test_resuming_skips_the_blocks_before(loaded_model):
    loaded = loaded_model("gpt2")
    texts = facts.tokenise(loaded, SENTENCES)
    kept = facts.keep(loaded, texts, 1)
    calls = []
    handle = loaded.anatomy.blocks[0].mlp.register_forward_hook(lambda *_: calls.append(1))
    facts.evaluate(loaded, texts, kept=kept)
    assert not calls
    facts.evaluate(loaded, texts)
    handle.remove()
    assert len(calls) == len(texts.batches)
    assert "forward" not in loaded.anatomy.blocks[0].__dict__


def test_the_project_recall_and_facts_agree(loaded_model):
    """Greedy recall of `models.training` is the same statement, computed by other code."""
    from tremor.models.training import recalled

    loaded = loaded_model("mamba")
    template = corpus.templates("train")["P47"][0]
    chosen = corpus.facts("P47")[:6]
    texts = facts.tokenise(loaded, [asked(f, template, "train") for f in chosen], bos="auto")
    prompts = [corpus.prompt(f, template) for f in chosen]
    assert list(facts.evaluate(loaded, texts).recalled) == recalled(loaded.model, loaded.tokenizer, prompts)
