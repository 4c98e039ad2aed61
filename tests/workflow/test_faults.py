"""Bad input, damaged files and killed jobs: one clear message, a status that is not zero, nothing finished lost."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from project import Project, environment

SUMMARY = "results/exp15/summary.csv"


def merged(project: Project, **changes: Any) -> Project:
    project.config = {**project.config, **changes}
    return project


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exp12": {"angels": 9}}, r"test-config\.yaml:\d+: exp12.angels.*did you mean 'angles'"),
        ({"exp21": {}}, "exp21"),
        ({"select": {"models": ["tinny"], "prompts": ["capital"]}}, "'tinny' is not defined.*tiny"),
        ({"select": {"models": ["tiny"], "prompts": ["capitol"]}}, "'capitol' is not defined.*capital"),
        ({"exp12": {"angles": 0}}, "exp12.angles"),
        ({"exp12": {"s_max": 0}}, "exp12.s_max"),
        ({"exp13": {"s_max": -1e-6}}, "exp13.s_max"),
        ({"prompts": {"capital": {"text": "  "}}}, "prompts.capital.text"),
        ({"models": {"tiny": {"source": "path", "path": "no/such/folder"}}}, "no/such/folder.*does not exist"),
    ],
)
def test_wrong_configuration_stops_before_any_job(fresh: Project, changes: dict[str, Any], message: str) -> None:
    import re

    done = merged(fresh, **changes).run(SUMMARY, check=False)
    assert done.returncode != 0
    assert re.search(message, done.stderr.replace("\n", " ")), done.stderr
    assert not (fresh.folder / "results/spectrum").exists()


def test_a_key_written_twice_is_refused(fresh: Project) -> None:
    """Snakemake's own reader would keep the last one without a word."""
    twice = fresh.folder / "twice.yaml"
    twice.write_text("exp12: {angles: 7}\nexp12: {s_max: 1.0e-6}\n")
    done = fresh.run("--dry-run", "--configfile", str(twice), "--", SUMMARY, check=False)
    assert done.returncode != 0
    assert "'exp12' is written twice" in done.stdout + done.stderr  # a dry run reports on stdout


