"""kill -9 at moments spread over a run: what was finished stays, the rest is made, and every bit is the same.

Moments are counted in CPU time of the run, not on the clock: then they lie at the same places of the work on a busy
machine as on an idle one.
"""

import base64
import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from project import Project, checkout, environment
from tremor.replay import content

TARGET = "results/exp15/tiny/capital/float64/angles/distances.csv"
RUNS = 8  # runs that are ended by a kill: of Snakemake alone, or of it with all its jobs
SINGLE = ("spectrum",) * 5 + ("exp12",) * 4 + ("exp15",) * 3  # jobs killed alone; Snakemake itself tries them again
LONG = ("spectrum", "exp12", "exp15")  # the jobs of the target that load the model


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process and all below it, the ended ones included."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        for member in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                times = member.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def jobs_of(process: psutil.Process, script: str = "") -> list[psutil.Process]:
    """The scripts that a Snakemake has running, or those of one name."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                program, *words = child.cmdline() or [""]  # a zombie has none
                if "python" in Path(program).name and any(
                    ".snakemake/scripts/" in word and word.endswith(f"{script}.py") for word in words
                ):
                    found.append(child)
    return found


def start(project: Project, *arguments: str) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    log = (project.folder / "runs.log").open("ab")
    process = subprocess.Popen(
        project.command("--rerun-incomplete", *arguments, TARGET),
        cwd=project.folder,
        env=environment(),
        start_new_session=True,
        stdout=log,
        stderr=log,
    )
    log.close()
    return process, psutil.Process(process.pid)


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], *, limit: float = 120) -> bool:
    """Whether it became true before the run ended."""
    deadline = time.monotonic() + limit
    while process.poll() is None:
        if ready():
            return True
        assert time.monotonic() < deadline, "the run hangs"
        time.sleep(0.05)
    return False


def run_until(project: Project, moment: float) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """A run that has used so much CPU time, or is over."""
    process, root = start(project)
    wait_until(lambda: cpu_seconds(root) >= moment, process)
    return process, root


def costs(project: Project) -> tuple[float, float]:
    """Run undisturbed; CPU seconds until the first long job begins, and of a long job on average."""
    process, root = start(project)
    assert wait_until(lambda: bool(jobs_of(root, LONG[0])), process)
    begin = last = cpu_seconds(root)

    def over() -> bool:
        nonlocal last
        last = max(last, cpu_seconds(root))
        return False

    wait_until(over, process)
    assert process.wait() == 0, (project.folder / "runs.log").read_text()[-3000:]
    return begin, (last - begin) / len(LONG)


def incomplete(project: Project) -> set[str]:
    """Outputs of jobs that had begun and not ended, as Snakemake's own notes say."""
    folder = project.folder / ".snakemake/incomplete"
    names = [path for path in folder.rglob("*") if path.is_file() and path.name != "migration_underway"]
    return {
        base64.urlsafe_b64decode("".join(part.lstrip("@") for part in path.relative_to(folder).parts)).decode()
        for path in names
    }


def artifacts(project: Project) -> Iterator[Path]:
    for path in sorted((project.folder / "results").rglob("*")):
        if path.is_file() and ".tmp" not in path.name:
            yield path.relative_to(project.folder)


State = dict[Path, tuple[int, int, str]]


def finished(project: Project) -> State:
    """Artifacts of jobs that ended: when they were written, which file they are, and all their bytes."""
    begun = incomplete(project)
    found: State = {}
    for name in artifacts(project):
        path = project.folder / name
        if name.as_posix().removesuffix(".meta.json") not in begun:
            status = path.stat()
            found[name] = (status.st_mtime_ns, status.st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
    return found


def whole(project: Project) -> None:
    """Every artifact that is there can be read to its checksum, also those of jobs that were stopped."""
    for name in artifacts(project):
        if name.suffix in (".h5", ".json", ".csv"):
            content(project.folder / name)


def unlock(project: Project, *, by_the_book: bool) -> None:
    """What `snakemake --unlock` does; by itself it takes longer than the run to the next kill."""
    if by_the_book:
        project.run("--unlock")
    else:
        shutil.rmtree(project.folder / ".snakemake/locks", ignore_errors=True)  # missing if killed before it locked


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_change_no_bit(tmp_path: Path, tiny_model: Path) -> None:
    calm, shaken = (Project(checkout(tmp_path / name)) for name in ("calm", "shaken"))
    for project in (calm, shaken):
        shutil.copytree(tiny_model, project.model)
    begin, job = costs(calm)

    # From Snakemake's first breath to well into the second job.
    rng = random.Random(2026)
    width = (begin + 1.6 * job) / RUNS
    moments = [width * (stratum + rng.random()) for stratum in range(RUNS)]
    rng.shuffle(moments)
    kills = 0
    kept: State = {}
    orphans: list[psutil.Process] = []
    for number, moment in enumerate(moments):
        process, root = run_until(shaken, moment)
        if process.poll() is not None:  # done before its moment: from the start again, where it cannot be
            for folder in LONG:
                shutil.rmtree(shaken.folder / "results" / folder)
            kept = {}
            process, root = run_until(shaken, moment)
        assert process.poll() is None
        before, orphans = orphans, []
        if number % 2:
            orphans = jobs_of(root)  # they go on, and write what they would have written
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        psutil.wait_procs(before, timeout=60)
        kills += 1
        now = finished(shaken)
        assert {name: now.get(name) for name in kept} == kept, f"kill {number} at {moment:.2f} s"
        kept = now
        whole(shaken)
        unlock(shaken, by_the_book=number < 2)
    psutil.wait_procs(orphans, timeout=60)

    # Jobs alone: Snakemake sees them die and starts them again. Those that are finished by now are done once more.
    for folder in LONG:
        shutil.rmtree(shaken.folder / "results" / folder, ignore_errors=True)
    process, root = start(shaken, "--retries", str(len(SINGLE)))
    for script in SINGLE:
        age = rng.uniform(0.02, 0.7) * job
        doomed: list[psutil.Process] = []

        def due(
            root: psutil.Process = root, script: str = script, age: float = age, doomed: list[psutil.Process] = doomed
        ) -> bool:
            doomed[:] = [one for one in jobs_of(root, script) if cpu_seconds(one) >= age]
            return bool(doomed)

        assert wait_until(due, process), (shaken.folder / "runs.log").read_text()[-3000:]
        doomed[0].kill()
        kills += 1
        psutil.wait_procs(doomed[:1], timeout=10)
    assert process.wait() == 0, (shaken.folder / "runs.log").read_text()[-3000:]

    assert kills == 20
    names = list(artifacts(calm))
    assert list(artifacts(shaken)) == names
    for name in names:
        if not name.name.endswith(".meta.json"):  # the sidecar of a table is its provenance
            assert content(shaken.folder / name) == content(calm.folder / name), name
    assert not [path for path in (shaken.folder / "results").rglob("*") if ".tmp" in path.name]
    assert shaken.stale(TARGET) == {}
