"""The commands and the Python of the documentation, run for real: Snakemake's as dry runs, on a prepared project."""

import dataclasses
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from documentation import PAGES, ROOT, Command, blocks, settings_before, shell
from project import Project, environment
from tremor import cli
from tremor.command_line import targets_first

# Subcommands of tremor that are run as they stand. The others load torch, start Snakemake or need two machines; tests
# of their own run them (test_cli, test_estimate_graph, test_replay_graph, ...); here options and targets are checked.
RUN = {"show", "schema"}
PARSED = {"doctor", "estimate", "replay", "bundle", "page", "verify"}


def lines(program: str) -> list[Command]:
    return [command for command in shell() if command.program == program]


def test_every_command_of_tremor_is_run_or_known():
    assert {command.arguments[0] for command in lines("tremor")} <= RUN | PARSED


TREMOR = sorted({command.words[1:] for command in lines("tremor") if command.words[1] in RUN})


@pytest.mark.parametrize("words", TREMOR, ids=" ".join)
def test_tremor(words: tuple[str, ...], finished: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.folder)
    assert cli.main(words) == 0


@dataclasses.dataclass(frozen=True)
class Call:
    """A command line of Snakemake, or of `tremor estimate`, which takes the same targets."""

    targets: tuple[str, ...]
    configuration: str | None  # YAML on top of the defaults
    listed: bool


def call(command: Command) -> Call:
    """What a line asks Snakemake for; options that Snakemake does not know end the test."""
    from snakemake.cli import get_argument_parser

    words = command.arguments[1:] if command.program == "tremor" else command.arguments
    where = command.block.place
    if command.program == "tremor":
        options = cli.parser().parse_args(command.arguments)
    else:
        parser = get_argument_parser()
        try:
            options = parser.parse_args(targets_first(words))
        except SystemExit:
            raise AssertionError(f"{where}: snakemake refuses {' '.join(words)}") from None
        if options.workflow_profile:
            there = list((ROOT / options.workflow_profile).glob("profile*.yaml"))
            assert there, f"{where}: no profile {options.workflow_profile}"
    texts = []
    for file in options.configfile or ():
        here = ROOT / file
        # A file that is not there stands for the reader's own: what the page shows above the line, if anything.
        texts.append(here.read_text(encoding="utf-8") if here.is_file() else settings_before(command.block))
    assert len(texts) <= 1, f"{where}: the test reads one configuration a line"
    listed = bool(getattr(options, "list_target_rules", False) or getattr(options, "list_rules", False))
    return Call(tuple(options.targets or ()), texts[0] if texts else None, listed)


def calls() -> dict[str | None, set[str]]:
    """Targets by configuration; "all" stands for a line that names none."""
    found: dict[str | None, set[str]] = defaultdict(set)
    for command in [*lines("snakemake"), *(each for each in lines("tremor") if each.arguments[0] == "estimate")]:
        asked = call(command)
        if not asked.listed:
            found[asked.configuration] |= set(asked.targets or (("all",) if command.program == "snakemake" else ()))
    # Every target of the README's table too.
    table = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    for line in table:
        cells = line.split("|")
        found[None] |= set(re.findall(r"`([\w]+)`", cells[1])) | set(re.findall(r"`(results/\S+)`", cells[3]))
    return found


def own(text: str, project: Project) -> dict[str, object]:
    """A configuration of the documentation, with models of the reader's disk replaced by the tiny one."""
    mine: dict[str, dict[str, object]] = yaml.safe_load(text) or {}
    for entry in mine.get("models", {}).values():
        if isinstance(entry, dict) and entry.get("source") == "path":
            entry["path"] = str(project.model)
    return mine  # type: ignore[return-value]


def test_snakemake_knows_what_to_do(finished: Project) -> None:
    """One dry run for each configuration that the pages show, of all targets that they ask it for."""
    asked = calls()
    assert None in asked
    for text, targets in asked.items():
        file = finished.folder / "shown.yaml"
        file.write_text(yaml.safe_dump(own(text or "{}", finished)), encoding="utf-8")
        snakemake = str(Path(sys.executable).with_name("snakemake"))
        options = ("--dry-run", "--quiet", "all", "--cores", "2", "--configfile", str(file))
        done = subprocess.run(
            [snakemake, *sorted(targets), *options],
            cwd=finished.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"with {text}:\n{done.stdout}{done.stderr}"


PYTHON = [page for page in PAGES if any(each.language == "python" for each in blocks() if (ROOT / each.page) == page)]
# A process of its own for each page: what it does to torch shall not reach other tests.
RUNNER = """
import sys
from pathlib import Path
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

page, *lines = sys.argv[1:]
examples = list(Sybil([PythonCodeBlockParser()]).parse(Path(page)).examples())
missing = set(lines) - {str(example.line) for example in examples}
assert not missing, f"no blocks at lines {missing}"
for example in examples:
    if str(example.line) in lines:
        example.evaluate()
        print("ran", example.line)
"""


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.stem)
def test_python(page: Path, finished: Project, tmp_path: Path) -> None:
    """All blocks of a page in order, in a project whose embedded models are tiny ones."""
    chosen = [each for each in blocks() if (ROOT / each.page) == page and each.language == "python"]
    lines = [str(each.line) for each in chosen if each.reason is None]
    if not lines:
        return
    for alias in ("llama", "gpt2"):
        shutil.copytree(finished.model, tmp_path / "resources/models" / alias)
        manifest = (finished.folder / "resources/models/tiny/manifest.json").read_text(encoding="utf-8")
        (tmp_path / "resources/models" / alias / "manifest.json").write_text(manifest, encoding="utf-8")
    shutil.copytree(finished.folder / "results", tmp_path / "results")
    command = [sys.executable, "-c", RUNNER, str(page), *lines]
    env = {**environment(), "PYTHONPATH": str(ROOT / "workflow")}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ran ") == len(lines)
