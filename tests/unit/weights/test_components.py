"""Weights by component: every selected weight once, fused projections apart, samples inside."""

import math

import numpy as np
import pytest
import torch

from tremor.weights import bits, components
from tremor.weights.select import select


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_every_weight_is_in_one_component(loaded_model, family):
    loaded = loaded_model(family)
    selection = select(loaded.anatomy)
    seen = {name: torch.zeros(p.shape, dtype=torch.int64) for name, p in selection.parameters()}
    found = components.by_component(selection)
    assert {"q", "k", "v", "o", "down"} <= set(found)
    for entries in found.values():
        for name, entry in entries.items():
            mask = entry.mask()
            seen[name] += 1 if mask is None else mask.long()
    assert all(bool((count == 1).all()) for count in seen.values())


def test_samples_and_values_are_of_the_component(loaded_model):
    loaded = loaded_model("gpt2")
    entries = components.by_component(select(loaded.anatomy))["v"]
    drawn = components.draw(entries, 200, np.random.default_rng(0))
    assert len(set(drawn)) == 200
    for name, flat in drawn:
        assert bool(entries[name].mask().reshape(-1)[flat])
    assert len(components.draw(entries, 10**9, np.random.default_rng(0))) == sum(e.count for e in entries.values())
    name, entry = next(iter(entries.items()))
    parameter = loaded.anatomy.parameter(name)
    picked = components.values(parameter, entry)
    assert sorted(picked.reshape(-1).tolist()) == sorted(parameter.detach()[entry.mask()].tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_exponents_against_frexp(dtype):
    values = torch.randn(300, generator=torch.Generator().manual_seed(0)).to(dtype)
    values[:3] = torch.tensor([0.0, torch.inf, -1.0], dtype=dtype)
    exponent, counts = bits.exponents(values)
    assert counts.sum() == 300
    expected = {}
    for value in values[2:].tolist():
        expected[math.frexp(value)[1] - 1] = expected.get(math.frexp(value)[1] - 1, 0) + 1
    found = dict(zip(exponent.tolist(), counts.tolist(), strict=True))
    assert {e: found[e] for e in expected} == expected
    assert counts[0] == 1  # the zero
    assert counts[-1] == 1  # the infinity
