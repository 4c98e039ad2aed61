"""What surrounds a run, for `tremor doctor`: library versions against the lock, disk, the cluster (no torch)."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
LEAST_FREE_GIB = 2.0  # the embedded models and the default results take some hundred MB
PLUGIN = "snakemake-executor-plugin-slurm"
SINFO = ("sinfo", "--noheader", "--format=%P %D %T")
PATIENCE = 10.0  # seconds that a controller may take; a site's own commands give up much later
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)")
SHOWN = 4  # names in one line


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    text: str
    problem: str = ""  # what is wrong and what to do; empty if nothing is


def pins(lock: Path = LOCK) -> dict[str, str]:
    """Package and version of every pin of the lock; none where there is no lock (an installed copy without it)."""
    if not lock.is_file():
        return {}
    lines = lock.read_text(encoding="utf-8").splitlines()
    return {m[1]: m[2] for line in lines if not line.startswith("#") and (m := _PIN.match(line.strip()))}


def version(package: str) -> str | None:
    """The installed version, without what a build for one device adds to it; None if it is not there."""
    try:
        return metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def versions(pinned: Mapping[str, str], installed: Callable[[str], str | None] = version) -> Finding:
    """Whether what is installed is what the lock says.

    Args:
        pinned: Package to version.
        installed: Gives the version that is there.
    """
    if not pinned:
        return Finding("versions", "no requirements.lock beside this copy to compare with")
    found = {name: installed(name) for name in pinned}
    missing = [name for name, own in found.items() if own is None]
    other = [f"{name} {own} for {pinned[name]}" for name, own in found.items() if own not in (None, pinned[name])]
    if not missing and not other:
        return Finding("versions", f"all {len(pinned)} packages as in requirements.lock")
    parts = [f"missing: {_few(missing)}"] * bool(missing) + [f"other versions: {_few(other)}"] * bool(other)
    return Finding(
        "versions",
        f"{len(missing)} missing and {len(other)} other than in requirements.lock",
        "; ".join(parts) + ". Other versions may round differently; run: python -m pip install -r requirements.lock",
    )


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def disk(folder: Path) -> Finding:
    """Whether results can be written to a folder, and how much."""
    free = shutil.disk_usage(folder).free / 2**30
    problem = "" if free >= LEAST_FREE_GIB else f"only {free:.1f} GiB are free here; make room before a run"
    if not os.access(folder, os.W_OK):
        problem = "this folder is read-only; run where results can be written"
    return Finding("disk", f"{free:.1f} GiB free for results", problem)


def bytecode(package: str = "torch", *, kept: bool = not sys.dont_write_bytecode) -> Finding:
    """Whether what a job imports is compiled once, or by every job again.

    Args:
        package: One of those that every job imports.
        kept: Whether Python may keep what it has compiled.
    """
    spec = util.find_spec(package)
    compiled = spec is not None and spec.origin is not None and Path(util.cache_from_source(spec.origin)).is_file()
    if compiled or kept:
        return Finding("bytecode", "kept between jobs")
    return Finding(
        "bytecode",
        "compiled again by every job",
        "PYTHONDONTWRITEBYTECODE is set, which costs every job with a model some seconds; unset it, or compile once: "
        "python -m compileall -q -j 0 .venv/lib",
    )


def cluster(
    *,
    installed: Callable[[str], str | None] = version,
    find: Callable[[str], str | None] = shutil.which,
    patience: float = PATIENCE,
) -> Finding:
    """Whether jobs can be given to SLURM; a machine without it has no problem.

    Args:
        installed: Gives a package's version.
        find: Finds a program.
        patience: Seconds that the controller may take.
    """
    plugin = installed(PLUGIN)
    program = find(SINFO[0])
    if program is None:
        here = f"plugin {plugin}" if plugin else "no plugin"
        return Finding("SLURM", f"not on this machine ({here}); jobs run here")
    if plugin is None:
        return Finding(
            "SLURM",
            "here, without Snakemake's plugin",
            f"{PLUGIN} is not installed; run: python -m pip install -r requirements.lock",
        )
    try:
        done = subprocess.run([program, *SINFO[1:]], capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        return Finding(
            "SLURM",
            f"plugin {plugin}, controller silent",
            f"sinfo has not answered for {patience:.0f} s; ask whether slurmctld is up, or run without a profile",
        )
    except OSError as error:
        return Finding(
            "SLURM", f"plugin {plugin}, sinfo broken", f"sinfo cannot be run ({error.strerror}); ask the site"
        )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding(
            "SLURM",
            f"plugin {plugin}, controller not reached",
            f"sinfo says: {said}; on a cluster, try the login node or ask whether slurmctld is up; elsewhere run "
            "without a profile",
        )
    return _partitions(plugin, done.stdout)


def _partitions(plugin: str, listing: str) -> Finding:
    """What sinfo tells: partition, number of nodes, state."""
    rows = [line.split() for line in listing.splitlines() if len(line.split()) == 3]
    names = list(dict.fromkeys(row[0].rstrip("*") for row in rows))
    usable = {row[0].rstrip("*") for row in rows if row[2].rstrip("*~#!%$@^-") in ("idle", "mixed", "allocated")}
    text = f"plugin {plugin}, partitions {_few(names) or 'none'}"
    if not usable:
        return Finding("SLURM", text, "no partition has a node that is up; ask the site, or wait until nodes are back")
    return Finding("SLURM", text)
