"""Scratch: artifacts grow on another disk, and are whole or not there in their place, as without it."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tremor import job
from tremor.errors import ArtifactError, PlatformError
from tremor.store import hdf5_writer, scratch
from tremor.store.hdf5 import Hdf5Writer, read_hdf5, write_hdf5

ROOT = Path(__file__).resolve().parents[3]
WIDTH = 40000
ROWS = np.random.default_rng(0).random((16, WIDTH), dtype=np.float32)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A scratch on another file system than the results, where there is one."""
    home = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=home) as name:
        folder = Path(name)
        if home is not None and folder.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("results and scratch are on one file system here")
        monkeypatch.setenv(scratch.VARIABLE, name)
        yield folder


def grow(path, watch=lambda: None, times=1):
    with Hdf5Writer(path, attributes={"mode": "reference"}, provenance={}) as file:
        file.create("hidden", (WIDTH,), np.float32)
        for _ in range(times):
            file.append("hidden", ROWS)
        watch()


def test_an_artifact_grows_in_the_scratch_and_has_the_same_bytes(elsewhere, tmp_path, monkeypatch):
    seen = {}

    def watch():
        (growing,) = elsewhere.iterdir()
        seen.update(scratch=growing.stat().st_size, beside=[p.stat().st_size for p in (tmp_path / "a").iterdir()])

    grow(tmp_path / "a" / "x.h5", watch, times=4)  # more than HDF5 keeps in memory
    assert seen["scratch"] > 0
    assert seen["beside"] == [0]  # nothing grows beside the artifact
    assert not list(elsewhere.iterdir())
    monkeypatch.delenv(scratch.VARIABLE)
    grow(tmp_path / "b" / "x.h5", times=4)
    assert (tmp_path / "a" / "x.h5").read_bytes() == (tmp_path / "b" / "x.h5").read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.h5"]


def test_an_error_in_the_block_leaves_the_old_artifact_and_nothing_else(elsewhere, tmp_path):
    path = tmp_path / "x.h5"
    grow(path)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        grow(path, lambda: 1 / 0)
    assert path.read_bytes() == before
    assert not list(elsewhere.iterdir())
    assert [p.name for p in tmp_path.iterdir()] == ["x.h5"]


# Killed while it grows, before the copy, and when the copy is complete but has not taken the artifact's name.
KILLS = {"tremor.store.hdf5_writer.Hdf5Writer._finish": 1, "tremor.store.scratch._copy": 1, "os.replace": 0}


@pytest.mark.parametrize(("place", "left"), KILLS.items())
def test_a_kill_leaves_the_old_artifact_and_the_next_write_sweeps_both_disks(elsewhere, tmp_path, place, left):
    path = tmp_path / "x.h5"
    write_hdf5(path, {"old": np.zeros(3)}, attributes={}, provenance={})
    before = path.read_bytes()
    script = (
        "import os, signal, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from unittest import mock\n"
        "from tremor.store.hdf5 import write_hdf5\n"
        f"with mock.patch({place!r}, lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)):\n"
        "    write_hdf5(Path(sys.argv[1]), {'new': np.arange(9.0)}, attributes={}, provenance={})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    done = subprocess.run([sys.executable, "-c", script, str(path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert len(list(elsewhere.iterdir())) == left
    assert len(list(tmp_path.iterdir())) == 2
    write_hdf5(path, {"new": np.arange(9.0)}, attributes={}, provenance={})
    assert not list(elsewhere.iterdir())
    assert list(tmp_path.iterdir()) == [path]
    assert read_hdf5(path).array("new").tolist() == list(range(9))


def test_the_file_of_a_living_job_is_not_swept(elsewhere, tmp_path):
    grow(tmp_path / "x.h5", lambda: grow(tmp_path / "y.h5", lambda: len(list(elsewhere.iterdir())) == 2 or 1 / 0))
    for name in ("x.h5", "y.h5"):
        assert np.array_equal(read_hdf5(tmp_path / name).array("hidden"), ROWS)


def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_scratch_is_named_with_what_it_was_for(elsewhere, tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_writer.os, "pwrite", full)
    with pytest.raises(ArtifactError) as found:
        grow(tmp_path / "x.h5")
    monkeypatch.undo()
    text = str(found.value)
    assert f"cannot write {elsewhere}/tremor-" in text
    assert "no space is left on that disk" in text
    assert f"the scratch of {tmp_path / 'x.h5'}: make room in {elsewhere}" in text
    assert not list(elsewhere.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_full_disk_behind_the_scratch_is_named_as_ever(elsewhere, tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "_copy", full)
    with pytest.raises(ArtifactError, match=rf"cannot write {tmp_path}/x.h5: no space is left on that disk; free some"):
        grow(tmp_path / "x.h5")
    assert not list(elsewhere.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_scratch_that_cannot_be_had_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    monkeypatch.setenv(scratch.VARIABLE, "")
    with pytest.raises(PlatformError, match=r"\$NO_SUCH_VARIABLE/x has a variable that is not set on this node"):
        scratch.use("$NO_SUCH_VARIABLE/x")
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match=r"cannot be made on this node \(Not a directory\)"):
        scratch.use(str(tmp_path / "file" / "x"))
    monkeypatch.setenv("NODE_DISK", str(tmp_path))
    scratch.use("$NODE_DISK/fast")
    assert scratch.current() == tmp_path / "fast"
    assert scratch.free() > 0
    scratch.use(None)  # as it was
    assert scratch.current() == tmp_path / "fast"


class Snakemake:
    """As much of Snakemake's object as a job needs."""

    def __init__(self, **resources):
        self.log, self.rule, self.threads = [], "rule", 1
        self.input, self.output, self.params, self.wildcards = {}, {}, {}, {}
        self.resources = resources


def test_a_job_takes_its_scratch_from_the_resources(tmp_path, monkeypatch):
    monkeypatch.setenv(scratch.VARIABLE, "")
    job.main(lambda inputs, params, outputs: grow(tmp_path / "x.h5"), Snakemake(scratch=str(tmp_path / "node"), gpu=1))
    assert scratch.current() == tmp_path / "node"
    assert read_hdf5(tmp_path / "x.h5").attributes["mode"] == "reference"
    with pytest.raises(SystemExit):
        job.main(lambda *_: None, Snakemake(scratch="$NO_SUCH_VARIABLE"))
