"""Every prediction by itself: against a plain per-token loop, and the likelihoods of nll.evaluate."""

import numpy as np
import pytest
import torch

from tremor.evaluate import nll
from tremor.evaluate.predictions import predict

TEXTS = ["The capital of France is Paris.", "Water.", "The old man looked at the sea and then went home again."]


def slow(loaded, texts, width, overlap):
    """Token by token: a forward pass for each, over what its window holds, nothing batched or padded."""
    rows = []
    for number, text in enumerate(texts):
        ids = loaded.tokenizer(text)["input_ids"]
        begin, scored = 0, 1
        while scored < len(ids):
            end = min(len(ids), width + 1 if scored == 1 else scored + width + 1 - overlap)
            begin = max(0, end - 1 - width)
            for place in range(scored, end):
                with torch.no_grad():
                    logits = loaded.model(input_ids=torch.tensor([ids[begin:place]])).logits[0, -1].double()
                p = logits.softmax(-1)
                truth = torch.zeros_like(p)
                truth[ids[place]] = 1
                rows.append(
                    (number, -float(p[ids[place]].log()), float(p.max()), int(logits.argmax()) == ids[place],
                     float((p - truth).square().sum()), -float((p * p.log()).sum()))
                )  # fmt: skip
            scored = end
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize(("width", "overlap"), [(None, 1), (6, 1), (6, 3)])
@pytest.mark.parametrize("batch", [1, 8])
def test_equals_a_loop_over_tokens(loaded_model, width, overlap, batch):
    loaded = loaded_model("llama")
    texts = nll.tokenise(loaded, TEXTS, window=width, overlap=overlap)
    found = predict(loaded, texts, batch_size=batch)
    text, loss, confidence, correct, brier, entropy = slow(loaded, TEXTS, width or loaded.anatomy.context, overlap)
    assert found.text.tolist() == text.tolist()
    assert found.correct.tolist() == correct.tolist()
    # Batches and single rows sum in other orders: some float32 ulps of a logit near 1.
    for own, reference in ((found.nll, loss), (found.confidence, confidence), (found.brier, brier),
                           (found.entropy, entropy)):  # fmt: skip
        np.testing.assert_allclose(own, reference, rtol=2e-5, atol=2e-6)
    same = nll.evaluate(loaded, texts, batch_size=batch)
    # The same logits, added in float64 in another order.
    np.testing.assert_allclose(found.evaluation.nll_sum, same.nll_sum, rtol=1e-12)
    assert found.evaluation.status == same.status


def test_pad_token_that_is_the_end_token_changes_nothing(private_model):
    """The ancestor's loss counted padding, and left out true end tokens where both had one id."""
    loaded = private_model("llama")
    texts = nll.tokenise(loaded, TEXTS)
    before = predict(loaded, texts, batch_size=3).nll
    loaded.tokenizer.pad_token = loaded.tokenizer.eos_token
    np.testing.assert_array_equal(predict(loaded, texts, batch_size=3).nll, before)


def test_a_broken_model_has_a_status_and_no_number(private_model):
    """The ancestor wrote a perplexity of 1e10."""
    loaded = private_model("llama")
    with torch.no_grad():
        loaded.anatomy.unembedding.weight[:] = float("nan")
    found = predict(loaded, nll.tokenise(loaded, TEXTS), batch_size=2)
    assert set(found.evaluation.status) == {"nan_logits"}
    assert np.isnan(found.evaluation.nll)
