"""noise_floors in the graph: one job for each platform, a summary, a table for a page, and what makes it stale."""

from project import Project
from tremor.store.tables import read_csv

TARGETS = ("noise_floors", "results/noise_floors/tiny/floors.png")


def test_floors_of_one_platform(fresh: Project) -> None:
    fresh.config["platforms"] = {"native": {"threads": 1}}
    fresh.config["noise_floors"] = {
        "platforms": ["native"], "names": ["capital"], "dtypes": ["float32", "bfloat16"], "batch_size": 2,
    }  # fmt: skip
    fresh.run(*TARGETS)
    summary = read_csv(fresh.folder / "results/noise_floors/summary.csv")
    assert list(summary["platform"]) == ["native"] * 4
    assert list(summary["dtype"]) == ["float32", "float32", "bfloat16", "bfloat16"]
    lines = (fresh.folder / "results/noise_floors/floors.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 + len(summary)
    assert fresh.stale(*TARGETS) == {}
    fresh.config["noise_floors"] |= {"batch_size": 3}  # type: ignore[operator]
    assert fresh.stale(*TARGETS)["noise_floors_measure"] == 1
