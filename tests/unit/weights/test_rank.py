"""Rankings against a full sort, in every scope, with ties, slices, and stacked and transposed parameters."""

import json

import pandas as pd
import pytest
import torch

from families import tiny
from tremor.errors import ConfigError, NumericsError
from tremor.models.anatomy import describe
from tremor.weights.rank import COLUMNS, top_k
from tremor.weights.select import select


@pytest.fixture(scope="module", params=["llama", "gpt2", "mixtral", "mamba"])
def anatomy(request):
    return describe(tiny(request.param, layers=2))


def ties(selection, levels=40, seed=0):
    """Scores with few distinct values, so that ties decide most of a ranking."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in selection.parameters():
        yield name, torch.randint(0, levels, parameter.shape, generator=generator).float()


def full_sort(selection, scores, *, k, scope, largest=True, fraction=None):
    """Every scalar in a table, sorted by score, order of the tensor, flat index: the definition."""
    rows = []
    for name, values in scores:
        entry = selection.chosen[name]
        mask = entry.mask()
        shape, layout = values.shape, entry.layout
        inputs = len(shape) - 2 if layout.transposed else len(shape) - 1
        for flat in range(values.numel()):
            index = [int(i) for i in torch.unravel_index(torch.tensor(flat), shape)]
            if mask is not None and not mask[tuple(index)]:
                continue
            row = index[:1] if len(shape) > 2 and layout.axis == 0 else [*index[:inputs], *index[inputs + 1 :]]
            rows.append((name, layout.order, layout.block, tuple(row), flat, float(values.reshape(-1)[flat])))
    table = pd.DataFrame(rows, columns=["tensor", "order", "block", "row", "flat_index", "score"])
    keys = {"global": [], "per_tensor": ["order"], "per_block": ["block"], "per_row": ["order", "row"]}[scope]
    table = table.sort_values(["score", "order", "flat_index"], ascending=[not largest, True, True], kind="stable")
    groups = [group for _, group in table.groupby(keys)] if keys else [table]
    limit = [min(k, len(g)) if k else max(1, round(fraction * len(g))) for g in groups]
    return pd.concat([group.head(n) for group, n in zip(groups, limit, strict=True)], ignore_index=True)


@pytest.mark.parametrize("scope", ["global", "per_tensor", "per_block", "per_row"])
@pytest.mark.parametrize("largest", [True, False])
def test_equals_a_full_sort(anatomy, scope, largest):
    names = ["in_proj", "conv1d", "o"] if anatomy.recurrent else ["value", "down", "o"]
    selection = select(anatomy, layers=[1], components=names)
    found = top_k(ties(selection), 7, selection=selection, scope=scope, largest=largest, scorer="ties", run_id="run")
    wanted = full_sort(selection, ties(selection), k=7, scope=scope, largest=largest)
    assert tuple(found.columns) == COLUMNS
    for name in ("tensor", "flat_index", "score"):
        assert found[name].tolist() == wanted[name].tolist(), name
    assert set(found["scope"]) == {scope}
    assert set(found["block"]) == {1}


def test_any_order_of_the_stream_gives_one_ranking(anatomy):
    selection = select(anatomy)
    ordered = list(ties(selection))
    first = top_k(ordered, 500, selection=selection)
    second = top_k(reversed(ordered), 500, selection=selection)
    pd.testing.assert_frame_equal(first, second)


def test_the_head_of_a_ranking_is_the_ranking_of_fewer(anatomy):
    selection = select(anatomy)
    long = top_k(ties(selection), 900, selection=selection)
    pd.testing.assert_frame_equal(long.head(31), top_k(ties(selection), 31, selection=selection))
    assert long["rank"].tolist() == list(range(1, 901))


def test_a_fraction_is_of_the_scope(anatomy):
    selection = select(anatomy, components=["mixer"])
    assert len(top_k(ties(selection), selection=selection, fraction=0.25)) == round(0.25 * selection.count)
    everything = top_k(ties(selection), selection=selection, fraction=1.0, scope="per_block")
    assert len(everything) == selection.count
    assert len(top_k(ties(selection), 10**9, selection=selection)) == selection.count


def test_rows_say_where_a_weight_is(anatomy):
    selection = select(anatomy)
    found = top_k(((n, p.detach().abs()) for n, p in selection.parameters()), 20, selection=selection)
    for row in found.itertuples():
        parameter = anatomy.parameter(row.tensor)
        assert parameter[tuple(json.loads(row.index))].item() == row.weight
        assert parameter.reshape(-1)[row.flat_index].item() == row.weight
        assert abs(row.weight) == row.score


def test_bfloat16_scores_keep_their_order(anatomy):
    selection = select(anatomy)
    scores = [(n, v.bfloat16()) for n, v in ties(selection)]
    assert top_k(scores, 50, selection=selection)["flat_index"].tolist() == (
        top_k(ties(selection), 50, selection=selection)["flat_index"].tolist()
    )


def test_refusals(anatomy):
    selection = select(anatomy)
    name = selection.tensors[0]
    bad = torch.full(selection.chosen[name].layout.shape, float("nan"))
    with pytest.raises(NumericsError, match=f"{name} hold NaN"):
        top_k([(name, bad)], 3, selection=selection)
    good = torch.zeros_like(bad)
    with pytest.raises(NumericsError, match="came twice"):
        top_k([(name, good), (name, good)], 3, selection=selection)
    with pytest.raises(NumericsError, match="do not fit"):
        top_k([(name, good[:1])], 3, selection=selection)
    with pytest.raises(NumericsError, match="not defined for the selection"):
        top_k([], 3, selection=selection)
    for settings in ({}, {"k": 3, "fraction": 0.5}, {"k": 0}, {"fraction": 0.0}, {"fraction": 1.1}):
        with pytest.raises(ConfigError):
            top_k([(name, good)], selection=selection, **settings)
