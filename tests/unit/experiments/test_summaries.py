"""Summaries whose parts are tables: names before the rows, columns of the interface only, one clear refusal."""

import pandas as pd
import pytest

from tremor.errors import ArtifactError
from tremor.experiments import summaries
from tremor.store.documents import write_json
from tremor.store.tables import read_csv, write_csv

PROVENANCE = {"config": {}, "code": "test", "inputs": {}}


@pytest.fixture
def parts(tmp_path, monkeypatch):
    monkeypatch.setattr(summaries, "COLUMNS", {"toy": ("layer", "gain", "note")})
    paths = []
    for name, gains in (("a", [1.5, 2.5]), ("b", [3.5])):
        path = tmp_path / f"{name}.csv"
        frame = pd.DataFrame({"layer": range(len(gains)), "gain": gains, "note": None, "extra": 1})
        write_csv(path, frame.astype({"note": "float64"}), provenance={"code": "test"})
        paths.append(path)
    return paths


def test_rows_of_all_parts_follow_each_other_under_their_names(parts, tmp_path):
    output = tmp_path / "summary.csv"
    summaries.stack("toy", parts, [{"model": "a"}, {"model": "b"}], output=output, provenance=PROVENANCE)
    table = read_csv(output)
    assert list(table.columns) == ["model", "layer", "gain", "note"]
    assert list(table["model"]) == ["a", "a", "b"]
    assert list(table["layer"]) == [0, 1, 0]
    assert list(table["gain"]) == [1.5, 2.5, 3.5]
    assert table["note"].isna().all()


def test_a_part_without_a_column_is_named(parts, tmp_path):
    frame = pd.DataFrame({"layer": [0]})
    write_csv(parts[1], frame, provenance={"code": "test"})
    with pytest.raises(ArtifactError, match=r"b\.csv has no column 'gain'"):
        summaries.stack("toy", parts, [{}, {}], output=tmp_path / "summary.csv", provenance=PROVENANCE)
    assert not (tmp_path / "summary.csv").exists()


def test_integers_stay_integers_beside_a_missing_one(tmp_path, monkeypatch):
    """The number of a vector or a step is no 87.0, whether or not another row has one."""
    monkeypatch.setattr(summaries, "COLUMNS", {"toy": ("place", "count", "size", "nothing")})
    documents = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, place, size in zip(documents, (87, None), (1, 2.5), strict=True):
        write_json(path, {"place": place, "count": 3, "size": size, "nothing": None}, provenance={})
    output = tmp_path / "summary.csv"
    summaries.gather("toy", documents, [{"model": "a"}, {"model": "b"}], output=output, provenance=PROVENANCE)
    assert output.read_text().splitlines() == ["model,place,count,size,nothing", "a,87,3,1.0,nan", "b,,3,2.5,nan"]
    assert str(read_csv(output)["place"].dtype) == "Int64"
    tables = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path in tables:
        frame = pd.DataFrame({"place": pd.array([None], dtype="Int64"), "count": [3], "size": [1.0], "nothing": [1.0]})
        write_csv(path, frame, provenance={})
    summaries.stack("toy", tables, [{"model": "a"}, {"model": "b"}], output=output, provenance=PROVENANCE)
    assert output.read_text().splitlines()[1] == "a,,3,1.0,1.0"
