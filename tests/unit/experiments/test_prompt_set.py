"""Prompt sets: the shipped one, and what a file may not hold."""

from pathlib import Path

import pytest

from tremor.errors import PromptError
from tremor.experiments.prompt_set import read_prompts

SHIPPED = Path(__file__).parents[3] / "resources/prompts/lipschitz.tsv"
HEAD = "name\tkind\tsource\ttext\n"
ORIGINALS = {  # prompts, active or commented out, of the scripts that exp2 and the extras follow
    "The capital of France is", "Machine learning is a subset of", "To solve this problem, we need to",
    "To solve this math problem, we need to", "In conclusion, the main finding was", "The quick brown fox jumps over",
    "Neither agree nor disagree", "The bank is by", "I saw the man with the telescope",
    "Visiting relatives can be boring",
    "A patient arrives with fever and chest pain",
}  # fmt: skip


def test_the_shipped_set_has_the_originals_and_enough_of_its_own() -> None:
    found = read_prompts(SHIPPED)
    assert {p.text for p in found if p.source == "original"} == ORIGINALS
    assert sum(p.source == "project" for p in found) >= 24
    assert len({p.kind for p in found}) >= 5
    assert len({p.text for p in found}) == len(found)
    assert not any(p.text != p.text.strip() for p in found)


def test_names_choose_and_order() -> None:
    assert [p.name for p in read_prompts(SHIPPED, ["loop", "capital"])] == ["loop", "capital"]
    with pytest.raises(PromptError, match="no prompt is called 'capitol'"):
        read_prompts(SHIPPED, ["capitol"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,kind,source,text\n", "must begin with the line"),
        (HEAD, "holds no prompt"),
        (HEAD + "a\tfact\tproject\n", "line 2: needs 4 cells"),
        (HEAD + "a\tfact\tproject\t \n", "line 2: needs 4 cells"),
        (HEAD + "a b\tfact\tproject\tx\n", "the name 'a b'"),
        (HEAD + "../a\tfact\tproject\tx\n", "the name '../a'"),
        (HEAD + "a\tfact\tproject\tx\n\na\tfact\tproject\ty\n", "line 4: the name 'a' occurs twice"),
    ],
)
def test_malformed_sets_are_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "set.tsv"
    path.write_text(content)
    with pytest.raises(PromptError, match=message):
        read_prompts(path)


def test_lines_may_end_as_windows_ends_them_and_quotes_are_text(tmp_path: Path) -> None:
    path = tmp_path / "set.tsv"
    path.write_bytes((HEAD + 'a\tcode\tproject\t{"x": \n').replace("\n", "\r\n").encode())
    assert read_prompts(path)[0].text == '{"x": '
    with pytest.raises(PromptError, match="cannot be read"):
        read_prompts(tmp_path / "none.tsv")
