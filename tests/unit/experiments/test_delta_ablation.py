"""The delta study of neurons in process: choices, ablations and tables of two tiny models, each number checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from families import save_tiny
from planted import plant
from tremor.config import Config
from tremor.errors import ArtifactError, ConfigError, ModelError
from tremor.evaluate import facts
from tremor.experiments import delta_ablation, delta_tables, delta_tracing
from tremor.models.loader import LoadedModel, load
from tremor.neurons import sites
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv, write_csv
from tremor.weights.activations import ablation

ORIGIN: dict[str, Any] = {"config": {}, "code": "", "inputs": {}}


@dataclass(frozen=True)
class Fake:
    """What the experiments use of a session."""

    loaded: LoadedModel
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def provenance(self, **_: Any) -> dict[str, Any]:
        return {"config": {}, "code": "", "inputs": {}}


def settings(name: str, **changes: Any) -> dict[str, Any]:
    small: dict[str, dict[str, Any]] = {
        "facts": {"relations": ["P47", "P36"], "facts": 3, "other": 3},
        "neurons": {"layers": [1], "top_k": 3, "reference_tokens": 60},
        "percentage": {"controls": 4, "bootstrap": 100},
    }
    return {**Config().delta.model_dump(mode="json")[name], **small.get(name, {}), **changes}


def run(loaded: LoadedModel, folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    fact_settings = settings("facts", **changes.get("facts", {}))
    neuron_settings = settings("neurons", **changes.get("neurons", {}))
    own = Fake(loaded)
    table, reference = folder / "neurons.csv", folder / "reference.h5"
    delta_ablation.choose(
        own, fact_settings=fact_settings, settings=neuron_settings, table=table, reference=reference, provenance=ORIGIN
    )
    delta_ablation.ablate(
        own,
        fact_settings=fact_settings,
        neuron_settings=neuron_settings,
        settings=settings("percentage", **changes.get("percentage", {})),
        neurons=table,
        reference=reference,
        data=folder / "ablation.h5",
        provenance=ORIGIN,
    )
    return folder / "ablation.h5"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    """A context that holds sentences spelt in bytes."""
    folder = tmp_path_factory.mktemp("models")
    save_tiny("mamba", folder / "mamba", layers=2)
    save_tiny("gpt2", folder / "gpt2", layers=2, n_positions=256)
    return {name: load(folder / name, device="cpu") for name in ("mamba", "gpt2")}


@pytest.fixture(scope="module")
def results(models: dict[str, LoadedModel], tmp_path_factory: pytest.TempPathFactory) -> list[delta_tables.Ablations]:
    folder = tmp_path_factory.mktemp("results")
    return delta_tables.read(list(models), [run(loaded, folder / name) for name, loaded in models.items()])


def test_an_effect_is_that_of_the_same_units_ablated_again(models, results):
    """D-D2: chosen and ablated at one tap. Every stored score is recomputed without batches or stored prefixes."""
    for own in results:
        loaded = models[own.model]
        sentences = delta_ablation.sentences(settings("facts"), "evaluate")
        texts = facts.tokenise(loaded, sentences, batch_tokens=1)
        for row, names, controls in own.choices():
            units = [int(u) for u in own.columns["ablation/units"][row]]
            place = sites.site(loaded, names["tap"], int(names["layer"]))
            found = facts.evaluate(loaded, texts, changes={place.tap: ablation(place.tap, units)})
            stored = own.columns["ablated/nll_sum"][row][: len(sentences)]
            np.testing.assert_allclose(stored, found.nll_sum, rtol=1e-5)  # float32 in batches of other shapes
            assert len(controls) == 4


def test_rows_ratios_and_percentages(results):
    table = delta_tables.percentage(results, settings("percentage"))
    assert len(table) == 2 * 2 * 2 * (2 + 1)
    assert set(table["tap"][table["model"] == "gpt2"]) == {"output"}
    np.testing.assert_allclose(table["percentage_change"], 100 * np.expm1(table["delta_nll"]), rtol=1e-12)
    np.testing.assert_allclose(table["perturbed_ppl"] / table["baseline_ppl"], np.exp(table["delta_nll"]), rtol=1e-9)
    assert (table["baseline_std"] > 0).all()
    first = table[table["model"] == "mamba"]
    assert (first["first_over_this_delta_nll"] == 1.0).all()
    keys = ["layer_name", "tap", "selector", "relation", "wording"]
    second = table[table["model"] == "gpt2"].set_index(keys)
    by_hand = first.set_index(keys)["absolute_change"].reindex(second.index) / second["absolute_change"]
    np.testing.assert_allclose(second["first_over_this_absolute_change"], by_hand, rtol=1e-12)
    fits = delta_tables.regressions(table)
    assert len(fits) == 3 * len(table) / 2
    assert fits["slope"].isna().all()  # two relations are no regression


def test_the_matrix_its_diagonal_and_the_tables_of_it(results):
    cells = delta_tables.matrix(results)
    table = delta_tables.percentage(results, settings("percentage"))
    keys = ["model", "layer_name", "tap", "selector", "wording"]
    own = cells[cells["erased"] == cells["measured"]].rename(columns={"erased": "relation"})
    joined = own.merge(table, on=[*keys, "relation"], suffixes=("", "_summary"))
    assert len(joined) == len(table)
    np.testing.assert_array_equal(joined["delta_nll"], joined["delta_nll_summary"])
    factual = delta_tables.factual(cells)
    assert (factual["relations"] == 2).all()
    assert set(factual["own_rank"]) <= {1, 2}
    row = factual.iloc[0]
    other = cells[(cells["measured"] == "other")].iloc[0]
    assert row["other_text_delta_nll"] == other["delta_nll"]
    patterns = delta_tables.patterns(factual)
    group = factual[(factual["model"] == "mamba") & (factual["tap"] == "delta") & (factual["wording"] == "train")]
    group = group[group["selector"] == "variance"]
    match = patterns[(patterns["model"] == "mamba") & (patterns["tap"] == "delta") & (patterns["wording"] == "train")]
    match = match[match["selector"] == "variance"].iloc[0]
    assert match["selectivity_mean"] == pytest.approx(group["selectivity"].mean())
    assert match["erased_sensitivity_std"] == pytest.approx(group["erased_percentage_change"].abs().std(ddof=1))
    wide = delta_tables.comparison(factual)
    assert {"mamba.erased_delta_nll", "gpt2.selectivity"} <= set(wide.columns)


def test_a_planted_relation_is_the_matrixs_diagonal(tmp_path):
    """The whole chain from a file of sentences: each relation's unit erases it and nothing else."""
    planted = plant(tmp_path / "model")
    path = tmp_path / "own.tsv"
    lines = [f"{s.relation}\t{s.text}\t{s.subject}\t{s.answer}" for s in planted.sentences]
    path.write_text("\n".join(["relation\ttext\tsubject\tanswer", *lines]) + "\n")
    data = run(
        planted.loaded,
        tmp_path / "out",
        facts={"source": str(path), "relations": ["A", "B"], "other": 2, "bos": "always"},
        neurons={"layers": [0], "taps": ["mlp_inner"], "selectors": ["gradient"], "top_k": 1},
        percentage={"controls": 20},
    )
    (own,) = delta_tables.read(["planted"], [data])
    cells = delta_tables.matrix([own]).set_index(["erased", "measured"])["answer_logprob_change"]
    assert cells["A", "A"] < -2.0
    assert cells["B", "B"] < -2.0
    assert abs(cells["A", "B"]) < 1e-4
    assert abs(cells["B", "A"]) < 1e-4
    table = delta_tables.percentage([own], settings("percentage"))
    assert (table["answer_control_p"] < 0.05).all()  # 1 / 21 where no random unit is the carrier itself
    assert (delta_tables.factual(delta_tables.matrix([own]))["own_rank"] == 1).all()


