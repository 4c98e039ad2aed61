"""The esa analyses that remove weights, on a tiny Llama: complete tables, effects repeated by hand, bits put back."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tremor.config import Config, block
from tremor.errors import ConfigError, NumericsError
from tremor.evaluate import nll
from tremor.experiments import esa_pruning, esa_selective, esa_sensitivity, esa_shared, esa_targeted, summaries
from tremor.store.documents import read_json
from tremor.store.tables import read_csv
from tremor.weights.mutate import Edit, mutated, zero

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}
TEXTS = {"calibration": 2, "heldout": 4, "batch_size": 4}
SMALL = {
    "sensitivity": {},
    "targeted_perturbation": {"scores": ["taylor_abs", "magnitude"], "fractions": [1.0, 0.001, 0.3],
                              "operations": ["zero", "noise"], "controls": 4, "controls_large": 2},
    "selective_weight_pruning": {
        "selections": {name: dict(entry) for name, entry in
                       block(Config(), "esa")["selective_weight_pruning"]["selections"].items()},
        "controls": 3, "prompts": ["The capital of France is"], "tokens": 8},
    "pruning": {"scores": ["magnitude", "wanda"], "sparsities": [0.1, 0.5], "patterns": ["2:4"],
                "checkpoints": ["wanda-2of4", "magnitude-per_row-0.5"]},
}  # fmt: skip


def settings(name, **changes):
    return {**block(Config(), "esa")[name], **SMALL[name], **changes}


def bits(model):
    return {name: parameter.detach().view(torch.int32).clone() for name, parameter in model.named_parameters()}


@pytest.fixture(scope="module")
def done(chain, saved_model, tmp_path_factory):
    """All four analyses, one after the other, on one model whose bits are compared at the end."""
    folder, session = tmp_path_factory.mktemp("esa"), chain.session
    common = {"texts": TEXTS, "provenance": ORIGIN}
    scores = block(Config(), "esa")["scores"]
    before = bits(session.loaded.model)
    esa_sensitivity.measure(
        session, settings=settings("sensitivity"), effects=folder / "sensitivity.csv",
        statistics=folder / "sensitivity.json", **common,
    )  # fmt: skip
    esa_targeted.measure(
        session, scores=scores, settings=settings("targeted_perturbation"), effects=folder / "targeted.csv",
        draws=folder / "draws.csv", statistics=folder / "targeted.json", **common,
    )  # fmt: skip
    esa_selective.measure(
        session, scores=scores, settings=settings("selective_weight_pruning"), effects=folder / "selective.csv",
        generations=folder / "generations.json", selections=folder / "selections.json", **common,
    )  # fmt: skip
    esa_pruning.measure(
        session, directory=saved_model("llama"), scores=scores, settings=settings("pruning"),
        curves=folder / "curves.csv", checkpoints=folder / "checkpoints", statistics=folder / "pruning.json", **common,
    )  # fmt: skip
    after = bits(session.loaded.model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    return folder


def test_tables_have_the_columns_of_their_summaries(done):
    for name, file in (("sensitivity", "sensitivity"), ("targeted-perturbation", "targeted"),
                       ("selective-weight-pruning", "selective"), ("pruning", "curves")):  # fmt: skip
        assert list(read_csv(done / f"{file}.csv").columns) == list(summaries.COLUMNS[f"esa/{name}"])


def test_sensitivity_covers_every_block_and_component(done):
    """The original saw blocks 0 to 4, one MLP and one attention tensor of each."""
    table = read_csv(done / "sensitivity.csv")
    names = ["block", "mixer", "mlp", "q", "k", "v", "o", "gate", "up", "down"]
    norms = ["input_layernorm", "post_attention_layernorm"]
    heads = [f"head.{index}" for index in range(4)]
    for own in (0, 1):
        zero = table[(table["block"] == own) & (table["mode"] == "zero")]
        assert zero["component"].tolist() == names + norms + heads
        mean = table[(table["block"] == own) & (table["mode"] == "mean")]
        assert mean["component"].tolist() == names + norms  # a head has no output of its own
    left_out = read_json(done / "sensitivity.json")["no_output_of_their_own"]
    assert {entry["component"] for entry in left_out} == set(heads)
    ranked = table[(table["mode"] == "zero") & (table["level"] == "component")].sort_values("rank")
    assert ranked["rank"].tolist() == list(range(1, 15))
    assert ranked["delta_nll"].is_monotonic_decreasing
    assert (table["delta_nll_low"] <= table["delta_nll"]).all()
    assert (table["delta_nll"] <= table["delta_nll_high"]).all()


def test_the_effect_of_a_component_by_hand(done, chain):
    """Set to zero directly, measured without the machinery of mutations and baselines."""
    loaded = chain.session.loaded
    texts = nll.tokenise(loaded, esa_shared.passages("heldout", 4))
    clean = nll.evaluate(loaded, texts, batch_size=4).nll
    weight = loaded.model.get_parameter(loaded.anatomy.block_parts[1].v.parameter)
    old = weight.detach().clone()
    weight.data.zero_()
    changed = nll.evaluate(loaded, texts, batch_size=4).nll
    weight.data.copy_(old)
    table = read_csv(done / "sensitivity.csv").set_index(["mode", "block", "component"])
    row = table.loc[("zero", 1, "v")]
    # Two sums of the same float64 numbers.
    assert row["delta_nll"] == pytest.approx(changed - clean, rel=1e-9, abs=1e-12)
    assert row["delta_nll"] != 0
    assert row["weights"] == weight.numel()
    # Hooks and weights agree: an attention that adds nothing, and an output projection of zeros.
    assert table.loc[("zero", 1, "mixer"), "delta_nll"] == table.loc[("zero", 1, "o"), "delta_nll"]


def test_doses_have_matched_controls_and_one_baseline(done):
    table, draws = read_csv(done / "targeted.csv"), read_csv(done / "draws.csv")
    assert len(table) == 2 * 2 * 2 * 3
    assert table["nll_clean"].nunique() == 1
    top = table[table["selection"] == "top"]
    assert dict(zip(top["fraction"], top["controls"], strict=False)) == {0.001: 4, 0.3: 2, 1.0: 0}
    assert (table[table["selection"] == "bottom"]["controls"] == 0).all()
    for row in top[top["controls"] > 0].itertuples():
        own = draws[(draws["score"] == row.score) & (draws["operation"] == row.operation)]
        own = own[own["fraction"] == row.fraction]["delta_nll"]
        assert (own.min(), own.max()) == (row.control_lowest, row.control_highest)
        assert row.p == pytest.approx((1 + (own >= row.delta_nll).sum()) / (1 + len(own)))
        assert row.weights == round(row.fraction * row.population)
    whole = table[(table["fraction"] == 1.0) & (table["operation"] == "zero")]
    assert whole["delta_nll"].nunique() == 1  # all weights are all weights, in whatever order
    zero = top[top["operation"] == "zero"].set_index(["score", "fraction"])
    assert zero.loc[("taylor_abs", 0.3), "kl"] > zero.loc[("taylor_abs", 0.001), "kl"] > 0


def test_text_before_and_after_has_the_same_seed(done):
    """Unseeded sampling on both sides made the originals' "dramatic change"; here another seed alone stands beside."""
    texts = pd.DataFrame(read_json(done / "generations.json")["texts"])
    clean = texts[texts["selection"].isna()]
    assert clean["kind"].tolist() == ["greedy", "sampled", "other_seed"]
    assert clean["same"].tolist()[:2] == [True, True]
    assert len(texts) == 3 + 9 * 2
    table = read_csv(done / "selective.csv")
    assert table["selection"].tolist() == [n for n in ("most", "mixer_most", "least") for _ in range(3)]
    for row in table.itertuples():
        own = texts[(texts["selection"] == row.selection) & (texts["fill"] == row.fill)].set_index("kind")
        before = clean.set_index("kind")
        for kind, found in (("greedy", row.greedy_kept), ("sampled", row.sampled_kept)):
            ids, old = own.loc[kind, "ids"], before.loc[kind, "ids"]
            shared = next(
                (i for i, (a, b) in enumerate(zip(ids, old, strict=False)) if a != b), min(len(ids), len(old))
            )
            assert found == pytest.approx(shared / max(len(ids), len(old)))
    described = read_json(done / "selections.json")["selections"]
    assert described["most"]["total"] == table["weights"].iloc[0]
    assert sum(len(entry["flat_index"]) for entry in described["most"]["weights"]) == described["most"]["total"]
    assert set(described["mixer_most"]["by_component"]) <= {"q", "k", "v", "o"}


