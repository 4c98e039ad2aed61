"""The page as text: complete, the same twice, within its size, and with nothing in it that could run by mistake."""

import base64
import gzip
import hashlib
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

import pages
from project import ROOT
from tremor import cli
from tremor.config import on_defaults
from tremor.errors import ArtifactError, ConfigError
from tremor.graph import FIGURES, UNDRAWN, Graph
from tremor.report import build, contents, files

SELECTED = {"select": {"models": ["llama", "gpt2"], "prompts": ["capital", "language"]}}


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> build.Sources:
    """Synthetic results; never change them."""
    return pages.make(tmp_path_factory.mktemp("sources"))


class Elements(HTMLParser):
    """Elements of a page with their attributes, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script":
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.found.append(("/" + tag, {}))


@pytest.fixture(scope="session")
def page(sources: build.Sources) -> str:
    return build.page(sources)


@pytest.fixture(scope="session")
def document(page: str) -> dict:
    return json.loads(Elements(page).scripts[0])


def test_it_holds_every_row_of_every_summary(sources, document):
    for table in (table for each in document["experiments"] for table in each["tables"]):
        frame = pd.read_csv(sources.results / table["title"])
        assert [column["name"] for column in table["columns"]] == list(frame.columns)
        assert all(len(column["full"]) == len(frame) for column in table["columns"])
    names = [each["name"] for each in document["experiments"]]
    assert names == ["exp12", "regimes", "exp7", "exp4", "critical_weights"]  # in the order of the chapters


def test_pictures_are_the_files_byte_for_byte(sources, document):
    shown = [case for each in document["experiments"] for case in each["cases"]]
    assert len(shown) == 9  # 4 of exp12, 4 of exp7, 1 of the regimes
    for case in shown:
        assert base64.b64decode(case["png"]) == (sources.results / case["file"]).read_bytes()


def test_its_own_programs_run_and_no_others(page):
    elements = Elements(page)
    kinds = [attributes.get("type") for tag, attributes in elements.found if tag == "script"]
    assert kinds == ["application/json", "text/plain", None]  # packed, and unpacked by the last
    unpacked = gzip.decompress(base64.b64decode(elements.scripts[1])).decode()
    assert unpacked == build.plotly()
    (policy,) = [a["content"] for tag, a in elements.found if tag == "meta" and "http-equiv" in a]
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    assert allowed == [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (unpacked, elements.scripts[2])
    ]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    script_part = re.search(r"script-src ([^;]+)", policy)
    assert script_part is not None
    assert "unsafe-inline" not in script_part[1]


def test_names_and_texts_make_no_element_and_no_attribute(page):
    elements = Elements(page)
    assert not [tag for tag, _ in elements.found if tag == "img"]
    handlers = [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    assert not handlers
    addresses = [a[key] for _, a in elements.found for key in ("href", "src") if a.get(key)]
    assert not [address for address in addresses if re.match(r"\w+:|//", address or "")]
    assert "window.hacked=1</script>" not in page


def test_the_same_files_give_the_same_bytes_and_a_later_run_too(sources, page, tmp_path):
    assert build.page(sources) == page
    time.sleep(1.1)  # provenance holds the second of its making, in its volatile part
    again = pages.make(tmp_path)
    assert (again.results / "exp4/summary.csv.meta.json").read_bytes() != (
        sources.results / "exp4/summary.csv.meta.json"
    ).read_bytes()
    assert build.page(again) == page


def test_what_finds_no_room_is_left_out_and_counted(sources, page):
    limit = len(page.encode()) / 1e6 - 0.012
    small = build.page(sources, max_mb=limit)
    assert len(small.encode()) <= limit * 1e6
    found = json.loads(Elements(small).scripts[0])["experiments"]
    shown = sum(len(each["cases"]) + len(each["views"]) for each in found)
    counted = re.findall(r"(\d+) more in the files below: the page is limited in size \(page\.max_mb\)", small)
    assert counted
    # Each note stands in the page and in its data: 9 pictures and 9 interactive figures are shown or counted.
    assert shown + sum(int(count) for count in counted) // 2 == 18
    with pytest.raises(ConfigError, match=r"page\.max_mb: .* need [\d.]+ MB"):
        build.page(sources, max_mb=1.0)


def test_without_png_there_are_links_and_a_reason(sources):
    found = build.page(replace(sources, figures=[path.with_suffix(".pdf") for path in sources.figures], data=()))
    assert not any(each["cases"] for each in json.loads(Elements(found).scripts[0])["experiments"])
    assert "No picture: figures.formats has no png." in found
    assert 'href="exp12/alpha/capital/float64/polar.pdf"' in found


def test_damage_is_named(sources, tmp_path):
    broken = tmp_path / "results/exp12/a/b/c/polar.png"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(sources.figures[0].read_bytes()[:60])
    with pytest.raises(ArtifactError, match=r"polar\.png cannot be read"):
        build.page(build.Sources(tmp_path / "results", [], [broken]))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no summary lies below"):
        files.present(tmp_path)


def test_a_file_of_no_experiment_is_refused(tmp_path):
    path = tmp_path / "results/exp12/a/b/c/other.png"
    with pytest.raises(ArtifactError, match="belongs to no experiment"):
        files.entries(tmp_path / "results", [], [path], [])


@pytest.fixture(scope="module")
def graph() -> Graph:
    return Graph(on_defaults(SELECTED), home=ROOT)


def test_the_rule_s_files_are_those_of_the_graph(graph):
    found = files.wanted(graph)
    targets = set(graph.targets())
    assert set(found["tables"]) == {path for path in targets if path.endswith("/summary.csv")}
    assert set(found["figures"]) <= targets
    entries = files.entries(
        Path("results"), *([Path(p) for p in found[kind]] for kind in ("tables", "figures", "data"))
    )
    named = {entry.name: entry for entry in entries}
    assert named.keys() == {*FIGURES, *UNDRAWN}
    assert len(named["exp12"].data) == 2 * 2 * len(graph.arithmetics)
    assert all(len(case.files) == 3 for case in named["regimes"].data)
    assert {"llama", "gpt2", "mamba"} == {Path(path).parent.name for path in found["manifests"]}


def test_every_experiment_has_a_question_a_figure_and_a_page():
    assert contents.ABOUT.keys() == {*FIGURES, *UNDRAWN}
    for name, about in contents.ABOUT.items():
        assert about.question.endswith(("?", "(causal tracing)?"))
        assert (ROOT / "docs" / f"{about.page or name}.md").is_file()
        if name in files.FOLDERS:
            assert files.key_figure(name) in files.FOLDERS[name][1]


def test_the_script_passes_what_the_rule_names(sources, tmp_path):
    import importlib.util

    spec = importlib.util.spec_from_file_location("index", ROOT / "scripts/index.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    output = sources.results / "index.html"
    inputs = SimpleNamespace(
        tables=list(sources.tables), figures=list(sources.figures), data=list(sources.data),
        manifests=list(sources.manifests),
    )  # fmt: skip
    names = {"prompts": {"capital": "The capital"}, "platforms": {"native": {"device": "cpu"}}, "pairs": {}}
    params = SimpleNamespace(names=names, docs=None, settings={"max_mb": 15.0, "map_cells": 201})
    script.run(inputs, params, SimpleNamespace(page=output))
    text = output.read_text(encoding="utf-8")
    output.unlink()
    assert "The capital" in text
    assert "docs/exp12.md of the workflow" in text


def test_the_command_writes_the_page_of_a_folder(sources, capsys):
    folder = sources.results.parent
    assert cli.main(["page", "--directory", str(folder)]) == 0
    output = folder / "results/index.html"
    assert f"{output}: 5 summaries" in capsys.readouterr().out
    assert "docs/exp12.md of the workflow" in output.read_text(encoding="utf-8")  # no docs lie beside these results
    output.unlink()
    assert cli.main(["page", "--directory", str(folder / "nowhere")]) == 1
    assert "error: no summary lies below" in capsys.readouterr().err
