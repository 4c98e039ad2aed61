"""The graph on a real SLURM of two nodes: what jobs ask for, and what happens when jobs, nodes and controller go."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from project import ROOT, Project, checkout, environment
from slurm.cluster import Cluster, wait_for
from tremor.store.arrays import array_digest
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5

SUMMARY = "results/exp15/summary.csv"
BOUNDARY = "results/exp13/tiny/capital/float64/boundary.h5"
DIVERGENCE = "results/exp4/tiny/partitions/divergence.json"
MINUTES = 8  # an undisturbed run takes 80 s on two cores; a hung one must not hold CI up


@pytest.fixture(scope="session")
def project(tmp_path_factory, tiny_model):
    """(name) -> a checkout with the tiny config of the repository, run on a tiny random Llama."""

    def make(name: str) -> Project:
        found = Project(checkout(tmp_path_factory.mktemp(name) / "project"))
        shutil.copytree(tiny_model, found.model)
        found.config = {
            "models": {"tiny": {"source": "path", "path": "model"}},
            "platforms": {
                "one": {"threads": 1, "slurm_partition": "cpu"},
                "other": {"threads": 1, "dtype": "bfloat16", "slurm_partition": "gpu"},
            },
            "pairs": {"partitions": ["one", "other"]},
            "recorder": {"names": ["capital"], "tokens": 4},
            "select": {"models": ["tiny"], "prompts": ["capital"], "pairs": ["partitions"]},
            "probe": {"arithmetic": ["float64"], "threads": 1, "batch_size": 16, "max_memory": 0.5},
        }
        return found

    return make


def submit(cluster: Cluster, project: Project, *arguments: str) -> "subprocess.Popen[str]":
    """Snakemake on the cluster, with the profile of the repository and the tiny config of the repository."""
    local = project.command()
    own = local[local.index("--configfile") + 1]
    command = [local[0], *arguments, "--workflow-profile", "workflow/profiles/slurm-plain"]
    # The files are on one disk here, and the test's jobs are short.
    command += ["--latency-wait", "5", "--configfile", str(ROOT / "config/test/tiny.yaml"), own]
    log = (project.folder / "submit.log").open("w")
    merged = {**environment(), **cluster.environment, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=project.folder, env=merged, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(running: "subprocess.Popen[str]", project: Project) -> str:
    """Wait for it, and give back what it said; a failure shows it."""
    try:
        status = running.wait(timeout=MINUTES * 60)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, 9)
        raise
    said = (project.folder / "submit.log").read_text()
    assert status == 0, said
    return said


def one_running(cluster: Cluster, rule: str) -> dict[str, str] | None:
    """The running job of a rule, by the comment that Snakemake leaves."""
    found = [job for job in cluster.jobs(running=True) if job["comment"].startswith(f"rule_{rule}_")]
    return found[0] if found else None


def of_rule(cluster: Cluster, rule: str, since: set[str]) -> list[dict[str, str]]:
    return [j for j in cluster.jobs() if j["id"] not in since and j["comment"].startswith(f"rule_{rule}_")]


@pytest.fixture(scope="session")
def undisturbed(cluster: Cluster, project) -> Project:
    """A checkout in which the main target has run on the cluster."""
    found = project("undisturbed")
    finish(submit(cluster, found, SUMMARY, DIVERGENCE), found)
    return found


def test_the_main_target_comes_out(undisturbed):
    lines = (undisturbed.folder / SUMMARY).read_text().splitlines()
    assert len(lines) == 3  # a header, and the rays of angles and of singular vectors
    assert all(line.startswith("tiny,capital,float64,") for line in lines[1:])


def test_the_main_target_grew_its_files_in_the_scratch_of_the_node(undisturbed):
    """The profile's $TMPDIR comes to the jobs as it is written there, and is the node's."""
    logs = [path.read_text() for path in (undisturbed.folder / "logs").rglob("*.log")]
    copied = [line for log in logs for line in log.splitlines() if " bytes from " in line]
    assert copied
    assert not [line for line in copied if "$TMPDIR" in line or "/tremor-" not in line]


def test_jobs_that_run_a_model_ask_for_a_gpu_and_others_do_not(cluster, undisturbed):
    """By SLURM's own record of every job, ended ones too."""
    by_rule = {job["comment"].split("_wildcards")[0].removeprefix("rule_"): job for job in cluster.jobs()}
    models = {f"{name}_measure" for name in ("spectrum", "exp12", "exp13", "exp15")}
    assert set(by_rule) >= {"manifest", *models}
    for rule, job in by_rule.items():
        if rule == "record":
            continue  # the platforms' own test
        if rule not in models:
            assert (job["partition"], job["tres"]) == ("cpu", "N/A")
        else:
            assert (job["partition"], job["tres"], job["node"]) == ("gpu", "gres:gpu:1", "n1")