def test_choices_of_other_settings_are_refused(models, tmp_path):
    """D-D5: stored units are used only for the relation, layer, text and settings they were chosen for."""
    data = run(models["gpt2"], tmp_path / "a")
    arguments: dict[str, Any] = {
        "settings": settings("percentage"), "neurons": data.parent / "neurons.csv",
        "reference": data.parent / "reference.h5", "data": tmp_path / "b.h5", "provenance": ORIGIN,
    }  # fmt: skip
    for fact_changes, neuron_changes in (({"facts": 4}, {}), ({}, {"top_k": 4}), ({}, {"selectors": ["variance"]})):
        with pytest.raises(ArtifactError, match="another model, text or setting"):
            delta_ablation.ablate(
                Fake(models["gpt2"]),
                fact_settings=settings("facts", **fact_changes),
                neuron_settings=settings("neurons", **neuron_changes),
                **arguments,
            )
    table = read_csv(arguments["neurons"])
    assert table["key"].nunique() == 2 * 2  # relations x selectors
    units = table.groupby(["selector", "relation"])["unit"].apply(tuple)
    assert units["gradient", "P47"] != units["gradient", "P36"]
    write_csv(arguments["neurons"], table.assign(key="0" * 64), provenance=ORIGIN)
    with pytest.raises(ArtifactError, match="another model"):
        delta_ablation.ablate(
            Fake(models["gpt2"]), fact_settings=settings("facts"), neuron_settings=settings("neurons"), **arguments
        )
    assert not (tmp_path / "b.h5").exists()


