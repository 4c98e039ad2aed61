"""esa/evaluate, train, attribution, integrated on tiny models: numbers that add up, a judge that is held to facts."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from tremor.config import Config, block
from tremor.errors import ArtifactError, ConfigError
from tremor.evaluate import generation, nll
from tremor.experiments import esa_attribution, esa_evaluate, esa_integrated, esa_train, summaries
from tremor.models.loader import load
from tremor.store.documents import read_json
from tremor.store.tables import read_csv, write_csv

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}


def settings(name, **changes):
    return {**block(Config(), "esa")[name], **changes}


@pytest.fixture(scope="module")
def evaluated(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    names = ("texts", "domains", "bins", "tasks", "generations", "statistics")
    esa_evaluate.measure(
        chain.session, files=[], provenance=ORIGIN, **{name: folder / name for name in names},
        settings=settings("evaluate", texts=14, prompts=["The capital of France is"], samples=2, tokens=6),
    )  # fmt: skip
    return folder


def test_domains_add_up_to_all(evaluated, chain):
    domains, texts = read_csv(evaluated / "domains").set_index("domain"), read_csv(evaluated / "texts")
    parts = domains.drop("all")
    assert len(parts) == 7
    assert parts["tokens"].sum() == domains.loc["all", "tokens"]
    mean = (parts["nll"] * parts["tokens"]).sum() / parts["tokens"].sum()
    # Float64 sums in another order.
    assert domains.loc["all", "nll"] == pytest.approx(mean, rel=1e-12)
    assert domains.loc["all", "nll"] == pytest.approx((texts["nll"] * texts["tokens"]).sum() / texts["tokens"].sum())
    assert (domains["nll_low"] <= domains["nll"]).all()
    document = read_json(evaluated / "statistics")
    assert set(summaries.COLUMNS["esa/evaluate"]) <= set(document)
    assert document["perplexity"] == pytest.approx(math.exp(document["nll"]), rel=1e-12)
    assert document["bits_per_byte"] == pytest.approx(
        document["nll"] * document["tokens"] / math.log(2) / document["bytes"], rel=1e-12
    )


def test_calibration_error_follows_from_its_table(evaluated):
    bins, document = read_csv(evaluated / "bins"), read_json(evaluated / "statistics")
    assert bins["count"].sum() == document["tokens"]
    gap = ((bins["accuracy"] - bins["confidence"]).abs() * bins["count"]).sum() / document["tokens"]
    assert document["ece"] == pytest.approx(gap, abs=1e-12)


def test_generations_are_seeded_and_kept(evaluated, chain):
    rows = read_json(evaluated / "generations")["generations"]
    assert [row["kind"] for row in rows] == ["greedy", "sampled", "sampled"]
    loaded = chain.session.loaded
    for row in rows[1:]:
        again = generation.generate(
            loaded, row["prompt"], tokens=6, temperature=0.7, top_p=0.9, seed=row["seed"]
        )  # fmt: skip
        assert list(again.ids) == row["ids"]
    assert rows[1]["seed"] != rows[2]["seed"]
    # A set so small that it holds the first choice alone: sampling is greedy.
    narrow = generation.generate(loaded, rows[0]["prompt"], tokens=6, temperature=0.7, top_p=1e-9, seed=3)
    assert list(narrow.ids) == rows[0]["ids"]


def test_the_users_file_is_read_whole_or_by_paragraph(tmp_path):
    (tmp_path / "mine.txt").write_text("One.\n\nTwo\nlines.\n\n\nThree.\n")
    own = {"file": "mine.txt", "unit": "passage", "texts": None}
    found = esa_evaluate.gather(own, [tmp_path / "mine.txt"])
    assert [p.text for p in found] == ["One.", "Two\nlines.", "Three."]
    (whole,) = esa_evaluate.gather({**own, "unit": "document"}, [tmp_path / "mine.txt"])
    assert whole.text == "One.\nTwo\nlines.\nThree."
    (tmp_path / "mine.txt").write_text(" \n\n")
    with pytest.raises(ConfigError, match="has no text"):
        esa_evaluate.gather(own, [tmp_path / "mine.txt"])


def test_repetition_is_a_share_of_runs():
    """The ancestor graded a text that repeats itself best: its own model finds it likely."""
    assert esa_evaluate.repeated([1, 2, 3, 4, 5], 4) == 0
    assert esa_evaluate.repeated([7] * 9, 4) == pytest.approx(5 / 6)
    assert esa_evaluate.repeated([1, 2], 4) is None


@pytest.fixture(scope="module")
def judge(open_tiny):
    """A model without a longest context; the tiny Llama has one of 64 tokens."""
    return open_tiny("mamba")


@pytest.fixture(scope="module")
def trained(open_tiny, saved_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    (folder / "text.txt").write_text("A line to learn by heart.\nAnother line of it.\n")
    esa_train.measure(
        open_tiny(), settings=settings("train", file="text.txt", steps=8, learning_rate=3e-3, length=32, warmup=1),
        texts={"batch_size": 16}, file=folder / "text.txt", directory=saved_model("llama"), dtype="bfloat16",
        model=folder / "model", description=folder / "manifest.json", losses=folder / "losses.csv",
        evaluation=folder / "evaluation.csv", statistics=folder / "statistics.json", provenance=ORIGIN,
    )  # fmt: skip
    return folder


def test_training_learns_its_text_and_is_evaluated_as_saved(trained):
    rows = read_csv(trained / "evaluation.csv").set_index("domain")
    document = read_json(trained / "statistics.json")
    assert set(summaries.COLUMNS["esa/train"]) <= set(document)
    assert rows.loc["training text", "delta_nll"] < -0.5
    assert rows.loc["training text", "delta_nll_high"] < 0
    saved = load(trained / "model", dtype="bfloat16", device="cpu")
    lines = (trained / "text.txt").read_text().splitlines()
    own = nll.evaluate(saved, nll.tokenise(saved, lines), batch_size=16)
    # bfloat16 in a batch of another shape: 2^-8 of a loss near 5, over some tokens.
    assert rows.loc["training text", "nll_after"] == pytest.approx(own.nll, rel=0.01)
    assert read_json(trained / "manifest.json")["alias"] == "tiny-tuned"
    assert json.loads((trained / "model/config.json").read_text())["dtype"] == "bfloat16"
    assert not (trained / "checkpoint.partial").exists()


def test_training_on_held_out_text_is_refused(tmp_path):
    passages = esa_evaluate.gather({"file": None, "unit": "passage", "texts": 2}, [])
    with pytest.raises(ConfigError, match="held-out"):
        esa_train._disjoint([passages[0].text], passages, tmp_path / "mine.txt")


def components(folder, costs):
    count = len(costs)
    frame = pd.DataFrame({
        "block": np.arange(count) // 2, "component": ["mixer", "mlp"] * (count // 2), "weights": np.arange(count) + 9,
        "rms": np.linspace(1, 2, count), "largest": 3.0, "kurtosis": 3.0,
        "magnitude": np.linspace(5, 9, count), "taylor_abs": costs, "delta_nll": costs, "status": "ok",
    })  # fmt: skip
    write_csv(folder / "components.csv", frame, provenance={})
    return folder / "components.csv"


def ask(session, folder, costs, **changes):
    names = ("answers", "methods", "statistics")
    esa_attribution.ask(
        session, subject="tiny", components=components(folder, costs), provenance=ORIGIN,
        settings=settings("attribution", **{"orders": 3, "permutations": 500, **changes}),
        **{name: folder / name for name in names},
    )  # fmt: skip
    return read_csv(folder / "methods").set_index("method"), read_json(folder / "statistics")


def test_every_way_of_ranking_is_held_to_the_measured_costs(judge, tmp_path):
    methods, document = ask(judge, tmp_path, [0.5, 0.1, 0.7, 0.2, 0.9, 0.4])
    assert methods.loc["taylor_abs", "spearman"] == pytest.approx(1.0)
    assert methods.loc["taylor_abs", "above_chance"]
    assert not methods.loc["taylor_abs", "experimental"]
    assert methods.loc[["llm", "llm_blind", "llm_calibrated"], "experimental"].all()
    assert set(summaries.COLUMNS["esa/attribution"]) <= {"method", *methods.columns}
    assert document["prompt"].startswith("Part and size:\n")
    assert document["measured_order"][0] == "2 mixer"
    assert sorted(document["llm_order"]) == sorted(document["measured_order"])


def test_answers_are_a_distribution_over_names(judge):
    names = ["0 mixer", "0 mlp", "1 mixer"]
    found = esa_attribution.answer(judge.loaded, names, ["9", "8", "7"], ["rms"], np.array([[0, 1, 2]]))
    assert np.exp(found).sum() == pytest.approx(1.0, abs=1e-12)


def test_a_list_too_long_for_the_judge_is_an_error(chain, tmp_path):
    with pytest.raises(ConfigError, match=r"esa\.attribution\.judge"):
        ask(chain.session, tmp_path, [0.1] * 40)


def test_fewer_components_than_top_k_is_an_error(judge, tmp_path):
    with pytest.raises(ConfigError, match="top_k"):
        ask(judge, tmp_path, [0.1, 0.2, 0.3, 0.4], top_k=4)


def test_statistics_of_components_are_those_of_their_weights(chain, tmp_path):
    loaded = chain.session.loaded
    rows = [{"block": b, "component": c, "level": "branch", "mode": "zero", "delta_nll": 0.1, "status": "ok"}
            for b in range(2) for c in ("mixer", "mlp")]  # fmt: skip
    write_csv(tmp_path / "effects.csv", pd.DataFrame(rows), provenance={})
    esa_attribution.describe(
        chain.session, texts={"calibration": 2}, scores=settings("scores"), effects=tmp_path / "effects.csv",
        level="branch", components=tmp_path / "out.csv", provenance=ORIGIN,
    )  # fmt: skip
    row = read_csv(tmp_path / "out.csv").iloc[1]
    own = np.concatenate([p.detach().double().numpy().ravel() for n, p in loaded.model.named_parameters()
                          if ".layers.0.mlp." in n])  # fmt: skip
    assert row["weights"] == own.size
    # Float64 sums in another order; magnitude adds float32 values.
    assert row["rms"] == pytest.approx(np.sqrt(np.mean(own**2)), rel=1e-12)
    assert row["kurtosis"] == pytest.approx(np.mean(own**4) / np.mean(own**2) ** 2, rel=1e-12)
    assert row["largest"] == np.abs(own).max()
    assert row["magnitude"] == pytest.approx(np.abs(own).sum(), rel=1e-6)
    with pytest.raises(ConfigError, match="needs three"):
        esa_attribution.describe(
            chain.session, texts={"calibration": 2}, scores=settings("scores"), effects=tmp_path / "effects.csv",
            level="component", components=tmp_path / "out.csv", provenance=ORIGIN,
        )  # fmt: skip


@pytest.mark.parametrize("analysis", sorted(esa_integrated.HEADLINES))
def test_headlines_name_columns_of_their_summaries(analysis):
    names = {"model", *summaries.COLUMNS[f"esa/{analysis}"]}
    for entry in esa_integrated.HEADLINES[analysis]:
        assert {entry.column, *entry.detail, *(name for name, _ in entry.where)} <= names


def test_a_headline_is_the_extreme_row_of_its_model(tmp_path):
    frame = pd.DataFrame({
        "model": ["a", "a", "b"], "method": ["x", "y", "x"], "weights": 3, "p": [0.05, 0.5, 0.1],
        "delta_nll": [0.1, 0.4, np.nan], "first_delta_nll": 0.0, "first_tensor": "t", "first_index": "[0]",
        "status": ["ok", "ok", "nan_logits"],
    })  # fmt: skip
    first, _ = esa_integrated.headlines("super-weights", frame, "a", tmp_path)
    assert (first["value"], first["detail"]) == (0.4, "method y; weights 3; p 0.5")
    broken, _ = esa_integrated.headlines("super-weights", frame, "b", tmp_path)
    assert np.isnan(broken["value"])
    assert broken["detail"] == "no number (nan_logits)"
    with pytest.raises(ArtifactError, match="no row of model 'c'"):
        esa_integrated.headlines("super-weights", frame, "c", tmp_path)


def test_super_weights_before_and_after_are_compared_as_sets():
    def ranking(*flat):
        return pd.DataFrame({"scorer": "x", "tensor": "t", "flat_index": list(flat)})

    def effects(delta):
        return pd.DataFrame({"method": ["x"], "population": [100], "delta_nll": [delta]})

    tables = {"before": ranking(1, 2, 3), "after": ranking(1, 3, 9),
              "effects_before": effects(0.2), "effects_after": effects(0.5)}  # fmt: skip
    same, cost = esa_integrated.changes(tables, ["x"])
    assert same["value"] == 0.5
    assert same["detail"] == "3 and 3 weights, 2 in both; chance 0.015; same first weight"
    assert cost["value"] == pytest.approx(0.3)
    with pytest.raises(ConfigError, match="tuned_methods"):
        esa_integrated.changes(tables, ["y"])
