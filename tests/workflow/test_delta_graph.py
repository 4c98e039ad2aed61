"""delta/jacobian in the graph: one job a model, then a summary, a comparison and figures of all."""

import csv

from families import save_tiny

FOLDER = "results/delta/jacobian"
TARGETS = (f"{FOLDER}/summary.csv", f"{FOLDER}/comparison.csv", f"{FOLDER}/comparison/gain.png")


def test_two_architectures_are_compared_for_real(fresh):
    save_tiny("mamba", fresh.folder / "other", layers=2)
    small = {"num_texts": 8, "gain_texts": 1, "sensitivity_texts": 1, "draws": 2, "pairs": 2, "probes": 4}
    fresh.config = {
        **fresh.config,
        "models": {**fresh.config["models"], "other": {"source": "path", "path": "other"}},
        "delta": {"models": ["other", "tiny"], "jacobian": {**small, "depths": 4}},
    }
    shared = {"delta_jacobian_summary": 1, "delta_jacobian_comparison": 1, "delta_jacobian_figures": 1}
    assert fresh.stale(*TARGETS) == {"manifest": 2, "delta_jacobian_measure": 2, **shared}
    fresh.run(*TARGETS)
    assert fresh.stale(*TARGETS) == {}
    with (fresh.folder / TARGETS[0]).open() as file:
        rows = list(csv.DictReader(file))
    # Two blocks of the one, three of the other, each with its own depth.
    assert [(row["model"], row["layer"]) for row in rows] == [("other", "0"), ("other", "1")] + [
        ("tiny", str(k)) for k in range(3)
    ]
    assert [row["mixer"] for row in rows] == ["ssm", "ssm", "attention", "attention", "attention"]
    with (fresh.folder / TARGETS[1]).open() as file:
        compared = list(csv.DictReader(file))
    depths = sorted({float(row["relative_depth"]) for row in compared})
    assert (depths[0], depths[-1], len(depths)) == (0.5, 1.0, 4)
    # The number of common depths is no setting of the measurement; the texts' number is.
    fresh.config["delta"] = {"models": ["other", "tiny"], "jacobian": {**small, "depths": 5}}
    assert fresh.stale(*TARGETS) == {"delta_jacobian_comparison": 1}
    fresh.config["delta"] = {"models": ["other", "tiny"], "jacobian": {**small, "num_texts": 9, "depths": 4}}
    assert fresh.stale(*TARGETS) == {"delta_jacobian_measure": 2, **shared}
