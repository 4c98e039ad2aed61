"""esa/robustness, esa/adversarial and esa/bit-level in the graph: rerun by their own settings alone."""

TARGETS = tuple(f"results/esa/{name}/summary.csv" for name in ("robustness", "adversarial", "bit-level"))
FIGURES = ("results/esa/robustness/tiny/noise.png", "results/esa/adversarial/tiny/success.png",
           "results/esa/bit-level/tiny/attack.png")  # fmt: skip
SETTINGS = {
    "texts": {"calibration": 2, "heldout": 2},
    "robustness": {"levels": [0.1], "draws": 2, "bootstrap": 50},
    "adversarial": {"facts": 2, "attacks": ["fgsm", "hotflip"], "epsilons": [0.1], "edits": [1], "draws": 2},
    "bit_level": {"formats": ["bfloat16"], "components": ["k"], "texts": 2, "weights": 1, "max_flips": 2, "draws": 2,
                  "mantissa": [2]},
}  # fmt: skip


def test_all_run_for_real_and_rerun_by_their_own_settings(fresh):
    fresh.config = {**fresh.config, "esa": SETTINGS}
    names = [f"esa_{name}{end}" for name in ("robustness", "adversarial", "bit_level")
             for end in ("_measure", "_figures", "_summary")]  # fmt: skip
    assert fresh.stale(*TARGETS, *FIGURES) == {**dict.fromkeys(names, 1), "manifest": 1}
    fresh.run(*TARGETS, *FIGURES)
    assert fresh.stale(*TARGETS, *FIGURES) == {}
    tables = [(fresh.folder / target).read_text().splitlines() for target in TARGETS]
    assert tables[0][0].startswith("model,kind,level,scale,draws")
    assert [line.split(",")[1] for line in tables[0][1:]] == ["gaussian", "uniform", "targeted", "random"]
    assert [line.split(",")[:2] for line in tables[1][1:]] == [["tiny", "fgsm"], ["tiny", "hotflip"]]
    assert [line.split(",")[1] for line in tables[2][1:4]] == ["flip"] * 3
    fresh.config = {**fresh.config, "esa": {**SETTINGS, "robustness": {**SETTINGS["robustness"], "draws": 3}}}
    assert fresh.stale(*TARGETS, *FIGURES) == dict.fromkeys(names[:3], 1)
