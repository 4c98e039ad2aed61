"""What a user asks for by name: short names, the end of a run, modules of other workflows, the report."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from project import ROOT, Project, environment
from tremor.graph import FIGURES, alias
from tremor.report.contents import about

PARSE = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

with SnakemakeApi(OutputSettings()) as api:
    flow = api.workflow(
        resource_settings=ResourceSettings(cores=1),
        config_settings=ConfigSettings(config={"shards": {"recordings": 2}}),
        snakefile=Path(sys.argv[1]),
    )
    rules = {r.name: [r.docstring, r.message, bool(r.output), r.has_wildcards()] for r in flow._workflow.rules}
print("RULES " + json.dumps(rules))
"""


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """Name -> docstring, message, whether it makes files, whether it has wildcards; of the parsed workflow."""
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(ROOT / "Snakefile")],
        cwd=tmp_path_factory.mktemp("parsed"), env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RULES ")]
    return json.loads(line.removeprefix("RULES "))


def test_every_experiment_has_a_short_name_with_its_question(rules):
    for experiment in {*FIGURES, "spectrum", "recordings"}:
        name = alias(experiment)
        assert name in rules
        docstring, _, _, wildcards = rules[name]
        assert docstring == about(experiment).question, name
        assert not wildcards
    assert {"esa", "delta", "report"} <= set(rules)


def test_the_readme_s_table_has_these_names_and_no_others(rules):
    table = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")]
    named = {name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert named == {alias(experiment) for experiment in (*FIGURES, "spectrum", "recordings")}


def test_every_rule_has_a_message_and_what_makes_nothing_a_docstring(rules):
    assert "record_1_of_2" in rules
    assert [name for name, (_, message, makes, _) in rules.items() if not message and (makes or name != "all")] == []
    assert [name for name, (docstring, _, makes, _) in rules.items() if not makes and not docstring] == []


def test_short_names_are_known_to_the_command_line_and_the_end_is_told(finished: Project):
    done = finished.run("exp15")
    assert "Nothing to be done" in done.stderr
    (place,) = [n for n, line in enumerate(done.stderr.splitlines()) if line.startswith("  results/exp15/summary.csv")]
    told = done.stderr.splitlines()[place + 1 : place + 4]
    assert [re.fullmatch(r" +[0-9.e+-]+  \w.*\((median|max) of \w+\)", line) is not None for line in told] == [True] * 3
    assert "results/exp15/summary.csv  (docs" not in finished.run("exp15", "--quiet", "all").stderr


OUTER = """
rule mine:
    input: "one/results/spectrum/summary.csv"
    output: "mine.txt"
    shell: "cat {{input}} > {{output}}"

module first:
    snakefile: {snakefile!r}
    config: {{**config["tremor"], "exp12": {{"angles": 4}}}}
    prefix: "one"

use rule * from first as first_*

module second:
    snakefile: {snakefile!r}
    config: {{**config["tremor"], "exp12": {{"angles": 5}}}}
    prefix: "two"

use rule * from second as second_*
"""


def test_other_workflows_use_it_as_modules_with_their_own_config_and_prefix(fresh: Project, tmp_path: Path):
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "Snakefile").write_text(OUTER.format(snakefile=str(fresh.folder / "workflow/Snakefile")))
    shutil.copytree(fresh.model, outer / "model")  # the user's own folder: no prefix moves it
    # The outer workflow's files are its own: this one would be refused as a config of ours.
    (outer / "config").mkdir()
    (outer / "config/config.yaml").write_text("samples: [a, b]\n")
    (outer / "own.yaml").write_text(json.dumps({"tremor": fresh.config, "samples": ["a"]}))
    place = (
        "--snakefile",
        str(outer / "Snakefile"),
        "--directory",
        str(outer),
        "--configfile",
        str(outer / "own.yaml"),
    )
    command = [str(Path(sys.executable).with_name("snakemake")), *place, "--scheduler", "greedy", "--cores", "2"]

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*command, "--cores", "2", *arguments],
            cwd=outer, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    planned = run("--dry-run", "second_exp12", "one/results/exp12/tiny/capital/float64/plane.png")
    assert "two/results/exp12/summary.csv" in planned
    assert "first_exp12_figures" in planned
    run()  # the outer workflow's own first rule, whatever the modules call their default
    made = (outer / "mine.txt").read_text().splitlines()
    assert made[1].startswith("tiny,capital,float32,")
    assert (outer / "one/resources/models/tiny/manifest.json").is_file()
    assert not (outer / "results").exists()
    assert not (outer / "resources").exists()


@pytest.fixture(scope="module")
def report(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    finished.run("results/exp15/summary.csv", "results/exp12/tiny/capital/float64/polar.png", "--report", str(path))
    return path


def test_the_report_opens_offline_with_figures_and_captions(report: Path, browser: Any):
    requests: list[str] = []
    errors: list[str] = []
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(report.as_uri())
    page.get_by_text("Results", exact=True).first.click()
    page.get_by_text("exp12", exact=True).first.click()
    row = page.locator("tr").filter(has_text="polar")
    assert row.inner_text().split() == ["tiny", "capital", "float64", "polar"]
    row.locator("[iconname=eye]").click()
    row.locator("[iconname=information-circle]").click()
    page.get_by_text("How to read it.").wait_for()
    said = page.locator("body").inner_text()
    assert about("exp12").question in said
    assert "exp12.angles 8" in said
    folder = Path(os.environ.get("TREMOR_SCREENSHOTS", ROOT / ".screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / "report.png")
    # The picture itself is there, at its own size.
    frames = [frame.evaluate("[...document.images].map(i => i.naturalWidth)") for frame in page.frames]
    assert any(width > 300 for widths in frames for width in widths)
    page.close()
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_the_report_names_no_place_of_this_machine(report: Path, finished: Project):
    assert str(finished.folder) not in report.read_text()
    assert str(Path.home()) + "/" not in report.read_text()
