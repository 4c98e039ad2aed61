"""esa in shards: scores by tensor and noise by draw are bit for bit what one job makes."""

import pandas as pd
import pytest

from tremor.config import Config, block
from tremor.errors import ConfigError
from tremor.experiments import (
    esa_compare,
    esa_compare_results,
    esa_robustness,
    esa_robustness_results,
    esa_super_weights,
    esa_targeted,
    esa_targeted_results,
)
from tremor.replay import content
from tremor.shards import Shard, names
from tremor.store import shards
from tremor.store.documents import read_json
from tremor.store.tables import read_csv

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}
TEXTS = {"calibration": 2, "heldout": 3, "batch_size": 3}


def settings(name, **changes):
    return {**block(Config(), "esa")[name], **changes}


def cut(part, session, folder, count, **own):
    """Files of the parts of a whole."""
    folder.mkdir()
    files = [folder / f"{name}.h5" for name in names(count)]
    for file in files:
        found = part(session, texts=TEXTS, **own, shard=Shard.parse(file.stem))
        shards.write_part(file, found, provenance=session.provenance(**ORIGIN, seeds=found.seeds))
    return files


def timeless(path):
    """A table without its seconds: shards do not share what a single job does once."""
    found = read_csv(path)
    return found[[name for name in found.columns if not name.startswith("seconds")]]


@pytest.fixture
def opened(open_tiny):
    return open_tiny("llama")


def test_super_weights_from_scores_in_shards(opened, tmp_path):
    own = {
        "scores": settings("scores", probes=2, steps=2),
        "settings": settings(
            "super_weights", methods=["magnitude", "taylor_abs", "hutchinson", "activation_spike", "spikes"],
            controls=2, prompts=1,
        ),
    }  # fmt: skip
    files = {name: f"{name}.csv" for name in ("weights", "peaks", "effects", "changes")}
    files["statistics"] = "statistics.json"
    found = {}
    for count, parts in ((1, []), (3, cut(esa_super_weights.part, opened, tmp_path / "parts", 3, **own))):
        folder = tmp_path / str(count)
        folder.mkdir()
        esa_super_weights.measure(
            opened, texts=TEXTS, **own, **{name: folder / file for name, file in files.items()}, provenance=ORIGIN,
            parts=parts,
        )  # fmt: skip
        found[count] = folder
    for file in ("weights.csv", "peaks.csv", "changes.csv", "statistics.json"):
        assert content(found[1] / file) == content(found[3] / file), file
    pd.testing.assert_frame_equal(*(timeless(found[n] / "effects.csv") for n in (1, 3)), check_exact=True)
    with pytest.raises(ConfigError, match=r"esa.super_weights.methods names none"):
        cut(esa_super_weights.part, opened, tmp_path / "none", 2, **{
            **own, "settings": {**own["settings"], "methods": ["spikes"]},
        })  # fmt: skip


def test_compared_methods_in_shards(opened, tmp_path):
    own = {
        "scores": settings("scores"),
        "settings": settings("compare_sensitivity", methods=["random", "wanda", "fisher_true"], top_k=40, sample=500),
    }
    files = {name: f"{name}.csv" for name in ("weights", "methods", "pairs")} | {"statistics": "statistics.json"}
    one, two = (tmp_path / name for name in ("one", "two"))
    one.mkdir()
    esa_compare.measure(opened, texts=TEXTS, **own, **{n: one / f for n, f in files.items()}, provenance=ORIGIN)
    whole, origin = shards.gather(cut(esa_compare.part, opened, two, 2, **own))
    esa_compare_results.write_comparison(whole, **{n: two / f for n, f in files.items()}, provenance=origin)
    for file in ("weights.csv", "statistics.json"):
        assert content(one / file) == content(two / file), file
    for file in ("methods.csv", "pairs.csv"):
        pd.testing.assert_frame_equal(*(timeless(folder / file) for folder in (one, two)), check_exact=True)


def test_draws_of_noise_in_shards(opened, tmp_path):
    own = {
        "scores": settings("scores"),
        # The last level breaks the model, so that draws without numbers go through a part too.
        "settings": settings("robustness", levels=[0.01, 1e30], draws=3, bootstrap=100, fraction=0.02),
    }
    files = {"draws": "draws.csv", "levels": "levels.csv", "statistics": "statistics.json"}
    one, four = (tmp_path / name for name in ("one", "four"))
    one.mkdir()
    esa_robustness.measure(opened, texts=TEXTS, **own, **{n: one / f for n, f in files.items()}, provenance=ORIGIN)
    whole, origin = shards.gather(cut(esa_robustness.part, opened, four, 4, **own))
    esa_robustness_results.write_robustness(whole, **{n: four / f for n, f in files.items()}, provenance=origin)
    for file in files.values():
        assert content(one / file) == content(four / file), file
    assert read_csv(four / "levels.csv")["failed"].max() == 3
    assert read_json(four / "statistics.json")["targeted"] > 0


def test_targeted_perturbation_in_shards(opened, tmp_path):
    own = {
        "scores": settings("scores"),
        "settings": settings(
            "targeted_perturbation", scores=["magnitude", "taylor_abs"], operations=["zero", "noise"],
            fractions=[0.01, 1.0], controls=2, controls_large=2,
        ),
    }  # fmt: skip
    files = {"effects": "effects.csv", "draws": "draws.csv", "statistics": "statistics.json"}
    one, five = (tmp_path / name for name in ("one", "five"))
    one.mkdir()
    esa_targeted.measure(opened, texts=TEXTS, **own, **{n: one / f for n, f in files.items()}, provenance=ORIGIN)
    whole, origin = shards.gather(cut(esa_targeted.part, opened, five, 5, **own))
    esa_targeted_results.write_targeted(whole, **{n: five / f for n, f in files.items()}, provenance=origin)
    for file in files.values():
        assert content(one / file) == content(five / file), file
    assert len(read_csv(five / "draws.csv")) == 2 * 2 * 2  # of all weights there is one set only
