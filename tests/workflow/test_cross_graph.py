"""The cross-examination in the graph: it continues rankings and the spectrum, and reruns for its own settings alone."""

TARGETS = ("results/cross/summary.csv", "results/cross/tiny/capital/changes.png")
SETTINGS = {
    "critical_weights": {"metrics": ["taylor_abs"], "topk": [500], "calibration": 7, "texts": 7},
    "cross": {
        "scores": ["taylor_abs"], "methods": [], "topk": [1, 5], "operations": ["zero", "double"], "controls": 2,
        "deep_controls": 2, "angles": 4, "s_max": 1e-4, "batch_size": 8, "noise_samples": 8, "texts": 4,
    },
}  # fmt: skip


def test_spectrum_and_rankings_feed_the_cross_examination(fresh):
    fresh.config = {**fresh.config, **SETTINGS}
    jobs = {
        "manifest": 1,
        "spectrum_measure": 1,
        "critical_rankings": 1,
        "cross_measure": 1,
        "cross_figures": 1,
        "cross_summary": 1,
    }
    assert fresh.stale(*TARGETS) == jobs
    fresh.run(*TARGETS)
    assert fresh.stale(*TARGETS) == {}
    lines = (fresh.folder / TARGETS[0]).read_text().splitlines()
    assert lines[0].startswith("model,prompt,source,score,topk,operation,")
    assert [line.split(",")[:6] for line in lines[1:]] == [
        ["tiny", "capital", "critical_weights", "taylor_abs", k, o] for k in "15" for o in ("zero", "double")
    ]

    own = {"cross_measure": 1, "cross_figures": 1, "cross_summary": 1}
    fresh.config = {**fresh.config, "cross": {**SETTINGS["cross"], "controls": 3}}
    assert fresh.stale(*TARGETS) == own
    # The campaign's own settings are none of its business; the list of super weights is, once it is asked for.
    fresh.config = {**fresh.config, **SETTINGS, "critical_weights": {**SETTINGS["critical_weights"], "texts": 14}}
    assert fresh.stale(*TARGETS) == {}
    fresh.config = {**fresh.config, **SETTINGS, "cross": {**SETTINGS["cross"], "methods": ["spikes"]}}
    assert fresh.stale(*TARGETS) == {"esa_super_weights_measure": 1, **own}
