"""Two recordings row by row, and the coordinates that differ at one of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthetic import Pretended, Side, stored, write_pair
from tremor import floats
from tremor.compare import runs
from tremor.compare.dimensions import changed_dimensions, difference_statistics
from tremor.compare.recording import open_recording
from tremor.compare.runs import compare_runs, first_row_differing

MODEL = Pretended()


def compared(folder: Path, a: Side, b: Side) -> Any:
    (path_a,), (path_b,) = write_pair(folder, MODEL, a, b)
    with open_recording(path_a) as one, open_recording(path_b) as other:
        return compare_runs(one, other)


def test_drift_then_divergence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_BLOCK_BYTES", 8 * MODEL.width * 5)  # blocks of five rows
    found, table = compared(tmp_path, Side(), Side(drift_from=3, turn_at=7))
    assert (found.kind, found.index) == ("token", 7)
    assert table["row"].tolist() == list(range(12))
    assert table["context"].tolist() == ["common"] * 8 + ["after"] * 4
    assert table["equal_bits"].tolist()[:8] == [True] * 3 + [False] * 5
    assert first_row_differing(table) == 3
    # One coordinate, one step: that is how the second platform was made.
    assert table.loc[3:6, "n_changed_bits"].tolist() == [1] * 4
    assert table.loc[3:6, "ulp_max"].tolist() == [1.0] * 4
    assert (table.loc[:2, ["l2", "logit_max_abs", "kl_at_least", "logsumexp_diff"]] == 0).all(axis=None)
    # After the divergence the contexts differ: another order of magnitude, kept apart.
    assert table.loc[8:, "relative_l2"].min() > 0.1 > table.loc[:6, "relative_l2"].max()
    assert (table["margin_a"] >= 0).all()
    assert table["tied_a"].eq(table["ties_a"] > 1).all()


def test_identical_platforms_give_zeros(tmp_path: Path) -> None:
    found, table = compared(tmp_path, Side(), Side())
    assert not found.diverged
    assert table["equal_bits"].all()
    assert table["same_token"].all()
    zeros = ["n_changed_bits", "n_flipped_bits", "max_abs", "l1", "l2", "relative_l2", "cosine_distance", "ulp_max",
             "logit_max_abs", "logit_l1", "logit_l2", "probability_l1", "kl_at_least", "logsumexp_diff"]  # fmt: skip
    assert (table[zeros] == 0).all(axis=None)
    assert first_row_differing(table) is None


def test_a_run_that_stops_early(tmp_path: Path) -> None:
    found, table = compared(tmp_path, Side(length=12), Side(length=5))
    assert (found.kind, found.index, found.common_rows, len(table)) == ("length", 5, 5, 5)
    assert (table["context"] == "common").all()


def test_one_token(tmp_path: Path) -> None:
    found, table = compared(tmp_path, Side(length=1), Side(length=1, turn_at=0))
    assert (found.index, len(table)) == (0, 1)


def test_two_types_are_compared_exactly(tmp_path: Path) -> None:
    _, table = compared(tmp_path, Side(), Side(dtype="bfloat16"))
    state = MODEL.state([5, 6, 7, 1], "float32")
    assert table["max_abs"][0] == np.abs(state - floats.round_to(state, "bfloat16").astype(np.float64)).max()


def test_changed_dimensions_by_hand() -> None:
    a = np.array([1.0, 1.0, 1.0, 1.0], np.float32)
    b = np.array([1.0, 1.0 + 2.0**-23, 1.0 + 2.0**-20, 1.5], np.float32)
    table = changed_dimensions(a, b, [0.5, 0.4, 1e-6, 5e-7], [1, 2, 8, 9])
    counts = table.set_index(["measure", "threshold"])["changed"].to_dict()
    assert counts == {
        ("bits", 1.0): 3,
        ("absolute", 0.5): 0,  # above, not at
        ("absolute", 0.4): 1,
        ("absolute", 1e-6): 1,
        ("absolute", 5e-7): 2,
        ("ulps", 1.0): 3,
        ("ulps", 2.0): 2,
        ("ulps", 8.0): 2,  # at least
        ("ulps", 9.0): 1,
    }
    assert table["percent"].max() == 75.0


def test_nan_differs_at_every_threshold() -> None:
    a, b = np.array([1.0, np.nan], np.float32), np.array([1.0, 2.0], np.float32)
    assert changed_dimensions(a, b, [1e9], [10**9])["changed"].tolist() == [1, 1, 1]
    assert changed_dimensions(a, a, [1e9], [1])["changed"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_steps_are_those_of_the_type(dtype: str) -> None:
    a = np.array([1.0, 2.0], np.float32)
    b = floats.next_up(floats.next_up(a, dtype), dtype)
    found = difference_statistics(stored(a, dtype), stored(b, dtype))
    assert (found["lattice"], found["ulp_max"], found["n_changed_bits"]) == (dtype, 2, 2)
    assert changed_dimensions(stored(a, dtype), stored(b, dtype), [1.0], [2, 3])["changed"].tolist() == [2, 0, 2, 0]
    assert found["absolute"]["max"] == float(b[1] - a[1])
    assert found["norm_a"] == pytest.approx(5**0.5, rel=1e-15)