def _pickle_only(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def _no_tokenizer(model: Path) -> None:
    for path in model.glob("tokenizer*"):
        path.unlink()


def _nan_weights(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    name = next(n for n in weights if "mlp" in n)
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def _truncated(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_pickle_only, "pickle"),
        (_no_tokenizer, "tokenizer"),
        (_nan_weights, "NaN"),
        (_truncated, "model.safetensors"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(fresh: Project, damage: Callable[[Path], None], message: str) -> None:
    damage(fresh.model)
    done = fresh.run("results/spectrum/summary.csv", check=False)
    assert done.returncode != 0
    assert message in done.stderr, done.stderr
    assert not list((fresh.folder / "results").rglob("*.h5"))


def test_a_prompt_longer_than_the_context_is_refused(fresh: Project) -> None:
    merged(fresh, prompts={"capital": {"text": "the capital of France is " * 400}})
    done = fresh.run("results/spectrum/summary.csv", check=False)
    assert done.returncode != 0
    assert "error: the prompt has" in done.stderr
    assert "Traceback" not in done.stderr.split("error: the prompt has")[1].split("Error in rule")[0]


def test_nothing_changes_up_to_s_max_is_censored_not_a_boundary(done: Project) -> None:
    import csv

    merged(done, exp12={"angles": 4, "s_max": 1e-30})
    done.run("results/exp12/summary.csv")
    with (done.folder / "results/exp12/summary.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["censored_rays"] == "4"
    assert row["max_s_mean"] in ("", "nan")


def test_a_damaged_artifact_is_named_and_the_rest_stays(done: Project) -> None:
    spectrum = done.folder / "results/spectrum/tiny/capital/float32/spectrum.h5"
    content = bytearray(spectrum.read_bytes())
    times = spectrum.stat()
    content[len(content) // 2] ^= 1
    spectrum.write_bytes(content)
    os.utime(spectrum, ns=(times.st_atime_ns, times.st_mtime_ns))
    boundary = done.folder / "results/exp12/tiny/capital/float64/boundary.h5"
    kept = boundary.read_bytes()
    result = merged(done, exp13={"vectors": 1, "random_directions": 1}).run("results/exp13/summary.csv", check=False)
    assert result.returncode != 0
    assert "spectrum.h5" in result.stderr
    assert "error: " in result.stderr
    assert boundary.read_bytes() == kept


def test_a_truncated_table_is_named(done: Project) -> None:
    table = done.folder / "results/exp15/tiny/capital/float64/angles/distances.csv"
    table.write_text(table.read_text()[:-40])
    result = done.run("results/exp15/tiny/capital/float64/angles/distances.png", check=False)
    assert result.returncode != 0
    assert "distances.csv" in result.stderr


def test_a_descendant_refuses_an_ancestor_of_another_mode(done: Project) -> None:
    """Snakemake would rerun exp12; told to look at times only, exp15 still refuses by itself."""
    merged(done, probe={**done.config["probe"], "mode": "reference"})  # type: ignore[dict-item]
    (done.folder / "results/exp15/tiny/capital/float64/angles/distances.csv").unlink()
    result = done.run(
        "--rerun-triggers", "mtime", "--", "results/exp15/tiny/capital/float64/angles/distances.csv", check=False
    )
    assert result.returncode != 0
    assert "mode='batched'" in result.stderr
    assert "--forcerun exp12_measure" in result.stderr


def test_two_runs_exclude_each_other_and_a_killed_one_is_made_good(fresh: Project) -> None:
    """One run is at work: a second one in the folder stops at once. Then the first is killed without warning."""
    process = subprocess.Popen(
        fresh.command(SUMMARY),
        cwd=fresh.folder,
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    spectrum = fresh.folder / "results/spectrum/tiny/capital/float32/spectrum.h5"
    deadline = time.monotonic() + 200
    while not spectrum.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    assert spectrum.exists()
    second = fresh.run(SUMMARY, check=False)
    assert second.returncode != 0
    assert "LockException" in second.stderr
    # exp12 or exp13 is at work now: both need the spectrum, and neither is done within a few seconds.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    from tremor.store.hdf5 import read_hdf5

    for path in (fresh.folder / "results").rglob("*.h5"):
        if ".tmp" not in path.name:
            read_hdf5(path)  # whole, or not there
    stamp = spectrum.stat().st_mtime_ns
    fresh.run("--unlock")
    fresh.run("--rerun-incomplete", SUMMARY)
    assert (fresh.folder / SUMMARY).exists()
    assert spectrum.stat().st_mtime_ns == stamp  # what was finished was not made again
    leftovers = [p for p in (fresh.folder / "results").rglob("*") if ".tmp" in p.name]
    assert not leftovers


def test_a_clock_that_goes_back_loses_nothing(done: Project) -> None:
    """Results from the future keep; those older than their inputs are stale, and `--touch` says that they are not."""
    import time

    def shift(seconds: float) -> None:
        for path in (done.folder / "results").rglob("*"):
            if path.is_file():
                times = path.stat()
                os.utime(path, (times.st_atime + seconds, times.st_mtime + seconds))

    spectrum = done.folder / "results/spectrum/tiny/capital/float32/spectrum.h5"
    os.utime(spectrum, (time.time() + 86400, time.time() + 86400))
    assert done.stale(SUMMARY) == {}  # an input that is newer by its time, but not by its content
    shift(86400)
    assert done.stale(SUMMARY) == {}
    shift(-5 * 86400)
    stale = done.stale(SUMMARY)
    assert {"spectrum_measure", "exp12_measure", "exp15_measure"} <= set(stale)  # computed again rather than trusted
    kept = spectrum.read_bytes()
    done.run("--touch", SUMMARY)
    assert done.stale(SUMMARY) == {}
    assert spectrum.read_bytes() == kept


def test_a_file_in_the_place_of_a_folder_stops_the_run_and_harms_nothing(done: Project) -> None:
    """Snakemake itself stops, and names the place: forbidden to root as well, unlike a folder's mode."""
    figures = done.folder / "results/exp15/tiny/capital/float64/angles"
    distances = (figures / "distances.csv").read_bytes()
    blocked = done.folder / "results/exp13"
    import shutil

    shutil.rmtree(blocked)
    blocked.write_text("in the way")
    result = done.run("results/exp13/summary.csv", check=False)
    assert result.returncode != 0
    assert "results/exp13" in result.stderr
    assert blocked.read_text() == "in the way"
    assert (figures / "distances.csv").read_bytes() == distances
