"""critical_weights in the graph: scores feed rankings, rankings feed the campaign; a setting reruns what it touches."""

from tremor.replay import content

TARGETS = (
    "results/critical_weights/summary.csv",
    "results/critical_weights/tiny/effects.png",
    "results/critical_weights/tiny/top_10_weights_magnitude.csv",
)
SETTINGS = {
    "metrics": ["taylor_abs", "magnitude"], "topk": [10], "mask_ratios": [1.0], "controls": 3, "calibration": 7,
    "texts": 7, "tail_draws": 5, "bootstrap": 50,
}  # fmt: skip


FOLDER = "results/critical_weights/tiny"
MADE = [f"{FOLDER}/{name}" for name in (
    "rankings.parquet", "scores.h5", "components.csv", "perturbation_results.csv", "controls.csv", "effects.h5",
)]  # fmt: skip


def test_scores_rankings_and_campaign_run_for_real(fresh, tmp_path, monkeypatch):
    fresh.config = {**fresh.config, "critical_weights": SETTINGS}
    jobs = {
        "manifest": 1, "critical_rankings": 1, "critical_weights_measure": 1, "critical_stability": 1,
        "critical_overlap": 1, "critical_weights_figures": 1, "critical_weights_summary": 1,
    }  # fmt: skip
    assert fresh.stale(*TARGETS) == jobs
    fresh.run(*TARGETS)
    assert fresh.stale(*TARGETS) == {}
    lines = (fresh.folder / TARGETS[0]).read_text().splitlines()
    assert len(lines) == 1 + 2 * 2  # two metrics, top and bottom
    assert lines[1].startswith("tiny,taylor_abs,top,10,1.0,10,")

    fresh.config = {**fresh.config, "critical_weights": {**SETTINGS, "operation": "sign"}}
    campaign = {"critical_weights_measure": 1, "critical_weights_figures": 1, "critical_weights_summary": 1}
    assert fresh.stale(*TARGETS) == campaign
    fresh.config = {**fresh.config, "critical_weights": {**SETTINGS, "stability_seeds": [0, 2]}}
    assert fresh.stale(*TARGETS) == {"critical_stability": 1, "critical_weights_figures": 1}
    # Other evaluation text is another effect; scores read none of it but must stay disjoint from it.
    fresh.config = {**fresh.config, "critical_weights": SETTINGS}
    fresh.edit("resources/text/heldout/home.txt", "In the morning", "In the evening")
    stale = fresh.stale(*TARGETS)
    assert stale["critical_weights_measure"] == 1

    fresh.edit("resources/text/heldout/home.txt", "In the evening", "In the morning")
    # Cut into shards, and grown on another disk, they are the same bit for bit.
    before = [content(fresh.folder / path) for path in MADE]
    for path in (fresh.folder / FOLDER).iterdir():
        if path.is_file():
            path.unlink()
    fresh.config = {**fresh.config, "shards": {"critical_rankings": 2, "critical_weights": 2}}
    monkeypatch.setenv("NODE_DISK", str(tmp_path))
    # The node's shell has the variable, whoever submits need not.
    cut = (*MADE, "--default-resources", "scratch='$NODE_DISK/scratch'")
    assert fresh.stale(*cut) == {
        "critical_rankings_shard": 2, "critical_rankings_gather": 1, "critical_weights_shard": 2,
        "critical_weights_gather": 1,
    }  # fmt: skip
    fresh.run(*cut)
    assert [content(fresh.folder / path) for path in MADE] == before
    assert not list((fresh.folder / FOLDER).glob("shards/*"))
    assert (tmp_path / "scratch").is_dir()
    assert not list((tmp_path / "scratch").iterdir())
