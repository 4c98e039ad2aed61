"""critical_weights end to end on a small model: spec 7.3 tests 2, 8, 10, defects B-D1 to B-D6, B-D29."""

import math
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tremor.config import Config, block
from tremor.errors import ArtifactError, NumericsError
from tremor.evaluate import nll
from tremor.evaluate import texts as choosing
from tremor.experiments import critical_overlap, critical_rankings, critical_stability, critical_weights
from tremor.models.corpus import Passage
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv, read_parquet
from tremor.weights import campaign, mutate
from tremor.weights.campaign import Campaign
from tremor.weights.select import select

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}
METRICS = ["taylor_signed", "taylor_abs", "magnitude"]


def settings(**changes: Any) -> dict[str, Any]:
    small = {
        "metrics": METRICS,
        "topk": [5, 40],
        "mask_ratios": [0.2, 1.0],
        "calibration": 14,
        "texts": 14,
        "batch_size": 7,
        "bootstrap": 200,
        "tail_draws": 20,
    }
    return {**block(Config(), "critical_weights"), **small, **changes}


@pytest.fixture(scope="module")
def opened(open_tiny):
    return open_tiny("llama")


def rank(session, folder: Path, **changes: Any) -> Path:
    critical_rankings.measure(
        session,
        settings(**changes),
        rankings=folder / "rankings.parquet",
        scores=folder / "scores.h5",
        components=folder / "components.csv",
        statistics=folder / "sensitivity_statistics.json",
        provenance=ORIGIN,
    )
    return folder / "rankings.parquet"


def run(session, folder: Path, rankings: Path, **changes: Any) -> pd.DataFrame:
    folder.mkdir(exist_ok=True)
    critical_weights.measure(
        session,
        settings(**changes),
        rankings=rankings,
        table=folder / "table.csv",
        controls=folder / "controls.csv",
        data=folder / "effects.h5",
        statistics=folder / "summary.json",
        provenance=ORIGIN,
    )
    return read_csv(folder / "table.csv")


