"""Scores by tensor and campaigns by change, in shards: bit for bit what one job makes."""

from pathlib import Path
from typing import Any

import pytest

from tremor.config import Config, block
from tremor.errors import ArtifactError, ConfigError
from tremor.experiments import critical_effects, critical_rankings, critical_results, critical_weights
from tremor.replay import content
from tremor.shards import Shard, names
from tremor.store import shards
from tremor.store.documents import read_json
from tremor.store.tables import read_parquet
from tremor.weights.scores import SCORES

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}
RANKED = {"rankings": "rankings.parquet", "scores": "scores.h5", "components": "components.csv"}
EFFECTS = {"table": "table.csv", "controls": "controls.csv", "data": "effects.h5", "statistics": "summary.json"}
# One by one there are too many weights in a model; loss_ablation has a test of its own.
EVERY = [name for name in SCORES if name != "loss_ablation"]


def settings(**changes: Any) -> dict[str, Any]:
    small = {
        "metrics": EVERY, "topk": [5, 400], "mask_ratios": [0.2, 1.0], "control_ratios": [1.0], "controls": 5,
        "calibration": 3, "texts": 3, "batch_size": 3, "bootstrap": 50, "sample": 3000,
    }  # fmt: skip
    found = {**block(Config(), "critical_weights"), **small, **changes}
    return {**found, "scores": {**found["scores"], "probes": 2, "steps": 2}}


def paths(folder: Path, files: dict[str, str]) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    return {name: folder / file for name, file in files.items()}


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    """A document without its seconds: shards do not share what a single job does once."""
    document.pop("provenance")
    for entry in document["metrics"].values():
        entry.pop("seconds")
    return document


def write(session: Any, path: Path, part: shards.Part) -> None:
    """As the scripts of shards do."""
    shards.write_part(path, part, provenance=session.provenance(**ORIGIN, seeds=part.seeds))


def rank(session: Any, folder: Path, own: dict[str, Any], count: int = 1) -> Path:
    files = {**paths(folder, RANKED), "statistics": folder / "statistics.json"}
    if count == 1:
        critical_rankings.measure(session, own, **files, provenance=ORIGIN)
        return folder
    parts = [folder / f"{name}.h5" for name in names(count)]
    for part in parts:
        write(session, part, critical_rankings.part(session, own, shard=Shard.parse(part.stem)))
    whole, origin = shards.gather(parts[::-1])
    critical_results.write_rankings(whole, **files, provenance=origin)
    return folder


@pytest.mark.parametrize("family", ["llama", "mamba"])
def test_scores_of_tensors_in_shards_are_those_of_one_job(open_tiny, tmp_path, family):
    session, own = open_tiny(family), settings()
    one = rank(session, tmp_path / "one", own)
    three = rank(session, tmp_path / "three", own, 3)
    for file in RANKED.values():
        assert content(one / file) == content(three / file), file
    before, after = (timeless(read_json(folder / "statistics.json")) for folder in (one, three))
    assert before == after
    assert before["metrics"]["weight_ig"]["notes"]["completeness_error"] is not None
    assert read_parquet(three / "rankings.parquet")["tensor"].nunique() > 3  # or there was nothing to merge


def test_equal_scores_keep_their_order_across_shards(open_tiny, tmp_path):
    session = open_tiny("llama")
    # An untrained gate passes nothing, so that most weights share the score 0: the bottom is all ties.
    gates = [p for name, p in session.loaded.model.named_parameters() if "gate_proj" in name]
    kept = [gate.detach().clone() for gate in gates]
    try:
        for gate in gates:
            gate.data.zero_()
        own = settings(metrics=["magnitude", "taylor_abs"], topk=[6000])
        one, four = (rank(session, tmp_path / str(n), own, n) for n in (1, 4))
    finally:
        for gate, values in zip(gates, kept, strict=True):
            gate.data.copy_(values)
    assert content(one / "rankings.parquet") == content(four / "rankings.parquet")
    bottom = read_parquet(four / "rankings.parquet").query("scorer == 'magnitude' and selection == 'bottom'")
    assert (bottom["score"] == 0).sum() > 3000
    assert bottom["tensor"].nunique() > 1


@pytest.fixture(scope="module")
def ranked(open_tiny, tmp_path_factory) -> Path:
    own = settings(metrics=["magnitude", "taylor_abs"], topk=[5, 40])
    return rank(open_tiny("llama"), tmp_path_factory.mktemp("ranked"), own) / "rankings.parquet"


def campaign(session: Any, folder: Path, ranked: Path, own: dict[str, Any], count: int = 1) -> Path:
    files = paths(folder, EFFECTS)
    if count == 1:
        critical_weights.measure(session, own, rankings=ranked, **files, provenance=ORIGIN)
        return folder
    parts = [folder / f"{name}.h5" for name in names(count)]
    for part in parts:
        shard = Shard.parse(part.stem)
        found = critical_weights.part(session, own, rankings=ranked, shard=shard)
        write(session, part, found)
    whole, origin = shards.gather(parts)
    critical_effects.write_effects(whole, **files, provenance=origin)
    return folder


@pytest.mark.parametrize("changes", [{}, {"operation": "gaussian", "control_match": "magnitude"}])
def test_a_campaign_in_shards_is_that_of_one_job(open_tiny, tmp_path, ranked, changes):
    own = settings(metrics=["magnitude", "taylor_abs"], topk=[5, 40], **changes)
    session = open_tiny("llama")
    one = campaign(session, tmp_path / "one", ranked, own)
    # 2 metrics of (1, 5, 8, 40 on top, two with 5 controls; 5, 40 at the bottom): 32 changes, cut within controls.
    five = campaign(session, tmp_path / "five", ranked, own, 5)
    for file in EFFECTS.values():
        assert content(one / file) == content(five / file), file


def test_too_many_shards_are_refused(open_tiny, tmp_path, ranked):
    session, own = open_tiny("llama"), settings(metrics=["magnitude"], topk=[5], controls=2)
    for run in (critical_rankings.part, critical_weights.part):
        more = {"rankings": ranked} if run is critical_weights.part else {}
        with pytest.raises(ConfigError, match=r"shards.critical_\w+ is 999, but there are only \d+ items"):
            run(session, own, **more, shard=Shard(1, 999))


def test_shards_of_other_settings_are_refused(open_tiny, tmp_path):
    session, parts = open_tiny("llama"), [tmp_path / "1-of-2.h5", tmp_path / "2-of-2.h5"]
    for part, topk in zip(parts, (5, 6), strict=True):
        own = settings(metrics=["magnitude"], topk=[topk])
        write(session, part, critical_rankings.part(session, own, shard=Shard.parse(part.stem)))
    with pytest.raises(ArtifactError, match=r"'topk' is 6 there and 5 here"):
        shards.gather(parts)
