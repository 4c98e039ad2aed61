"""Provenance: what an artifact was made from, without telling where or by whom."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

from tremor import __version__
from tremor.errors import ArtifactError
from tremor.memory import peak_device_memory_bytes, peak_memory_bytes
from tremor.store.documents import json_safe, read_json

SCHEMA_VERSION = 1
LIBRARIES = (
    "numpy", "scipy", "h5py", "pandas", "pyarrow", "matplotlib", "torch", "transformers", "tokenizers",
    "safetensors", "snakemake", "pypdf",
)  # fmt: skip
_STARTED = time.monotonic()
_SECRET = re.compile(r"(^|_)(token|password|secret|api_?key)$", re.IGNORECASE)
_ABSOLUTE = re.compile(r"^(/|~|[A-Za-z]:[\\/]|\\\\)")
_PATH_KEY = re.compile(r"(^|_)(path|paths|file|files|dir|directory|folder|cache)$", re.IGNORECASE)


def collect(
    *,
    config: Mapping[str, Any],
    code: str,
    inputs: Mapping[str, str],
    seeds: Mapping[str, int] | int | None,
    platform: Mapping[str, Any],
    model: Mapping[str, Any],
    wall_time_s: float | None = None,
) -> dict[str, Any]:
    """Provenance of an artifact, ready for the store.

    Absolute paths are cut to their last name and secrets are dropped, so an artifact can be published.

    Args:
        config: the block of configuration used.
        code: digest of the library code used (`digest.code_digest`).
        inputs: name of each input file to its sha256.
        seeds: seed or named seeds; None for a job without randomness.
        platform: from `platform.fingerprint`; {} for a job without a model.
        model: digests of weights and tokenizer, alias, revision; {} for a job without a model.
        wall_time_s: seconds the job took; by default since this module was imported, which is when the job
            began.

    Returns:
        A stable part (equal for equal work) and, under "volatile", what differs from run to run: wall_time_s,
        peak_memory_bytes, peak_device_memory_bytes, created_utc, git_commit, git_dirty.
    """
    elapsed = time.monotonic() - _STARTED if wall_time_s is None else wall_time_s
    stable = {
        "schema": SCHEMA_VERSION,
        "tremor": __version__,
        "config": config,
        "code": code,
        "inputs": {_short(str(name)): digest for name, digest in inputs.items()},
        "seeds": seeds,
        "platform": platform,
        "model": model,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "libraries": dict(library_versions()),
    }
    commit, dirty = git_state()
    return {
        **_publishable(json_safe(_with_paths_cut(stable))),
        "volatile": {
            "wall_time_s": round(elapsed, 3),
            "peak_memory_bytes": peak_memory_bytes(),
            "peak_device_memory_bytes": peak_device_memory_bytes(),
            "created_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "git_commit": commit,
            "git_dirty": dirty,
        },
    }


def _short(path: str) -> str:
    """An absolute path cut to its last name; anything else unchanged."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] if _ABSOLUTE.match(path) else path


def _with_paths_cut(value: Any) -> Any:
    if isinstance(value, PurePath):
        return _short(str(value)) if value.is_absolute() else value.as_posix()
    if isinstance(value, Mapping):
        return {key: _with_paths_cut(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_paths_cut(item) for item in value]
    return value


def _publishable(value: Any, key: str = "") -> Any:
    """Drop secrets, and cut text under a key that names a path (a prompt beginning with a slash stays)."""
    if isinstance(value, dict):
        return {name: _publishable(item, name) for name, item in value.items() if not _SECRET.search(name)}
    if isinstance(value, list):
        return [_publishable(item, key) for item in value]
    return _short(value) if isinstance(value, str) and _PATH_KEY.search(key) else value


@lru_cache(maxsize=1)
def library_versions() -> tuple[tuple[str, str], ...]:
    """Installed versions of the libraries that may change a number or a byte, without importing them."""
    found = []
    for name in LIBRARIES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)


@lru_cache(maxsize=1)
def git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout Tremor runs from and whether files differ from it; None where that is unknown.

    The commit is read from .git itself, since cluster nodes often have no git program; that is needed for
    "dirty" only.
    """
    root = next((folder for folder in Path(__file__).resolve().parents if (folder / ".git").exists()), None)
    if root is None:
        return None, None
    commit = _head(root / ".git")
    git = shutil.which("git")
    if commit is None or git is None:
        return commit, None
    status = subprocess.run(
        [git, "--no-optional-locks", "-C", str(root), "status", "--porcelain", "--untracked-files=no"],
        capture_output=True,
        check=False,
    )
    return commit, bool(status.stdout.strip()) if status.returncode == 0 else None


def _head(git: Path) -> str | None:
    try:
        if git.is_file():  # a worktree: "gitdir: <path>"
            git = (git.parent / git.read_text().partition(":")[2].strip()).resolve()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        name = head.partition(":")[2].strip()
        common = git / "commondir"
        stores = [git, (git / common.read_text().strip()).resolve()] if common.exists() else [git]
        for store in stores:
            if (store / name).exists():
                return (store / name).read_text().strip()
            packed = store / "packed-refs"
            for line in packed.read_text().splitlines() if packed.exists() else ():
                if line.endswith(f" {name}"):
                    return line.split()[0]
    except OSError:
        return None
    return None


def read_provenance(path: Path | str) -> dict[str, Any]:
    """Provenance of an artifact of any kind (.h5, .csv, .parquet, .json), verified as far as its kind is.

    Raises:
        ArtifactError: the artifact is missing, damaged, of an unknown kind, or has no provenance.
    """
    path = Path(path)
    if path.suffix in (".h5", ".hdf5"):
        from tremor.store.hdf5 import Hdf5Reader

        with Hdf5Reader(path) as file:
            return file.provenance
    if path.suffix in (".csv", ".parquet"):
        from tremor.store.tables import table_provenance

        return table_provenance(path)
    document = read_json(path) if path.suffix == ".json" else None
    if not isinstance(document, dict) or not isinstance(document.get("provenance"), dict):
        raise ArtifactError(f"{path} carries no provenance; delete it and run snakemake again")
    found: dict[str, Any] = document["provenance"]
    return found
