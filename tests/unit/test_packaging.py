"""The house itself: pins, commands the README names, what every rule has, and what no tracked file may hold."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import tremor
from tremor.experiments import summaries

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"([a-z0-9][a-z0-9-]*)==([A-Za-z0-9.!]+)")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pins(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        match = PIN.fullmatch(line)
        assert match, f"{line!r} is no exact pin of a normalised name without a build suffix"
        assert match[1] not in found, f"{match[1]} is pinned twice"
        found[match[1]] = match[2]
    return found


def lock(name: str) -> dict[str, str]:
    lines = [line for line in text(name).splitlines() if line and not line.startswith(("#", "-r "))]
    assert lines == sorted(lines)
    return pins(lines)


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    return [ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]


def test_torch_is_pinned_without_a_build_suffix():
    assert lock("requirements.lock")["torch"] == "2.13.0"


@pytest.mark.parametrize("name", ["run", "cuda"])
def test_environments_hold_the_pins_of_the_lock(name):
    environment = yaml.safe_load(text(f"envs/{name}.yaml"))
    (nested,) = [entry for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pins([line for line in nested["pip"] if not line.startswith("--")]) == lock("requirements.lock")
    assert f"python{tomllib.loads(text('pyproject.toml'))['project']['requires-python']}" in environment["dependencies"]


def test_no_package_is_pinned_in_both_locks():
    assert not lock("requirements.lock").keys() & lock("requirements-dev.lock").keys()


def test_what_is_installed_is_what_the_locks_say():
    """Metadata of what runs this test, with a build suffix such as +cpu cut off."""
    from importlib import metadata

    both = {**lock("requirements.lock"), **lock("requirements-dev.lock")}
    found = {name: metadata.version(name).partition("+")[0] for name in both}
    assert found == both


def test_the_locks_are_closed():
    """Whatever a pinned package needs here is pinned too, so pip has nothing left to choose."""
    from importlib import metadata

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    both = {**lock("requirements.lock"), **lock("requirements-dev.lock")}
    for name in both:
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert canonicalize_name(needed.name) in both, f"{name} needs {needed}"


def test_versions_agree():
    assert tomllib.loads(text("pyproject.toml"))["project"]["version"] == tremor.__version__
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["version"] == tremor.__version__
    assert citation["license"] == "MIT"


# Tables that stand on the page of another experiment.
PAGES = {
    "lipschitz_report": "docs/lipschitz.md",
    "delta/jacobian": "docs/delta.md",
    "delta/percentage": "docs/delta.md",
    "delta/factual": "docs/delta.md",
    "delta/tracing": "docs/delta.md",
    "exp4/angles": "docs/exp4.md",
    "exp10/tensors": "docs/exp10.md",
    "esa/super-weights": "docs/esa.md",
    "esa/compare-sensitivity": "docs/esa.md",
    "esa/sensitivity": "docs/esa.md",
    "esa/targeted-perturbation": "docs/esa.md",
    "esa/selective-weight-pruning": "docs/esa.md",
    "esa/pruning": "docs/esa.md",
    "esa/robustness": "docs/esa.md",
    "esa/adversarial": "docs/esa.md",
    "esa/bit-level": "docs/esa.md",
    **dict.fromkeys(("esa/evaluate", "esa/train", "esa/attribution", "esa/integrated"), "docs/esa.md"),
}


@pytest.mark.parametrize(
    "line",
    [
        "make demo",
        "make test",
        "snakemake --cores 8 --resources gpu=1 results/exp15/summary.csv",
        *(f"results/{name}/summary.csv" for name in summaries.COLUMNS if name not in PAGES),
    ],
)
def test_the_readme_names(line):
    assert line in text("README.md")


def test_the_readmes_example_is_a_valid_configuration(tmp_path):
    """The first YAML block, as it stands, on top of the defaults."""
    from tremor import config

    block = re.search(r"```yaml\n(.*?)```", text("README.md"), re.DOTALL)
    assert block
    mine = tmp_path / "my.yaml"
    mine.write_text(block[1], encoding="utf-8")
    loaded = config.load_files([ROOT / "config/config.default.yaml", mine])
    assert list(loaded.select.models) == ["mine"]
    assert loaded.probe.mode == "reference"


@pytest.mark.parametrize("experiment", summaries.COLUMNS)
def test_every_summary_column_is_documented(experiment):
    """`a_b_mean`, `_median` in one cell of a table stands for a_b_mean and a_b_median; `a_<x>_b` for every x."""
    page = text(PAGES.get(experiment, f"docs/{experiment}.md"))
    names = re.findall(r"`([a-z0-9_<>]+)`", page)
    for line in page.splitlines():
        cell = re.findall(r"`([a-z0-9_<>]+)`", line.split("|")[1]) if line.startswith("|") else []
        whole = [name.split("_") for name in cell if not name.startswith("_")]
        stems = ["_".join(parts[:count]) for parts in whole for count in range(1, len(parts))]
        names += [stem + end for end in cell if end.startswith("_") for stem in stems]
    known = re.compile("|".join(re.sub(r"<[a-z]+>", "[a-z0-9_]+", name) for name in names))
    wanted = {column.replace(".", "_") for column in summaries.COLUMNS[experiment]}
    missing = sorted(column for column in wanted if not known.fullmatch(column))
    assert not missing, f"the page of {experiment} does not explain {missing}"


def rules() -> list[tuple[str, str]]:
    found = []
    for path in sorted((ROOT / "rules").glob("*.smk")):
        if path.name == "targets.smk":  # short names, which make nothing themselves
            continue
        parts = re.split(r"(?m)^(?:rule|checkpoint) (\w+):$", path.read_text(encoding="utf-8"))
        found += list(zip(parts[1::2], parts[2::2], strict=True))
    return found


@pytest.mark.parametrize(("name", "body"), rules(), ids=[name for name, _ in rules()])
def test_every_rule_has(name, body):
    for directive in ("output", "log", "benchmark", "conda", "message", "script"):
        assert re.search(rf"(?m)^    {directive}:", body), f"rule {name} has no {directive}"
    script = re.search(r'script:\s+"\.\./(scripts/\w+\.py)"', body)
    assert script
    assert (ROOT / script[1]).is_file()


def test_every_script_belongs_to_a_rule_and_only_translates():
    used = set(re.findall(r"scripts/(\w+\.py)", "".join(body for _, body in rules())))
    for path in (ROOT / "scripts").glob("*.py"):
        assert path.name in used, f"{path.name} is not run by any rule"
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 40


def test_no_tracked_file_names_a_place_on_one_machine():
    homes = "|".join(("home", "Users", "root", "work", "farm", "scratch", "mnt"))
    path = re.compile(rf"(?<![\w.~/-])/(?:{homes})/[\w.-]+")
    # An example of what the code must cut away, or of an error, is no path of a machine.
    allowed = {"tests"}
    for file in tracked():
        if file.suffix in {".png", ".pdf"} or file.relative_to(ROOT).parts[0] in allowed or not file.is_file():
            continue
        found = path.search(file.read_text(encoding="utf-8", errors="replace"))
        assert not found, f"{file.relative_to(ROOT)} names {found[0]}"


def test_no_tracked_file_is_big():
    """Models and results are made, not stored; 1 MB is more than any source needs."""
    for file in tracked():
        assert not file.is_file() or file.stat().st_size < 2**20, f"{file.relative_to(ROOT)} is big"


def test_links_between_pages_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "config/README.md", *(ROOT / "docs").glob("*.md")]:
        content = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s]+)\)", content):
            if "://" in target:
                continue
            name, _, anchor = target.partition("#")
            other = (page.parent / name).resolve() if name else page
            assert other.exists(), f"{page.name} links to {target}"
            if anchor:
                assert anchor in anchors(other), f"{page.name} links to {target}, which has no such heading"


def anchors(page: Path) -> set[str]:
    """Anchors as GitHub makes them: lower case, punctuation cut, spaces to hyphens."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_lists_every_page():
    index = text("docs/index.md")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, f"docs/index.md does not list {page.name}"


