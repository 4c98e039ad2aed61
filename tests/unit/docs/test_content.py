"""What the pages say about the code: the map of script names, sections of experiments, quoted errors, noise floors."""

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tremor import config
from tremor.errors import ArtifactError
from tremor.experiments import floor_page
from tremor.experiments.columns import COLUMNS
from tremor.graph import Graph

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
DEFAULTS = ROOT / "config/config.default.yaml"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


# The map from the originals' scripts


@cache
def scripts() -> list[tuple[str, str, str, str]]:
    """Rows of the map: original, targets, block, page."""
    rows = [line.split(" | ") for line in page("scripts.md").splitlines() if line.startswith("| ")]
    return [(row[0][2:], row[2], row[3].strip("`"), row[4]) for row in rows if len(row) == 5 and row[0] != "| original"]


@pytest.fixture(scope="module")
def asked() -> set[str]:
    """What `rule all` makes with the defaults."""
    return set(Graph(config.read_yaml(DEFAULTS), home=ROOT).targets())


def test_every_script_leads_to_a_target_a_block_and_a_page(asked: set[str]):
    blocks = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))
    assert len(scripts()) > 100
    for original, targets, block, link in scripts():
        wanted = re.findall(r"`(results/\S+\.csv)`", targets)
        assert wanted, f"{original}: no target"
        assert set(wanted) <= asked, f"{original}: nothing makes {set(wanted) - asked}"
        head, _, rest = block.partition(".")
        assert head in blocks, f"{original}: no block {block}"
        assert not rest or rest in blocks[head], f"{original}: no block {block}"
        name = re.fullmatch(r"\[(\w+)\]\((\w+\.md)\) \|", link)
        assert name, f"{original}: {link}"
        assert (DOCS / name[2]).is_file()


def test_no_number_and_no_script_is_left_out():
    named = [name for original, *_ in scripts() for name in re.findall(r"`([^`]+)`", original)]
    for number in range(1, 16):
        assert any(name.startswith(f"exp{number}_") for name in named), f"exp{number} is missing"
    numbered = [name for name in named if re.match(r"exp\d", name)]
    assert len(numbered) == len(set(numbered)) == 49
    analyses = {name.removeprefix("--analysis ") for name in named if name.startswith("--analysis ")}
    # The twelve of the original's --list-analyses.
    assert analyses == {
        "sensitivity", "pruning", "selective-pruning", "robustness", "adversarial", "bit-level", "integrated",
        "evaluate", "super-weights", "targeted-perturbation", "compare-sensitivity", "run-model",
    }  # fmt: skip


