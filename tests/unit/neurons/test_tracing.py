"""Causal tracing: exact restoration, noise where it belongs, a planted state that carries the answer."""

import numpy as np
import pytest
import torch

from planted import LAYER, plant
from tremor.errors import ModelError
from tremor.evaluate import facts
from tremor.evaluate.relations import Sentence
from tremor.neurons.tracing import ROLES, Tracer

SENTENCES = (
    Sentence("R", "train", "The capital of France is Paris.", (15, 21), (25, 30)),
    Sentence("R", "train", "Spain has Madrid as its own.", (0, 5), (10, 16)),
    Sentence("R", "train", "Rome is the capital of Italy.", (23, 28), (0, 4)),
)


@pytest.mark.parametrize("family", ["gpt2", "mamba", "llama", "gptj", "bloom"])
def test_the_whole_state_put_back_gives_the_clean_answer_exactly(family, loaded_model):
    """Every position of the residual stream after one block: all that follows has the clean run's bits."""
    loaded = loaded_model(family)
    texts = facts.tokenise(loaded, SENTENCES)
    tracer = Tracer(loaded, noise=3.0, seed=1)
    everything = tuple(range(len(texts.ids[0]) - 1))
    plan = [("output", (0,), everything), ("output", (1,), everything), ("output", (0,), ())]
    clean, corrupted, first, last, nothing = tracer.run(texts, 0, plan, draw=0)
    assert clean == first == last
    assert corrupted == nothing
    assert clean != corrupted
    # And the clean run is that of the sentence by itself, up to the rounding of other shapes.
    assert clean == pytest.approx(facts.evaluate(loaded, texts).answer_logprob[0], abs=1e-4)


def test_noise_reaches_the_subjects_embeddings_only(loaded_model):
    loaded = loaded_model("gpt2")
    texts = facts.tokenise(loaded, SENTENCES)
    tracer = Tracer(loaded, noise=2.0, seed=3)
    std = float(loaded.anatomy.embedding.weight.double().std())
    assert tracer.scale == pytest.approx(2.0 * std)
    with loaded.anatomy.record(["residual.0"]) as seen:
        tracer.run(texts, 0, [], draw=0)
    start, end = texts.subjects[0]
    changed = (seen["residual.0"][0] != seen["residual.0"][1]).any(-1)
    assert changed.tolist() == [start <= i < end for i in range(len(changed))]
    again, other = (tracer.run(texts, 0, [], draw=draw) for draw in (0, 1))
    assert np.array_equal(again, tracer.run(texts, 0, [], draw=0))
    assert again[0] == other[0]
    assert again[1] != other[1]


def test_batches_do_not_change_the_answer(loaded_model):
    loaded = loaded_model("mamba")
    texts = facts.tokenise(loaded, SENTENCES)
    options = {"kinds": ["output", "mixer"], "layers": [0, 1], "draws": 2}
    wide, narrow = (Tracer(loaded, seed=1, batch_tokens=n).trace(texts, 0, **options) for n in (10_000, 150))
    assert wide.restored.shape == (2, 2, len(wide.tokens), 2)
    np.testing.assert_allclose(wide.restored, narrow.restored, atol=1e-4)


def test_what_follows_the_subject_is_not_restored_by_what_precedes_it(loaded_model):
    """A causal model's states before the subject are clean already: to put them back changes nothing at all."""
    loaded = loaded_model("llama")
    texts = facts.tokenise(loaded, SENTENCES)
    trace = Tracer(loaded, seed=2).trace(texts, 0, kinds=["output"], layers=[0, 1], draws=1)
    before = [i for i, role in enumerate(trace.roles) if role == "begin"]
    assert len(before) > 3
    assert np.array_equal(trace.restored[0][:, before], np.full((2, len(before), 1), trace.corrupted[0]))
    # The last block's state at the last position is all that the next token is read from.
    last = trace.restored[0, 1, -1, 0]
    assert trace.roles[-1] == "last"
    first_token = texts.answers[0][0]
    if texts.answers[0][1] - first_token == 1:
        assert last == trace.clean


def test_roles_and_tokens(loaded_model):
    loaded = loaded_model("gpt2")
    texts = facts.tokenise(loaded, SENTENCES)
    trace = Tracer(loaded).trace(texts, 1, kinds=["output"], layers=[0], draws=1)
    assert set(trace.roles) <= set(ROLES)
    joined = "".join(t for t, r in zip(trace.tokens, trace.roles, strict=True) if r.startswith("subject"))
    assert joined.strip() == "Spain"
    assert "".join(trace.tokens).removeprefix("<s>").strip() == "Spain has"
    assert trace.roles[-1] == "last"
    with pytest.raises(ModelError, match="no subject before its answer"):
        Tracer(loaded).trace(texts, 2, kinds=["output"], layers=[0], draws=1)


def test_the_state_that_carries_the_planted_answer_is_found(tmp_path):
    """The carrier writes in its block at the last position; corrupting the cue kills it, its MLP brings it back."""
    planted = plant(tmp_path / "model")
    # The cue itself is declared the subject, so that the noise hits what the carrier reads.
    source = planted.sentences[0]
    cue = (source.subject_span[1], source.answer_span[0])
    texts = facts.tokenise(planted.loaded, [Sentence("A", "train", source.text, cue, source.answer_span)])
    tracer = Tracer(planted.loaded, noise=10.0, seed=0)
    trace = tracer.trace(texts, 0, kinds=["output", "mixer", "mlp"], layers=[0, 1], draws=1)
    assert trace.corrupted[0] < trace.clean - 1.0
    output, mixer, mlp = trace.restored[..., -1, 0]
    assert output[LAYER] == trace.clean
    assert (mixer == trace.corrupted[0]).all()  # attention writes nothing in this model
    assert mlp[LAYER] > trace.corrupted[0] + 0.5
    assert mlp[1] == trace.corrupted[0]
    # Elsewhere than at the cue nothing helps.
    assert torch.equal(torch.from_numpy(trace.restored[:, :, :-1]), torch.full((3, 2, len(trace.tokens) - 1, 1),
                       trace.corrupted[0], dtype=torch.float64))  # fmt: skip
