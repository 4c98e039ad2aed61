"""Pruning against brute force in numpy: exact sparsity, groups along the right axis, patterns that hold everywhere."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tremor.errors import ConfigError
from tremor.weights import mutate
from tremor.weights.mutate import Target, mutated
from tremor.weights.population import Population, gather
from tremor.weights.prune import filtered, n_of_m, noise_fill, unstructured
from tremor.weights.scores import score
from tremor.weights.select import Chosen, Layout, Part, Selection, select


def magnitudes(loaded, components=("mixer", "mlp")):
    selection = select(loaded.anatomy, components=components)
    return gather(selection, score("magnitude", loaded, selection=selection))


def made(scores, *, transposed=False):
    """A population of one tensor with given scores [rows, inputs], stored the other way round if transposed."""
    stored = scores.T.contiguous() if transposed else scores
    rows = scores.shape[0]
    layout = Layout("w", 0, tuple(stored.shape), 1 if transposed else 0, (Part(0, "up", frozenset({"up"})),),
                    np.zeros(rows, dtype=np.int64), transposed)  # fmt: skip
    selection = Selection(SimpleNamespace(), {"w": Chosen(layout, None)})
    return Population(selection, stored.reshape(-1), {"w": (0, stored.numel())})


def as_table(mask, scores, *, transposed=False):
    table = mask.view(scores.T.shape if transposed else scores.shape)
    return table.T if transposed else table


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("group", ["global", "per_tensor", "per_row"])
def test_against_brute_force_in_numpy(private_model, family, group):
    """GPT-2 stores [inputs, outputs]: its rows are columns of the array."""
    loaded = private_model(family)
    population = magnitudes(loaded)
    edits = population.edits(unstructured(population, 0.3, group=group))
    arrays = {name: loaded.anatomy.parameter(name).detach().numpy().copy() for name in population.spans}
    if group == "global":
        flat = np.concatenate([np.abs(array).ravel() for array in arrays.values()])
        keep = np.ones(flat.size, dtype=bool)
        keep[np.argsort(flat, kind="stable")[: round(0.3 * flat.size)]] = False
        sizes = np.cumsum([array.size for array in arrays.values()])[:-1]
        pieces = np.split(keep, sizes)
        arrays = {n: a * m.reshape(a.shape) for (n, a), m in zip(arrays.items(), pieces, strict=True)}
    else:
        for name, array in arrays.items():
            table = array.T if name in loaded.anatomy.transposed else array
            for row in [table.reshape(-1)] if group == "per_tensor" else list(table):
                values = row.copy()
                values[np.argsort(np.abs(values), kind="stable")[: int(0.3 * len(values) + 0.5)]] = 0
                row[:] = values
            if group == "per_tensor" and name in loaded.anatomy.transposed:  # the loop above wrote to a copy
                flat = array.reshape(-1)
                flat[np.argsort(np.abs(flat), kind="stable")[: int(0.3 * flat.size + 0.5)]] = 0
    before = {name: parameter.clone() for name, parameter in loaded.model.named_parameters()}
    with mutated(loaded, edits, mutate.zero):
        for name, array in arrays.items():
            assert np.array_equal(loaded.anatomy.parameter(name).detach().numpy(), array), name
    for name, parameter in loaded.model.named_parameters():
        assert torch.equal(parameter, before[name])


@given(
    rows=st.integers(1, 5),
    groups=st.integers(1, 4),
    pattern=st.sampled_from([(2, 4), (4, 8), (1, 2), (1, 4), (3, 4)]),
    transposed=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_every_group_of_a_pattern_loses_exactly_n_and_the_least(rows, groups, pattern, transposed, seed):
    n, m = pattern
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.integers(0, 4, (rows, groups * m)).astype(np.float32))  # many ties
    mask = n_of_m(made(scores, transposed=transposed), n, m)
    lost = as_table(mask, scores, transposed=transposed).reshape(-1, m).numpy()
    values = scores.reshape(-1, m).numpy()
    for own, gone in zip(values, lost, strict=True):
        expected = np.zeros(m, dtype=bool)
        expected[np.argsort(own, kind="stable")[:n]] = True
        assert gone.tolist() == expected.tolist()


@given(
    st.integers(1, 6), st.integers(1, 30), st.floats(0.01, 1.0), st.sampled_from(["global", "per_tensor", "per_row"])
)
def test_sparsity_is_what_was_asked_for_even_if_all_scores_are_equal(rows, width, sparsity, group):
    scores = torch.zeros(rows, width)
    mask = unstructured(made(scores), sparsity, group=group)
    size = width if group == "per_row" else rows * width
    quota = int(np.floor(sparsity * size + 0.5 + 1e-9))
    assert int(mask.sum()) == quota * (rows if group == "per_row" else 1)
    if group != "per_row":
        assert mask[:quota].all()  # ties by place


def test_a_fused_projection_is_pruned_in_its_own_rows(loaded_model):
    """The value rows inside GPT-2's c_attn, and nothing of query and key."""
    loaded = loaded_model("gpt2")
    population = magnitudes(loaded, ["value"])
    mask = n_of_m(population, 2, 4)
    assert int(mask.sum()) * 2 == population.count
    part = loaded.anatomy.block_parts[0].v
    gone = torch.zeros(loaded.anatomy.parameter(part.parameter).numel(), dtype=torch.bool)
    gone[population.edits(mask)[0].flat_index] = True
    gone = gone.view(loaded.anatomy.parameter(part.parameter).shape)
    value = part.take(gone)  # [inputs, outputs]
    assert int(value.sum()) == int(gone.sum())
    assert bool((value.T.reshape(-1, 4).sum(1) == 2).all())