def test_files_in_the_map_are_explained_on_their_page():
    """A file or column named beside a target stands on the page the row links to."""
    for original, targets, _, link in scripts():
        content = (DOCS / re.findall(r"\((\w+\.md)\)", link)[0]).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+\.(?:csv|h5|parquet|json))`", targets):
            assert name in content, f"{original}: {name} is not on its page"


# Pages of experiments

SECTIONS = {  # searched for with ^ and $ at every line
    "question": r"\*\*Questions?\.\*\*",
    "method": r"^##+ Method",
    "parameters": r"Settings: .*block",
    "outputs": r"^##+ Outputs",
    "reading the figure": r"^##+ Reading the figure|^Figures?: ",
    "pitfalls": r"^##+ Pitfalls",
    "what differs": r"^##+ Different from the original",
    "cost": r"^##+ Cost",
}
EXPERIMENTS = sorted({name.partition("/")[0] for name in COLUMNS} - {"lipschitz_report"})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_page_has(name: str):
    content = page(f"{name}.md")
    # Each analysis of esa is a section with a method and outputs of its own, see the next test.
    needed = {what: pattern for what, pattern in SECTIONS.items() if name != "esa" or what not in ("method", "outputs")}
    missing = [what for what, pattern in needed.items() if not re.search(pattern, content, re.MULTILINE)]
    assert not missing, f"docs/{name}.md has no {missing}"
    tables = [line for line in content.splitlines() if line.startswith("| column |") or line.startswith("| dataset |")]
    assert tables, f"docs/{name}.md explains no columns"
    cost = re.split(r"(?m)^##+ Cost\n", content)[-1]
    assert re.search(r"\d", cost), f"docs/{name}.md: the cost has no number"


@pytest.mark.parametrize("name", sorted(name.partition("/")[2] for name in COLUMNS if name.startswith("esa/")))
def test_every_analysis_of_esa_has_its_section(name: str):
    section = re.split(r"(?m)^## ", page("esa.md").partition(f"\n## {name}\n")[2])[0]
    for needed in ("**Question.**", f"`results/esa/{name}/summary.csv`", "| column |", "Figure"):
        assert needed in section, f"docs/esa.md, {name}: no {needed}"


# Errors by symptom


class Texts(ast.NodeVisitor):
    """All text literals of a module; what is filled in becomes a mark that no heading has."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        parts = [str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values]
        self.found.append("".join(parts))
        for part in node.values:  # texts within what is filled in
            if isinstance(part, ast.FormattedValue):
                self.visit(part.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.found.append(node.value)


@cache
def texts() -> list[str]:
    """Every text literal of the library and of the rules."""
    visitor = Texts()
    for path in sorted((ROOT / "workflow/tremor").rglob("*.py")):
        visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
    return [*visitor.found, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "rules").glob("*.smk")))]


def occurs(quote: str) -> bool:
    """Whether some text of the source holds the words of a quote; "..." and a name in '...' stand for anything."""
    pieces = [re.escape(piece) for piece in re.split(r"\.\.\.|(?<=')\w+(?=')", quote)]
    known = re.compile(".*?".join(pieces), re.DOTALL)
    return any(known.search(text) for text in texts())


# What Snakemake or Python says; a test looks for it in Snakemake's source.
FOREIGN = {
    "dictionary update sequence": None,
    "LockException": "exceptions.py",
    "Directory cannot be locked": "exceptions.py",
    "MissingRuleException": "exceptions.py",
    "No rule to produce": "exceptions.py",
    "MissingInputException": "exceptions.py",
    "IncompleteFilesException": "exceptions.py",
}
# The errors that people meet most, as the source has them: a heading must quote each.
COMMON = (
    "unknown key", "not valid YAML", "is not defined under", "model folder", "pickle weights only", "has NaN",
    "is truncated or damaged", "was made on another platform", "the A/A control failed", "may not be called float64",
    "Directory cannot be locked", "no space is left", "memory ran out",
)  # fmt: skip


def quotes() -> list[str]:
    headings = re.findall(r"(?m)^### (.*)$", page("gotchas.md"))
    return [quote for heading in headings for quote in re.findall(r'"([^"]+)"', heading)]


@pytest.mark.parametrize("quote", quotes())
def test_quoted_errors_are_said(quote: str):
    if quote in FOREIGN:
        file = FOREIGN[quote]
        if file is not None:
            snakemake = find_spec("snakemake")
            assert snakemake is not None
            assert snakemake.origin is not None
            assert quote in (Path(snakemake.origin).parent / file).read_text(encoding="utf-8")
        return
    assert occurs(quote), f"nothing in the source says {quote!r}"


@pytest.mark.parametrize("words", COMMON)
def test_common_errors_have_an_entry(words: str):
    assert any(words in quote for quote in quotes()), f"docs/gotchas.md has no entry for {words!r}"
    assert words in FOREIGN or occurs(words)


def test_a_quote_that_nobody_says_is_found():
    assert not occurs("the flux capacitor is empty")
    assert occurs("model folder ... does not exist")


# The walk through an experiment


def excerpts() -> list[tuple[str, str]]:
    pattern = r"<!-- not run: part of (\S+), which a test compares -->\n```\w+\n(.*?)\n```"
    return re.findall(pattern, page("howto-experiment.md"), re.DOTALL)


def test_the_walk_shows_what_the_files_hold():
    assert len(excerpts()) > 10
    for name, excerpt in excerpts():
        assert excerpt in (ROOT / name).read_text(encoding="utf-8"), f"{name} no longer holds an excerpt of the walk"


# Noise floors


def test_the_page_of_noise_floors_has_the_table_of_today():
    """Its numbers are one machine's; its columns are those that the generator writes."""
    content = page("noise_floors.md")
    table = content.partition(floor_page.BEGIN)[2].partition(floor_page.END)[0].strip().splitlines()
    assert table[0] == "| " + " | ".join(floor_page.HEADER) + " |"
    assert len(table) > 10
    assert {line.count("|") for line in table} == {len(floor_page.HEADER) + 1}
    with pytest.raises(ArtifactError, match="put them in"):
        floor_page.replaced("no marks", "x\n")
    assert floor_page.replaced(content, "x\n").count(floor_page.END) == 1
