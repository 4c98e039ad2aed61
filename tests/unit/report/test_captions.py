"""Captions of Snakemake's report: one for each experiment, valid, rendered with the defaults, naming every figure."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from docutils.core import publish_parts
from jinja2 import Environment, StrictUndefined

from tremor.config import Config
from tremor.graph import FIGURES, Graph, alias
from tremor.report import labels
from tremor.report.contents import ABOUT, CHAPTERS, about

FOLDER = Path(__file__).resolve().parents[3] / "workflow/report"
EXPERIMENTS = sorted({*FIGURES, "spectrum", "recordings"})


def rendered(name: str) -> str:
    """As Snakemake renders it; an undefined key or a mistake in the markup is an error here."""
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    text = environment.from_string((FOLDER / f"{name}.rst").read_text()).render(
        snakemake=SimpleNamespace(config=Config().model_dump(mode="json"))
    )
    settings = {"halt_level": 2, "report_level": 2}
    return str(publish_parts(text, writer="html", settings_overrides=settings)["body"])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_caption_says_what_how_and_with_which_settings(experiment: str) -> None:
    text = (FOLDER / f"{alias(experiment)}.rst").read_text()
    assert text.startswith(f"**{about(experiment).question}**\n")
    page = rendered(alias(experiment))
    assert "How to read it." in page
    assert "Settings." in page
    figures = FIGURES.get(experiment, ("", ()))[1]
    if len(figures) > 1:
        assert [name for name in figures if f"*{name}*" not in text] == []


def test_captions_and_experiments_are_the_same() -> None:
    assert {path.stem for path in FOLDER.glob("*.rst")} == {*map(alias, EXPERIMENTS), "workflow"}
    assert set(EXPERIMENTS) == set(ABOUT)
    assert "Models: llama" in rendered("workflow")


def test_files_are_placed_by_chapter_experiment_and_labels() -> None:
    placed = labels.place("exp12", "polar", "results/exp12/{model}/{prompt}/{arithmetic}/polar.png")
    assert placed["category"] in CHAPTERS
    assert placed["subcategory"] == "exp12"
    assert placed["labels"] == {
        "model": "{model}", "prompt": "{prompt}", "arithmetic": "{arithmetic}", "figure": "polar"
    }  # fmt: skip
    assert labels.place("exp12", "summary", "results/exp12/summary.csv")["labels"] == {"figure": "summary"}
    assert labels.shown_format(["a.pdf", "a.svg", "a.png"]) == "a.svg"
    assert labels.shown_format(["a.pdf"]) == "a.pdf"


def test_one_format_of_each_figure_is_marked() -> None:
    graph = Graph(Config().model_dump(mode="json"), home=FOLDER.parents[1])
    marks = labels.Marks(graph, lambda path, **where: (path, where))
    found = marks.figures("exp12")
    assert set(found) == set(FIGURES["exp12"][1])
    (path, where), other = found["polar"]
    assert (path, other) == tuple(graph.figures("exp12")["polar"])
    assert (FOLDER.parents[1] / "rules" / where["caption"]).resolve() == FOLDER / "exp12.rst"
    assert marks.summary("esa/bit-level")[0] == "results/esa/bit-level/summary.csv"