def test_what_does_not_divide_or_is_out_of_range_is_refused():
    population = made(torch.rand(3, 6))
    with pytest.raises(ConfigError, match="the 6 inputs of w do not divide into groups of 4"):
        n_of_m(population, 2, 4)
    with pytest.raises(ConfigError, match="does not exist"):
        n_of_m(population, 4, 4)
    with pytest.raises(ConfigError, match=r"sparsity 0\.0"):
        unstructured(population, 0.0)


def test_five_percent_are_five_percent():
    """The original zeroed |w| < 0.05 mean |w|, which is 3.2 % of normal weights: erf(0.05 sqrt(2/pi) / sqrt(2))."""
    weights = torch.randn(200, 500, generator=torch.Generator().manual_seed(0))
    original = (weights.abs() < 0.05 * weights.abs().mean()).double().mean().item()
    # 100 000 draws: standard error sqrt(0.032 * 0.968 / 1e5) = 0.0006.
    assert original == pytest.approx(0.0318, abs=0.003)
    assert int(unstructured(made(weights.abs()), 0.05).sum()) == 5000


def test_most_is_the_mirror_of_least():
    scores = torch.tensor([[3.0, 1.0, 2.0, 0.0]])
    assert unstructured(made(scores), 0.5, which="most").tolist() == [True, False, True, False]
    assert n_of_m(made(scores), 1, 4, which="most").tolist() == [True, False, False, False]


def test_filters_by_threshold_percentile_and_block(loaded_model):
    population = made(torch.tensor([[1.0, 8.0, 6.0, 10.0], [9.0, 5.0, 2.0, 7.0]]))
    assert filtered(population, which="most", percentile=25).nonzero().flatten().tolist() == [3, 4]
    assert filtered(population, which="least", percentile=25).nonzero().flatten().tolist() == [0, 6]
    above = filtered(population, which="most", percentile=100, threshold=0.7)  # 7 and more
    assert above.nonzero().flatten().tolist() == [1, 3, 4, 7]
    assert filtered(population, which="most", percentile=50, threshold=0.7).nonzero().flatten().tolist() == [3, 4]
    assert filtered(population, which="least", percentile=100, threshold=0.2).nonzero().flatten().tolist() == [0, 6]
    assert int(filtered(population, which="most", percentile=100, most_per_block=3).sum()) == 3
    with pytest.raises(ConfigError, match="leave none"):
        filtered(population, which="most", percentile=1)
    real = magnitudes(loaded_model("llama"))
    capped = filtered(real, which="most", percentile=100, most_per_block=7)
    for block in (0, 1):
        inside = [n for n in real.spans if real.selection.chosen[n].layout.block == block]
        assert sum(int(capped[slice(*real.spans[name])].sum()) for name in inside) == 7


def test_noise_takes_the_place_of_the_weight():
    """As small as the original's fill, and independent of what stood there."""
    tensor = torch.randn(4000, generator=torch.Generator().manual_seed(1)) * 3 + 5
    target = Target("w", tensor, None)
    filled = noise_fill(0.01, seed=3)(tensor.clone(), target)
    assert torch.equal(filled, noise_fill(0.01, seed=3)(torch.zeros(4000), target))
    # Mean and deviation of 4000 normal numbers: standard errors std/63 and std/89.
    assert abs(float(filled.mean())) < 5 * 0.03 / 63
    assert float(filled.std()) == pytest.approx(0.01 * float(tensor.std(correction=0)), rel=5 / 89)
