"""Experiments cut into shards give what a single job gives, bit for bit, and leave nothing else behind."""

from pathlib import Path

from project import Project
from tremor.config import Config
from tremor.replay import content

ANGLES, VECTORS = "results/exp12/tiny/capital/float64", "results/exp13/tiny/capital/float64"
PLANE = "results/exp7/tiny/capital/geometric/float64"
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
    done.config["shards"] = {"exp12": 3, "exp13": 2}  # 8 angles and 6 rays: neither divides evenly everywhere
    targets = [f"{ANGLES}/boundary.h5", f"{VECTORS}/boundary.h5"]
    jobs = done.stale(*targets)
    assert jobs == {"boundary_shard": 5, "boundary_gather": 2}
    done.run(*targets)
    assert digests(done, ANGLES, VECTORS) == before
    # The parts were temporary, and what continues the boundaries takes them for those of one job.
    assert not list(done.folder.glob("results/**/shards/*"))
    done.run("results/exp15/summary.csv", "results/exp12/summary.csv")


def test_every_experiment_that_can_be_cut_is_and_its_rules_are_clean(fresh: Project) -> None:
    fresh.config |= {
        "shards": {**dict.fromkeys(Config().shards.model_dump(), 2), "recordings": 3},
        "platforms": {"one": {"threads": 1}, "two": {"threads": 2}},
        "pairs": {"both": ["one", "two"]},
        "select": {"models": ["tiny"], "prompts": ["capital"], "pairs": ["both"]},
        "recorder": {"names": ["capital", "dream", "sun"]},
    }
    cut = ("exp12", "exp13", "exp2", "exp7", "critical_weights", "esa/super-weights", "esa/compare-sensitivity",
           "esa/targeted-perturbation", "esa/robustness", "recordings")  # fmt: skip
    jobs = fresh.stale(*(f"results/{name}/summary.csv" for name in cut), f"{PLANE}/zoom.h5")
    one = {
        "exp12_measure", "exp13_measure", "exp2_measure", "exp7_measure", "exp7_zoom", "critical_rankings",
        "critical_weights_measure", "esa_super_weights_measure", "esa_compare_sensitivity_measure",
        "esa_targeted_perturbation_measure", "esa_robustness_measure", "record",
    }  # fmt: skip
    assert not one & set(jobs)
    shards = {name: count for name, count in jobs.items() if name.endswith("_shard") or name.startswith("record_")}
    assert shards["critical_rankings_shard"] == shards["critical_weights_shard"] == shards["esa_robustness_shard"] == 2
    assert {name for name in shards if name.startswith("record")} == {f"record_{n}_of_3" for n in (1, 2, 3)}
    assert set(shards) >= {"exp7_zoom_shard", "esa_super_weights_shard", "esa_compare_sensitivity_shard"}
    assert {name.replace("_shard", "_gather") for name in shards if "record" not in name} <= set(jobs)
    linted = fresh.run("--lint", check=False)
    told = linted.stdout + linted.stderr
    assert "Congratulations" in told or "Lints for" in told, told
    # Rules that exist only where something is cut are linted nowhere else; the others are by `make lint`.
    assert not any(word in told for word in ("rules/shards", "_shard", "_gather", "record_")), told


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
