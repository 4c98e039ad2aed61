"""Experiments cut into shards give what a single job gives, bit for bit, and leave nothing else behind."""

from pathlib import Path

from project import Project
from tremor.replay import content

ANGLES, VECTORS = "results/exp12/tiny/capital/float64", "results/exp13/tiny/capital/float64"
FILES = ("boundary.h5", "boundary.csv", "statistics.json")


def digests(project: Project, *folders: str) -> dict[str, str]:
    return {f"{folder}/{name}": content(project.folder / folder / name) for folder in folders for name in FILES}


def forget(folder: Path) -> None:
    """Remove the files in a folder, not its figures' folders."""
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()


def test_boundaries_in_shards_are_those_of_one_job(done: Project) -> None:
    before = digests(done, ANGLES, VECTORS)
    for folder in (ANGLES, VECTORS):
        forget(done.folder / folder)
    done.config["shards"] = {
        "exp12_measure": 3,
        "exp13_measure": 2,
    }  # 8 angles and 6 rays: neither divides evenly everywhere
    targets = [f"{ANGLES}/boundary.h5", f"{VECTORS}/boundary.h5"]
    jobs = done.stale(*targets)
    assert jobs == {"boundary_shard": 5, "boundary_gather": 2}
    done.run(*targets)
    assert digests(done, ANGLES, VECTORS) == before
    # The parts were temporary, and what continues the boundaries takes them for those of one job.
    assert not list(done.folder.glob("results/**/shards/*"))
    done.run("results/exp15/summary.csv", "results/exp12/summary.csv")


def test_questions_in_shards_are_recorded_as_by_one_job(fresh: Project) -> None:
    fresh.config |= {
        "platforms": {"one": {"threads": 1, "batch": 2}},
        "recorder": {"tokens": 3, "names": ["capital", "dream", "sun"]},
    }
    files = [f"results/recordings/tiny/one/q0{number}.h5" for number in (1, 2, 3)]
    fresh.run(*files)
    before = [content(fresh.folder / path) for path in files]
    for path in files:
        (fresh.folder / path).unlink()
    fresh.config["shards"] = {"recordings": 2}  # 2 + 1 questions: a batch stays together
    assert fresh.stale(*files) == {"record_1_of_2": 1, "record_2_of_2": 1}
    fresh.run(*files)
    assert [content(fresh.folder / path) for path in files] == before
    assert not list(fresh.folder.glob("results/recordings/**/.*"))
    fresh.config["shards"] = {"recordings": 3}
    refused = fresh.run("--dry-run", *files, check=False)
    assert "shards.recordings is 3, but there are only 2 batches of 2 to share out" in refused.stdout + refused.stderr
