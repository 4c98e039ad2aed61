"""Atomic replacement: old or new, never half, and a failing disk gives one clear error."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tremor.errors import ArtifactError
from tremor.store import atomic
from tremor.store.atomic import disk_errors, replacing, write_bytes


def failing(number: int):
    def fail(*_args: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def half_written(target: Path, error: Exception) -> None:
    with replacing(target) as temporary:
        temporary.write_text("half")
        raise error


def test_success_leaves_only_the_artifact(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.csv"
    with replacing(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".csv"
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert [p.name for p in target.parent.iterdir()] == ["a.csv"]


def test_umask_rules_the_mode(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_an_exception_keeps_the_old_artifact(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyError, match="mine"):
        half_written(target, KeyError("mine"))
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace", "open"])
@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "no space is left.*free some space.*run snakemake again"),
        (errno.EDQUOT, "quota is used up"),
        (errno.EROFS, "read-only.*make the folder writable.*run snakemake again"),
        (errno.EACCES, "permission is denied"),
    ],
)
def test_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, text: str) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, step, failing(number))
        with pytest.raises(ArtifactError, match=f"cannot write .*a.txt: .*{text}"):
            write_bytes(target, b"new")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        half_written(tmp_path / "a", FileNotFoundError(errno.ENOENT, "x", "/elsewhere"))
    # A file of another folder that may not be read is not this artifact's fault.
    with pytest.raises(PermissionError, match="other"):
        half_written(tmp_path / "a", PermissionError(errno.EACCES, "x", "/other/file"))
    assert os.listdir(tmp_path) == []


def test_a_folder_or_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(ArtifactError, match="a folder stands in its place"):
        write_bytes(tmp_path / "a", b"")
    (tmp_path / "f").write_text("")
    with pytest.raises(ArtifactError, match=r"is a file, not a folder"):
        write_bytes(tmp_path / "f" / "x" / "y", b"")


def test_what_a_killed_writer_left_is_swept_but_not_a_living_one(tmp_path: Path) -> None:
    target = tmp_path / "a.h5"
    code = (
        "import sys, time; from tremor.store.atomic import replacing\n"
        "with replacing(sys.argv[1]) as p: print(p, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(atomic.__file__).parents[2])}
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert child.stdout is not None
        orphan = Path(child.stdout.readline().strip())
        write_bytes(target, b"1")
        assert orphan.exists()  # its writer lives and holds the lock
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    time.sleep(0.05)
    assert orphan.exists()
    write_bytes(target, b"2")
    assert os.listdir(tmp_path) == ["a.h5"]


def test_a_full_disk_that_a_library_in_rust_reports(tmp_path: Path) -> None:
    class SafetensorError(Exception):
        """As safetensors has it: no OSError, and the number in the text alone."""

    path = tmp_path / "model.safetensors"
    with pytest.raises(ArtifactError, match=r"cannot write .*model\.safetensors: no space is left"), disk_errors(path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(SafetensorError, match="header"), disk_errors(path):
        raise SafetensorError("invalid header")


def test_an_error_that_is_clear_already_passes(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"^cannot write inner: done$"), disk_errors(tmp_path / "outer"):
        raise ArtifactError("cannot write inner: done") from OSError(errno.ENOSPC, "No space left on device")