def test_a_pruned_model_has_nothing_left_to_replace_by_zero(chain):
    """Its least important weights are those that are gone: no change, and no error."""
    loaded, edits = chain.session.loaded, [Edit("model.layers.0.mlp.up_proj.weight", torch.arange(9))]
    bench = esa_shared.Bench(loaded, esa_shared.passages("heldout", 2), batch_size=2)
    own = settings("selective_weight_pruning", tokens=2)
    with mutated(loaded, edits, zero):
        assert esa_selective._applied(bench, edits, zero, own)[0].weights == 0
        with pytest.raises(NumericsError, match="changed none of them"):
            esa_selective._applied(bench, [Edit(edits[0].tensor, torch.arange(9, 20))], lambda v, target: v, own)


def test_a_component_that_is_not_there_is_an_error_and_not_an_empty_selection(chain, tmp_path):
    """`--component value` matched no tensor of the original's model: it pruned nothing, and showed other text."""
    own = settings("selective_weight_pruning")
    entry = own["selections"]["most"]

    def run(**changes):
        esa_selective.measure(
            chain.session, texts=TEXTS, scores=block(Config(), "esa")["scores"], provenance=ORIGIN,
            settings={**own, "fills": ["zero"], "controls": 2, "selections": {"mine": {**entry, **changes}}},
            effects=tmp_path / "a.csv", generations=tmp_path / "b.json", selections=tmp_path / "c.json",
        )  # fmt: skip
        return read_json(tmp_path / "c.json")["selections"]["mine"]

    assert set(run(components=["value"], percentile=50.0)["by_component"]) == {"v"}
    with pytest.raises(ConfigError, match="no component 'values'"):
        run(components=["values"])
    with pytest.raises(ConfigError, match=r"selections\.mine: of 6144 weights, .* leave none"):
        run(components=["up", "down"], percentile=0.001)
    chosen = {"weights": [{"tensor": "model.layers.0.mlp.up_proj.weight", "flat_index": [3, 5]}]}
    path = tmp_path / "mine.json"
    path.write_text(str(chosen).replace("'", '"'))
    assert run(file=str(path))["weights"] == chosen["weights"]


