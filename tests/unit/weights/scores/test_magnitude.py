"""Data-free scores against numpy."""

import numpy as np
import pytest
from scipy import stats

from tremor.weights.scores import Options, score
from tremor.weights.select import select


@pytest.fixture(scope="module")
def loaded(loaded_model):
    return loaded_model("gpt2")


def selected(selection, name):
    mask = selection.chosen[name].mask()
    values = dict(selection.parameters())[name].detach().double()
    return (values if mask is None else values[mask]).numpy().ravel(), mask


def test_against_numpy(loaded):
    selection = select(loaded.anatomy, components=["value", "mlp"])  # value: a third of a fused tensor
    everything = np.concatenate([selected(selection, name)[0] for name in selection.tensors])
    found = {kind: dict(score(kind, loaded, selection=selection)) for kind in
             ("magnitude", "z_score", "z_score_global", "z_score_robust")}  # fmt: skip
    for name in selection.tensors:
        values, mask = selected(selection, name)
        wanted = {
            "magnitude": np.abs(values),
            "z_score": np.abs(stats.zscore(values)),
            "z_score_global": np.abs(values - everything.mean()) / everything.std(),
            "z_score_robust": np.abs(values - np.median(values)) / stats.median_abs_deviation(values, scale="normal"),
        }
        for kind, right in wanted.items():
            mine = found[kind][name]
            mine = (mine if mask is None else mine[mask]).numpy().ravel()
            # Float32 weights, and a spread rounded to float32: a few 1e-7.
            np.testing.assert_allclose(mine, right, rtol=3e-6, atol=1e-6, err_msg=f"{kind} {name}")


def test_a_constant_tensor_has_no_outlier(private_model):
    loaded = private_model("llama")
    name = "model.layers.0.mlp.up_proj.weight"
    loaded.model.get_parameter(name).data.fill_(0.25)
    for kind in ("z_score", "z_score_robust"):
        assert float(dict(score(kind, loaded))[name].abs().max()) == 0


def test_random_order_is_seeded(loaded):
    first, second, other = (dict(score("random", loaded, options=Options(seed=s))) for s in (0, 0, 1))
    name = next(iter(first))
    assert first[name].equal(second[name])
    assert not first[name].equal(other[name])
