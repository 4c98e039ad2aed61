"""Recordings in the graph: one job for a platform, the environment of its own, a bundle in a rule's place."""

import os
import shutil
import signal
import subprocess
import sys
import time

import h5py

SUMMARY = "results/recordings/summary.csv"


def settings(config, **more):
    return {
        **config,
        "platforms": {
            "one": {"threads": 1},
            "two": {"threads": 1, "environment": {"ATEN_CPU_CAPABILITY": "default"}},
            "none": {"device": "cuda:99"},
        },
        "pairs": {"isa": ["one", "two"], "gone": ["one", "none"]},
        "select": {"models": ["tiny"], "prompts": ["capital"], "pairs": ["isa"]},
        "recorder": {"tokens": 4, "names": ["capital", "dream"]},
        **more,
    }


def digests(project, platform):
    found = []
    for path in sorted((project.folder / "results/recordings/tiny" / platform).glob("q*.h5")):
        with h5py.File(path) as file:
            found.append(file.attrs["content_sha256"])
    return found


def test_platforms_are_recorded_and_a_bundle_takes_a_rules_place(fresh):
    base = fresh.config
    fresh.config = settings(base)
    assert fresh.stale(SUMMARY) == {"manifest": 1, "record": 2, "recordings_summary": 1}
    fresh.run(SUMMARY)
    assert fresh.stale(SUMMARY) == {}
    with h5py.File(fresh.folder / "results/recordings/tiny/two/q01.h5") as file:
        assert '"cpu_capability": "DEFAULT"' in file.attrs["provenance"]
    assert len((fresh.folder / SUMMARY).read_text().splitlines()) == 5

    # What is recorded follows the platform and the recorder, not the place where the platform is to be found.
    fresh.config = settings(base, platforms={**settings(base)["platforms"], "two": {"threads": 1, "constraint": "x"}})
    fresh.config["platforms"]["two"]["environment"] = {"ATEN_CPU_CAPABILITY": "default"}
    assert fresh.stale(SUMMARY) == {}
    fresh.config = settings(base, recorder={"tokens": 5, "names": ["capital", "dream"]})
    assert fresh.stale(SUMMARY) == {"record": 2, "recordings_summary": 1}

    # A recording of elsewhere: packed, taken away, unpacked under a platform that no rule makes.
    bundle = fresh.folder / "two.tremor"
    before = digests(fresh, "two")
    tremor(fresh, "pack", str(bundle), "--model", "tiny", "--platform", "two")
    shutil.rmtree(fresh.folder / "results/recordings/tiny/two")
    tremor(fresh, "unpack", str(bundle), "--platform", "theirs")
    platforms = {"one": {"threads": 1}, "theirs": {"threads": 1, "imported": True}}
    fresh.config = settings(base, platforms=platforms, pairs={"isa": ["one", "theirs"]})
    assert fresh.stale(SUMMARY) == {"recordings_summary": 1}
    fresh.run(SUMMARY)
    assert fresh.stale(SUMMARY) == {}
    assert digests(fresh, "theirs") == before
    # Even when everything is forced, nobody makes it anew; and without its files there is no way to it.
    assert fresh.stale(SUMMARY, "--forceall") == {"manifest": 1, "record": 1, "recordings_summary": 1}
    (fresh.folder / "results/recordings/tiny/theirs/q02.h5").unlink()
    missing = fresh.run(SUMMARY, "--dry-run", check=False)
    assert missing.returncode
    assert "theirs/q02.h5" in missing.stdout + missing.stderr


def test_a_platform_that_cannot_be_had_is_an_error_of_its_job(fresh):
    fresh.config = settings(fresh.config)
    fresh.config["select"] = {**fresh.config["select"], "pairs": ["gone"]}
    done = fresh.run("results/recordings/tiny/none/q01.h5", check=False)
    assert done.returncode
    assert "error: device cuda:99 was asked for but" in done.stdout + done.stderr
    assert not list((fresh.folder / "results").rglob("q*.h5"))


def tremor(project, *arguments):
    code = "import sys; sys.path.insert(0, 'workflow'); from tremor.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "bundle", *arguments]
    subprocess.run(command, cwd=project.folder, env=dict(os.environ), check=True, capture_output=True, timeout=60)


def test_a_platform_killed_in_mid_question_goes_on_there(fresh):
    """SIGKILL to Snakemake and its job: nothing can clean up, and Snakemake deletes the outputs of the dead job."""
    same = {"threads": 1, "decode": "uncached"}
    fresh.config = settings(fresh.config, platforms={"one": same, "two": same}, pairs={"repeat": ["one", "two"]})
    fresh.config["select"] = {**fresh.config["select"], "pairs": ["repeat"]}
    fresh.config["recorder"] = {"tokens": 30}
    fresh.run("resources/models/tiny/manifest.json")
    target = "results/recordings/tiny/one/q01.h5"
    partial = fresh.folder / "results/recordings/tiny/.one.partial"
    job = subprocess.Popen(
        fresh.command(target), cwd=fresh.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list(partial.glob("q*.h5"))) < 2 and time.monotonic() < deadline and job.poll() is None:
        time.sleep(0.005)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    finished = sorted(path.name for path in partial.glob("q*.h5"))
    assert 2 <= len(finished) < 10, "the job was killed too early or too late to say anything"
    files = {name: (partial / name).stat().st_ino for name in finished}
    fresh.run("--unlock")
    fresh.run(target, "results/recordings/tiny/two/q01.h5", "--rerun-incomplete")
    folder = fresh.folder / "results/recordings/tiny/one"
    log = (fresh.folder / "logs/recordings/tiny/one.log").read_text()
    assert f"{len(finished)} finished questions of an earlier attempt are taken over" in log
    assert {name: (folder / name).stat().st_ino for name in finished} == files, "they are not the files of before"
    assert digests(fresh, "one") == digests(fresh, "two")
    assert len(digests(fresh, "one")) == 10
    assert not partial.exists()
