"""Question sets: what is read, and what is refused with the line that is wrong."""

from pathlib import Path

import pytest

from tremor.errors import PromptError
from tremor.record.questions import read_questions

RESOURCES = Path(__file__).resolve().parents[3] / "resources/questions"


def test_the_sets_of_the_repository():
    for name in ("default", "paper"):
        questions = read_questions(RESOURCES / f"{name}.tsv")
        assert [question.number for question in questions] == list(range(1, 11))
        assert [question.kind for question in questions] == ["factual"] * 5 + ["unknowable"] * 5
    assert questions[9].stem == "q10"
    assert questions[9].text.endswith("what led to the Great Tunneling War that preceded it.")


def test_names_choose_and_order(tmp_path):
    path = tmp_path / "q.tsv"
    path.write_bytes("name\tkind\ttext\r\na\tfactual\tÜber uns\r\nb\tunknowable\tTwo\r\n".encode())
    found = read_questions(path, ["b", "a"])
    assert [(q.number, q.name, q.text) for q in found] == [(1, "b", "Two"), (2, "a", "Über uns")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name\ttext\n", "must begin with the line name<tab>kind<tab>text"),
        ("name\tkind\ttext\na\tfactual\t \n", "line 2: needs 3 cells that are not blank"),
        ("name\tkind\ttext\na\tfactual\n", "line 2: needs 3 cells"),
        ("name\tkind\ttext\na/b\tfactual\tx\n", "line 2: the name 'a/b'"),
        ("name\tkind\ttext\na\tguess\tx\n", "the kind 'guess' is none of factual, unknowable"),
        ("name\tkind\ttext\na\tfactual\tx\na\tfactual\ty\n", "line 3: the name 'a' occurs twice"),
        ("name\tkind\ttext\n", "0 questions are selected; take 1 to 99"),
    ],
)
def test_malformed_sets_are_refused(tmp_path, content, message):
    (tmp_path / "q.tsv").write_text(content)
    with pytest.raises(PromptError, match=message):
        read_questions(tmp_path / "q.tsv")


def test_unknown_names_and_missing_files_are_refused(tmp_path):
    (tmp_path / "q.tsv").write_text("name\tkind\ttext\na\tfactual\tx\n")
    with pytest.raises(PromptError, match=r"no question is called 'z' in .*; it has a"):
        read_questions(tmp_path / "q.tsv", ["z"])
    with pytest.raises(PromptError, match="cannot be read"):
        read_questions(tmp_path / "none.tsv")
