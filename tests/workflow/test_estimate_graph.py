"""The estimate's plan against Snakemake's own dry run, before and after the jobs ran."""

import pytest

from project import Project, environment
from tremor.errors import TremorError
from tremor.estimate import plan, report
from tremor.estimate.machine import Rates

TARGET = "results/exp15/summary.csv"
RATES = Rates(
    start_model=4.5, start_arrays=0.6, start_figures=1.1, attention_call=3e-4, attention_backward=5e-4, scan_call=4e-4,
    scan_step=3e-5, scan_backward=1.5e-4, flops=1e11, svd=1.5e10, bandwidth=8e10,
)  # fmt: skip


def _rules(jobs):
    found: dict[str, int] = {}
    for job in jobs:
        found[job.rule] = found.get(job.rule, 0) + 1
    return found


def _planned(project: Project, *targets: str):
    project.command()  # writes the configuration
    return plan.plan(
        targets, home=project.folder, directory=project.folder, configfiles=[project.folder / "test-config.yaml"]
    )


def test_a_fresh_project_has_the_jobs_that_snakemake_would_run(fresh: Project, monkeypatch):
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    jobs, targets = _planned(fresh, TARGET, "exp15")
    assert targets == [TARGET, "exp15"]
    assert _rules(plan.needed(jobs, TARGET)) == fresh.stale(TARGET)
    # A short name stands for its tables.
    assert _rules(plan.needed(jobs, "exp15")) == _rules(jobs) == {**fresh.stale(TARGET), "exp15": 1}
    jobs = plan.needed(jobs, TARGET)
    assert all(job.gpu == 1 for job in jobs if job.rule.endswith("_measure"))
    # Priced, every job has a cost, and the model is known from its folder.
    found = report.estimate(
        [TARGET, "exp15"], home=fresh.folder, directory=fresh.folder, rates=RATES,
        configfiles=[fresh.folder / "test-config.yaml"],
    )  # fmt: skip
    assert found.everything.jobs == len(jobs) == found.targets[TARGET].jobs == found.targets["exp15"].jobs
    assert "exp15" not in found.rules
    assert found.everything.seconds > 4.5 * 5  # spectrum, exp12, exp13 and both variants of exp15 start torch
    assert found.everything.generic == 0


def test_finished_jobs_are_not_counted(finished: Project):
    jobs, _ = _planned(finished, TARGET)
    assert jobs == []


def test_what_snakemake_refuses_is_said(fresh: Project):
    with pytest.raises(TremorError, match=r"could not plan results/exp99\S*: nothing makes the target results/exp99"):
        _planned(fresh, "results/exp99/summary.csv")
