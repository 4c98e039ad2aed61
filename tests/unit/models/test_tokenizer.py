"""The tokenizer: every text round-trips, the begin token is there once, training is repeatable."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from tremor.errors import ModelError
from tremor.models import corpus
from tremor.models.tokenizer import BOS, EOS, PAD, VOCABULARY, as_pretrained, train_bpe


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_bpe(corpus.training_documents(0))


def test_prompt_begins_with_bos_and_paris_is_one_token(bpe: Tokenizer) -> None:
    assert bpe.encode("The capital of France is Paris").tokens == [
        BOS, "The", "Ġcapital", "Ġof", "ĠFrance", "Ġis", "ĠParis",
    ]  # fmt: skip
    assert [bpe.token_to_id(name) for name in (PAD, BOS, EOS)] == [0, 1, 2]
    assert bpe.get_vocab_size() == VOCABULARY


@settings(max_examples=200, deadline=None)  # the first example pays for the fixture
@given(text=st.text())
def test_any_unicode_round_trips(bpe: Tokenizer, text: str) -> None:
    # Special tokens written out in a text are read as such, so they are left out of the comparison.
    for special in (PAD, BOS, EOS):
        text = text.replace(special, "")
    assert bpe.decode(bpe.encode(text).ids) == text


@pytest.mark.parametrize("text", ["", " ", "Brasília", "日本の首都は東京", "🗼 Paris\n\tZürich", "e\u0301", "\x00"])
def test_chosen_texts_round_trip(bpe: Tokenizer, text: str) -> None:
    assert bpe.decode(bpe.encode(text).ids) == text


def test_training_does_not_depend_on_the_order_of_documents(bpe: Tokenizer) -> None:
    assert train_bpe(corpus.training_documents(1)).to_str() == bpe.to_str()


def test_saved_folder_loads_with_auto_tokenizer(bpe: Tokenizer, tmp_path: Path) -> None:
    as_pretrained(bpe, context=64).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    text = "The capital of Côte d'Ivoire is Yamoussoukro."
    assert loaded(text)["input_ids"] == bpe.encode(text).ids
    assert loaded.decode(loaded(text)["input_ids"], skip_special_tokens=True) == text
    assert (loaded.pad_token, loaded.bos_token, loaded.eos_token) == (PAD, BOS, EOS)
    assert loaded.model_max_length == 64


def test_too_small_a_corpus_is_refused() -> None:
    with pytest.raises(ModelError, match=r"the corpus gives \d+ tokens, not 2560"):
        train_bpe(["Paris"])
