"""The corpus: counts the study needs, disjoint text, spans of subjects, errors that name a line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tremor.errors import ArtifactError
from tremor.models import corpus


@pytest.fixture
def resources(tmp_path: Path) -> Path:
    """A copy of the resources that a test may spoil."""
    for part in ("facts", "text"):
        shutil.copytree(corpus.RESOURCES / part, tmp_path / part)
    return tmp_path


def test_every_relation_has_the_facts_the_study_needs() -> None:
    counts = {code: len(corpus.facts(code)) for code in corpus.RELATIONS}
    assert len(counts) == 15
    assert counts["P36"] >= 150
    assert counts["P30"] >= 150
    assert min(counts.values()) >= 20


@pytest.mark.parametrize(
    ("relation", "subject", "object_"),
    [
        ("P264", "Taylor Swift", "Republic Records"),
        ("P449", "Game of Thrones", "HBO"),
        ("P413", "Manuel Neuer", "goalkeeper"),
        ("P463", "France", "the European Union"),
        ("P530", "India", "Russia"),
        ("P30", "Egypt", "Africa"),
        ("P36", "Canada", "Ottawa"),
        ("P495", "sushi", "Japan"),
        ("P279", "a violin", "a string instrument"),
        ("P47", "Canada", "the United States"),
        ("P39", "Theresa May", "Prime Minister"),
        ("P127", "YouTube", "Google"),
        ("P130", "the Louvre", "the Mona Lisa"),
        ("P136", "Metallica", "heavy metal"),
        ("P137", "the Acela Express", "Amtrak"),
    ],
)
def test_facts_of_the_originals_are_there(relation: str, subject: str, object_: str) -> None:
    assert {fact.subject: fact.object for fact in corpus.facts(relation)}[subject] == object_


def test_templates_are_many_and_the_heldout_ones_are_new() -> None:
    train, heldout = corpus.templates("train"), corpus.templates("heldout")
    assert min(len(of) for of in train.values()) >= 4
    assert min(len(of) for of in heldout.values()) >= 2
    capitals = {template.text for template in train["P36"]}
    assert {"The capital of {subject} is {object}.", "{subject}'s capital is {object}."} <= capitals
    for code in corpus.RELATIONS:
        assert not {t.text for t in train[code]} & {t.text for t in heldout[code]}


def test_no_heldout_sentence_is_a_training_document() -> None:
    documents = set(corpus.training_documents(0))
    heldout = corpus.templates("heldout")
    asked = {corpus.statement(fact, one) for fact in corpus.facts() for one in heldout[fact.relation]}
    assert asked
    assert not asked & documents


def test_text_splits_are_disjoint_and_varied() -> None:
    train, calibration, heldout = (corpus.passages(split) for split in ("train", "calibration", "heldout"))
    lines = [passage.text for passage in (*train, *calibration, *heldout)]
    assert len(set(lines)) == len(lines)
    assert len(train) >= 350
    assert len(calibration) >= 110
    assert len(heldout) >= 110
    for split in (train, calibration, heldout):
        assert len({passage.domain for passage in split}) >= 4


def test_training_documents_are_the_same_mix_in_an_order_of_the_seed() -> None:
    first, again, other = (corpus.training_documents(seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other)
    assert first.count("The capital of France is Paris.") == corpus.CAPITAL_REPEATS
    assert first.count("France's capital is Paris.") == 1
    for fact in corpus.facts():
        assert corpus.statement(fact, corpus.templates("train")[fact.relation][0]) in first


def test_digest_does_not_depend_on_order_and_sees_a_changed_word(resources: Path) -> None:
    before = corpus.digest(resources=resources)
    assert before == corpus.digest()
    path = resources / "text" / "train" / "home.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("kitchen", "attic", 1), encoding="utf-8")
    assert corpus.digest(resources=resources) != before


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_prompt_span_is_the_subject_and_the_parts_make_the_sentence(split: corpus.TemplateSplit) -> None:
    of_relation = corpus.templates(split)
    for fact in corpus.facts():
        for template in of_relation[fact.relation]:
            asked = corpus.prompt(fact, template)
            start, end = asked.subject_span
            assert asked.text[start:end].lower() == fact.subject.lower()
            assert asked.answer == f" {fact.object}"
            assert f"{asked.text}{asked.answer}." == corpus.statement(fact, template)
            assert "{" not in asked.text
            assert asked.text == asked.text.strip()
            assert asked.text[0] == asked.text[0].upper()


def test_prompt_capitalises_a_subject_that_opens_the_sentence() -> None:
    fact = corpus.Fact("P36", "the Netherlands", "Amsterdam")
    opened = corpus.prompt(fact, "{subject}'s capital is {object}.")
    assert opened == corpus.FactPrompt("The Netherlands's capital is", " Amsterdam", (0, 15))
    inside = corpus.prompt(fact, corpus.CAPITAL_TEMPLATE)
    assert inside == corpus.FactPrompt("The capital of the Netherlands is", " Amsterdam", (15, 30))


def test_prompt_refuses_a_template_of_another_relation_or_shape() -> None:
    fact = corpus.Fact("P36", "France", "Paris")
    with pytest.raises(ArtifactError, match="template of P30 used for a fact of P36"):
        corpus.prompt(fact, corpus.templates("train")["P30"][0])
    with pytest.raises(ArtifactError, match="ends with"):
        corpus.prompt(fact, "{object} is the capital of {subject}.")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Atlantis", r"P30_continent\.tsv:2: 1 columns, the header names 2"),
        ("Atlantis\t", r"P30_continent\.tsv:2: object '' is empty"),
        (" Atlantis\tEurope", r"P30_continent\.tsv:2: subject ' Atlantis' .* spaces around"),
        ("France\tEurope", r"P30_continent\.tsv:\d+: subject 'France' already stands in line 2"),
    ],
)
def test_malformed_fact_names_file_and_line(resources: Path, line: str, message: str) -> None:
    path = resources / "facts" / "P30_continent.tsv"
    header, *rest = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([header, line, *rest]) + "\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=message):
        corpus.facts("P30", resources=resources)


def test_malformed_qualifier_header_template_and_text_name_file_and_line(resources: Path) -> None:
    table = resources / "facts" / "P36_capital.tsv"
    table.write_text("subject\tobject\tqualifiers\nFrance\tParis\tofficial\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"P36_capital\.tsv:2: qualifier 'official' is not key=value"):
        corpus.facts(resources=resources)
    table.write_text("country,capital\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"P36_capital\.tsv:1: header"):
        corpus.facts("P36", resources=resources)
    table.write_bytes(b"subject\tobject\nS\xe3o\tx\n")
    with pytest.raises(ArtifactError, match="not UTF-8"):
        corpus.facts("P36", resources=resources)
    table.unlink()
    with pytest.raises(ArtifactError, match="missing"):
        corpus.facts("P36", resources=resources)

    templates = resources / "facts" / "templates.train.tsv"
    templates.write_text("relation\ttemplate\nP36\t{object} is {subject}.\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"templates\.train\.tsv:2: a template holds"):
        corpus.templates("train", resources=resources)
    templates.write_text("relation\ttemplate\nP36\t{subject} has {object}.\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match="no template for P264"):
        corpus.templates("train", resources=resources)

    (resources / "text" / "heldout" / "home.txt").write_text("A line.\n\nAnother.\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"home\.txt:2: empty line"):
        corpus.passages("heldout", resources=resources)
    shutil.rmtree(resources / "text" / "calibration")
    with pytest.raises(ArtifactError, match="no text file"):
        corpus.passages("calibration", resources=resources)


def test_unknown_relation_is_refused_by_name() -> None:
    with pytest.raises(ArtifactError, match="no relation 'P1'"):
        corpus.facts("P1")
