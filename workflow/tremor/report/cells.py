"""Tables as the page holds them: each cell short for the eye and in full, each column with the order of its values."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.store.tables import float_text, read_csv

DIGITS = 4
_PLAIN = 1e4  # beyond it a number is shown with an exponent, which nobody takes for exact
_NUMERALS = re.compile(r"(\d+)")


def short(value: float, full: str) -> str:
    """A number to a few significant digits, but never so few that it reads as a whole number which it is not.

    Args:
        value: The number.
        full: All its digits.

    Returns:
        The text: ``0.99996`` stays, 0.123456 becomes ``0.1235``; NaN and infinities are as in the file.
    """
    if not np.isfinite(value) or value == 0:
        return full
    for digits in range(DIGITS, 18):
        text = f"{value:.{digits}g}"
        if not np.isfinite(float(text)):  # rounded up beyond the largest number there is
            continue
        if abs(value) >= _PLAIN or value.is_integer() or not float(text).is_integer():
            return text if len(text) < len(full) else full
    return full


def ranks(values: npt.NDArray[Any], known: npt.NDArray[np.bool_]) -> list[int]:
    """Place of each value among the distinct ones, -1 where there is none to compare."""
    found = np.full(len(values), -1)
    if known.any():
        found[known] = np.unique(values[known], return_inverse=True)[1]
    return [int(rank) for rank in found]


def column(name: str, values: "pd.Series[Any]") -> dict[str, Any]:
    """One column: ``full`` texts (None: missing), ``shown`` ones where they differ, ``rank`` for sorting, ``kind``.

    Args:
        name: Its name.
        values: Its values, of any type that a summary has.
    """
    found: dict[str, Any] = {"name": name, "kind": "number"}
    missing = values.isna().to_numpy(dtype=bool)
    if values.dtype.kind == "f":
        array = values.to_numpy()
        found["full"] = [float_text(value) for value in array]
        found["shown"] = [short(float(value), text) for value, text in zip(array, found["full"], strict=True)]
        found["rank"] = ranks(array, ~missing)
    elif values.dtype.kind in "iu":
        found["full"] = [None if gone else str(value) for value, gone in zip(values, missing, strict=True)]
        present = values[~missing].to_numpy(dtype="uint64" if values.dtype.kind == "u" else "int64")
        array = np.zeros(len(values), dtype=present.dtype)
        array[~missing] = present
        found["rank"] = ranks(array, ~missing)
    else:
        texts = [None if gone else str(value) for value, gone in zip(values, missing, strict=True)]
        order = {text: place for place, text in enumerate(sorted({t for t in texts if t is not None}, key=_natural))}
        found |= {"kind": "text", "full": texts, "rank": [-1 if text is None else order[text] for text in texts]}
    if found.get("shown") == found["full"]:
        del found["shown"]
    return found


def _natural(text: str) -> list[tuple[int, str]]:
    """block.10 after block.9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMERALS.split(text) if part]


def table(path: Path) -> list[dict[str, Any]]:
    """The columns of a summary.

    Args:
        path: The CSV file.

    Raises:
        ArtifactError: it is missing or was changed.
    """
    frame = read_csv(path)
    return [column(str(name), frame[name]) for name in frame.columns]
