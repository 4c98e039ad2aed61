"""What reruns when something changes, proved by dry runs on a finished tiny run."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from project import Project

from .conftest import TARGETS

GPU_WORK = ("spectrum_measure", "exp12_measure", "exp13_measure", "exp15_measure")


def test_the_main_target_is_complete_and_true(finished: Project) -> None:
    with (finished.folder / "results/exp15/summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == ["angles", "vectors"]
    assert [row["rays"] for row in rows] == ["8", "6"]  # 8 angles; 2 vectors of 2 signs and 2 random
    for row in rows:
        assert row["violations"] == "0"
        assert row["certified_rays"] == row["rays"]
        assert float(row["hidden_l2_mean"]) > 0
        assert (row["model"], row["prompt"], row["mode"], row["dtype"]) == ("tiny", "capital", "batched", "float32")
        assert row["device"] in ("cpu", "cuda")


def test_a_second_run_has_nothing_to_do(finished: Project) -> None:
    assert "Nothing to be done" in finished.run(*TARGETS).stderr
    assert finished.stale(*TARGETS) == {}


def test_no_artifact_names_the_machine_or_the_user(finished: Project) -> None:
    host, home = os.uname().nodename, str(Path.home())
    for path in (finished.folder / "results").rglob("*"):
        if path.suffix in (".json", ".csv", ".h5"):
            text = path.read_bytes()
            assert str(finished.folder).encode() not in text, path
            assert f"{home}/".encode() not in text, path
            assert len(host) < 4 or host.encode() not in text, path


def test_other_angles_rerun_exp12_and_exp15_but_not_the_jacobian(done: Project) -> None:
    done.config = {**done.config, "exp12": {"angles": 9}}
    stale = done.stale("results/exp15/summary.csv")
    assert stale == {"exp12_measure": 1, "exp15_measure": 1, "exp15_summary": 1}


def test_a_figure_s_style_reruns_the_figure_alone(done: Project) -> None:
    style = done.folder / "workflow/tremor/figures/style.py"
    style.write_text(style.read_text() + "\nNEW_STYLE = 3\n")
    assert done.stale(*TARGETS) == {"exp12_figures": 1}


def test_library_maths_reruns_its_descendants(done: Project) -> None:
    done.edit("workflow/tremor/probe/boundary.py", "LOOKAHEAD = 32", "LOOKAHEAD = 31")
    stale = done.stale(*TARGETS)
    assert stale["exp12_measure"] == stale["exp13_measure"] == 1
    assert stale["exp15_measure"] == 2
    assert "spectrum_measure" not in stale


def test_a_comment_or_a_docstring_reruns_nothing(done: Project) -> None:
    for name in ("probe/boundary.py", "floats.py", "figures/style.py", "experiments/boundary.py"):
        path = done.folder / "workflow/tremor" / name
        path.write_text("# a comment\n" + path.read_text())
    done.edit("workflow/tremor/floats.py", "The smallest positive (denormal) number.", "The least positive number.")
    assert done.stale(*TARGETS) == {}


def test_a_deleted_summary_is_one_job(done: Project) -> None:
    (done.folder / "results/exp15/summary.csv").unlink()
    assert done.stale("results/exp15/summary.csv") == {"exp15_summary": 1}


def test_new_weights_rerun_everything_below_them(done: Project) -> None:
    from families import save_tiny

    shutil.rmtree(done.model)
    save_tiny("llama", done.model, seed=1)
    stale = done.stale(*TARGETS)
    assert stale["manifest"] == 1
    manifest = done.folder / "resources/models/tiny/manifest.json"
    before = json.loads(manifest.read_text())["weights_digest"]
    done.run(str(manifest.relative_to(done.folder)))
    assert json.loads(manifest.read_text())["weights_digest"] != before
    stale = done.stale(*TARGETS)
    assert all(rule in stale for rule in GPU_WORK), stale


def test_the_same_weights_saved_again_rerun_the_manifest_alone(done: Project) -> None:
    for path in done.model.iterdir():
        path.touch()
    done.run("resources/models/tiny/manifest.json")
    assert done.stale(*TARGETS) == {}


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_it_starts_from_both_snakefiles_and_from_elsewhere(finished: Project, tmp_path: Path, snakefile: str) -> None:
    shutil.copytree(finished.model, tmp_path / "model")
    place = ("--snakefile", str(finished.folder / snakefile), "--directory", str(tmp_path))
    output = finished.run("--dry-run", *place, "results/exp15/summary.csv").stdout
    assert "exp15_summary" in output
    whole = finished.run("--dry-run", *place).stdout
    assert "spectrum_figure" in whole  # the default target, not the first rule of an included file
