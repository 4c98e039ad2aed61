"""What a cluster is asked for: the closed form, its limits, and that a real job stays below it."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from snakemake.iocontainers import Wildcards

from tremor.config import Config
from tremor.graph import Graph
from tremor.models import manifest as manifests
from tremor.sizes import AUTO_GIB, PROCESS_MB, copies, memory_mb

EIGHT_BILLION = {"parameters": 8_030_261_248, "bytes": 16_060_556_376}


@pytest.mark.parametrize(
    ("dtypes", "weights"), [(["float32"], 4), (["bfloat16"], 2), (["float32", "true_float64"], 12)]
)
def test_it_is_weights_reading_transients_and_the_process(dtypes, weights):
    expected = PROCESS_MB + 2 * 1024 + (EIGHT_BILLION["parameters"] * weights + 0.1 * EIGHT_BILLION["bytes"]) / 2**20
    found = memory_mb(EIGHT_BILLION, dtypes=dtypes, transient_gib=2.0)
    assert 0 <= found - expected < 1  # rounded up to the next MB


def test_auto_transients_are_asked_for_twice():
    """A job takes half of what is free, so it must be given twice what it is meant to take."""
    small = {"parameters": 0, "bytes": 0}
    assert memory_mb(small, dtypes=[], transient_gib="auto") == PROCESS_MB + 2 * AUTO_GIB * 1024


def test_a_job_of_regimes_asks_for_every_format_it_holds(tmp_path):
    """The float64 copy lies beside the model; without it a large model's job is killed at every retry."""
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"schema": manifests.SCHEMA, "files": {}, **EIGHT_BILLION}))
    graph = Graph(Config().model_dump(mode="json"), home=tmp_path)
    asked = graph.regimes_memory(SimpleNamespace(model="llama"), SimpleNamespace(manifest=path), attempt=1)
    held = ["float32", "bfloat16", "true_float64"]  # the default precisions
    assert asked == memory_mb(EIGHT_BILLION, dtypes=held, transient_gib=2.0)


def test_scores_ask_for_their_gradients_and_a_shard_for_its_share(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"schema": manifests.SCHEMA, "files": {}, **EIGHT_BILLION}))
    raw = Config().model_dump(mode="json")
    raw["critical_weights"]["metrics"] = ["magnitude", "taylor_abs", "grad_squared", "obd"]
    raw["esa"]["pruning"]["scores"] = ["magnitude", "wanda"]
    raw["shards"]["critical_rankings"] = 4
    graph, inputs = Graph(raw, home=tmp_path), SimpleNamespace(manifest=path)

    def asked(experiment, **names):
        return graph.scores_memory(experiment)(Wildcards(fromdict={"model": "llama", **names}), inputs, attempt=1)

    def held(copies):
        return memory_mb(EIGHT_BILLION, dtypes=["float32"] * (1 + copies), transient_gib=2.0)

    # obd: four sums, and the rest gradients, signs and products, of which a shard has a quarter.
    assert asked("critical_rankings") == held(12)
    assert asked("critical_rankings", shard="1-of-4") == held(3)
    assert asked("esa_pruning") == held(5)  # no gradient, but all scores in order
    assert copies(["taylor_abs", "grad_squared", "wanda"]) == 4
    assert copies(["magnitude", "random"]) == 0
    assert graph.training_memory(Wildcards(fromdict={"model": "llama"}), inputs, attempt=1) == held(4)


def test_an_unknown_type_is_an_error():
    with pytest.raises(KeyError):
        memory_mb(EIGHT_BILLION, dtypes=["int3"], transient_gib=1)


_JOB = """
import json, sys
from pathlib import Path
from tremor.experiments.session import open_session
from tremor.models import manifest as manifests
from tremor.memory import peak_memory_bytes
folder, path = Path(sys.argv[1]), Path(sys.argv[2])
found = manifests.build("tiny", {"source": "path"}, folder)
path.write_text(json.dumps(found))
probe = {"device": "cpu", "threads": 1, "max_memory": 0.5}
session = open_session(manifest=path, directory=folder, dtype="float32", attention="auto", probe=probe)
import torch
session.loaded.model(torch.zeros(4, 16, dtype=torch.int64))
print(peak_memory_bytes())
"""


def test_a_process_that_runs_a_model_stays_below_it(saved_model, tmp_path):
    path = tmp_path / "manifest.json"
    environment = {**os.environ, "PYTHONPATH": "workflow"}
    done = subprocess.run(
        [sys.executable, "-c", _JOB, str(saved_model("llama")), str(path)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    asked = memory_mb(json.loads(path.read_text()), dtypes=["float32"], transient_gib=0.5)
    assert int(done.stdout.split()[-1]) / 2**20 < asked
