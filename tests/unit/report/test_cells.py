"""Short texts never lie, places of values are those of an exact sort."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tremor.errors import ArtifactError
from tremor.report import cells
from tremor.store.tables import write_csv

FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(FLOATS)
@example(0.99996)
@example(9999.99)
@example(-0.0)
@example(5e-324)
def test_a_short_number_is_near_and_whole_only_if_the_number_is(value):
    shown = cells.short(value, repr(value))
    # Four significant digits are within half of the fourth: a relative 5e-4, and nothing else is ever cut.
    assert float(shown) == pytest.approx(value, rel=5e-4, abs=0)
    assert len(shown) <= len(repr(value))
    if abs(value) < 1e4 and float(shown).is_integer():
        assert value.is_integer()
        assert float(shown) == value


def test_the_share_of_nearly_all_is_not_all():
    assert cells.short(0.99996, "0.99996") == "0.99996"
    assert cells.short(0.999999123456, "0.999999123456") == "0.999999"
    assert cells.short(1 / 3, repr(1 / 3)) == "0.3333"
    assert [cells.short(v, str(v)) for v in (math.nan, math.inf, 0.0)] == ["nan", "inf", "0.0"]


@given(st.lists(st.floats(width=32), max_size=30))
def test_ranks_of_floats_are_those_of_a_sort_with_nan_outside(values):
    column = cells.column("x", pd.Series(values, dtype="float32"))
    known = sorted({v for v in values if not math.isnan(v)})
    assert column["rank"] == [-1 if math.isnan(v) else known.index(v) for v in values]
    assert [np.float32(text) for text in column["full"]] == pytest.approx(values, rel=0, abs=0, nan_ok=True)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_integers_keep_all_digits_and_their_order(values):
    column = cells.column("x", pd.Series(values, dtype="uint64"))
    assert column["full"] == [str(v) for v in values]
    assert column["rank"] == [sorted(set(values)).index(v) for v in values]
    assert "shown" not in column


def test_missing_values_are_no_text_and_have_no_place():
    number = cells.column("n", pd.Series([2, None, 2**60], dtype="Int64"))
    assert (number["full"], number["rank"]) == (["2", None, str(2**60)], [0, -1, 1])
    text = cells.column("t", pd.Series(["b10", None, "b9"], dtype="str"))
    assert (text["full"], text["rank"], text["kind"]) == (["b10", None, "b9"], [1, -1, 0], "text")
    flags = cells.column("f", pd.Series([True, False]))
    assert flags["full"] == ["True", "False"]


def test_an_edited_table_is_refused(tmp_path: Path):
    path = tmp_path / "summary.csv"
    write_csv(path, pd.DataFrame({"x": [1.5]}), provenance={})
    path.write_text("x\n2.5\n")
    with pytest.raises(ArtifactError, match="edited"):
        cells.table(path)
