"""What surrounds a run: every problem that `tremor doctor` can name, injected one by one."""

import py_compile
import stat
import sys

import pytest

from tremor import doctor, surroundings
from tremor.errors import NumericsError


def _program(folder, text):
    """A stand-in for sinfo."""
    path = folder / "sinfo"
    path.write_text(f"#!{sys.executable}\nimport sys, time\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return lambda name: str(path)


def _here(package):
    return "2.8.0"


def test_the_lock_is_read_whole():
    pinned = surroundings.pins()
    lines = surroundings.LOCK.read_text().splitlines()
    assert len(pinned) == sum(1 for line in lines if line.strip() and not line.startswith("#"))
    assert pinned["torch"].count(".") == 2


def test_the_same_versions_are_no_problem():
    pinned = {"torch": "2.13.0", "numpy": "2.4.6"}
    found = surroundings.versions(pinned, pinned.get)
    assert not found.problem
    assert "all 2 packages" in found.text


def test_a_build_for_one_device_is_the_same_version(monkeypatch):
    monkeypatch.setattr(surroundings.metadata, "version", lambda name: "2.13.0+cpu")
    assert not surroundings.versions({"torch": "2.13.0"}).problem


def test_missing_and_other_versions_are_named_with_the_remedy():
    pinned = {"torch": "2.13.0", "numpy": "2.4.6", "h5py": "3.16.0"}
    found = surroundings.versions(pinned, {"torch": "2.12.0", "numpy": "2.4.6"}.get)
    assert "missing: h5py" in found.problem
    assert "torch 2.12.0 for 2.13.0" in found.problem
    assert "pip install -r requirements.lock" in found.problem
    assert "numpy" not in found.problem


def test_a_copy_without_a_lock_says_so(tmp_path):
    found = surroundings.versions(surroundings.pins(tmp_path / "requirements.lock"))
    assert not found.problem
    assert "no requirements.lock" in found.text


def test_a_folder_without_permission_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(surroundings.os, "access", lambda folder, mode: False)
    assert "read-only" in surroundings.disk(tmp_path).problem


def test_bytecode_that_is_compiled_by_every_job_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "heavy.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert surroundings.bytecode("heavy", kept=True).problem == ""
    assert "unset it, or compile once" in surroundings.bytecode("heavy", kept=False).problem
    py_compile.compile(str(tmp_path / "heavy.py"))
    assert surroundings.bytecode("heavy", kept=False).problem == ""


def test_a_machine_without_slurm_has_no_problem():
    found = surroundings.cluster(installed=_here, find=lambda name: None)
    assert not found.problem
    assert "not on this machine" in found.text


def test_slurm_without_the_plugin_is_a_problem():
    found = surroundings.cluster(installed=lambda name: None, find=lambda name: "sinfo")
    assert "is not installed" in found.problem


def test_a_cluster_that_answers_is_named(tmp_path):
    find = _program(tmp_path, "print('cpu* 4 idle'); print('gpu 2 mixed'); print('gpu 1 down*')")
    found = surroundings.cluster(installed=_here, find=find)
    assert not found.problem
    assert "cpu, gpu" in found.text


def test_a_cluster_without_nodes_that_are_up_is_a_problem(tmp_path):
    find = _program(tmp_path, "print('cpu* 4 down*'); print('gpu 2 drained')")
    assert "no partition has a node that is up" in surroundings.cluster(installed=_here, find=find).problem


def test_a_controller_that_is_down_is_quoted(tmp_path):
    find = _program(tmp_path, "sys.exit('slurm_load_partitions: Unable to contact slurm controller')")
    assert "Unable to contact" in surroundings.cluster(installed=_here, find=find).problem


def test_a_controller_that_hangs_is_given_up(tmp_path):
    find = _program(tmp_path, "time.sleep(30)")
    assert "has not answered" in surroundings.cluster(installed=_here, find=find, patience=0.3).problem


def test_a_program_that_cannot_be_run_is_a_problem(tmp_path):
    (tmp_path / "sinfo").write_text("")
    found = surroundings.cluster(installed=_here, find=lambda name: str(tmp_path / "sinfo"))
    assert "cannot be run" in found.problem


def test_the_gate_passes_here_and_a_failure_is_reported(monkeypatch):
    from tremor.models import true64_gate

    found = doctor._gate()
    assert not found.problem, found
    # The gate's own limit is looser than what a float64 model reaches, see true64_gate.
    assert float(found.text.rpartition(" ")[2]) < 1e-2

    def refuse(loaded, base):
        raise NumericsError("softmax rounds to float32")

    monkeypatch.setattr(true64_gate, "require", refuse)
    assert "softmax rounds to float32" in doctor._gate().problem


@pytest.mark.parametrize("mode", ["reference", "batched"])
def test_a_machine_that_does_not_repeat_itself_is_a_problem(monkeypatch, mode):
    from tremor.errors import PlatformError
    from tremor.probe import response

    real = response.Response

    def broken(*arguments, **named):
        if named["mode"] == mode:
            raise PlatformError("two equal runs differed")
        return real(*arguments, **named)

    monkeypatch.setattr(response, "Response", broken)
    found = {f.name: f.problem for f in doctor._controls("cpu", "float32")}
    assert "two equal runs differed" in found[f"A/A control, {mode}"]
    assert sum(bool(problem) for problem in found.values()) == 1
