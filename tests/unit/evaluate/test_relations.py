"""Sentences of facts: spans, wordings, the originals' files, refusals."""

from pathlib import Path

import pytest

from tremor.errors import ArtifactError, ConfigError
from tremor.evaluate import relations
from tremor.models import corpus

FILES = corpus.RESOURCES / "relations"


def test_twenty_facts_of_every_relation_with_known_spans():
    found = relations.from_tables(list(corpus.RELATIONS), facts=20, role="evaluate")
    for code in corpus.RELATIONS:
        own = [s for s in found if s.relation == code]
        assert [s.split for s in own] == ["train"] * 20 + ["heldout"] * 20
        table = {fact.subject.lower(): fact.object for fact in corpus.facts(code)}
        for sentence in own:
            assert table[sentence.subject.lower()] == sentence.answer
            assert sentence.text.endswith(f" {sentence.answer}.")
        assert len({s.subject for s in own if s.split == "train"}) == 20


def test_selection_and_evaluation_share_facts_but_no_sentence():
    select, evaluate = (relations.from_tables(["P36"], facts=20, role=role) for role in ("select", "evaluate"))
    assert {s.answer for s in select} == {s.answer for s in evaluate}
    assert not {s.text for s in select} & {s.text for s in evaluate}


def test_the_originals_sentences():
    """Section 4.4: 15 relations of 3 sentences, and the 9 of the other script, two of which differ (D-D11)."""
    factual = relations.from_file(FILES / "factual.tsv")
    assert len(factual) == 45
    assert {s.relation for s in factual} == set(corpus.RELATIONS)
    acela = next(s for s in factual if "Acela" in s.text)
    assert (acela.answer, acela.answer_span, acela.subject) == ("Amtrak", (0, 6), "the Acela Express")
    eurostar = next(s for s in factual if s.text.startswith("Eurostar"))
    assert eurostar.subject_span == (0, 8)
    assert eurostar.answer == "Eurostar International Limited"
    nine = relations.from_file(FILES / "percentage.tsv")
    assert len(nine) == 27
    assert {s.text for s in nine} - {s.text for s in factual} == {
        "A dog is a subclass of a mammal.",
        "A car is a subclass of a vehicle.",
    }


def test_fifty_other_passages_state_no_fact_and_take_domains_in_turn():
    others = relations.others(50)
    assert len({s.text for s in others}) == 50
    assert all(s.relation == relations.OTHER and s.answer_span is None for s in others)
    heldout = {p.text: p.domain for p in corpus.passages("heldout")}
    assert len({heldout[s.text] for s in others[:7]}) == 7
    with pytest.raises(ConfigError, match="other"):
        relations.others(10_000)


def test_files_are_read_strictly(tmp_path: Path):
    path = tmp_path / "own.tsv"
    path.write_text("relation\ttext\tsubject\tanswer\nR\tA is B.\tA\tC\n")
    with pytest.raises(ArtifactError, match=r"own.tsv:2: answer 'C'"):
        relations.from_file(path)
    path.write_text("relation\ttext\tsubject\tanswer\nR\tA is B.\tB\tB\n")
    with pytest.raises(ArtifactError, match="beside the answer"):
        relations.from_file(path)
    path.write_text("relation\ttext\n")
    with pytest.raises(ArtifactError, match="columns"):
        relations.from_file(path)
    with pytest.raises(ArtifactError, match=r"delta.facts.source"):
        relations.from_file(tmp_path / "missing.tsv")
    with pytest.raises(ConfigError, match="P99"):
        relations.from_tables(["P99"], facts=3, role="select")


def test_a_digest_changes_with_anything():
    one = relations.from_tables(["P36"], facts=3, role="select")
    assert relations.digest(one) == relations.digest(one)
    assert len({relations.digest(x) for x in (one, one[:2], one[::-1], (*one[:2], relations.others(2)[0]))}) == 4
