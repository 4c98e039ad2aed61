"""Which tokens make a word."""

import numpy as np
import pytest

from tremor.documents.align import words_of_tokens
from tremor.documents.text import from_pages
from tremor.errors import ModelError

DOCUMENT = from_pages(["Zoë ate 12 µg."])  # words at 0-3, 4-7, 8-10, 11-14


def owner(*pieces: tuple[int, int]) -> tuple[list[int], list[bool]]:
    found, shared = words_of_tokens(pieces, DOCUMENT.words, DOCUMENT.text)
    return found.tolist(), shared.tolist()


def test_spaces_belong_to_the_word_behind_them() -> None:
    plain = [False] * 4
    assert owner((0, 3), (3, 7), (7, 10), (10, 14)) == ([0, 1, 2, 3], plain)
    assert owner((0, 3), (3, 4), (4, 7), (7, 8), (8, 9), (9, 10), (10, 14)) == ([0, 1, 1, 2, 2, 2, 3], plain)
    assert owner((0, 4), (4, 8), (8, 11), (11, 14)) == ([0, 1, 2, 3], plain)  # spaces behind


def test_a_letter_in_several_tokens() -> None:
    """Byte-level tokenizers give each byte of a letter the letter's own offsets."""
    assert owner((0, 2), (2, 3), (2, 3), (3, 7), (7, 10), (10, 12), (10, 12), (12, 14))[0] == [0, 0, 0, 1, 2, 3, 3, 3]


def test_a_token_over_two_words() -> None:
    found, shared = owner((0, 7), (7, 10), (10, 14))
    assert found == [1, 2, 3]
    assert shared == [True, True, False, False]
    assert owner((0, 3), (3, 14)) == ([0, 3], [False, True, True, True])


def test_order() -> None:
    with pytest.raises(ModelError, match="go backwards"):
        owner((4, 7), (0, 3))


def test_no_token() -> None:
    found, shared = words_of_tokens([], DOCUMENT.words, DOCUMENT.text)
    assert found.shape == (0,)
    assert not np.any(shared)
