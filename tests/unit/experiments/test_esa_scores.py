"""esa/super-weights and esa/compare-sensitivity on a tiny Llama: tables that add up, and effects that are real."""

import json

import numpy as np
import pytest
import torch

from tremor.config import Config, block
from tremor.errors import ConfigError, NumericsError
from tremor.evaluate import nll
from tremor.experiments import esa_compare, esa_shared, esa_super_weights, summaries
from tremor.store.documents import read_json
from tremor.store.tables import read_csv
from tremor.weights.mutate import Edit, mutated, zero
from tremor.weights.rank import COLUMNS
from tremor.weights.scores import rankings, score
from tremor.weights.select import select

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}
TEXTS = {"calibration": 3, "heldout": 4, "batch_size": 4}
SUPER = {"methods": ["magnitude", "taylor_abs", "hutchinson", "obd", "weight_ig", "activation_spike", "spikes"],
         "controls": 4, "prompts": 2, "factors": [0.0, 0.5, 1.0, 3.0], "grids": ["int4", "nf4"],
         "groups": [8]}  # fmt: skip
COMPARE = {"methods": ["magnitude", "taylor_abs", "grad_squared", "wanda", "random"], "top_k": 40, "sample": 500}


def settings(name, **changes):
    return {**block(Config(), "esa")[name], **changes}


