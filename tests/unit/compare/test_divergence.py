"""Where two texts part: by id, with a length mismatch as a divergence; against a plain loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tremor.compare.divergence import first_divergence

IDS = st.lists(st.integers(0, 2), min_size=1, max_size=6)


@settings(deadline=None)
@given(IDS, IDS)
def test_against_a_loop(a: list[int], b: list[int]) -> None:
    found = first_divergence(np.array(a), np.array(b))
    for i in range(max(len(a), len(b))):
        here = (a[i] if i < len(a) else None, b[i] if i < len(b) else None)
        if here[0] != here[1]:
            assert (found.index, found.token_a, found.token_b) == (i, *here)
            assert found.kind == ("length" if None in here else "token")
            assert found.diverged
            assert found.common_rows == (i if None in here else i + 1)
            assert found.decisive == (None if None in here else i)
            return
    assert (found.index, found.kind, found.diverged, found.decisive) == (None, "none", False, None)
    assert found.common_rows == len(a)


def test_a_run_that_ends_early_has_diverged() -> None:
    """The original called a prefix "no divergence"."""
    found = first_divergence(np.array([3, 4]), np.array([3, 4, 5]))
    assert (found.kind, found.index, found.token_a, found.token_b) == ("length", 2, None, 5)
    assert found.common_rows == 2


def test_ids_decide_and_not_their_texts() -> None:
    """Two ids of the same text are two tokens; the original compared texts."""
    assert first_divergence(np.array([17]), np.array([18])).index == 0


def test_refusals() -> None:
    with pytest.raises(ValueError, match="without tokens"):
        first_divergence(np.zeros(0, np.int64), np.array([1]))
    with pytest.raises(ValueError, match="integers"):
        first_divergence(np.array([1.0]), np.array([1]))
