"""Numbers from Python are the numbers of the workflow's artifacts, to the last bit."""

from types import SimpleNamespace

import numpy as np
import pytest

import tremor
from tremor.config import Config, block
from tremor.experiments import boundary, critical_rankings, delta_jacobian, esa_shared, esa_super_weights, recordings
from tremor.experiments import spectrum as spectra
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv, read_parquet

ORIGIN = {"config": {}, "code": "", "inputs": {}}
TEXT = {"text": "The capital of France is", "bos": "auto"}


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.fixture(scope="module")
def artifacts(job, tmp_path_factory):
    """Spectrum and exp12 as jobs write them."""
    folder = tmp_path_factory.mktemp("artifacts")
    spectra.measure(job, TEXT, block(Config(), "spectrum"), data=folder / "spectrum.h5",
                    statistics=folder / "spectrum.json", provenance=ORIGIN)  # fmt: skip
    probe = {**block(Config(), "probe"), "threads": 1, "batch_size": 16}
    settings = {**block(Config(), "exp12"), "angles": 8, "s_max": 1e-4}
    for arithmetic in ("float64", "float32"):
        boundary.measure(
            "exp12",
            job, TEXT, arithmetic=arithmetic, probe=probe, settings=settings, spectrum=folder / "spectrum.h5",
            data=folder / f"{arithmetic}.h5", table=folder / f"{arithmetic}.csv",
            statistics=folder / f"{arithmetic}.json", provenance=ORIGIN,
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def spectrum(model):
    return model.at(TEXT["text"]).spectrum()


def test_spectrum(artifacts, spectrum):
    stored = read_hdf5(artifacts / "spectrum.h5")
    for name in ("singular_values", "left", "right", "residuals", "jacobian"):
        assert same(getattr(spectrum, name), stored.array(name)), name
    assert spectrum.frobenius == read_json(artifacts / "spectrum.json")["frobenius_norm"]
    assert spectrum.to_frame()["rank"].tolist() == list(range(1, 33))


def test_lanczos(job, model, tmp_path):
    settings = {**block(Config(), "spectrum"), "method": "lanczos", "top_k": 3}
    spectra.measure(job, TEXT, settings, data=tmp_path / "s.h5", statistics=tmp_path / "s.json", provenance=ORIGIN)
    found = model.at(TEXT["text"]).spectrum(method="lanczos", top_k=3)
    stored = read_hdf5(tmp_path / "s.h5")
    assert found.jacobian is None
    assert all(same(getattr(found, n), stored.array(n)) for n in ("singular_values", "left", "right", "residuals"))


@pytest.mark.parametrize("arithmetic", ["float64", "float32"])
def test_boundary(arithmetic, artifacts, model, spectrum):
    stored = read_hdf5(artifacts / f"{arithmetic}.h5")
    point = model.at(TEXT["text"])
    plane = point.boundary_in_plane(spectrum.right, arithmetic=arithmetic)
    names = (
        "theta", "direction", "max_s", "min_t", "first_breakpoint", "moved_coordinates", "realised_l2", "evaluations",
        "certified", "censored", "changed_embedding", "changed_hidden",
    )  # fmt: skip
    for name in names:
        assert same(getattr(plane, name), stored.array(name)), name
    table = read_csv(artifacts / f"{arithmetic}.csv")
    assert list(plane.to_frame().columns) == list(table.columns)
    # The first ray of the plane is the first singular vector, so one ray alone must give the same.
    alone = point.boundary(spectrum.right[0], arithmetic=arithmetic)
    assert alone.max_s[0] == plane.max_s[0]
    assert same(alone.changed_hidden[0], plane.changed_hidden[0])


def test_a_step_at_the_boundary_changes_bits_and_one_before_it_none(artifacts, model, spectrum):
    stored = read_hdf5(artifacts / "float64.h5")
    point, ray = model.at(TEXT["text"]), spectrum.right[0]
    across = point.step(ray, stored.array("min_t")[0])
    assert same(across.hidden, stored.array("changed_hidden")[0])
    assert same(across.embedding, stored.array("changed_embedding")[0])
    assert across.input.n_changed_bits == stored.array("moved_coordinates")[0]
    assert not across.output.equal_bits
    assert point.step(ray, stored.array("max_s")[0]).output.equal_bits
    assert across.to_frame().loc["output", "n_changed_bits"] == across.output.n_changed_bits


def test_recording(job, model, tmp_path):
    questions = tmp_path / "questions.tsv"
    questions.write_text(f"name\tkind\ttext\nq\tfactual\t{TEXT['text']}\n")
    path = tmp_path / "native" / "q01.h5"
    settings = {**block(Config(), "recorder"), "tokens": 5}
    recordings.measure(job, questions=questions, settings=settings, decode="cached", batch=1, recordings=[path],
                       provenance=ORIGIN)  # fmt: skip
    stored = tremor.read_recording(path)
    kept = tmp_path / "mine.h5"
    found = model.record(TEXT["text"], tokens=5, path=kept)
    for name in ("ids", "prompt_ids", "top_ids", "top_logits", "top_probs", "logsumexp", "margin", "ties"):
        assert same(getattr(found, name), getattr(stored, name)), name
    assert list(found.states) == list(stored.states)
    assert all(same(found.states[tap], stored.states[tap]) for tap in stored.states)
    assert (found.generated, found.pieces, found.stopped) == (stored.generated, stored.pieces, stored.stopped)
    assert tremor.read_recording(kept).to_frame().equals(found.to_frame())
    compared = found.compare(stored)
    assert not compared.divergence.diverged
    assert compared.table["equal_bits"].all()
    # Another way of decoding rounds otherwise: the first token has seen the same forward, some later one has not.
    other = found.compare(model.record(TEXT["text"], tokens=5, decode="uncached")).to_frame()
    assert other["equal_bits"].iloc[0]
    assert not other["equal_bits"].all()


def test_score(job, model, tmp_path):
    changes = {"metrics": ["taylor_abs", "grad_squared"], "topk": [20], "calibration": 4, "sample": 50}
    settings = {**block(Config(), "critical_weights"), **changes}
    critical_rankings.measure(
        job, settings, rankings=tmp_path / "r.parquet", scores=tmp_path / "s.h5", components=tmp_path / "c.csv",
        statistics=tmp_path / "s.json", provenance=ORIGIN,
    )  # fmt: skip
    stored = read_parquet(tmp_path / "r.parquet")
    for name in changes["metrics"]:
        for side in ("top", "bottom"):
            texts = tremor.passages("calibration", 4)
            found = model.score(name, texts, k=20, smallest=side == "bottom").to_frame()
            rows = stored[(stored["scorer"] == name) & (stored["selection"] == side)].reset_index(drop=True)
            assert found["tensor"].tolist() == rows["tensor"].tolist()
            assert same(found["flat_index"].to_numpy(), rows["flat_index"].to_numpy())
            assert same(found["score"].to_numpy(), rows["score"].to_numpy())
            assert same(found["weight"].to_numpy(), rows["weight"].to_numpy())


def test_ablation(job, model, tmp_path):
    esa = block(Config(), "esa")
    texts = {**esa["texts"], "calibration": 2, "heldout": 3}
    settings = {**esa["super_weights"], "methods": ["magnitude"], "top_k": 5, "controls": 3, "prompts": 1}
    esa_super_weights.measure(
        job, texts=texts, scores=esa["scores"], settings=settings, weights=tmp_path / "w.csv", peaks=tmp_path / "p.csv",
        effects=tmp_path / "e.csv", changes=tmp_path / "c.csv", statistics=tmp_path / "s.json", provenance=ORIGIN,
    )  # fmt: skip
    before = [parameter.clone() for parameter in model.session.loaded.model.parameters()]
    chosen = read_csv(tmp_path / "w.csv")
    chosen = chosen[chosen["scorer"] == "magnitude"]
    found = model.ablate(chosen, esa_shared.passages("heldout", 3), controls=3, seed=settings["seed"])
    (row,) = read_csv(tmp_path / "e.csv").to_dict("records")
    (own,) = found.to_frame().to_dict("records")
    assert own.pop("method") == ""
    for name in own:
        assert own[name] == row[name], name
    assert all((a == b).all() for a, b in zip(before, model.session.loaded.model.parameters(), strict=True))


def test_gain(job, model, tmp_path):
    changes = {"num_texts": 4, "gain_texts": 2, "sensitivity_texts": 2, "draws": 2, "probes": 4, "pairs": 2}
    settings = {**block(Config(), "delta")["jacobian"], **changes}
    delta_jacobian.measure(
        job, settings=settings, file=None, data=tmp_path / "g.h5", table=tmp_path / "g.csv", ranks=tmp_path / "r.csv",
        statistics=tmp_path / "g.json", provenance=ORIGIN,
    )  # fmt: skip
    stored = read_hdf5(tmp_path / "g.h5")
    texts = stored.array("text").tolist()[:2]
    found = model.gain([str(text) for text in texts], **changes)
    for name, values in found.values.items():
        assert same(values, stored.array(f"gain/{name}")), name
    table = read_csv(tmp_path / "g.csv")
    for name, column in found.to_frame().items():
        if name != "mixer":
            assert np.array_equal(column.to_numpy(), table[name].to_numpy(), equal_nan=True), name


def test_a_model_in_memory_gives_the_bits_of_its_folder(model, spectrum, saved_model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = saved_model("llama")
    in_memory = AutoModelForCausalLM.from_pretrained(folder)
    in_memory.train()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = tremor.load(in_memory, tokenizer, name="mine", threads=1)
    assert not in_memory.training
    assert same(found.at(TEXT["text"]).spectrum().singular_values, spectrum.singular_values)
    assert found.session.manifest["source"] == "memory"
    told = found.record(TEXT["text"], tokens=2, taps="final")
    assert told.attributes["model"] == "mine"
    assert same(told.states["final"], model.record(TEXT["text"], tokens=2).states["final"])
    # In a narrow type, differences are counted in its own bits.
    narrow = tremor.load(in_memory.bfloat16(), tokenizer, threads=1)
    point = narrow.at(TEXT["text"])
    step = point.step(SimpleNamespace(right=np.eye(32, dtype=np.float32)).right[0], 1.0)
    assert (step.input.lattice, step.input.n_changed_bits) == ("bfloat16", 1)
