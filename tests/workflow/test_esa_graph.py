"""The score analyses of esa in the graph: one job a model each, rerun by their own settings alone."""

SUPER = ("results/esa/super-weights/summary.csv", "results/esa/super-weights/tiny/effects.png")
COMPARE = ("results/esa/compare-sensitivity/summary.csv", "results/esa/compare-sensitivity/tiny/agreement.png")
SETTINGS = {
    "texts": {"calibration": 2, "heldout": 3},
    "scores": {"probes": 2, "steps": 2},
    "super_weights": {"methods": ["magnitude", "taylor_abs", "spikes"], "controls": 2, "prompts": 1},
    "compare_sensitivity": {"methods": ["magnitude", "taylor_abs", "wanda"], "top_k": 10, "sample": 200},
}


def test_both_run_for_real_and_rerun_by_their_own_settings(fresh):
    fresh.config = {**fresh.config, "esa": SETTINGS}
    names = [
        f"esa_{name}{end}"
        for name in ("super_weights", "compare_sensitivity")
        for end in ("_measure", "_figures", "_summary")
    ]
    assert fresh.stale(*SUPER, *COMPARE) == {**dict.fromkeys(names, 1), "manifest": 1}
    fresh.run(*SUPER, *COMPARE)
    assert fresh.stale(*SUPER, *COMPARE) == {}
    first = (fresh.folder / SUPER[0]).read_text().splitlines()
    assert first[0].startswith("model,method,weights,population")
    assert [line.split(",")[:2] for line in first[1:]] == [
        ["tiny", name] for name in ("magnitude", "taylor_abs", "spikes")
    ]
    assert len((fresh.folder / COMPARE[0]).read_text().splitlines()) == 4
    fresh.config = {**fresh.config, "esa": {**SETTINGS, "super_weights": {**SETTINGS["super_weights"], "controls": 3}}}
    assert fresh.stale(*SUPER, *COMPARE) == dict.fromkeys(names[:3], 1)
