"""Where two generated texts part, by token id.

The row that decides token d is row d: both runs still have the same context there. A run that ends before the other
has parted from it too.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Divergence:
    """Where two sequences of generated ids part.

    Attributes:
        index: Number of the first token that differs, from 0; None if none does.
        kind: ``token``: two ids at `index`. ``length``: one run has no token there. ``none``: the same ids.
        length_a: Tokens of the first run.
        length_b: Tokens of the second.
        token_a: Id of the first run at `index`; None where it has none.
        token_b: The same of the second.
    """

    index: int | None
    kind: Literal["token", "length", "none"]
    length_a: int
    length_b: int
    token_a: int | None
    token_b: int | None

    @property
    def diverged(self) -> bool:
        """Whether they part."""
        return self.kind != "none"

    @property
    def decisive(self) -> int | None:
        """The row that decided two different tokens; None where both runs have no such row."""
        return self.index if self.kind == "token" else None

    @property
    def common_rows(self) -> int:
        """Rows 0 ... common_rows - 1 exist in both runs and have the same context in both."""
        if self.index is None:
            return self.length_a
        return self.index + 1 if self.kind == "token" else self.index


def first_divergence(ids_a: Array, ids_b: Array) -> Divergence:
    """Find the first token in which two runs differ.

    Args:
        ids_a: [n_a] generated ids, at least one.
        ids_b: [n_b].

    Raises:
        ValueError: a run without tokens, or ids that are no integers.
    """
    first, second = np.asarray(ids_a), np.asarray(ids_b)
    for ids in (first, second):
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ValueError(f"generated ids are a vector of integers, not {ids.dtype} {ids.shape}")
        if not len(ids):
            raise ValueError("a run without tokens cannot be compared")
    common = min(len(first), len(second))
    different = np.flatnonzero(first[:common] != second[:common])
    lengths = {"length_a": len(first), "length_b": len(second)}
    if len(different):
        d = int(different[0])
        return Divergence(index=d, kind="token", token_a=int(first[d]), token_b=int(second[d]), **lengths)
    if len(first) == len(second):
        return Divergence(index=None, kind="none", token_a=None, token_b=None, **lengths)
    return Divergence(
        index=common,
        kind="length",
        token_a=int(first[common]) if common < len(first) else None,
        token_b=int(second[common]) if common < len(second) else None,
        **lengths,
    )
