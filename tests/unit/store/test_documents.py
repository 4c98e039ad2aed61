"""JSON documents."""

import dataclasses
import enum
import math
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tremor.errors import ArtifactError
from tremor.store.documents import json_safe, read_json, write_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=JSON)
def test_documents_return(tmp_path: Path, document: object) -> None:
    write_json(tmp_path / "a.json", document)
    assert read_json(tmp_path / "a.json") == document


def test_conversions() -> None:
    @dataclasses.dataclass
    class Point:
        x: np.float32

    class Mode(enum.Enum):
        A = "a"

    value = {
        "f32": np.float32(0.1),
        "i": np.int16(-3),
        "b": np.bool_(True),
        "a": np.array([[1.5, np.nan]]),
        "inf": math.inf,
        "path": PurePosixPath("a/b"),
        "set": {2, 1},
        "tuple": (1,),
        "point": Point(np.float32(2)),
        "mode": Mode.A,
        3: "key",
        "f16": np.float16("nan"),
    }
    assert json_safe(value) == {
        "f32": float(np.float32(0.1)),
        "i": -3,
        "b": True,
        "a": [[1.5, None]],
        "inf": None,
        "path": "a/b",
        "set": [1, 2],
        "tuple": [1],
        "point": {"x": 2.0},
        "mode": "a",
        "3": "key",
        "f16": None,
    }
    assert type(json_safe(np.float64(1))) is float
    with pytest.raises(TypeError, match="a object cannot be written as JSON"):
        json_safe([object()])
    with pytest.raises(TypeError, match="a tuple cannot be a key"):
        json_safe({(1,): 1})


def test_provenance_goes_inside(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"mean": math.nan}, provenance={"seed": 1})
    assert read_json(tmp_path / "a.json") == {"mean": None, "provenance": {"seed": 1}}
    assert (tmp_path / "a.json").read_text().endswith("}\n")
    with pytest.raises(ValueError, match="without the key 'provenance'"):
        write_json(tmp_path / "a.json", [1], provenance={})


def test_damaged_documents(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none.json does not exist; run snakemake"):
        read_json(tmp_path / "none.json")
    write_json(tmp_path / "a.json", {"a": [1, 2, 3]})
    whole = (tmp_path / "a.json").read_bytes()
    for cut in range(len(whole) - 1):
        (tmp_path / "a.json").write_bytes(whole[:cut])
        with pytest.raises(ArtifactError, match=r"a.json is not a complete JSON document.*delete it and run"):
            read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'"\xff"')
    with pytest.raises(ArtifactError, match="not a complete JSON"):
        read_json(tmp_path / "a.json")


def test_failure_keeps_the_old_document(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError, match="cannot be written"):
        write_json(tmp_path / "a.json", {"a": object()})
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_one_turned_bit_is_found_or_changes_nothing(tmp_path: Path) -> None:
    """Every bit of the file, those of the checksum and of its name too. White space says nothing."""
    path = tmp_path / "a.json"
    document = {"mean": 0.1, "n": 12, "names": ["a", "b"], "none": None}
    write_json(path, document, provenance={"seed": 1})
    whole = path.read_bytes()
    refusals: list[str] = []
    for place in range(8 * len(whole)):
        bad = bytearray(whole)
        bad[place // 8] ^= 1 << place % 8
        path.write_bytes(bad)
        try:
            assert read_json(path) == {**document, "provenance": {"seed": 1}}
        except ArtifactError as error:
            refusals.append(str(error))
    assert all("a.json" in text for text in refusals)
    assert len(refusals) > 0.85 * 8 * len(whole)


def test_documents_of_others_have_no_checksum(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1, "content_md5": "x"}')
    assert read_json(tmp_path / "a.json") == {"a": 1, "content_md5": "x"}
    with pytest.raises(ValueError, match="taken by the checksum"):
        write_json(tmp_path / "b.json", {"content_sha256": "x"})
