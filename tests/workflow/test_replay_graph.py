"""`tremor replay` on a finished run: the spectrum comes out bit for bit, and nothing of the run is touched."""

import subprocess
import sys

from project import environment


def test_a_finished_job_is_replayed(done):
    target = "results/spectrum/tiny/capital/float32/spectrum.h5"
    before = (done.folder / target).stat()
    command = [sys.executable, "-m", "tremor.cli", "replay", target, "--configfile", "test-config.yaml"]
    found = subprocess.run(
        command,
        cwd=done.folder,
        env={**environment(), "PYTHONPATH": str(done.folder / "workflow")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    lines = [line.split(maxsplit=1) for line in found.stdout.splitlines()]
    assert lines[0] == [target, "same bits"]
    assert {verdict for _, verdict in lines} == {"same bits"}
    assert len(lines) == 2  # and its statistics
    after = (done.folder / target).stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    assert done.stale("results/exp15/summary.csv") == {}
