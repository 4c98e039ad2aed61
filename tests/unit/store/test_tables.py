"""CSV and Parquet tables: exact floats, types, checksums."""

import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tremor.errors import ArtifactError
from tremor.store import atomic
from tremor.store.tables import (
    float_text,
    read_csv,
    read_parquet,
    sidecar,
    table_provenance,
    write_csv,
    write_parquet,
)

SMALL = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "theta": np.array([0.1, -0.0, np.nan]),
            "max_s": np.array([1e-7, np.inf, 1e-45], np.float32),
            "evaluations": np.array([1, 2, 2**63 - 1]),
            "certified": [True, False, True],
            "model": ["a,b", 'quo"te', "line\nbreak"],
            "moved": pd.array([1, None, 3], dtype="Int64"),
            "note": ["x", None, "y"],
        }
    )


def test_csv_returns_types_and_bits(tmp_path: Path) -> None:
    before = frame()
    write_csv(tmp_path / "a.csv", before, provenance={"seed": 1})
    after = read_csv(tmp_path / "a.csv")
    assert [str(t) for t in after.dtypes] == ["float64", "float32", "int64", "bool", "str", "Int64", "str"]
    for name in ("theta", "max_s"):
        assert after[name].to_numpy().tobytes() == before[name].to_numpy().tobytes()
    assert after["model"].tolist() == before["model"].tolist()
    assert after["moved"].tolist() == before["moved"].tolist()
    assert after["note"].isna().tolist() == [False, True, False]
    assert table_provenance(tmp_path / "a.csv") == {"seed": 1}
    first = (tmp_path / "a.csv").read_bytes()
    write_csv(tmp_path / "b.csv", after, provenance={"seed": 1})
    assert (tmp_path / "b.csv").read_bytes() == first
    assert first.splitlines()[1] == b'0.1,1e-07,1,True,"a,b",1,x'


@SMALL
@given(values=hnp.arrays(np.uint32, st.integers(0, 8)).map(lambda bits: bits.view(np.float32)), words=st.data())
def test_csv_random(tmp_path: Path, values: np.ndarray, words: st.DataObject) -> None:
    text = words.draw(st.lists(WORDS, min_size=len(values), max_size=len(values)))
    table = pd.DataFrame({"x": values, "y": values.astype(np.float64) / 3, "w": pd.Series(text, dtype="str")})
    write_csv(tmp_path / "a.csv", table, provenance={})
    found = read_csv(tmp_path / "a.csv")
    real = ~np.isnan(values)  # payloads of NaN have no decimal form
    assert found["x"].to_numpy()[real].tobytes() == values[real].tobytes()
    assert np.isnan(found["x"].to_numpy()[~real]).all()
    assert found["y"].to_numpy()[real].tobytes() == table["y"].to_numpy()[real].tobytes()
    assert found["w"].tolist() == text


@given(bits=st.integers(0, 2**32 - 1))
def test_float32_text_is_short_and_exact(bits: int) -> None:
    value = np.uint32(bits).view(np.float32)
    text = float_text(value)
    again = np.float32(float(text))
    assert np.isnan(value) or again.tobytes() == value.tobytes()
    # Sign, nine digits, point and exponent.
    assert len(text) <= 16


def test_csv_edges(tmp_path: Path) -> None:
    for table in (pd.DataFrame({"x": np.zeros(0)}), pd.DataFrame({"w": pd.Series(["", "a"], dtype="str")})):
        write_csv(tmp_path / "a.csv", table, provenance={})
        pd.testing.assert_frame_equal(read_csv(tmp_path / "a.csv"), table)
    write_csv(tmp_path / "a.csv", pd.DataFrame({"w": ["a", None]}), provenance={})
    assert read_csv(tmp_path / "a.csv")["w"].isna().tolist() == [False, True]
    with pytest.raises(ValueError, match="missing and empty texts"):
        write_csv(tmp_path / "a.csv", pd.DataFrame({"w": ["", None]}), provenance={})
    with pytest.raises(ValueError, match="'w' is categorical"):
        write_csv(tmp_path / "a.csv", pd.DataFrame({"w": pd.Categorical(["b", "a"])}), provenance={})
    with pytest.raises(ValueError, match="reset_index"):
        write_csv(tmp_path / "a.csv", pd.DataFrame({"w": [1]}, index=["a"]), provenance={})
    with pytest.raises(TypeError, match=r"column 'z'.*no exact form"):
        write_csv(tmp_path / "a.csv", pd.DataFrame({"z": [1j]}), provenance={})
    with pytest.raises(ValueError, match="distinct"):
        write_csv(tmp_path / "a.csv", pd.DataFrame([[1, 2]], columns=["a", "a"]), provenance={})