@pytest.mark.parametrize("mode", ["mean", "resample", "noise", "scale"])
def test_every_mode_runs_and_is_repeatable(mode, models, tmp_path):
    found = [
        read_hdf5(run(models["mamba"], tmp_path / str(i), percentage={"mode": mode, "strength": 0.5, "controls": 2}))
        for i in range(2)
    ]
    for name in ("ablated/nll_sum", "ablated/answer_logprob"):
        assert np.array_equal(found[0].array(name), found[1].array(name), equal_nan=True)
    assert found[0].attributes["mode"] == mode
    assert not np.array_equal(found[0].array("ablated/nll_sum")[0], found[0].array("clean/nll_sum"))


def test_models_that_were_asked_other_sentences_are_not_compared(results, models, tmp_path):
    other = run(models["gpt2"], tmp_path / "other", facts={"other": 2})
    first = run(models["mamba"], tmp_path / "first")
    with pytest.raises(ArtifactError, match="other sentences"):
        delta_tables.read(["mamba", "gpt2"], [first, other])


def test_a_selector_that_fits_no_place_is_an_error(models, tmp_path):
    with pytest.raises(ConfigError, match="no selector"):
        run(models["mamba"], tmp_path / "x", neurons={"selectors": ["decay"]})


def test_tracing_of_a_model_that_knows_nothing_is_refused_unless_asked_for(models, tmp_path):
    paths = {"table": tmp_path / "traces.csv", "statistics": tmp_path / "traces.json"}
    own = settings("tracing", relations=["P47"], facts=2, draws=2)
    with pytest.raises(ModelError, match="knows none of the 3 facts"):
        delta_tracing.measure(
            Fake(models["mamba"]), fact_settings=settings("facts"), settings=own, provenance=ORIGIN, **paths
        )
    delta_tracing.measure(
        Fake(models["mamba"]), fact_settings=settings("facts"), settings={**own, "recalled_only": False},
        provenance=ORIGIN, **paths,
    )  # fmt: skip
    table = read_csv(paths["table"])
    assert set(table["kind"]) == {"output", "mixer"}  # a Mamba has no MLP
    summary = delta_tables.tracing({"mamba": table}, {"mamba": 2})
    assert summary["relative_depth"].max() == 1.0
    last = summary[(summary["kind"] == "output") & (summary["layer"] == 1) & (summary["role"] == "last")].iloc[0]
    rows = table[(table["kind"] == "output") & (table["layer"] == 1) & (table["role"] == "last")]
    by_hand = (rows["restored_logprob"] - rows["corrupted_logprob"]).mean()
    assert last["indirect_effect_mean"] == pytest.approx(by_hand)
