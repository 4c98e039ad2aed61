"""Exact removal of single weights."""

import pytest
import torch

from toys import bigram_task, losses
from tremor.errors import ConfigError
from tremor.weights.scores import SCORES, Options, score
from tremor.weights.select import select


def test_against_removal_by_hand():
    task = bigram_task([[0, 1, 2, 3, 0, 1], [2, 2, 5]])
    weight = task.loaded.model.head.weight
    weight.requires_grad_(False)
    weight[1, 1] = 0
    ((_, found),) = SCORES["loss_ablation"].stream(task)
    clean = sum(float(loss) for loss in losses(task)) / 2
    for place in range(36):
        old = weight.view(-1)[place].item()
        weight.view(-1)[place] = 0
        right = sum(float(loss) for loss in losses(task)) / 2 - clean
        weight.view(-1)[place] = old
        assert float(found.view(-1)[place]) == pytest.approx(right, rel=1e-12, abs=1e-14)
    assert float(found[1, 1]) == 0  # it was zero already, which is an answer


def test_small_sets_only(private_model):
    loaded = private_model("gpt2")
    selection = select(loaded.anatomy, layers=[0], components=["value"])
    with pytest.raises(ConfigError, match="1024 are selected; the limit is 100"):
        list(score("loss_ablation", loaded, ["The capital"], selection=selection, options=Options(ablation_limit=100)))
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    part = select(loaded.anatomy, layers=[0], components=["norm"], vectors=True)
    found = dict(score("loss_ablation", loaded, ["The capital"], selection=part))
    assert sum(int((v != 0).sum()) for v in found.values()) > 100
    assert all(torch.equal(before[name], p) for name, p in loaded.model.named_parameters())