@pytest.fixture(scope="module")
def folder(opened, tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("critical")
    rank(opened, found)
    run(opened, found, found / "rankings.parquet")
    return found


def test_rankings_hold_the_true_best_of_the_whole_model(folder, opened):
    ranked = read_parquet(folder / "rankings.parquet")
    own = ranked[(ranked["scorer"] == "magnitude") & (ranked["selection"] == "top")]
    everything = np.concatenate(
        [p.detach().abs().reshape(-1).numpy() for p in opened.loaded.model.parameters() if p.ndim > 1]
    )
    assert (own["scope"] == "global").all()
    assert np.array_equal(own.sort_values("rank")["score"].to_numpy(np.float32), np.sort(everything)[::-1][:40])
    bottom = ranked[(ranked["scorer"] == "magnitude") & (ranked["selection"] == "bottom")]
    assert np.array_equal(bottom.sort_values("rank")["score"].to_numpy(np.float32), np.sort(everything)[:40])


def test_statistics_count_scalars_and_not_rows(folder, opened):
    document = read_json(folder / "sensitivity_statistics.json")
    matrices = [p.detach() for p in opened.loaded.model.parameters() if p.ndim > 1]
    everything = torch.cat([p.abs().double().reshape(-1) for p in matrices]).numpy()
    found = document["metrics"]["magnitude"]
    assert found["total_weights"] == document["population"] == len(everything)
    assert found["num_tensors"] == len(matrices)
    # Moments are put together from those of parts, in float64.
    assert found["mean_score"] == pytest.approx(everything.mean(), rel=1e-12)
    assert found["std_score"] == pytest.approx(everything.std(), rel=1e-9)
    assert found["max_score"] == everything.max()
    assert found["percentiles"]["p90"] == pytest.approx(np.percentile(everything.astype(np.float32), 90))


def test_the_campaign_counts_what_it_changes_and_names_its_own_baseline(folder, opened):
    table = read_csv(folder / "table.csv")
    summary = read_json(folder / "summary.json")
    assert (table["weights_requested"] == table["weights_changed"] + table["weights_no_op"]).all()
    top = table[table["selection"] == "top"]
    wanted = [(k, r, n) for k, r, n in ((5, 0.2, 1), (5, 1.0, 5), (40, 0.2, 8), (40, 1.0, 40))]
    assert list(zip(top["topk"], top["mask_ratio"], top["weights_changed"], strict=True)) == wanted * len(METRICS)
    assert set(table[table["selection"] == "bottom"]["mask_ratio"]) == {1.0}
    # The subset of texts has a baseline of its own, and the counts are those used, not those asked for.
    texts = [p.text for p in choosing.passages("heldout", 14)]
    own = nll.evaluate(opened.loaded, nll.tokenise(opened.loaded, texts), batch_size=7)
    assert set(table["baseline_nll"]) == {own.nll}
    assert set(table["eval_texts_count"]) == {14} == {summary["eval_texts_count"]}
    assert summary["eval_tokens"] == own.tokens.sum()


def test_effects_are_those_of_a_plain_change_of_the_weights(folder, opened):
    loaded = opened.loaded
    table = read_csv(folder / "table.csv")
    ranked = read_parquet(folder / "rankings.parquet")
    best = ranked[(ranked["scorer"] == "taylor_abs") & (ranked["selection"] == "top")].sort_values("rank")[:5]
    texts = nll.tokenise(loaded, [p.text for p in choosing.passages("heldout", 14)])
    before = nll.evaluate(loaded, texts, batch_size=7)
    kept = {}
    try:
        with torch.no_grad():
            for tensor, flat in zip(best["tensor"], best["flat_index"], strict=True):
                parameter = loaded.model.get_parameter(tensor)
                kept.setdefault(tensor, parameter.detach().clone())
                parameter.view(-1)[flat] = 0.0
        after = nll.evaluate(loaded, texts, batch_size=7)
    finally:
        with torch.no_grad():
            for tensor, value in kept.items():
                loaded.model.get_parameter(tensor).copy_(value)
    row = table[(table["metric"] == "taylor_abs") & (table["topk"] == 5) & (table["mask_ratio"] == 1.0)].iloc[0]
    assert row["delta_nll"] == pytest.approx(after.nll - before.nll, abs=1e-12)
    assert row["ppl_ratio"] == pytest.approx(math.exp(row["delta_nll"]))
    assert row["delta_nll_low"] <= row["delta_nll"] <= row["delta_nll_high"]


def test_controls_are_as_many_match_and_are_compared(folder):
    table, controls = read_csv(folder / "table.csv"), read_csv(folder / "controls.csv")
    tested = table[table["controls"] > 0].drop_duplicates(["metric", "weights_requested"])
    assert len(controls) == 20 * len(tested) == 20 * 2 * len(METRICS)
    assert (controls["weights_changed"] == controls["weights"]).all()
    for _, row in tested.iterrows():
        own = controls[(controls["metric"] == row["metric"]) & (controls["weights"] == row["weights_requested"])]
        assert row["control_mean"] == pytest.approx(own["delta_nll"].mean())
        assert row["p"] == pytest.approx((1 + (own["delta_nll"] >= row["delta_nll"]).sum()) / 21)
        assert row["z"] == pytest.approx((row["delta_nll"] - own["delta_nll"].mean()) / own["delta_nll"].std())


def test_the_model_is_as_it_was(folder, opened, saved_model):
    from safetensors.torch import load_file

    stored = load_file(saved_model("llama") / "model.safetensors")
    now = dict(opened.loaded.model.named_parameters())
    assert all(torch.equal(now[name].detach(), value) for name, value in stored.items())


def planted(session) -> tuple[str, int]:
    """A weight on whose value everything hangs: a gain of the final norm's strongest channel, in the unembedding."""
    name = "model.layers.1.mlp.down_proj.weight"
    parameter = session.loaded.model.get_parameter(name)
    with torch.no_grad():
        parameter.view(-1)[77] = 60.0
    return name, 77


def test_a_planted_weight_stands_out_from_twenty_controls(saved_model, open_tiny, tmp_path):
    session = open_tiny("llama")  # a model of its own
    name, place = planted(session)
    # The planted weight drowns the rest of the stream, so the texts are predicted by it: taking it away is felt.
    texts = nll.tokenise(session.loaded, [p.text for p in choosing.passages("heldout", 14)])
    engine = Campaign(session.loaded, texts, batch_size=7)
    effect = engine.effect([mutate.Edit(name, torch.tensor([place]))], mutate.zero)
    rng = np.random.default_rng(0)
    controls = [
        engine.effect([mutate.Edit(name, torch.tensor([int(i)]))], mutate.zero).evaluation.corpus_kl
        for i in rng.choice(77, 20, replace=False)
    ]
    assert effect.evaluation.corpus_kl > 10 * max(controls)
    rankings = rank(session, tmp_path, metrics=["magnitude"], topk=[1])
    table = run(session, tmp_path, rankings, metrics=["magnitude"], topk=[1], mask_ratios=[1.0])
    best = read_parquet(rankings).iloc[0]
    assert (best["tensor"], best["flat_index"]) == (name, place)
    row = table[table["selection"] == "top"].iloc[0]
    assert row["kl"] > 10 * read_csv(tmp_path / "controls.csv")["kl"].max()


def trained(session) -> None:
    """Teach the tiny model plain English for a moment, so that its weights carry something to lose."""
    loaded = session.loaded
    texts = nll.tokenise(loaded, [p.text for p in choosing.passages("calibration", 28)])
    (rows,) = nll.batches(texts, len(texts.windows))
    ids, mask = nll.padded(loaded, rows)
    labels = torch.where(mask.bool(), ids, -100)
    parameters = [p.requires_grad_(True) for p in loaded.model.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        loaded.model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        optimiser.step()
    loaded.model.requires_grad_(False)


def test_the_best_weights_of_a_trained_model_cost_more_than_twenty_matched_draws(open_tiny, tmp_path):
    session = open_tiny("llama")
    trained(session)
    changes = {"metrics": ["taylor_abs"], "topk": [100], "mask_ratios": [1.0], "calibration": 28}
    table = run(session, tmp_path, rank(session, tmp_path, **changes), **changes)
    row = table[table["selection"] == "top"].iloc[0]
    assert row["delta_nll"] > row["control_max"]
    assert row["p"] == pytest.approx(1 / 21)
    assert row["p_holm"] < 0.05
    assert row["delta_nll_low"] > 0
    bottom = table[table["selection"] == "bottom"].iloc[0]
    assert abs(bottom["delta_nll"]) < row["delta_nll"] / 100


def no_op(loaded, edits, operation, *, allow_unchanged=False):
    """What the ancestor's masking did: nothing, and then it told how many weights it had masked."""

    @contextmanager
    def pretend():
        resolved = mutate.resolve(loaded, edits)
        counts = [e.flat_index.numel() for e, _ in resolved]
        yield mutate.Mutation(
            tuple(
                mutate.Changed(e.tensor, e.flat_index, torch.zeros(n), n, n, 0)
                for (e, _), n in zip(resolved, counts, strict=True)
            )
        )

    return pretend()


def test_a_mutator_that_changes_nothing_fails_the_campaign(folder, opened, tmp_path, monkeypatch):
    monkeypatch.setattr(campaign.mutate, "mutated", no_op)
    with pytest.raises(NumericsError, match="says it changed 1 of 1 weights, but 0"):
        run(opened, tmp_path, folder / "rankings.parquet")
    assert not list(tmp_path.glob("*.csv"))


def test_an_honest_operation_that_changes_nothing_fails_the_campaign(folder, opened, tmp_path, monkeypatch):
    monkeypatch.setattr(critical_weights, "operation", lambda settings: lambda values, target: values)
    with pytest.raises(NumericsError, match="changed none"):
        run(opened, tmp_path, folder / "rankings.parquet")


def test_a_pruned_model_may_have_lost_what_a_score_names(folder, opened, tmp_path):
    """A gradient does not fall with its weight: the first of a ranking may be zero already, which is no failure."""
    ranked = read_parquet(folder / "rankings.parquet")
    first = ranked[(ranked["scorer"] == "magnitude") & (ranked["selection"] == "top")].sort_values("rank").head(2)
    gone = mutate.edits_at(first["tensor"].tolist(), first["flat_index"].tolist())
    with mutate.mutated(opened.loaded, gone, mutate.zero):
        table = run(opened, tmp_path, folder / "rankings.parquet", metrics=["magnitude"], topk=[8, 40], controls=6)
    row = table[(table["selection"] == "top") & (table["weights_requested"] == 2)].iloc[0]
    assert (row["weights_changed"], row["weights_no_op"], row["delta_nll"], row["kl"]) == (0, 2, 0.0, 0.0)
    # All of 8 and a fifth of 40 are one set: three rows have controls, two tests were made.
    assert (table["controls"] > 0).sum() == 3
    assert read_json(tmp_path / "summary.json")["tested"] == 2


def test_a_mutator_that_does_not_restore_fails_the_campaign(opened, monkeypatch):
    name = "model.layers.0.mlp.down_proj.weight"
    texts = nll.tokenise(opened.loaded, ["The capital of France is Paris.", "Rome is old."])
    engine = Campaign(opened.loaded, texts, batch_size=2)
    kept = opened.loaded.model.get_parameter(name).detach().clone()
    monkeypatch.setattr(mutate, "_restore", lambda targets, parts: None)
    try:
        with pytest.raises(NumericsError, match="other bits after"):
            engine.effect([mutate.Edit(name)], mutate.zero)
    finally:
        opened.loaded.model.get_parameter(name).data.copy_(kept)


def test_controls_that_do_nothing_show_no_effect(opened):
    """Zeroing what no text reads, and writing the same bits, move nothing at all."""
    texts = nll.tokenise(opened.loaded, [p.text for p in choosing.passages("heldout", 7)])
    engine = Campaign(opened.loaded, texts, batch_size=7)
    used = {int(i) for w in texts.windows for i in w.ids}
    unused = next(i for i in range(320) if i not in used)
    edits = [mutate.Edit("model.embed_tokens.weight", torch.arange(unused * 32, unused * 32 + 32))]
    for found in (
        engine.effect(edits, mutate.zero),
        engine.effect(edits, lambda v, t: v, allow_unchanged=True),
    ):
        assert (found.evaluation.delta_nll == 0).all()
        assert (found.evaluation.kl == 0).all()
        assert not found.evaluation.changed.any()


def test_a_campaign_costs_one_baseline(opened, folder, tmp_path):
    forwards = []
    handle = opened.loaded.model.register_forward_hook(lambda *_: forwards.append(1))
    try:
        table = run(opened, tmp_path, folder / "rankings.parquet", metrics=["magnitude"])
    finally:
        handle.remove()
    controls = read_csv(tmp_path / "controls.csv")
    mutations = table.drop_duplicates(["selection", "weights_requested"])
    # Two batches each: the baseline, its repetition as a control, and every set once.
    assert len(forwards) == 2 * (2 + len(mutations) + len(controls))


def test_rankings_of_another_model_or_too_short_are_refused(opened, open_tiny, folder, tmp_path):
    with pytest.raises(ArtifactError, match="another model"):
        run(open_tiny("gpt2"), tmp_path, folder / "rankings.parquet")
    with pytest.raises(ArtifactError, match="ranks 40 weights, fewer than the 41"):
        run(opened, tmp_path, folder / "rankings.parquet", topk=[41])


def test_seeds_without_randomness_are_deterministic_and_not_called_stable(opened, tmp_path):
    critical_stability.measure(
        opened,
        settings(metrics=["taylor_abs", "fisher_true", "magnitude"], topk=[20]),
        table=tmp_path / "stability.csv",
        statistics=tmp_path / "stability.json",
        provenance=ORIGIN,
    )
    table = read_csv(tmp_path / "stability.csv")
    labels = {(r.metric, r.varied): r.label for r in table.itertuples()}
    assert labels["taylor_abs", "seed"] == labels["magnitude", "seed"] == "deterministic"
    assert labels["fisher_true", "seed"] == "compared"
    assert labels["taylor_abs", "half"] == "compared"
    assert set(table[table["metric"] == "magnitude"]["varied"]) == {"seed"}  # it reads no text
    assert len(table[(table["metric"] == "taylor_abs") & (table["varied"] == "domain")]) == 21  # pairs of 7
    assert (table[table["varied"] == "half"]["first_texts"] == 7).all()
    found = read_json(tmp_path / "stability.json")
    assert found["taylor_abs"]["seed"]["20"]["jaccard_mean"] == 1.0


def test_halves_are_disjoint_and_hold_every_domain():
    passages = choosing.passages("calibration", 28)
    found = {c.name: set(c.texts) for c in critical_stability.conditions(passages, [0, 1], 0) if c.kind == "half"}
    assert not found["first"] & found["second"]
    assert found["first"] | found["second"] == {p.text for p in passages}
    domains = {p.text: p.domain for p in passages}
    assert {domains[t] for t in found["first"]} == {domains[t] for t in found["second"]} == set(domains.values())


def test_agreement_depth_and_tops(folder, tmp_path):
    own = settings()
    critical_overlap.analyse(
        own,
        rankings=folder / "rankings.parquet",
        scores=folder / "scores.h5",
        components=folder / "components.csv",
        overlaps=tmp_path / "overlap.csv",
        depth=tmp_path / "depth.csv",
        statistics=tmp_path / "overlap.json",
        provenance=ORIGIN,
    )
    overlaps, depth = read_csv(tmp_path / "overlap.csv"), read_csv(tmp_path / "depth.csv")
    assert len(overlaps) == 3 * 2
    scores = read_hdf5(folder / "scores.h5")
    from scipy.stats import spearmanr

    pair = overlaps[(overlaps["first"] == "taylor_abs") & (overlaps["second"] == "magnitude")].iloc[0]
    expected = spearmanr(scores.array("score/taylor_abs"), scores.array("score/magnitude")).statistic
    assert pair["spearman"] == pytest.approx(expected)
    assert scores.attributes["complete"] is True or bool(scores.attributes["complete"])
    for metric in METRICS:
        rows = depth[depth["metric"] == metric]
        assert rows["top_40"].sum() == 40
        # Enrichment weighted by the share of weights is the share of the selected: it adds up to one.
        assert (rows["enrichment_40"] * rows["weights"]).sum() / rows["weights"].sum() == pytest.approx(1.0)
    tops = [tmp_path / f"{m}_{k}.csv" for m in METRICS for k in own["topk"]]
    critical_overlap.write_tops(own, rankings=folder / "rankings.parquet", tops=tops, provenance=ORIGIN)
    assert [len(read_csv(path)) for path in tops] == [5, 40] * len(METRICS)
    first = read_csv(tops[1])
    assert first["score"].is_monotonic_decreasing
    assert list(first.columns)[:4] == ["run_id", "scorer", "scope", "rank"]


def test_labels_of_depth():
    assert critical_overlap.label(3, 2, 1) == "decreasing"
    assert critical_overlap.label(1, 2, 3) == "increasing"
    assert critical_overlap.label(1, 3, 1) == "peak_middle"
    assert critical_overlap.label(3, 1, 3) == "valley_middle"
    assert critical_overlap.label(1, 1, 1.05) == "stable"
    assert critical_overlap.label(2.0, 0.95, 1.0) == "decreasing"


def test_samples_are_uniform_over_the_selection_and_scores_are_theirs(opened, tmp_path):
    selection = select(opened.loaded.anatomy, components=["v", "down"])
    for most in (100, 10**9):
        places = critical_rankings.sample_places(selection, most, 0)
        assert sum(map(len, places.values())) == min(most, selection.count)
        assert all((np.diff(p) > 0).all() for p in places.values())
    rank(opened, tmp_path, metrics=["magnitude"], components=["v", "down"], sample=100)
    source = read_hdf5(tmp_path / "scores.h5")
    names = source.attributes["tensors"]
    for number, flat, score in zip(
        source.array("tensor"), source.array("flat_index"), source.array("score/magnitude"), strict=True
    ):
        weight = opened.loaded.model.get_parameter(names[number]).detach().reshape(-1)[flat]
        assert score == abs(float(weight))


def test_fused_tensors_are_told_apart_and_partly_selected_ones_sampled_inside(open_tiny, tmp_path):
    session = open_tiny("gpt2")
    rank(session, tmp_path, metrics=["magnitude"], components=["v"], topk=[5])
    parts = read_csv(tmp_path / "components.csv")
    assert set(parts["component"]) == {"v"}
    assert (parts["weights"] == 32 * 32).all()
    source = read_hdf5(tmp_path / "scores.h5")
    assert ((source.array("flat_index") % 96) >= 64).all()


def test_texts_are_balanced_disjoint_and_refuse_what_is_not_there(tmp_path):
    passages = [Passage(d, f"{d}{i}") for d in "abc" for i in range(4)]
    found = choosing.balanced(passages, 7)
    assert [p.text for p in found] == ["a0", "a1", "a2", "b0", "b1", "c0", "c1"]
    from tremor.errors import ConfigError

    with pytest.raises(ConfigError, match="only 12"):
        choosing.balanced(passages, 13)
    for split in ("calibration", "heldout"):
        (tmp_path / "text" / split).mkdir(parents=True)
        (tmp_path / "text" / split / "a.txt").write_text("same\n" + split)
    with pytest.raises(ArtifactError, match="share the passage 'same'"):
        choosing.passages("heldout", resources=tmp_path)
    everything = choosing.passages("calibration") + choosing.passages("heldout")
    assert len(everything) >= 200
    assert len({p.domain for p in everything}) >= 4
    assert choosing.digest(["a", "bc"]) != choosing.digest(["ab", "c"])


def test_destroyed_models_are_reported_and_not_capped(opened, folder, tmp_path):
    table = run(opened, tmp_path, folder / "rankings.parquet", operation="flip", bit=30, metrics=["magnitude"])
    broken = table[table["status"] != "ok"]
    for _, row in broken.iterrows():
        assert not math.isfinite(row["perturbed_nll"])
        assert pd.isna(row["delta_nll_low"])
    # Rows of equal sets are one changed model.
    distinct = broken.drop_duplicates(["metric", "selection", "weights_requested"])
    assert read_json(tmp_path / "summary.json")["destroyed"] == len(distinct)
    assert len(broken) or (table[table["selection"] == "top"]["delta_nll"].abs() > 0).any()
