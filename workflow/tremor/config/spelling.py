"""Suggestions for a misspelt name."""

import difflib
from collections.abc import Iterable


def suggestion(word: object, known: Iterable[str]) -> str:
    """Say which known name was probably meant.

    Args:
        word: what was written.
        known: the names that exist.

    Returns:
        "; did you mean 'x'?", or nothing where no name is close or the word is not text.
    """
    names = list(known)
    if not isinstance(word, str) or word in names:
        return ""
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return f"; did you mean {lower[close[0]]!r}?" if close else ""


def listing(names: Iterable[str]) -> str:
    """Join names for a sentence.

    Args:
        names: the names.

    Returns:
        "a, b or c", or "(none)".
    """
    words = list(names)
    if not words:
        return "(none)"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
