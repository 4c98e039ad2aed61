"""Misspelt text: characters exchanged, put in, left out, or of the other case. No torch."""

import string
from collections.abc import Sequence
from typing import Literal

import numpy as np

Misspelling = Literal["char_swap", "char_insert", "char_delete", "char_case"]


def places(text: str, kind: Misspelling, editable: Sequence[int]) -> list[int]:
    """Offsets at which an edit of this kind is possible and makes another text.

    Args:
        text: The text.
        kind: char_swap exchanges a letter with the next one, char_insert puts a random small letter before it,
            char_delete leaves it out, char_case turns its case.
        editable: Offsets that may be touched.
    """
    inside = set(editable)
    if kind == "char_swap":
        return [
            i
            for i in editable
            if i + 1 in inside and text[i].isalpha() and text[i + 1].isalpha() and text[i] != text[i + 1]
        ]
    if kind == "char_case":
        # Only letters that come back as one character: the other case of a German sharp s are two.
        return [i for i in editable if len(text[i].swapcase()) == 1 and text[i].swapcase() != text[i]]
    return [i for i in editable if text[i].isalpha()]


def misspell(
    text: str, kind: Misspelling, edits: int, editable: Sequence[int], rng: np.random.Generator
) -> tuple[str, int]:
    """Edit a text at random places, no character twice.

    Args:
        text: The text.
        kind: What an edit does, see :func:`places`.
        edits: Number of edits.
        editable: Offsets that may be touched.
        rng: Source of places and letters.

    Returns:
        The edited text and the edits made: fewer where there is no place left.
    """
    free = places(text, kind, editable)
    chosen: list[int] = []
    while free and len(chosen) < edits:
        place = int(rng.choice(free))
        chosen.append(place)
        near = 1 if kind == "char_swap" else 0
        free = [i for i in free if abs(i - place) > near]
    for place in sorted(chosen, reverse=True):  # from the end, so that offsets before stay true
        text = _edited(text, kind, place, rng)
    return text, len(chosen)


def _edited(text: str, kind: Misspelling, place: int, rng: np.random.Generator) -> str:
    before, letter, after = text[:place], text[place], text[place + 1 :]
    if kind == "char_swap":
        return before + after[0] + letter + after[1:]
    if kind == "char_insert":
        return before + str(rng.choice(list(string.ascii_lowercase))) + letter + after
    if kind == "char_delete":
        return before + after
    return before + letter.swapcase() + after
