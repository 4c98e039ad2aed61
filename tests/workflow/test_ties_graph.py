"""The edges of exp6 and exp7: what is asked for brings its ancestors, and nothing else."""

import pytest

from project import Project

TIE = "results/exp6/tiny/capital/geometric"
PLANES = "results/exp7/tiny/capital/geometric/float64"


@pytest.mark.parametrize(
    ("target", "rules"),
    [
        (f"{TIE}/tie.h5", {"manifest", "exp6_tie"}),
        (f"{TIE}/float64/flips.parquet", {"manifest", "exp6_tie", "exp6_spectrum", "exp6_flips"}),
        (f"{PLANES}/planes.h5", {"manifest", "exp6_tie", "exp6_spectrum", "exp7_measure"}),
        (f"{PLANES}/zoom.h5", {"manifest", "exp6_tie", "exp6_spectrum", "exp7_measure", "exp7_zoom"}),
        (f"{PLANES}/maps.csv", {"manifest", "exp6_tie", "exp6_spectrum", "exp7_measure", "exp7_randomness"}),
        (
            f"{PLANES}/signs.png",
            {"manifest", "exp6_tie", "exp6_spectrum", "exp7_measure", "exp7_zoom", "exp7_randomness", "exp7_figures"},
        ),
    ],
)
def test_a_target_brings_its_ancestors(fresh: Project, target: str, rules: set[str]) -> None:
    assert set(fresh.stale(target)) == rules


def test_summaries_gather_what_is_selected(fresh: Project) -> None:
    fresh.config = {**fresh.config, "exp7": {"methods": ["geometric", "probability"], "arithmetic": ["float32"]}}
    assert fresh.stale("results/exp6/summary.csv")["exp6_flips"] == 2  # two methods, one arithmetic
    assert fresh.stale("results/exp7/summary.csv")["exp7_measure"] == 2
