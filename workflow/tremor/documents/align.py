"""Which tokens belong to which word of a document (no torch)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tremor.documents.text import Word
from tremor.errors import ModelError


def words_of_tokens(
    offsets: Sequence[tuple[int, int]], words: Sequence[Word], text: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Assign every token to the word that its last character belongs to.

    A token of spaces only belongs to the word that follows. A word of which no token is left (all its characters end a
    token of its neighbour) shares that token, and so does a word whose token begins in the word before.

    Args:
        offsets: (start, stop) of each token in the text, characters.
        words: The document's words.
        text: The document's text.

    Returns:
        Index of each token's word [tokens] int64, never falling; and for each word [words] whether a token of it also
        covers characters of another word.

    Raises:
        ModelError: the tokenizer's offsets go backwards, so that words cannot be told apart.
    """
    ends = np.array([word.stop for word in words], dtype=np.int64)
    owner = np.empty(len(offsets), dtype=np.int64)
    shared = np.zeros(len(words), dtype=bool)
    for index, (start, stop) in enumerate(offsets):
        # The last character that is no space; for spaces alone, the first character after them.
        inner = text[start:stop].strip(" ")
        final = stop - 1 if inner else stop
        if inner:
            final -= len(text[start:stop]) - len(text[start:stop].rstrip(" "))
        owner[index] = min(int(np.searchsorted(ends, final, side="right")), len(words) - 1)
        if " " in inner:
            begin = start + len(text[start:stop]) - len(text[start:stop].lstrip(" "))
            first = int(np.searchsorted(ends, begin, side="right"))
            shared[first : int(owner[index]) + 1] = True
    if (np.diff(owner) < 0).any():
        raise ModelError("the tokenizer's offsets go backwards; words of a document cannot be told apart with it")
    return owner, shared