def test_pruning_prunes_what_it_says(done, chain):
    """The original's entry point did nothing and printed success."""
    curves = read_csv(done / "curves.csv")
    assert len(curves) == 2 * (3 * 2 + 1)
    assert (curves["changed"] == curves["pruned"]).all()
    assert (curves["sparsity_found"] - curves["sparsity"]).abs().max() < 0.01  # rows of 32 and 48: half a weight each
    assert np.allclose(curves["ppl_ratio"], np.exp(curves["delta_nll"]))
    assert curves["checkpoint"].dropna().tolist() == ["magnitude-per_row-0.5", "wanda-2of4"]
    row = curves.set_index("checkpoint").loc["wanda-2of4"]
    stored = load_file(done / "checkpoints/wanda-2of4/model.safetensors")
    zeros = sum(int((tensor == 0).sum()) for name, tensor in stored.items() if "_proj" in name)
    assert zeros == row["pruned"] == row["population"] // 2
    for name, tensor in stored.items():
        if "_proj" in name:
            assert bool(((tensor.view(-1, 4) == 0).sum(1) == 2).all())
    assert set(read_json(done / "pruning.json")["checkpoints"]) == {"wanda-2of4", "magnitude-per_row-0.5"}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("pruning", {"checkpoints": ["wanda-3of4"]}, "checkpoint 'wanda-3of4' is not pruned here"),
        ("pruning", {"sparsities": [0.5, 1.0]}, "sparsities has 1.0"),
        ("targeted_perturbation", {"fractions": [0.0]}, "fractions has 0.0"),
        ("selective_weight_pruning", {"select": ["nowhere"]}, "select names 'nowhere'"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(name, changes, message):
    from tremor.config import load

    with pytest.raises(ConfigError, match=message):
        load({"esa": {name: changes}})


def test_a_layer_that_does_not_exist_is_an_error(chain, tmp_path):
    with pytest.raises(ConfigError, match="there is no block 2"):
        esa_sensitivity.measure(
            chain.session, texts=TEXTS, settings=settings("sensitivity", layers=[2]), provenance=ORIGIN,
            effects=tmp_path / "a.csv", statistics=tmp_path / "b.json",
        )  # fmt: skip
