"""Integrated gradients: complete, and the weights stay where they are (the originals shrank them to 1e-21)."""

import pytest
import torch

from toys import bigram_task, small_task
from tremor.weights.scores import Options, prepare
from tremor.weights.scores.base import corpus_nll
from tremor.weights.scores.path import attributions, nodes
from tremor.weights.select import select


def test_the_rule_integrates():
    for steps in (2, 5, 16):
        points = nodes(steps)
        # alpha = u^2 has weight 2u du: a polynomial of degree 2 steps - 1 in u is integrated exactly.
        assert sum(share for _, share in points) == pytest.approx(1, rel=1e-14)
        assert sum(share * alpha for alpha, share in points) == pytest.approx(1 / 2, rel=1e-13)
        assert all(0 < alpha < 1 for alpha, _ in points)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba"])
def test_complete_within_a_percent_and_untouched(loaded_model, family):
    loaded = loaded_model(family)
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    for components in (None, ["mixer"]):
        selection = select(loaded.anatomy, components=components)
        task = prepare("weight_ig", loaded, ["The capital of France is Paris."], selection=selection,
                       options=Options(steps=48))  # fmt: skip
        total = sum(float(value.double().sum()) for _, value in attributions(task))
        notes = task.notes["weight_ig"]
        assert notes["completeness_error"] < 0.01
        assert notes["loss"] == pytest.approx(corpus_nll(loaded, task.sequences), rel=1e-6)
        # The baseline by hand: the selected weights zero, the others as they are.
        for name in selection.tensors:
            loaded.model.get_parameter(name).data.zero_()
        at_zero = corpus_nll(loaded, task.sequences)
        for name in selection.tensors:
            loaded.model.get_parameter(name).data.copy_(before[name])
        assert total == pytest.approx(notes["loss"] - at_zero, rel=0.01)
    assert all(torch.equal(before[name], p) for name, p in loaded.model.named_parameters())


def test_a_slice_alone_is_moved(loaded_model):
    """Only the selected third of a fused tensor is on the path, so completeness holds for it."""
    loaded = loaded_model("gpt2")
    selection = select(loaded.anatomy, components=["value"])
    task = prepare("weight_ig", loaded, ["The capital of France is Paris."], selection=selection)
    list(attributions(task))
    assert task.notes["weight_ig"]["completeness_error"] < 0.01


def test_against_a_fine_riemann_sum():
    task = bigram_task([[0, 1, 2, 3, 0, 1], [2, 2, 5]], steps=24)
    ((_, found),) = attributions(task)
    weight = task.loaded.model.head.weight
    old = weight.detach().clone()
    total = torch.zeros_like(old)
    steps = 4000  # midpoint rule: error 1 / (24 steps^2) times the second derivative, below 1e-8
    for k in range(steps):
        weight.data.copy_(old * (k + 0.5) / steps)
        weight.requires_grad_(True)
        loss = sum(
            torch.nn.functional.cross_entropy(task.loaded.model(ids[None]).logits[0, :-1], ids[1:])
            for ids in task.sequences
        ) / len(task.sequences)
        total += torch.autograd.grad(loss, weight)[0] / steps
    torch.testing.assert_close(found, total * old, rtol=1e-6, atol=1e-9)


def test_more_points_do_better():
    errors = []
    for steps in (2, 4, 8):
        task = small_task(steps=steps)
        list(attributions(task))
        errors.append(task.notes["weight_ig"]["completeness_error"])
    assert errors[0] > errors[1] > errors[2]