def test_what_the_workflow_catalog_needs():
    """Its rules for standardized usage: the main file, a manual of the configuration, and the description."""
    assert (ROOT / "workflow/Snakefile").is_file()
    assert (ROOT / "config/README.md").is_file()
    usage = yaml.safe_load(text(".snakemake-workflow-catalog.yml"))["usage"]
    assert usage["software-stack-deployment"]["conda"] is True
    readme = text("README.md").lower()
    assert "snakemake" in readme
    assert "workflow" in readme


def test_ci_is_one_executable_that_lints_and_tests():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "make test", "pytest's closing line comes last"


def make(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in ("Makefile", "requirements.lock", "requirements-dev.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_demo_refuses_an_interpreter_that_is_not_there(tmp_path):
    done = make("demo", "PYTHON=python9.99", folder=tmp_path)
    assert done.returncode != 0
    assert "error: python9.99 does not run as Python 3.11 or newer; name one: make demo PYTHON=" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_demo_refuses_an_old_interpreter(tmp_path):
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = make("demo", f"PYTHON={old}", folder=tmp_path)
    assert done.returncode != 0
    assert "does not run as Python 3.11 or newer" in done.stderr


def test_demo_asks_for_the_main_result():
    recipe = text("Makefile")
    assert "--cores all --resources gpu=1" in recipe
    assert "results/exp15/summary.csv" in recipe


def test_the_instruments_need_neither_pydantic_nor_snakemake():
    """They are imported without the two (and pyarrow), as a user of the library alone would."""
    code = (
        "import sys, json\n"
        "for name in ('pydantic', 'pyarrow', 'snakemake'): sys.modules[name] = None\n"
        "import tremor.floats, tremor.probe.boundary, tremor.probe.spectrum, tremor.models.loader\n"
        "print(json.dumps('fine'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == "fine"
