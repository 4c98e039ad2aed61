"""First-order scores against closed forms and finite differences; one pass for several; nothing else moves."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from toys import bigram_task, closed_forms, losses, small_task
from tremor.errors import ConfigError, NumericsError, PromptError
from tremor.weights.scores import SCORES, Options, Task, encode, gradients, prepare, rankings, score

TEXTS = [[0, 1, 2, 3, 0, 1], [2, 2, 5], [4, 0, 1, 2, 3]]


def test_means_over_texts_of_the_bigram_model():
    task = bigram_task(TEXTS)
    weight = task.loaded.model.head.weight.detach()
    g = torch.stack([gradient for gradient, _ in closed_forms(task)])
    ((name, scores),) = gradients.shared(task, gradients.SHARED)
    assert name == "head.weight"
    wanted = {
        "taylor_signed": (g.mean(0) * weight).abs(),
        "taylor_abs": (g * weight).abs().mean(0),
        "grad_squared": g.square().mean(0),
    }
    for kind, values in wanted.items():
        # Float64 throughout: a few dozen roundings of 1e-16.
        torch.testing.assert_close(scores[kind], values, rtol=1e-12, atol=1e-15)
        # By itself or with others: the same pass.
        ((_, alone),) = SCORES[kind].stream(task)
        assert torch.equal(alone, scores[kind])
    # Texts that disagree cancel in the signed score only, which is how the two differ.
    assert bool((scores["taylor_signed"] <= scores["taylor_abs"] + 1e-15).all())
    assert bool((scores["taylor_signed"] < 0.5 * scores["taylor_abs"]).any())


def test_gradients_equal_finite_differences():
    task = small_task()
    found = dict(SCORES["taylor_signed"].stream(task))
    step = 1e-5  # central differences in float64: error step^2 times the third derivative, plus 1e-16 / step
    generator = np.random.default_rng(0)
    for name, parameter in task.selection.parameters():
        for place in generator.choice(parameter.numel(), 4, replace=False):
            flat = parameter.data.view(-1)
            old = flat[place].item()
            ends = []
            for sign in (1, -1):
                flat[place] = old + sign * step
                ends.append(float(sum(losses(task)) / len(task.sequences)))
            flat[place] = old
            slope = (ends[0] - ends[1]) / (2 * step)
            assert float(found[name].view(-1)[place]) == pytest.approx(abs(slope * old), rel=1e-6, abs=1e-9)


def test_fisher_by_token_is_the_mean_over_tokens():
    task = bigram_task(TEXTS)
    weight = task.loaded.model.head.weight.detach()
    squares, tokens = torch.zeros_like(weight), 0
    for text in TEXTS:
        for now, after in pairwise(text):
            g = weight[:, now].softmax(0)
            g[after] -= 1
            squares[:, now] += g.square()
            tokens += 1
    ((_, found),) = SCORES["fisher_token"].stream(task)
    torch.testing.assert_close(found, squares / tokens, rtol=1e-12, atol=1e-15)


def test_true_fisher_of_softmax_is_its_hessian():
    """For a generalised linear model the two are one: mean over tokens of p (1 - p)."""
    task = bigram_task(TEXTS, fisher_draws=1500)
    tokens = sum(len(text) - 1 for text in TEXTS)
    wanted = sum(c * (len(t) - 1) for (_, c), t in zip(closed_forms(task), TEXTS, strict=True)) / tokens
    ((_, found),) = SCORES["fisher_true"].stream(task)
    # 1500 draws of squares whose spread is that of their mean: 2.6 % standard error, five of them allowed.
    torch.testing.assert_close(found, wanted, rtol=0.13, atol=3e-3)
    ((_, again),) = SCORES["fisher_true"].stream(bigram_task(TEXTS, fisher_draws=1500))
    assert torch.equal(found, again)
    ((_, other),) = SCORES["fisher_true"].stream(bigram_task(TEXTS, fisher_draws=1500, seed=1))
    assert not torch.equal(found, other)


def test_hessian_diag_is_not_the_squared_gradient():
    """The originals computed one for the other; here they are different numbers."""
    task = bigram_task(TEXTS)
    ((_, squared),) = SCORES["grad_squared"].stream(task)
    wanted = sum(c for _, c in closed_forms(task)) / len(TEXTS)
    assert not torch.allclose(squared, wanted, rtol=0.5)


@pytest.mark.parametrize("name", ["taylor_signed", "taylor_abs", "grad_squared", "wanda", "obs_diag"])
def test_doubling_the_corpus_changes_nothing(name):
    once, twice = (dict(SCORES[name].stream(bigram_task(TEXTS * n))) for n in (1, 2))
    torch.testing.assert_close(once["head.weight"], twice["head.weight"], rtol=1e-12, atol=1e-15)


def test_scoring_leaves_the_model_as_it_was(private_model):
    loaded = private_model("gpt2")
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    loaded.model.train()
    texts = ["The capital of France is Paris.", "The capital of Italy is Rome."]
    names = ["magnitude", "taylor_abs", "fisher_true", "hutchinson", "wanda", "obs_diag", "weight_ig"]
    rankings(names, loaded, texts, 3, options=Options(probes=2, steps=2))
    assert loaded.model.training  # scored in eval mode, and put back
    assert all(not p.requires_grad and p.grad is None for p in loaded.model.parameters())
    assert all(torch.equal(before[name], p) for name, p in loaded.model.named_parameters())


def test_dropout_is_off_so_that_scores_repeat(private_model):
    """Scored in train mode, the same data twice gave the originals a Jaccard index of 0.48."""
    loaded = private_model("gpt2")
    assert loaded.model.config.resid_pdrop > 0
    loaded.model.train()
    first, second = (rankings(["taylor_abs"], loaded, ["The capital of France is Paris."], 200) for _ in range(2))
    assert first["taylor_abs"].tables["top"].equals(second["taylor_abs"].tables["top"])
    assert not SCORES["taylor_abs"].seeded


def test_the_unused_part_of_a_model_scores_zero(loaded_model):
    """An expert that no token chose has no gradient, and that is no error."""
    loaded = loaded_model("mixtral")
    found = dict(score("grad_squared", loaded, ["The capital"]))
    assert set(found) == {n for n, p in loaded.model.named_parameters() if p.ndim > 1}


def test_texts_are_checked(loaded_model):
    loaded = loaded_model("llama")
    with pytest.raises(PromptError, match="no text to score on"):
        score("taylor_abs", loaded)
    with pytest.raises(PromptError, match="fewer than two tokens"):
        encode(loaded, ["a"], Options(bos="never"))
    assert len(encode(loaded, ["a"], Options(bos="always"))[0]) == 2
    assert len(encode(loaded, ["The capital of France"], Options(max_tokens=3))[0]) == 3
    with pytest.raises(ConfigError, match="no score 'gradient'; choose among magnitude"):
        prepare("gradient", loaded, ["a text"])
    with pytest.raises(ConfigError, match="does not share"):
        list(gradients.shared(prepare("obd", loaded, ["a text"]), ["obd"]))


def test_nan_weights_stop_the_score(private_model):
    loaded = private_model("llama")
    loaded.model.lm_head.weight.data[3, 3] = float("nan")
    with pytest.raises(NumericsError, match="loss of a text is nan"):
        list(score("taylor_abs", loaded, ["The capital of France"]))
    with pytest.raises(NumericsError, match=r"lm_head\.weight hold NaN"):
        rankings(["magnitude"], loaded, [], 3)


def test_rankings_share_a_pass_and_give_both_ends(loaded_model, monkeypatch):
    passes = []
    original = gradients._grad
    monkeypatch.setattr(gradients, "_grad", lambda *a, **k: passes.append(1) or original(*a, **k))
    names = ["taylor_abs", "magnitude", "grad_squared", "taylor_signed"]
    found = rankings(
        names, loaded_model("llama"), ["The capital of France is Paris."] * 3, 4, directions=("top", "bottom")
    )
    assert list(found) == names
    assert len(passes) == 3  # one backward a text, for three scores
    for entry in found.values():
        assert entry.tables["top"]["score"].min() > entry.tables["bottom"]["score"].max()
        assert entry.seconds > 0


def test_a_task_says_what_it_reads(loaded_model):
    assert isinstance(prepare("magnitude", loaded_model("llama"), []), Task)
