"""Sets of weights by score against numpy's own sorting, and random sets that are matched to them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tremor.errors import ConfigError, NumericsError
from tremor.weights.population import gather, highest, lowest, matched, rounded
from tremor.weights.scores import score
from tremor.weights.select import select

FEW = st.lists(st.sampled_from([-1.5, -0.0, 0.0, 0.25, 3.0, float("inf")]), min_size=1, max_size=40)


@given(FEW, st.integers(0, 40))
def test_lowest_is_the_head_of_a_stable_sort(values, k):
    k = min(k, len(values))
    expected = np.zeros(len(values), dtype=bool)
    expected[np.argsort(np.array(values), kind="stable")[:k]] = True
    assert lowest(torch.tensor(values), k).tolist() == expected.tolist()
    expected[:] = False
    expected[np.argsort(-np.array(values), kind="stable")[:k]] = True
    assert highest(torch.tensor(values), k).tolist() == expected.tolist()


@pytest.mark.parametrize(("share", "count", "expected"), [(0.7, 10, 7), (0.05, 10, 1), (0.04, 10, 0), (1.0, 7, 7)])
def test_shares_are_rounded_to_the_nearest(share, count, expected):
    """The originals cut off: 0.7 * 10 was 6 or 7 by binary luck."""
    assert rounded(share, count) == expected


def test_everything_selected_is_there_once_in_order(loaded_model):
    loaded = loaded_model("gpt2")
    selection = select(loaded.anatomy, components=["value", "down"])
    population = gather(selection, score("magnitude", loaded, selection=selection))
    assert population.count == selection.count
    for name, part in population.parts():
        weights = loaded.anatomy.parameter(name).detach().reshape(-1)
        assert torch.equal(population.scores[part], weights[population.flat(name)].abs())
    everything = population.edits(torch.ones(population.count, dtype=torch.bool))
    assert [edit.tensor for edit in everything] == list(selection.tensors)
    assert sum(len(edit.flat_index) for edit in everything) == selection.count
    with pytest.raises(ConfigError, match="no weight is chosen"):
        population.edits(torch.zeros(population.count, dtype=torch.bool))


def test_nan_and_repeated_scores_are_refused(loaded_model):
    selection = select(loaded_model("llama").anatomy, components=["down"])
    name = selection.tensors[0]
    scores = torch.full(selection.chosen[name].layout.shape, torch.nan)
    with pytest.raises(NumericsError, match="hold NaN"):
        gather(selection, [(name, scores)])
    with pytest.raises(NumericsError, match="came twice"):
        gather(selection, [(name, scores.nan_to_num())] * 2)
    with pytest.raises(ConfigError, match="none of which is selected"):
        gather(selection, [])


def test_random_sets_have_as_many_of_each_tensor_and_none_of_the_chosen(loaded_model):
    loaded = loaded_model("gpt2")
    selection = select(loaded.anatomy, components=["value", "up"])
    population = gather(selection, score("magnitude", loaded, selection=selection))
    chosen = highest(population.scores, 300)
    sets = [matched(population, chosen, np.random.default_rng([0, draw])) for draw in range(3)]
    for drawn in sets:
        assert not bool((drawn & chosen).any())
        for _, part in population.parts():
            assert int(drawn[part].sum()) == int(chosen[part].sum())
    assert not torch.equal(sets[0], sets[1])
    assert torch.equal(sets[2], matched(population, chosen, np.random.default_rng([0, 2])))
    most = highest(population.scores, population.count - 5)  # too many for a set apart
    assert int(matched(population, most, np.random.default_rng(0)).sum()) == population.count - 5