@pytest.fixture(scope="module")
def supers(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("super")
    esa_super_weights.measure(
        chain.session, texts=TEXTS, scores=settings("scores", probes=4, steps=4),
        settings=settings("super_weights", **SUPER),
        weights=folder / "weights.csv", peaks=folder / "peaks.csv", effects=folder / "effects.csv",
        changes=folder / "changes.csv",
        statistics=folder / "statistics.json", provenance=ORIGIN,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def compared(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    esa_compare.measure(
        chain.session, texts=TEXTS, scores=settings("scores"), settings=settings("compare_sensitivity", **COMPARE),
        weights=folder / "weights.csv", methods=folder / "methods.csv", pairs=folder / "pairs.csv",
        statistics=folder / "statistics.json", provenance=ORIGIN,
    )  # fmt: skip
    return folder


def test_one_row_for_each_method_in_the_order_asked_for(supers):
    effects = read_csv(supers / "effects.csv")
    assert effects["method"].tolist() == SUPER["methods"]
    assert set(summaries.COLUMNS["esa/super-weights"]) <= set(effects.columns)
    found = effects[effects["method"] != "spikes"]
    assert (found["weights"] == 10).all()
    assert found["p"].between(1 / 5, 1).all()
    assert (found["delta_nll_low"] <= found["delta_nll"]).all()
    quality = effects.set_index("method")["quality"]
    assert 0 < quality["hutchinson"] <= 1.5
    assert quality["weight_ig"] < 1  # four points only
    assert np.isnan(quality["magnitude"])


def test_a_random_model_has_no_super_weight_and_says_so(supers):
    row = read_csv(supers / "effects.csv").set_index("method").loc["spikes"]
    assert row["weights"] == 0
    assert np.isnan(row["delta_nll"])
    assert read_json(supers / "statistics.json")["super_weights"] == []


def test_rankings_of_all_methods_have_one_schema(supers, chain):
    table = read_csv(supers / "weights.csv")
    assert tuple(table.columns) == COLUMNS
    assert set(table["run_id"]) == {"tiny"}
    for row in table.itertuples():
        parameter = chain.session.loaded.model.get_parameter(row.tensor)
        assert parameter[tuple(json.loads(row.index))].item() == row.weight
        assert row.block in (0, 1)  # inside the blocks, as the default selection says


def test_the_effect_is_that_of_zeroing_these_weights(supers, chain):
    """Recomputed by hand: the weights of the table are set to zero, and the held-out text is read again."""
    loaded = chain.session.loaded
    table = read_csv(supers / "weights.csv")
    mine = table[table["scorer"] == "taylor_abs"]
    texts = nll.tokenise(loaded, esa_shared.passages("heldout", 4))
    clean = nll.evaluate(loaded, texts, batch_size=4).nll
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    for row in mine.itertuples():
        loaded.model.get_parameter(row.tensor).data.view(-1)[row.flat_index] = 0
    changed = nll.evaluate(loaded, texts, batch_size=4).nll
    for name, parameter in loaded.model.named_parameters():
        parameter.data.copy_(before[name])
    row = read_csv(supers / "effects.csv").set_index("method").loc["taylor_abs"]
    # Two sums of the same float64 numbers.
    assert row["delta_nll"] == pytest.approx(changed - clean, rel=1e-9, abs=1e-12)
    assert row["delta_nll"] != 0


def test_peaks_are_there_for_every_prompt_and_block(supers):
    peaks = read_csv(supers / "peaks.csv")
    assert len(peaks) == 2 * 2 * 2  # prompts, with and without begin token, blocks
    assert not peaks["spikes"].any()


def test_scaled_weights_and_weights_held_out_of_a_grid(supers, chain):
    """Both against weights that are set by hand, with no mutation of ours."""
    loaded = chain.session.loaded
    table = read_csv(supers / "changes.csv")
    named = read_csv(supers / "weights.csv")
    methods = [name for name in SUPER["methods"] if name != "spikes"]  # which names none here
    scaled = table[table["study"] == "scaled"]
    assert scaled["method"].tolist() == [name for name in methods for _ in range(4)]
    clean = scaled[scaled["factor"] == 1]
    assert (clean["weights"] == 0).all()
    assert (clean["delta_nll"] == 0).all()
    removed = read_csv(supers / "effects.csv").set_index("method")
    zero = scaled[scaled["factor"] == 0].set_index("method")
    assert all(zero.loc[name, "delta_nll"] == removed.loc[name, "delta_nll"] for name in methods)

    rows = named[named["scorer"] == "taylor_abs"]
    texts = nll.tokenise(loaded, esa_shared.passages("heldout", TEXTS["heldout"]))
    before = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    original = nll.evaluate(loaded, texts, batch_size=4).nll
    with torch.no_grad():
        try:
            for name, flat in zip(rows["tensor"], rows["flat_index"], strict=True):
                loaded.anatomy.parameter(name).view(-1)[flat] *= 3
            tripled = nll.evaluate(loaded, texts, batch_size=4).nll
            for name, p in loaded.model.named_parameters():
                p.copy_(before[name])
            own = select(loaded.anatomy, components=block(Config(), "esa")["super_weights"]["components"])
            for name in own.tensors:
                p = loaded.anatomy.parameter(name)
                mine = rows.loc[rows["tensor"] == name, "flat_index"].tolist()
                rest = p.double().reshape(-1).clone()
                rest[mine] = 0
                groups = rest.reshape(-1, 8)  # rows of 32 and 64 inputs: no group crosses a row
                step = groups.abs().amax(1, keepdim=True) / 7
                grid = (torch.round(groups / torch.where(step > 0, step, 1)) * step).reshape(-1).float()
                grid[mine] = p.reshape(-1)[mine]
                p.copy_(grid.reshape(p.shape))
            spared = nll.evaluate(loaded, texts, batch_size=4).nll
        finally:
            for name, p in loaded.model.named_parameters():
                p.copy_(before[name])
    # The same weights, and the same forwards: what is left is the rounding of two sums of some hundred numbers.
    own = scaled[(scaled["method"] == "taylor_abs") & (scaled["factor"] == 3)].iloc[0]
    assert own["delta_nll"] == pytest.approx(tripled - original, abs=1e-12)
    held = table[(table["method"] == "taylor_abs") & (table["grid"] == "int4")].iloc[0]
    assert held["delta_nll"] == pytest.approx(spared - original, abs=1e-12)
    assert held["held_out"] == 10
    whole = table[table["method"] == "none"]
    assert whole[["grid", "group", "held_out"]].values.tolist() == [["int4", 8, 0], ["nf4", 8, 0]]
    assert held["weights"] < whole.iloc[0]["weights"]


def test_a_model_that_is_not_the_same_twice_has_no_effects(chain):
    def noisy(module, args, output):
        return output + 1e-3 * torch.rand_like(output)

    handle = chain.session.loaded.model.lm_head.register_forward_hook(noisy)
    try:
        with pytest.raises(NumericsError, match="other logits the second time"):
            esa_shared.Bench(chain.session.loaded, esa_shared.passages("heldout", 2), batch_size=2)
    finally:
        handle.remove()


def test_an_edit_that_changes_nothing_stops_the_analysis(chain):
    """The originals masked nothing and reported the effect of 50 weights."""
    bench = esa_shared.Bench(chain.session.loaded, esa_shared.passages("heldout", 4), batch_size=4)
    name = "model.layers.0.mlp.down_proj.weight"
    with pytest.raises(NumericsError, match="changed none of them"):
        bench.changed([name] * 3, [0, 1, 2], lambda values, target: values)
    assert bench.now().delta_nll == 0
    assert bench.now().flip_rate == 0
    with mutated(chain.session.loaded, [Edit(name)], zero):  # a model that was pruned has nothing left to remove here
        assert bench.changed([name] * 3, [0, 1, 2]).weights == 0
        assert bench.controls([name] * 3, [0, 1, 2], draws=2, seed=0) == [bench.now().delta_nll] * 2


def test_pairs_against_python_sets(compared, chain):
    pairs, methods, weights = (read_csv(compared / f"{name}.csv") for name in ("pairs", "methods", "weights"))
    assert len(pairs) == 10
    assert set(summaries.COLUMNS["esa/compare-sensitivity"]) <= set(pairs.columns)
    sets = {m: set(zip(rows["tensor"], rows["flat_index"], strict=True)) for m, rows in weights.groupby("scorer")}
    population = read_json(compared / "statistics.json")["population"]
    assert population == select(chain.session.loaded.anatomy, components=["mixer", "mlp"]).count
    for row in pairs.itertuples():
        a, b = sets[row.first], sets[row.second]
        assert row.common == len(a & b)
        assert row.jaccard == pytest.approx(len(a & b) / len(a | b))
        assert row.jaccard_chance == pytest.approx(40 / (2 * population - 40))
        assert row.correlated == 500
    assert methods.set_index("method")["repeats"].to_dict() == {
        "magnitude": "deterministic", "taylor_abs": "deterministic", "grad_squared": "deterministic",
        "wanda": "deterministic", "random": "seeded",
    }  # fmt: skip
    related = pairs.set_index(["first", "second"])["spearman"]
    assert related["taylor_abs", "grad_squared"] > 0.4  # both from the same gradients
    assert abs(related["magnitude", "random"]) < 0.2


def test_the_sample_is_of_selected_weights_only(loaded_model):
    """In a fused tensor too; every place is drawn once, and a large sample is all of them."""
    anatomy = loaded_model("gpt2").anatomy
    selection = select(anatomy, components=["value"])
    places = esa_compare._sample(selection, 10**9, 0)
    for name, flat in places.items():
        assert len(flat) == len(set(flat.tolist())) == selection.chosen[name].count
        assert bool(selection.chosen[name].mask().reshape(-1)[torch.from_numpy(flat)].all())
    few = esa_compare._sample(selection, 100, 0)
    assert sum(len(flat) for flat in few.values()) == 100
    assert all(np.isin(few[name], places[name]).all() for name in few)


def test_deterministic_scores_repeat_to_the_bit(loaded_model):
    """Seeds with dropout off: a Jaccard index of 1.0, which is why `repeats` says deterministic and not stable."""
    loaded = loaded_model("llama")
    texts = esa_shared.passages("calibration", 2)
    first, second = (dict(score("taylor_abs", loaded, texts)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_passages_come_from_all_domains_in_turn():
    texts = esa_shared.passages("calibration", 7)
    assert len(set(texts)) == 7
    assert not set(esa_shared.passages("calibration", 100)) & set(esa_shared.passages("heldout", 100))
    with pytest.raises(ConfigError, match=r"esa\.texts asks for 100000 heldout passages"):
        esa_shared.passages("heldout", 100000)


def test_top_weights_matter_more_than_bottom_ones(loaded_model):
    """Zeroing the largest of |g w| moves the calibration loss more than zeroing the smallest."""
    loaded = loaded_model("llama")
    texts = esa_shared.passages("calibration", 3)
    ranked = rankings(["taylor_abs"], loaded, texts, 100, directions=("top", "bottom"))["taylor_abs"].tables
    bench = esa_shared.Bench(loaded, texts, batch_size=4)
    top, bottom = (
        bench.changed(ranked[d]["tensor"].tolist(), ranked[d]["flat_index"].tolist()) for d in ("top", "bottom")
    )
    assert abs(top.delta_nll) > 50 * abs(bottom.delta_nll)
    assert top.kl > bottom.kl
