"""The graph of exp1, exp11 and exp14: what a job needs, and what a change of the configuration reruns."""

import csv

from project import Project

SMALL = {
    "exp1": {"jumps": [1, 100000], "walk_steps": 5},
    "exp11": {"jumps": [100], "angles": 2, "random_rotations": 2, "shift_stride": 16},
    "exp14": {"steps": [1e-8], "count": 5, "noise_samples": 2},
}
SUMMARIES = tuple(f"results/{name}/summary.csv" for name in SMALL)


def test_they_hang_on_the_spectrum_and_run_from_it(done: Project) -> None:
    done.config = {**done.config, **SMALL}
    assert done.stale(*SUMMARIES) == {
        "exp1_measure": 2, "exp1_summary": 1, "exp11_measure": 1, "exp11_summary": 1,
        "exp14_measure": 1, "exp14_summary": 1,
    }  # fmt: skip
    figures = (
        "results/exp1/tiny/capital/true_float64/heatmap.png",
        "results/exp11/tiny/capital/float64/counts.png",
        "results/exp14/tiny/capital/float64/scaling.png",
    )
    done.run(*SUMMARIES, *figures)
    with (done.folder / "results/exp1/summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["numerics"] for row in rows] == ["float64", "true_float64"]
    assert [row["dtype"] for row in rows] == ["float32", "float64"]
    assert rows[1]["walk_distinct_inputs"] == "6"
    for figure in figures:
        assert (done.folder / figure).stat().st_size > 0
    assert done.stale(*SUMMARIES, *figures) == {}
    # Another walk is no reason to turn directions again, nor to look for the Jacobian.
    done.config = {**done.config, "exp14": {**SMALL["exp14"], "count": 6}}
    assert done.stale(*SUMMARIES, *figures) == {"exp14_measure": 1, "exp14_summary": 1, "exp14_figures": 1}
    # A name less in the summary is one job less, not a rerun of the others.
    done.config = {**done.config, **SMALL, "exp1": {**SMALL["exp1"], "true_float64": False}}
    assert done.stale("results/exp1/summary.csv") == {"exp1_summary": 1}
