"""Checkouts to run Snakemake in: fresh, finished, and private copies of the finished one."""

import shutil
from pathlib import Path

import pytest

from project import Project, checkout


@pytest.fixture
def fresh(tmp_path: Path, tiny_model: Path) -> Project:
    """A checkout in which nothing has run yet."""
    project = Project(checkout(tmp_path / "project"))
    shutil.copytree(tiny_model, project.model)
    return project


TARGETS = ("results/exp15/summary.csv", "results/exp12/tiny/capital/float64/polar.png")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Project:
    """A checkout in which the main target and a figure have run; tests that change something take `done`."""
    project = Project(checkout(tmp_path_factory.mktemp("finished") / "project"))
    shutil.copytree(tiny_model, project.model)
    project.run(*TARGETS)
    return project


@pytest.fixture
def done(finished: Project, tmp_path: Path) -> Project:
    """A private copy of the finished checkout; times are kept, so nothing in it is stale."""
    shutil.copytree(finished.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")
