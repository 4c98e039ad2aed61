"""exp2, exp3, lipschitz and perturbation in the graph: fat jobs over prompts, and what a change reruns."""

SMALL = {
    "exp2": {
        "names": ["capital", "bank"], "precisions": ["float32"], "powers": [-2, -6], "noise_samples": [1, 2],
        "noise_powers": [-3], "floor_samples": 4,
    },
    "exp3": {"powers": [-3, -7], "precisions": ["float32", "true_float64"]},
    "lipschitz": {"names": ["capital"], "studies": ["archive"], "archive_powers": [-2], "floor_samples": 4},
    "perturbation": {"precisions": ["float32"], "lattice_powers": [0], "relative_powers": [-2], "absolute_powers": [0]},
}  # fmt: skip
TARGETS = (
    "results/exp2/summary.csv",
    "results/exp2/tiny/float32/averages.png",
    "results/exp3/summary.csv",
    "results/exp3/tiny/capital/precision.png",
    "results/lipschitz/summary.csv",
    "results/lipschitz/reports.csv",
    "results/lipschitz/tiny/archive/quotients.png",
    "results/perturbation/summary.csv",
    "results/perturbation/tiny/float32/perturbation.png",
)


def test_they_run_for_real_and_follow_their_own_settings(fresh):
    fresh.config = {**fresh.config, **SMALL}
    jobs = {"exp3_states": 2, "lipschitz_report": 1, "lipschitz_reports": 1, "spectrum_measure": 1, "manifest": 1}
    for name in SMALL:
        jobs |= {f"{name}_measure": 1, f"{name}_figures": 1, f"{name}_summary": 1}
    assert fresh.stale(*TARGETS) == jobs
    fresh.run(*TARGETS)
    assert fresh.stale(*TARGETS) == {}
    heads = {
        "exp2": "tiny,float32,",
        "exp3": "tiny,capital,",
        "lipschitz": "tiny,archive,",
        "perturbation": "tiny,float32,",
    }
    for experiment, head in heads.items():
        lines = (fresh.folder / f"results/{experiment}/summary.csv").read_text().splitlines()
        assert len(lines) == 2  # one row a job, not one for each prompt
        assert lines[1].startswith(head)
    # The model answers once; where to step is a question of the tables.
    fresh.config = {**fresh.config, "exp3": {**SMALL["exp3"], "vector": 2}}
    assert fresh.stale(*TARGETS) == {"exp3_measure": 1, "exp3_figures": 1, "exp3_summary": 1}
    # The report does not depend on the studies' steps.
    fresh.config = {**fresh.config, "exp3": SMALL["exp3"], "lipschitz": {**SMALL["lipschitz"], "archive_powers": [-3]}}
    assert fresh.stale(*TARGETS) == {"lipschitz_measure": 1, "lipschitz_figures": 1, "lipschitz_summary": 1}
    # A study does not depend on the other's steps.
    fresh.config = {**fresh.config, "lipschitz": {**SMALL["lipschitz"], "gpt_oss_powers": [-3]}}
    assert fresh.stale(*TARGETS) == {}
    # The prompt set is an input of those that read it.
    path = fresh.folder / "resources/prompts/lipschitz.tsv"
    path.write_text(path.read_text().replace("The bank is by", "The bank is near"))
    assert set(fresh.stale(*TARGETS)) == {
        "exp2_measure", "exp2_figures", "exp2_summary",
        "lipschitz_measure", "lipschitz_figures", "lipschitz_summary",
    }  # fmt: skip
