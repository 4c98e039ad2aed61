"""The esa analyses that remove weights, in the graph: one job a model each, and a pruned model saved by it."""

import json

import pytest

from tremor.models import manifest

MADE = ("results/esa/selective-weight-pruning/summary.csv", "results/esa/pruning/summary.csv",
        "results/esa/pruning/tiny/curves.png")  # fmt: skip
LEFT = ("results/esa/sensitivity/summary.csv", "results/esa/targeted-perturbation/summary.csv")
SETTINGS = {
    "texts": {"calibration": 2, "heldout": 2},
    "selective_weight_pruning": {
        "selections": {"mine": {"file": "mine.json"}},
        "select": ["mine"],
        "fills": ["zero"],
        "controls": 2,
        "tokens": 2,
    },
    "pruning": {"scores": ["wanda"], "sparsities": [0.5], "groups": ["per_row"]},
}


@pytest.fixture
def project(fresh):
    fresh.config = {**fresh.config, "esa": SETTINGS}
    weights = [{"tensor": "model.layers.0.mlp.up_proj.weight", "flat_index": [3, 5]}]
    (fresh.folder / "mine.json").write_text(json.dumps({"weights": weights}))
    return fresh


def test_two_run_for_real_and_a_users_list_of_weights_is_an_input_like_any_other(project):
    project.run(*MADE)
    for path in MADE[:2]:
        assert (project.folder / path).read_text().startswith("model,")
    pruned = project.folder / "results/esa/pruning/tiny/checkpoints/wanda-2of4"
    manifest.verify(manifest.read(pruned / "manifest.json"), pruned)
    mine = project.folder / "mine.json"
    mine.write_text(mine.read_text().replace("5", "6"))
    names = ("selective_weight_pruning", "sensitivity", "targeted_perturbation")
    expected = {f"esa_{name}{end}": 1 for name in names for end in ("_measure", "_summary")}
    assert project.stale(*MADE, *LEFT) == expected
