"""The delta study of neurons in the graph: two architectures, one chain of choose, ablate, compare; and tracing."""

import csv

import pytest

from families import save_tiny

DRAWN = ("percentage/figures/layers", "factual/figures/matrix", "tracing/figures/example")
FIGURES = tuple(f"results/delta/{name}.png" for name in DRAWN)
TARGETS = tuple(f"results/delta/{name}/summary.csv" for name in ("percentage", "factual", "tracing")) + FIGURES
NEURONS = {"delta_neurons": 2, "delta_ablation": 2}
TABLES = {"delta_percentage": 1, "delta_percentage_figures": 1, "delta_factual": 1, "delta_factual_figures": 1}
TRACES = {"delta_tracing_measure": 2, "delta_tracing_summary": 1, "delta_tracing_figures": 1}


@pytest.fixture
def pair(fresh):
    """The project with a Mamba and a GPT-2 whose context holds a sentence spelt in bytes."""
    save_tiny("mamba", fresh.folder / "one", layers=2)
    save_tiny("gpt2", fresh.folder / "two", layers=2, n_positions=256)
    fresh.config = {
        **fresh.config,
        "models": {name: {"source": "path", "path": name} for name in ("one", "two")},
        "select": {"models": ["one"], "prompts": ["capital"]},
        "delta": {
            "models": ["one", "two"],
            "facts": {"relations": ["P47", "P36"], "facts": 3, "other": 3},
            "neurons": {"layers": [1], "top_k": 3},
            "percentage": {"controls": 3, "bootstrap": 50},
            "tracing": {"facts": 2, "draws": 1, "recalled_only": False},
        },
    }
    return fresh


def test_two_architectures_are_compared_and_reruns_follow_the_settings(pair):
    assert pair.stale(*TARGETS) == {**NEURONS, **TABLES, **TRACES, "manifest": 2}
    pair.run(*TARGETS)
    assert pair.stale(*TARGETS) == {}
    with (pair.folder / "results/delta/percentage/summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    # Relations x wordings x selectors, for the Mamba at two places.
    assert len(rows) == 2 * 2 * 2 * (2 + 1)
    assert {row["model"] for row in rows if row["tap"] == "delta"} == {"one"}
    assert all(float(row["baseline_std"]) > 0 for row in rows)
    own = [row for row in rows if row["model"] == "one"]
    assert all(float(row["first_over_this_baseline_ppl"]) == 1.0 for row in own)
    # Another mode ablates again, and chooses nothing again; another number of resamples only counts again.
    settings = pair.config["delta"]
    pair.config["delta"] = {**settings, "percentage": {"controls": 3, "bootstrap": 50, "mode": "mean"}}
    assert pair.stale(*TARGETS) == {"delta_ablation": 2, **TABLES}
    pair.config["delta"] = {**settings, "percentage": {"controls": 3, "bootstrap": 60}}
    assert pair.stale(*TARGETS) == {"delta_percentage": 1, "delta_percentage_figures": 1}
    pair.config["delta"] = {**settings, "tracing": {**settings["tracing"], "draws": 2}}
    assert pair.stale(*TARGETS) == TRACES