def test_edited_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(ArtifactError, match="does not exist"):
        read_csv(path)
    write_csv(path, frame()[["theta", "evaluations"]], provenance={})
    path.write_bytes(path.read_bytes().replace(b"0.1", b"0.2"))
    with pytest.raises(ArtifactError, match=r"a.csv was edited after it was written.*delete it and run"):
        read_csv(path)
    assert read_csv(path, verify=False)["theta"][0] == 0.2
    path.write_bytes(b"theta,other\n1,2\n")
    with pytest.raises(ArtifactError, match="does not fit the columns"):
        read_csv(path, verify=False)
    path.write_bytes(b"theta,evaluations\n1,2\n3\n")
    with pytest.raises(ArtifactError, match="does not fit the columns"):
        read_csv(path, verify=False)
    sidecar(path).write_text("{}")
    with pytest.raises(ArtifactError, match="not written by Tremor"):
        read_csv(path)
    sidecar(path).unlink()
    assert read_csv(path.parent / "a.csv").shape == (2, 2)  # a user's own file: types are inferred
    with pytest.raises(ArtifactError, match="carries no provenance"):
        table_provenance(path)


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_failed_rename_keeps_table_and_sidecar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    path = tmp_path / "a.csv"
    write_csv(path, frame(), provenance={"seed": 1})
    good, beside = path.read_bytes(), sidecar(path).read_bytes()
    real, calls = os.replace, []

    def replace(*args: object) -> None:
        calls.append(1)
        if len(calls) == failing_call:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        real(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", replace)
        with pytest.raises(ArtifactError, match="read-only"):
            write_csv(path, frame().head(1), provenance={"seed": 2})
    assert (path.read_bytes(), sidecar(path).read_bytes()) == (good, beside)
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "a.csv.meta.json"]


def test_parquet_returns(tmp_path: Path) -> None:
    before = frame().assign(rows=[[1.5, 2.0], [], [np.nan]])
    write_parquet(tmp_path / "a.parquet", before, provenance={"seed": 1}, schema_version=3)
    after = read_parquet(tmp_path / "a.parquet", schema_version=3)
    for name in ("theta", "max_s", "evaluations", "certified"):
        assert after[name].dtype == before[name].dtype
        assert after[name].to_numpy().tobytes() == before[name].to_numpy().tobytes()
    assert after["moved"].tolist() == before["moved"].tolist()
    assert [list(row) for row in after["rows"]][:2] == [[1.5, 2.0], []]
    assert table_provenance(tmp_path / "a.parquet") == {"seed": 1}
    write_parquet(tmp_path / "b.parquet", before, provenance={"seed": 1}, schema_version=3)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    with pytest.raises(ArtifactError, match="schema version 3, wanted is 4; delete it"):
        read_parquet(tmp_path / "a.parquet", schema_version=4)


def test_damaged_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    with pytest.raises(ArtifactError, match="does not exist"):
        read_parquet(path)
    write_parquet(path, frame(), provenance={}, schema_version=1)
    good = path.read_bytes()
    path.write_bytes(good[:-20])
    with pytest.raises(ArtifactError, match=r"a.parquet cannot be read, it is truncated"):
        read_parquet(path)
    # An edit that keeps our words in the footer but changes a value.
    table = pq.read_table(path.parent / _put(path, good))
    column = table.column("evaluations").to_pylist()
    changed = table.set_column(2, table.schema.field("evaluations"), [[column[0] + 1, *column[1:]]])
    pq.write_table(changed, path)
    with pytest.raises(ArtifactError, match="was changed after it was written"):
        read_parquet(path)
    pd.DataFrame({"x": [1]}).to_parquet(path)
    with pytest.raises(ArtifactError, match="not written by this version of Tremor"):
        read_parquet(path)
    with pytest.raises(TypeError, match="no type in Parquet"):
        write_parquet(path, pd.DataFrame({"x": [1j, object()]}), provenance={}, schema_version=1)


def _put(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return path.name