def test_two_platforms_are_recorded_on_their_own_partitions(cluster, undisturbed):
    """A CPU platform with machines of its own asks for no GPU there; the two recordings meet in one comparison."""
    jobs = {
        job["comment"].rpartition("_")[2]: job for job in cluster.jobs() if job["comment"].startswith("rule_record_")
    }
    assert {name: job["partition"] for name, job in jobs.items()} == {"one": "cpu", "other": "gpu"}
    assert {job["tres"] for job in jobs.values()} == {"N/A"}
    found = read_json(undisturbed.folder / DIVERGENCE)
    assert found["provenance"]
    for platform in ("one", "other"):
        assert list((undisturbed.folder / "results/recordings/tiny" / platform).glob("q*.h5"))


def test_memory_follows_from_the_manifest(cluster, undisturbed):
    """The plugin was handed what sizes.memory_mb says of the tiny model, not the profile's default."""
    from tremor.models import manifest as manifests
    from tremor.sizes import memory_mb

    found = manifests.read(undisturbed.folder / "resources/models/tiny/manifest.json")
    job = next(job for job in cluster.jobs() if job["comment"].startswith("rule_spectrum_measure_"))
    said = cluster.command("scontrol", "show", "job", job["id"])
    assert f"MinMemoryNode={memory_mb(found, dtypes=['float32'], transient_gib=0.5)}M" in said


def test_a_cancelled_job_a_drained_node_and_a_dead_controller_change_no_bit(cluster, undisturbed, project):
    """Three faults in one run: the job is retried, the queue waits for its node, the controller finds its jobs."""
    disturbed = project("disturbed")
    before = {job["id"] for job in cluster.jobs()}
    running = submit(cluster, disturbed, BOUNDARY)
    try:
        wait_for(lambda: one_running(cluster, "spectrum_measure") is not None, 90, "the spectrum's job to run")
        first = one_running(cluster, "spectrum_measure")
        assert first is not None
        cluster.command("scancel", first["id"])
        # While the job is gone, its node goes too: the only one with GPUs.
        cluster.command("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
        wait_for(lambda: len(of_rule(cluster, "spectrum_measure", before)) == 2, 90, "the job to be submitted again")
        second = of_rule(cluster, "spectrum_measure", before)
        assert {job["state"] for job in second} == {"CANCELLED", "PENDING"}
        assert "drain" in cluster.states()["n1"]
        cluster.command("scontrol", "update", "nodename=n1", "state=resume")
        wait_for(lambda: one_running(cluster, "spectrum_measure") is not None, 60, "the node to take the job")
        cluster.wait_for_saved_state()
        cluster.kill_controller()
        time.sleep(3)
        cluster.start_controller()
        finish(running, disturbed)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, 9)
        cluster.command("scontrol", "update", "nodename=n1", "state=resume", check=False)
    assert [job["state"] for job in of_rule(cluster, "exp13_measure", before)] == ["COMPLETED"]
    assert {job["state"] for job in of_rule(cluster, "spectrum_measure", before)} == {"CANCELLED", "COMPLETED"}
    ours, theirs = (read_hdf5(Path(p.folder) / BOUNDARY) for p in (disturbed, undisturbed))
    assert ours.datasets.keys() == theirs.datasets.keys()
    for name in ours.datasets:
        assert array_digest(ours.datasets[name]) == array_digest(theirs.datasets[name]), name
