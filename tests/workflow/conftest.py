"""Checkouts to run Snakemake in: fresh, finished, and private copies of the finished one."""

import fcntl
import os
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
    own = tmp_path_factory.getbasetemp()
    # Half a minute of jobs: one of the workers of pytest-xdist runs them, the others wait and take a copy.
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    first = shared / "finished-first" / "project"
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not first.with_name("complete").exists():
            shutil.rmtree(first.parent, ignore_errors=True)
            first.parent.mkdir()
            project = Project(checkout(first))
            shutil.copytree(tiny_model, project.model)
            project.run(*TARGETS)
            first.with_name("complete").touch()
    shutil.copytree(first, own / "finished" / "project", symlinks=True)
    return Project(own / "finished" / "project")


@pytest.fixture
def done(finished: Project, tmp_path: Path) -> Project:
    """A private copy of the finished checkout; times are kept, so nothing in it is stale."""
    shutil.copytree(finished.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")
