"""The cross-examination: planted effects of known size, no-ops, restoration, controls, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from families import save_tiny
from tremor.config import Config, block
from tremor.errors import ArtifactError, ConfigError, NumericsError
from tremor.evaluate import nll
from tremor.experiments import cross, cross_lists
from tremor.experiments.cross_readings import Examiner
from tremor.experiments.summaries import COLUMNS
from tremor.models.loader import load
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.provenance import collect
from tremor.store.tables import read_csv, write_csv, write_parquet
from tremor.weights import mutate, rank

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}
PROMPT = {"text": "The capital of France is", "bos": "auto"}
PROBE = {"mode": "batched", "aa_repeats": 2}
V, DOWN = "model.layers.0.self_attn.v_proj.weight", "model.layers.1.mlp.down_proj.weight"
EMBEDDING = "model.embed_tokens.weight"


def settings(**changes: Any) -> dict[str, Any]:
    small = {
        "scores": ["taylor_abs"], "methods": [], "topk": [1, 3], "operations": ["zero", "sign"], "controls": 3,
        "deep_controls": 2, "angles": 4, "s_max": 1e-4, "batch_size": 8, "top_k": 4, "noise_samples": 8, "texts": 4,
        "text_batch_size": 4,
    }  # fmt: skip
    return {**block(Config(), "cross"), **small, **changes}


def spectrum_settings(**changes: Any) -> dict[str, Any]:
    return {**block(Config(), "spectrum"), **changes}


def ranking(places: list[tuple[str, int, int]], *, scorer: str, run_id: str) -> pd.DataFrame:
    """Places (tensor, flat index, block), best first, in the schema of rankings."""
    rows = [
        (run_id, scorer, "global", n + 1, tensor, flat, "[0, 0]", number, "x", 0.1, 1.0 / (n + 1))
        for n, (tensor, flat, number) in enumerate(places)
    ]
    return pd.DataFrame(rows, columns=list(rank.COLUMNS))


PLACES = [(V, 5, 0), (EMBEDDING, 7, -1), (DOWN, 9, 1), (V, 40, 0), (DOWN, 100, 1)]


@pytest.fixture(scope="module")
def opened(open_tiny):
    return open_tiny("llama")


@pytest.fixture(scope="module")
def source(chain, tmp_path_factory) -> Path:
    return chain.spectrum(tmp_path_factory.mktemp("spectrum"))


@pytest.fixture
def examiner(opened, source) -> Examiner:
    right = read_hdf5(source).array("right")
    return cross.open_examiner(opened, PROMPT, PROBE, spectrum_settings(), settings(), right)


def write_rankings(path: Path, places: list[tuple[str, int, int]], digest: str) -> Path:
    frame = ranking(places, scorer="taylor_abs", run_id=digest[:16]).assign(selection="top")
    write_parquet(path, frame, provenance=collect(seeds=None, platform={}, model={}, **ORIGIN), schema_version=1)
    return path


def measure(session, source: Path, folder: Path, *, places=PLACES, supers: Path | None = None, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    cross.measure(
        session, PROMPT, probe=PROBE, spectrum_settings=spectrum_settings(), settings=settings(**changes),
        spectrum=source, rankings=write_rankings(folder / "rankings.parquet", places, session.loaded.digest),
        supers=supers, table=folder / "cross.csv", controls=folder / "controls.csv", data=folder / "cross.h5",
        statistics=folder / "statistics.json", provenance=ORIGIN,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def done(opened, source, tmp_path_factory) -> Path:
    return measure(opened, source, tmp_path_factory.mktemp("cross"))


# --- a model whose Jacobian is known in closed form


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Examiner, np.ndarray, np.ndarray]:
    """Blocks that write nothing: h = g * x / rms(x), with one large gain that carries sigma_1."""
    folder = tmp_path_factory.mktemp("planted")
    save_tiny("llama", folder, layers=2)
    loaded = load(folder, device="cpu")
    with torch.no_grad():
        for layer in loaded.model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        loaded.model.model.norm.weight.copy_(torch.linspace(0.5, 1.5, 32))
        loaded.model.model.norm.weight[11] = 20.0

    class Opened:
        max_memory = 2.0**30

    session = Opened()
    session.loaded = loaded  # type: ignore[attr-defined]
    examiner = cross.open_examiner(
        session, PROMPT, PROBE, spectrum_settings(), settings(), np.eye(32, dtype=np.float32)
    )
    gain = loaded.model.model.norm.weight.detach().double().numpy().copy()
    return examiner, gain, examiner.base.x.astype(np.float64)


def closed_form(gain: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    """Singular values of d(g x / sqrt(mean x^2 + eps)) / dx = diag(g) (I - x x^T / (d r^2)) / r."""
    r = np.sqrt(np.mean(x**2) + eps)
    return np.linalg.svd(np.diag(gain) @ (np.eye(len(x)) - np.outer(x, x) / (len(x) * r * r)) / r, compute_uv=False)


@pytest.mark.parametrize(("operation", "factor"), [("zero", 0.0), ("halve", 0.5), ("double", 2.0), ("sign", -1.0)])
def test_a_planted_weight_moves_sigma_by_what_the_closed_form_says(planted, operation, factor):
    examiner, gain, x = planted
    weights = pd.DataFrame({"tensor": ["model.norm.weight"], "flat_index": [11]})
    reading, changed = cross.examine(examiner, weights, cross.OPERATIONS[operation])
    eps = examiner.loaded.model.config.rms_norm_eps
    other = gain.copy()
    other[11] *= factor
    # A float32 Jacobian of two roundings an entry: relative errors of some 1e-7 of sigma_1.
    assert changed == 1
    np.testing.assert_allclose(reading.singular_values, closed_form(other, x, eps)[:4], rtol=3e-6)
    clean = examiner.read(deep=False)
    np.testing.assert_allclose(clean.singular_values, closed_form(gain, x, eps)[:4], rtol=3e-6)
    frobenius = np.sum(closed_form(other, x, eps) ** 2)
    assert reading.stable_rank == pytest.approx(frobenius / closed_form(other, x, eps)[0] ** 2, rel=3e-6)
    if operation == "zero":  # the large gain was all of sigma_1
        assert reading.sigma_1 < 0.1 * clean.sigma_1


def test_weights_that_carry_nothing_leave_everything_as_it_is(planted):
    examiner, _, _ = planted
    # q_proj of a block that writes nothing: no path to the state, none to the logits.
    weights = pd.DataFrame({"tensor": ["model.layers.0.self_attn.q_proj.weight"] * 2, "flat_index": [3, 77]})
    reading, changed = cross.examine(examiner, weights, mutate.zero)
    assert changed == 2
    assert reading.differences(examiner.read(deep=True)) == []


# --- no-ops, restoration, the same set twice


def test_a_mutation_that_changes_nothing_is_refused_and_changes_nothing(examiner):
    clean = examiner.read(deep=True)
    weights = pd.DataFrame({"tensor": [V, DOWN], "flat_index": [5, 9]})
    with pytest.raises(NumericsError, match="changed none of them"):
        cross.examine(examiner, weights, mutate.scale(1.0))
    reading, changed = cross.examine(examiner, weights, mutate.scale(1.0), allow_unchanged=True)
    assert changed == 0
    assert reading.differences(clean) == []
    edits = mutate.edits_at([V, DOWN], [5, 9])
    with mutate.mutated(examiner.loaded, edits, mutate.zero):  # as in a pruned model
        assert cross.examine(examiner, weights, mutate.zero, deep=False)[1] == 0


def test_the_model_is_restored_and_the_same_set_gives_the_same_numbers(examiner):
    clean = examiner.read(deep=True)
    weights = pd.DataFrame({"tensor": [V, DOWN], "flat_index": [5, 9]})
    first, changed = cross.examine(examiner, weights, mutate.sign)
    assert changed == 2
    assert {"singular_values", "state", "floor", "nll"} <= set(first.differences(clean))
    assert examiner.read(deep=True).differences(clean) == []
    assert cross.examine(examiner, weights, mutate.sign)[0].differences(first) == []


def test_a_model_that_is_not_restored_stops_the_job(opened, source, tmp_path, monkeypatch):
    real = Examiner.read
    calls = []

    def drifting(self, *, deep):
        calls.append(deep)
        if len(calls) == 1:
            return real(self, deep=deep)
        with torch.no_grad():  # a scalar off by one step from the second reading on
            flat = self.loaded.anatomy.parameter(DOWN).view(-1)
            old = flat[500].clone()
            flat[500] = old + 1.0
        try:
            return real(self, deep=deep)
        finally:
            with torch.no_grad():
                flat[500] = old

    monkeypatch.setattr(Examiner, "read", drifting)
    with pytest.raises(NumericsError, match="the restored model gives another"):
        measure(opened, source, tmp_path, topk=[1], operations=["zero"], controls=2, deep_controls=0)
    assert not (tmp_path / "cross.csv").exists()


def test_a_model_without_a_finite_state_is_reported_not_hidden(examiner):
    weights = pd.DataFrame({"tensor": ["model.norm.weight"], "flat_index": [0]})
    reading, _ = cross.examine(examiner, weights, mutate.set_to(float("nan")))
    assert reading.status == "not_finite"
    assert reading.nll_status == "nan_logits"
    assert np.isnan(reading.sigma_1)
    assert np.isnan(reading.floor)


@pytest.mark.parametrize("family", ["gpt2", "mamba"])
def test_other_architectures_change_and_come_back(open_tiny, family):
    session = open_tiny(family)
    right = np.eye(session.loaded.anatomy.d_model, dtype=np.float32)
    examiner = cross.open_examiner(session, PROMPT, PROBE, spectrum_settings(), settings(), right)
    clean = examiner.read(deep=True)
    inside = [n for n, p in session.loaded.model.named_parameters() if p.ndim == 2 and ".0." in n]
    weights = pd.DataFrame({"tensor": inside, "flat_index": [3] * len(inside)})
    reading, changed = cross.examine(examiner, weights, mutate.zero)
    assert changed == len(inside)
    assert {"singular_values", "state", "nll"} <= set(reading.differences(clean))
    assert examiner.read(deep=True).differences(clean) == []


# --- agreement with other ways to the same number


def test_lanczos_finds_the_same_sigma(opened, source):
    right = read_hdf5(source).array("right")
    own = spectrum_settings(method="lanczos", top_k=4)
    sparse = cross.open_examiner(opened, PROMPT, PROBE, own, settings(), right).read(deep=False)
    dense = cross.open_examiner(opened, PROMPT, PROBE, spectrum_settings(), settings(), right).read(deep=False)
    # Converged to residuals of 1e-5 sigma_1; values converge with their square, float32 products limit them.
    np.testing.assert_allclose(sparse.singular_values, dense.singular_values, rtol=1e-5)
    assert np.isnan(sparse.stable_rank)
    assert sparse.floor == pytest.approx(dense.floor, rel=1e-3)  # the smooth part is a small share of the floor


def test_a_reading_agrees_with_the_single_experiments(examiner, opened, source, chain, tmp_path):
    clean = examiner.read(deep=True)
    spectrum = read_hdf5(source)
    np.testing.assert_array_equal(clean.singular_values, spectrum.array("singular_values")[:4])
    boundary = chain.boundary(tmp_path, source, "angles", angles=4, probe={"batch_size": 8})
    np.testing.assert_array_equal(clean.max_s, read_hdf5(boundary).array("max_s"))
    texts = examiner.texts
    assert clean.nll == nll.evaluate(opened.loaded, texts, batch_size=4).nll
    logits = opened.loaded.model(torch.from_numpy(examiner.base.ids)[None]).logits[0, -1].double()
    top = logits.topk(2)
    assert clean.token == int(top.indices[0])
    # The cached forward rounds otherwise than the whole sequence: logits of a few units, errors of some 1e-6.
    assert clean.margin == pytest.approx(float(top.values[0] - top.values[1]), abs=1e-5)


# --- the whole job


def test_every_set_is_measured_beside_its_controls(done, opened):
    table, controls = read_csv(done / "cross.csv"), read_csv(done / "controls.csv")
    assert set(COLUMNS["cross"]) <= set(table.columns)
    assert list(zip(table["topk"], table["operation"], strict=True)) == [
        (k, o) for k in (1, 3) for o in ("zero", "sign")
    ]
    assert (table["weights_changed"] == table["topk"]).all()
    assert (table["inside"] == table["topk"]).all()
    assert len(controls) == 4 * 3
    for _, row in table.iterrows():
        own = controls[(controls["topk"] == row["topk"]) & (controls["operation"] == row["operation"])]
        assert row["sigma_1_control_mean"] == pytest.approx(own["sigma_1_change"].mean(), rel=1e-12)
        deep = own[own["deep"]]
        assert len(deep) == 2
        assert own[~own["deep"]]["delta_nll"].isna().all()
        assert row["delta_nll_control_mean"] == pytest.approx(deep["delta_nll"].mean(), rel=1e-12)
    document = read_json(done / "statistics.json")
    assert document["restored_equals_clean"] is True
    assert document["lists"]["taylor_abs"] == {"source": "critical_weights", "named": 5, "taken": 4}
    clean = document["clean"]
    np.testing.assert_allclose(table["sigma_1_change"], table["sigma_1"] / clean["sigma_1"] - 1, rtol=1e-12)
    arrays = read_hdf5(done / "cross.h5")
    assert arrays.array("singular_values").shape == (4, 4)
    assert arrays.array("max_s").shape == (4, 4)
    np.testing.assert_array_equal(arrays.array("singular_values")[:, 0], table["sigma_1"])


def test_the_job_gives_the_same_bytes_again(done, opened, source, tmp_path):
    again = measure(opened, source, tmp_path)
    for name in ("cross.csv", "controls.csv"):
        assert (again / name).read_bytes() == (done / name).read_bytes()


def test_embedding_rows_move_the_text_but_not_a_given_input(opened, source, tmp_path):
    token = int(opened.loaded.tokenizer(PROMPT["text"])["input_ids"][-1])
    places = [(EMBEDDING, token * 32 + column, -1) for column in range(32)]
    own = {"topk": [32], "operations": ["double"], "controls": 2, "deep_controls": 0, "inside": False}
    row = read_csv(measure(opened, source, tmp_path / "fixed", places=places, **own) / "cross.csv").iloc[0]
    # These rows make the input of the map; here it is given.
    assert row["sigma_1_change"] == row["floor_change"] == row["boundary_change"] == row["state_shift"] == 0
    assert row["rays_changed"] == 0
    assert row["inside"] == 0
    assert row["delta_nll"] != 0
    moved = measure(opened, source, tmp_path / "own", places=places, recompute_directions=True, **own)
    assert read_csv(moved / "cross.csv").iloc[0]["sigma_1_change"] != 0


def test_super_weights_are_taken_from_their_own_list(opened, source, tmp_path):
    path = tmp_path / "weights.csv"
    frame = ranking([(DOWN, 9, 1), (DOWN, 11, 1)], scorer="spikes", run_id="tiny")
    origin = opened.provenance(**ORIGIN)
    write_csv(path, frame, provenance=origin)
    own = {"scores": [], "methods": ["spikes"], "topk": [1, 10], "operations": ["zero"], "controls": 2}
    table = read_csv(measure(opened, source, tmp_path, supers=path, **own) / "cross.csv")
    assert table["source"].tolist() == ["esa/super-weights"] * 2
    assert table["topk"].tolist() == [1, 2]  # a shorter list is taken whole


def test_lists_of_other_models_and_empty_lists_are_refused(opened, source, tmp_path):
    write_rankings(tmp_path / "r.parquet", PLACES, "0" * 64)
    with pytest.raises(ArtifactError, match="ranks the weights of another model"):
        cross_lists.lists(opened, tmp_path / "r.parquet", None, settings())
    write_rankings(tmp_path / "r.parquet", PLACES, opened.loaded.digest)
    with pytest.raises(ArtifactError, match="has no wanda"):
        cross_lists.lists(opened, tmp_path / "r.parquet", None, settings(scores=["wanda"]))
    write_rankings(tmp_path / "r.parquet", [(EMBEDDING, 7, -1)], opened.loaded.digest)
    with pytest.raises(ConfigError, match=r"set cross\.inside: false"):
        cross_lists.lists(opened, tmp_path / "r.parquet", None, settings())
    origin = json.loads(json.dumps(opened.provenance(**ORIGIN)))
    origin["model"]["weights_digest"] = "other"
    write_csv(tmp_path / "w.csv", ranking([(DOWN, 9, 1)], scorer="spikes", run_id="tiny"), provenance=origin)
    with pytest.raises(ArtifactError, match="names weights of another model"):
        cross_lists.lists(opened, None, tmp_path / "w.csv", settings(scores=[], methods=["spikes"]))
