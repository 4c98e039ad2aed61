"""The base point: token ids under each policy, the last embedding, and prompts that cannot be used."""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from families import CONTEXT
from tremor.errors import NumericsError, PromptError
from tremor.models.loader import LoadedModel
from tremor.probe.base import base_point, dtype_name, to_array, to_tensor, token_ids

Models = Callable[..., LoadedModel]


@pytest.fixture(scope="module")
def llama(loaded_model: Models) -> LoadedModel:
    return loaded_model("llama")


@pytest.fixture(scope="module")
def with_bos(llama: LoadedModel) -> LoadedModel:
    """A tokenizer that puts <s> in front by itself, as Llama-3's does."""
    tokenizer = copy.deepcopy(llama.tokenizer)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return replace(llama, tokenizer=tokenizer)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_x_is_the_embedding_of_the_last_token(loaded_model: Models, dtype: str) -> None:
    loaded = loaded_model("llama", dtype)
    base = base_point(loaded, "The capital of France is")
    table = loaded.anatomy.embedding.weight
    assert isinstance(table, torch.Tensor)
    assert base.fmt == dtype
    assert base.ids.dtype == np.int64
    assert base.position == len(base.ids) - 1 > 0
    np.testing.assert_array_equal(base.x, to_array(table[base.ids[-1]]))
    assert base.x.dtype == (np.float64 if dtype == "float64" else np.float32)
    assert torch.equal(base.embeddings, table[torch.from_numpy(base.ids)])
    # The carrier holds the dtype's values exactly: the round trip gives the same bits.
    assert torch.equal(to_tensor(base.x, base.embeddings), base.embeddings[-1])


def test_bos_policies(llama: LoadedModel, with_bos: LoadedModel) -> None:
    text = "The capital"
    plain = llama.tokenizer(text)["input_ids"]
    assert plain[0] != 0
    for bos, silent, speaking in (("auto", 0, 1), ("always", 1, 1), ("never", 0, 0)):
        assert token_ids(llama, text, bos=bos).tolist() == [0] * silent + plain
        # "always" must not put a second one in front of the tokenizer's own.
        assert token_ids(with_bos, text, bos=bos).tolist() == [0] * speaking + plain


def test_bos_always_needs_such_a_token(llama: LoadedModel) -> None:
    tokenizer = copy.deepcopy(llama.tokenizer)
    tokenizer.bos_token = None
    with pytest.raises(PromptError, match="no begin-of-text token; use bos: auto or never"):
        token_ids(replace(llama, tokenizer=tokenizer), "a", bos="always")


@pytest.mark.parametrize("text", ["¿Dónde está 東京?", "🌍🌋", "e\u0301 vs é", "\u200dzero width", "שלום"])
def test_unicode_reaches_the_model_whole(llama: LoadedModel, text: str) -> None:
    base = base_point(llama, text)
    assert llama.tokenizer.decode(base.ids) == text
    assert base.text == text


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_empty_prompt_is_refused(llama: LoadedModel, text: str) -> None:
    with pytest.raises(PromptError, match=r"the prompt is empty; give prompts\.<name>\.text"):
        base_point(llama, text)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gptj", "opt", "gpt_neo"])
def test_context_is_the_limit(loaded_model: Models, family: str) -> None:
    """The longest prompt that fits is taken, one token more is refused; each family names its limit otherwise."""
    loaded = loaded_model(family)
    text = "x" * CONTEXT
    assert len(base_point(loaded, text).ids) == CONTEXT
    with pytest.raises(PromptError, match=f"{CONTEXT + 1} tokens, more than the model's context of {CONTEXT}"):
        base_point(loaded, text + "x")


def test_no_limit_where_the_model_has_none(loaded_model: Models) -> None:
    assert len(base_point(loaded_model("mamba"), "x" * (3 * CONTEXT)).ids) == 3 * CONTEXT


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_embedding_is_refused(private_model: Models, bad: float) -> None:
    loaded = private_model("gpt2")
    ids = token_ids(loaded, "ab")
    with torch.no_grad():
        loaded.anatomy.embedding.weight[int(ids[0]), 3] = bad
    with pytest.raises(NumericsError, match="input embedding is NaN or infinite"):
        base_point(loaded, "ab")


def test_dtype_names() -> None:
    assert [dtype_name(d) for d in (torch.float32, torch.bfloat16)] == ["float32", "bfloat16"]
