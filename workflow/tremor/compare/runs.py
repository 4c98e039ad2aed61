"""Two recordings of one question, compared row by row."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from tremor import floats
from tremor.compare.bits import Differences, compare_rows
from tremor.compare.divergence import Divergence, first_divergence
from tremor.compare.logits import compare_tops
from tremor.compare.recording import Recording, require_comparable
from tremor.store.arrays import Array

_BLOCK_BYTES = 1 << 23  # states of one run that are in memory together


def compare_runs(a: Recording, b: Recording, tap: str = "final") -> tuple[Divergence, pd.DataFrame]:
    """Compare all steps that both runs have.

    Args:
        a: Recording of the first platform.
        b: Of the second.
        tap: The states to compare.

    Returns:
        Where they part, and a table with one row for each step. Its ``context`` is ``common`` up to the decisive row:
        there both runs had the same tokens before them. ``after`` it they continue two different texts, and what
        differs there is no rounding.

    Raises:
        ArtifactError: the recordings are not comparable, or do not hold the tap.
    """
    require_comparable(a, b)
    found = first_divergence(a.ids, b.ids)
    parts = [_block(a, b, tap, start, stop) for start, stop in _blocks(a, b, tap)]
    table = pd.concat(parts, ignore_index=True)
    table.insert(1, "context", np.where(table["row"] < found.common_rows, "common", "after"))
    table.insert(0, "question", a.question)
    return found, table


def first_row_differing(table: pd.DataFrame) -> int | None:
    """The first row of common context in which a bit of the states differs; None if none does."""
    rows = table.loc[(table["context"] == "common") & ~table["equal_bits"], "row"]
    return int(rows.iloc[0]) if len(rows) else None


def _blocks(a: Recording, b: Recording, tap: str) -> Iterator[tuple[int, int]]:
    rows = min(len(a), len(b))
    step = max(1, _BLOCK_BYTES // (8 * max(a.width(tap), 1)))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def _block(a: Recording, b: Recording, tap: str, start: int, stop: int) -> pd.DataFrame:
    states: Differences = compare_rows(a.states(tap, start, stop), b.states(tap, start, stop))
    tops = compare_tops(
        *(run.column(name, start, stop) for run in (a, b) for name in ("top_ids", "top_logits", "top_probs"))
    )
    choices = {
        f"{name}_{side}": value for side, run in (("a", a), ("b", b)) for name, value in _choices(run, start, stop)
    }
    return pd.DataFrame(
        {
            "row": np.arange(start, stop),
            "token_a": a.ids[start:stop],
            "token_b": b.ids[start:stop],
            "same_token": a.ids[start:stop] == b.ids[start:stop],
            **states.columns(),
            **tops.columns(),
            "logsumexp_diff": b.column("logsumexp", start, stop) - a.column("logsumexp", start, stop),
            **choices,
        }
    )


def _choices(run: Recording, start: int, stop: int) -> Iterator[tuple[str, Array]]:
    """How clear each choice was, see `tremor.compare.logits.Decision`."""
    margin = run.column("margin", start, stop).astype(np.float64)
    ties = run.column("ties", start, stop)
    spacing = floats.ulp(run.column("top_logits", start, stop)[:, 0], run.dtype)
    yield "margin", margin
    yield "margin_ulps", margin / spacing
    yield "ties", ties
    yield "tied", (ties > 1) | (margin == 0)
