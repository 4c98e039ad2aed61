"""Evaluation, fine-tuning, attribution and the joint report in the graph: file edges, reruns, and errors."""

import shutil

SETTINGS = {
    "texts": {"calibration": 2, "heldout": 3},
    "sensitivity": {"modes": ["zero"], "heads": False},
    "super_weights": {
        "methods": ["magnitude", "spikes"],
        "controls": 2,
        "prompts": 1,
        "factors": [2.0],
        "groups": [32],
    },
    "evaluate": {"texts": 7, "prompts": ["The capital of France is"], "samples": 1, "tokens": 3},
    "train": {"steps": 2, "warmup": 0, "length": 32, "checkpoint": 1},
    "attribution": {"orders": 2, "permutations": 100, "judge": "judge"},
    "integrated": {"analyses": ["evaluate", "train", "attribution", "super-weights"]},
}
TARGETS = ("results/esa/integrated/summary.csv", "results/esa/integrated/figures/overview.png")


def test_the_report_makes_what_it_joins_and_reruns_by_its_own_settings(fresh, saved_model):
    shutil.copytree(saved_model("mamba"), fresh.folder / "judge")  # its context is long enough for the prompt
    models = {**fresh.config["models"], "judge": {"source": "path", "path": "judge"}}
    fresh.config = {**fresh.config, "models": models, "esa": SETTINGS}
    jobs = ("evaluate_measure", "evaluate_summary", "train_measure", "train_summary", "sensitivity_measure",
            "attribution_components", "attribution_measure", "attribution_summary", "super_weights_measure",
            "super_weights_summary", "tuned_super_weights", "integrated", "integrated_figures")  # fmt: skip
    names = [f"esa_{name}" for name in jobs]
    assert fresh.stale(*TARGETS) == {**dict.fromkeys(names, 1), "manifest": 2}
    fresh.run(*TARGETS)
    assert fresh.stale(*TARGETS) == {}
    text = (fresh.folder / TARGETS[0]).read_text()
    assert text.startswith("model,analysis,quantity,value,unit,detail\n")
    assert {line.split(",")[1] for line in text.splitlines()[1:]} == {
        "evaluate", "train", "attribution", "super-weights", "fine-tuning",
    }  # fmt: skip
    attribution = {**SETTINGS, "attribution": {**SETTINGS["attribution"], "orders": 3}}
    fresh.config = {**fresh.config, "esa": attribution}
    assert set(fresh.stale(*TARGETS)) == {
        "esa_attribution_measure", "esa_attribution_summary", "esa_integrated", "esa_integrated_figures",
    }  # fmt: skip
    fresh.config = {**fresh.config, "esa": {**SETTINGS, "attribution": {"judge": "nobody"}}}
    failed = fresh.run("--dry-run", *TARGETS, check=False)
    assert failed.returncode
    assert "esa.attribution.judge" in failed.stdout + failed.stderr
