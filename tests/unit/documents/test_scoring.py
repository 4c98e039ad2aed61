"""Scores of windows against a forward for each token, on exactly the context that the token had."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from tremor.documents import scoring
from tremor.documents.windows import batches, plan
from tremor.errors import NumericsError, PromptError
from tremor.models.loader import LoadedModel

TEXT = "The capital of France is Paris; 2 + 2 = 4, said Zoë (café, 20 °C). " * 4
WINDOW, STRIDE = 24, 9


def scored(loaded: LoadedModel, text: str = TEXT, *, size: int = 3, max_memory: float = 2**30, bos: int | None = 0):
    ids, _ = scoring.tokenise(loaded, text)
    groups = batches(plan(len(ids), window=WINDOW, stride=STRIDE, bos=bos is not None), size)
    parts = list(scoring.score(loaded, ids, groups, bos=bos, max_memory=max_memory))
    return ids, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba", "gemma2", "opt_350m"])
@pytest.mark.parametrize("bos", [0, None])
def test_equal_to_a_forward_a_token(family: str, bos: int | None, loaded_model: Callable[..., LoadedModel]) -> None:
    loaded = loaded_model(family)
    ids, found = scored(loaded, bos=bos)
    head = [] if bos is None else [bos]
    assert found["position"].tolist() == list(range(len(head) == 0, len(ids)))
    weight = loaded.anatomy.unembedding.weight.double().numpy()
    for row, position in enumerate(found["position"]):
        start = position - found["context"][row]
        context = torch.tensor([[*head, *ids[start:position]]])
        with torch.no_grad(), loaded.anatomy.record(["final"]) as record:
            logits = loaded.model(input_ids=context, use_cache=False).logits[0, -1].double().numpy()
        state = record["final"][0, -1].double().numpy()
        target = ids[position]
        # Other shapes, other order of sums: a logit is a sum of 32 terms of a state that has passed two blocks with
        # sums of up to 48 terms; some hundreds of roundings, of which the norms make a relative error.
        tolerance = 500 * np.finfo(np.float32).eps * np.abs(logits).max()
        total = np.log(np.exp(logits - logits.max()).sum()) + logits.max()
        assert found["logit"][row] == pytest.approx(logits[target], rel=0, abs=tolerance)
        assert found["logsumexp"][row] == pytest.approx(total, rel=0, abs=tolerance)
        assert found["log_probability"][row] == pytest.approx(logits[target] - total, rel=0, abs=2 * tolerance)
        order = np.lexsort((np.arange(len(logits)), -logits))
        gap = np.abs(np.diff(logits[order])).min()
        if gap > 2 * tolerance:
            assert found["top_ids"][row].tolist() == order[:2].tolist()
            assert found["rank"][row] == 1 + int(np.flatnonzero(order == target)[0])
        p = np.exp(logits - total)
        assert found["entropy"][row] == pytest.approx(-(p * (logits - total)).sum(), rel=1e-3)
        chosen = [*found["top_ids"][row], target]
        cosines = [state @ weight[i] / np.linalg.norm(state) / np.linalg.norm(weight[i]) for i in chosen]
        assert found["cosine_state"][row] == pytest.approx(cosines, abs=1e-4)
        unit = weight / np.linalg.norm(weight, axis=1, keepdims=True)
        assert found["cosine_rows"][row] == pytest.approx([unit[i] @ unit[target] for i in chosen[:2]], abs=1e-12)


def test_logits_in_pieces(loaded_model: Callable[..., LoadedModel]) -> None:
    """The memory that logits may take changes how many rows the unembedding sees, and so only the last bits."""
    loaded = loaded_model("llama")
    _, whole = scored(loaded)
    _, parts = scored(loaded, max_memory=3 * loaded.anatomy.vocab * 8 * 4)
    assert parts["position"].tolist() == whole["position"].tolist()
    assert parts["top_ids"].tolist() == whole["top_ids"].tolist()
    assert parts["log_probability"] == pytest.approx(whole["log_probability"], abs=1e-5)


def test_ties_go_to_the_smaller_id() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 3.0, 2.0], [0.0, -1.0, 0.0, -2.0, 5.0]])
    assert scoring._leading(logits).tolist() == [[1, 2], [4, 0]]
    assert logits[0, 1] == 3.0  # its input is left alone


def test_ties_are_counted(private_model: Callable[..., LoadedModel]) -> None:
    """fp16 logits tie often; the original gave no sign of it."""
    loaded = private_model("llama")
    with torch.no_grad():
        weight = loaded.anatomy.unembedding.weight
        assert isinstance(weight, torch.Tensor)
        weight[1:] = weight[0]
    ids, found = scored(loaded)
    assert set(found["ties"]) == {loaded.anatomy.vocab}
    assert set(found["rank"]) == {1}
    assert found["top_ids"].tolist() == [[0, 1]] * len(ids)
    assert found["log_probability"] == pytest.approx(-np.log(loaded.anatomy.vocab))


def test_text_is_no_command(loaded_model: Callable[..., LoadedModel]) -> None:
    """A document that says <eos> is read as those five letters."""
    loaded = loaded_model("llama")
    special = loaded.tokenizer.convert_ids_to_tokens([0, 1])
    ids, offsets = scoring.tokenise(loaded, f"a {special[0]} b {special[1]}")
    assert not {0, 1} & set(ids.tolist())
    assert offsets[-1][1] == len(f"a {special[0]} b {special[1]}")


def test_begin_token(loaded_model: Callable[..., LoadedModel]) -> None:
    loaded = loaded_model("llama")
    starts = loaded.tokenizer("a")["input_ids"][0] == loaded.tokenizer.bos_token_id
    assert scoring.begin_token(loaded, "never") is None
    assert scoring.begin_token(loaded, "always") == loaded.tokenizer.bos_token_id
    assert (scoring.begin_token(loaded, "auto") is not None) == starts


def test_refusals(loaded_model: Callable[..., LoadedModel], private_model: Callable[..., LoadedModel]) -> None:
    loaded = loaded_model("llama")
    with pytest.raises(PromptError, match="context is 64"):
        scoring.window_length(loaded, 65)
    assert scoring.window_length(loaded, "auto") == 64
    assert scoring.window_length(loaded_model("mamba"), "auto") == 2048
    slow = type("Slow", (), {"is_fast": False})()
    with pytest.raises(PromptError, match=r"tokenizer\.json"):
        scoring.tokenise(replace(loaded, tokenizer=slow), "a")
    without = type("Plain", (), {"bos_token_id": None})()
    with pytest.raises(PromptError, match="no begin-of-text token"):
        scoring.begin_token(replace(loaded, tokenizer=without), "always")
    assert scoring.begin_token(replace(loaded, tokenizer=without), "auto") is None
    broken = private_model("llama")
    with torch.no_grad():
        weight = broken.anatomy.unembedding.weight
        assert isinstance(weight, torch.Tensor)
        weight[7] = float("inf")
    with pytest.raises(NumericsError, match="token 0 of the document is NaN or infinite"):
        scored(broken)
