"""Misspelt text: exactly the edits asked for, and none where none is allowed."""

import difflib

import numpy as np
import pytest

from tremor.evaluate.misspell import misspell, places

TEXT = "The capital of France is"
KINDS = ("char_swap", "char_insert", "char_delete", "char_case")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("edits", [1, 3])
def test_length_and_letters_are_those_of_the_edit(kind, edits):
    for seed in range(30):
        found, made = misspell(TEXT, kind, edits, range(len(TEXT)), np.random.default_rng(seed))
        assert made == edits
        assert found != TEXT
        assert len(found) - len(TEXT) == {"char_insert": edits, "char_delete": -edits}.get(kind, 0)
        if kind == "char_swap":
            assert sorted(found) == sorted(TEXT)
            assert sum(a != b for a, b in zip(found, TEXT, strict=True)) == 2 * edits
        if kind == "char_case":
            assert found.lower() == TEXT.lower()
            assert sum(a != b for a, b in zip(found, TEXT, strict=True)) == edits
        if kind in ("char_insert", "char_delete"):  # the shorter one is a subsequence of the longer one
            longer, shorter = sorted((found, TEXT), key=len, reverse=True)
            letters = iter(longer)
            assert all(letter in letters for letter in shorter)


@pytest.mark.parametrize("kind", KINDS)
def test_the_subject_is_left_alone(kind):
    start, end = TEXT.index("France"), TEXT.index("France") + 6
    editable = [i for i in range(len(TEXT)) if not start <= i < end]
    for seed in range(30):
        found, _ = misspell(TEXT, kind, 4, editable, np.random.default_rng(seed))
        assert "France" in found


def test_a_seed_gives_one_text_and_another_seed_another():
    made = {misspell(TEXT, "char_delete", 1, range(len(TEXT)), np.random.default_rng(s))[0] for s in (1, 1, 2, 3, 4)}
    assert 1 < len(made) <= 4
    assert difflib.SequenceMatcher(None, *sorted(made)[:2]).ratio() > 0.9


def test_fewer_edits_where_there_is_no_place():
    assert misspell("aa 11", "char_swap", 2, range(5), np.random.default_rng(0)) == ("aa 11", 0)
    assert places("ß1A", "char_case", range(3)) == [2]
    assert misspell("ab", "char_swap", 3, range(2), np.random.default_rng(0)) == ("ba", 1)
