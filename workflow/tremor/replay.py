"""Run again the one job that made an artifact, beside the results, and say whether the bits agree."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tremor.errors import ArtifactError, TremorError
from tremor.store.documents import json_safe, read_json

MADE = ("results", "resources")  # folders whose files a job may write
_PRIVATE = ("logs", "benchmarks", ".snakemake")  # what a run writes besides; the copy gets its own


@dataclass(frozen=True)
class Verdict:
    """What became of one file of the job.

    Attributes:
        path: The file, relative to the folder of the results.
        same: Whether its content agrees bit for bit; provenance (times, memory) does not count.
    """

    path: str
    same: bool


def content(path: Path) -> str:
    """Digest of what an artifact says, whatever its provenance says of the run.

    Args:
        path: HDF5, Parquet, CSV, JSON, or any other file (by its bytes).

    Returns:
        Hexadecimal sha256.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    if path.suffix in (".h5", ".hdf5"):
        return _hdf5(path)
    if path.suffix == ".parquet":
        from tremor.store.tables import parquet_digest

        return parquet_digest(path)
    digest = hashlib.sha256()
    if path.suffix == ".json":
        document = read_json(path)
        if isinstance(document, dict):
            document.pop("provenance", None)
        digest.update(repr(document).encode("utf-8", errors="backslashreplace"))
        return digest.hexdigest()
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}; make it first: snakemake {path}") from error


def _hdf5(path: Path) -> str:
    from tremor.store.arrays import array_digest
    from tremor.store.hdf5 import read_hdf5

    artifact = read_hdf5(path)
    digest = hashlib.sha256()
    for name in sorted(artifact.datasets):
        digest.update(f"{name}\0{array_digest(artifact.datasets[name])}\n".encode())
    for name in sorted(artifact.attributes):
        digest.update(f"{name}\0{json_safe(artifact.attributes[name])!r}\n".encode("utf-8", errors="backslashreplace"))
    return digest.hexdigest()


def replay(artifact: Path, *, home: Path, options: Sequence[str] = (), folder: Path | None = None) -> list[Verdict]:
    """Make an artifact again from the inputs it has now, and compare.

    Everything but the job's own outputs is linked into a temporary folder on the same disk, so nothing that was
    finished is touched and nothing large is copied. Times are kept, and no other job runs.

    Args:
        artifact: A file below ``results`` or ``resources``.
        home: Folder of the workflow (the one with the Snakefile).
        options: Further arguments for Snakemake; the same ``--configfile`` as in the run that made it.
        folder: Where the results are; the current folder by default.

    Returns:
        A verdict for each file that the job wrote, the artifact first.

    Raises:
        ArtifactError: the artifact does not exist, or lies outside.
        TremorError: the job failed; the message has the end of what it said.
    """
    base = (folder or Path.cwd()).resolve()
    relative = _relative(artifact, base)
    with _links(base) as copy:
        command = [sys.executable, "-m", "snakemake", relative, "--snakefile", str(home / "Snakefile")]
        command += ["--directory", str(copy), "--cores", "all", "--force", "--rerun-triggers", "mtime", "--nolock"]
        command += ["--quiet", "progress", *(_absolute(option, base) for option in options)]
        done = subprocess.run(command, cwd=base, capture_output=True, text=True, check=False)
        if done.returncode:
            said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
            raise TremorError(f"the job of {relative} failed when it was run again:\n{said}")
        written = sorted(_written(base, copy), key=lambda name: (name != relative, name))
        if relative not in written:
            raise TremorError(f"snakemake did not make {relative} again; is it made by a rule of this workflow?")
        return [Verdict(name, content(base / name) == content(copy / name)) for name in written]


def _relative(artifact: Path, base: Path) -> str:
    try:
        relative = (base / artifact).resolve().relative_to(base)
    except ValueError as error:
        raise ArtifactError(f"{artifact} lies outside {base}; run this where the results are") from error
    if relative.parts[:1] not in [(name,) for name in MADE]:
        raise ArtifactError(f"{artifact} is not below results/ or resources/, so no job made it")
    if not (base / relative).is_file():
        raise ArtifactError(f"{artifact} does not exist; make it first: snakemake {relative}")
    return str(relative)


def _absolute(option: str, base: Path) -> str:
    """Files named on the command line are meant from where the user stands."""
    return str(base / option) if not option.startswith("-") and (base / option).is_file() else option


@contextmanager
def _links(base: Path) -> Iterator[Path]:
    """A folder that looks like `base`: made files by hard links, all else by symbolic links."""
    with tempfile.TemporaryDirectory(dir=base, prefix=".replay-") as name:
        copy = Path(name)
        for entry in base.iterdir():
            if entry.name in _PRIVATE or entry.name.startswith(".replay-"):
                continue
            if entry.name in MADE:
                shutil.copytree(entry, copy / entry.name, copy_function=os.link, symlinks=True)
            else:
                (copy / entry.name).symlink_to(entry)
        yield copy


def _written(base: Path, copy: Path) -> Iterator[str]:
    """Files that are no longer the linked ones; sidecars go with their tables."""
    for top in MADE:
        for path in (copy / top).rglob("*"):
            original = base / path.relative_to(copy)
            if path.is_file() and not path.name.endswith(".meta.json") and not _same_file(path, original):
                yield str(path.relative_to(copy))


def _same_file(path: Path, original: Path) -> bool:
    return original.is_file() and path.stat().st_ino == original.stat().st_ino
