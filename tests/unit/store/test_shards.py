"""Parts become the whole again, bit for bit; a part that is missing or foreign is refused by its name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tremor.errors import ArtifactError
from tremor.shards import split
from tremor.store.arrays import array_digest
from tremor.store.hdf5 import write_hdf5
from tremor.store.shards import Part, gather, stacked, with_cost, write_part

TOTAL = 7
APPLIED = {"device": "cpu", "threads": 1, "dtype": "float32", "torch": "2", "cuda_driver": "1"}
ORIGIN: dict[str, Any] = {
    "schema": 1,
    "config": {"settings": {"angles": 7}, "wildcards": {"model": "m", "experiment": "exp12", "shard": "1-of-3"}},
    "code": "c0de",
    "inputs": {"spectrum.h5": "0" * 64},
    "seeds": {"random_directions": 0},
    "platform": {"requested": {}, "applied": APPLIED},
    "model": {"alias": "m", "weights_digest": "w"},
    "volatile": {"wall_time_s": 1.5},
}
# Tokens may hold any byte, also those that HDF5 text cannot.
TEXTS = ["\0", "é", "", '"', "\ufffd", "a\nb", " x"]


def whole() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    hidden = generator.standard_normal((TOTAL, 3)).astype(np.float32)
    hidden[2, 1], hidden[3, 0] = np.nan, -0.0
    return {
        "items": {"hidden": hidden, "kind": np.array(list("abcdefg")), "index": np.arange(TOTAL)},
        "common": {"x0": np.arange(4, dtype=np.float16), "empty": np.zeros((0, 3))},
    }


def part(rows: range, **changes: Any) -> Part:
    found = whole()
    values: dict[str, Any] = {
        "items": {name: value[rows.start : rows.stop] for name, value in found["items"].items()},
        "common": found["common"],
        "own": {f"p{row}/ids": np.arange(row) for row in rows},
        "tables": {
            "all": pd.DataFrame({"text": [TEXTS[r] for r in rows], "n": list(rows), "x": [r / 3 for r in rows]}),
            # Only some items have rows here, so that a part may have none.
            "some": stacked([pd.DataFrame({"n": [r, -r], "even": [True, False]}) for r in rows if r == 5]),
        },
        "facts": {"s_max": 1e-6, "mode": "batched", "plane": [1, 2], "gate": {"relative_error": None}},
        "cost": {"model_rows": 10 + rows.start},
    }
    return Part(rows, TOTAL, **{**values, **changes})


def write(folder: Path, count: int = 3, change: Callable[[int], dict[str, Any]] = lambda k: {}) -> list[Path]:
    """Shards in a folder; ``change`` gives what is different about the k-th: fields of it, or ``origin``."""
    paths = []
    for k, rows in enumerate(split(TOTAL, count), start=1):
        changes = change(k)
        wildcards = {**ORIGIN["config"]["wildcards"], "shard": f"{k}-of-{count}"}
        origin = {**ORIGIN, "config": {**ORIGIN["config"], "wildcards": wildcards}, **changes.pop("origin", {})}
        paths.append(folder / f"{k}-of-{count}.h5")
        write_part(paths[-1], part(changes.pop("rows", rows), **changes), provenance=origin)
    return paths


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_whole_comes_back_bit_for_bit(tmp_path: Path, count: int) -> None:
    paths = write(tmp_path, count)
    found, origin = gather(paths[::-1])  # in any order
    expected = part(range(TOTAL))
    assert (found.rows, found.total, found.facts) == (range(TOTAL), TOTAL, expected.facts)
    for group in ("items", "common", "own"):
        ours, theirs = getattr(found, group), getattr(expected, group)
        assert {name: array_digest(v) for name, v in ours.items()} == {n: array_digest(v) for n, v in theirs.items()}
    for name, table in expected.tables.items():
        pd.testing.assert_frame_equal(found.tables[name], table, check_exact=True)
    assert found.cost == {"model_rows": sum(10 + rows.start for rows in split(TOTAL, count))}
    # Made from what its shards were made from; which of them did what is no part of that.
    assert origin["config"] == {"settings": {"angles": 7}, "wildcards": {"model": "m"}}
    for name in ("code", "inputs", "seeds", "platform", "model"):
        assert origin[name] == ORIGIN[name]
    assert origin["volatile"]["shard_wall_time_s"] == [1.5] * count
    assert with_cost(origin, found)["volatile"]["model_rows"] == found.cost["model_rows"]


def other_platform(**changes: Any) -> dict[str, Any]:
    return {"origin": {"platform": {"requested": {}, "applied": {**APPLIED, **changes}}}}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"origin": {"model": {"alias": "m", "weights_digest": "other"}}}, "'model'"),
        ({"origin": {"code": "other"}}, "'code'"),
        ({"origin": {"inputs": {"spectrum.h5": "1" * 64}}}, "'inputs'"),
        ({"origin": {"seeds": {"random_directions": 1}}}, "'seeds'"),
        ({"origin": {"config": {"settings": {"angles": 8}, "wildcards": {"model": "m"}}}}, "'config'"),
        (other_platform(threads=2), "threads 2 there, 1 here"),
        (other_platform(torch="3"), "torch '3' there, '2' here"),
        ({"facts": {"s_max": 1e-6, "mode": "reference"}}, "'mode'"),
        ({"facts": {}}, "'s_max'"),
        ({"common": {"x0": np.array([0, 1, 2, -0.0], dtype=np.float16), "empty": np.zeros((0, 3))}}, "'x0'"),
        ({"items": {}}, "list of arrays"),
    ],
)
def test_a_foreign_shard_is_refused_by_name(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    paths = write(tmp_path, change=lambda k: dict(change) if k == 2 else {})
    with pytest.raises(ArtifactError, match=named) as caught:
        gather(paths)
    assert "2-of-3.h5" in str(caught.value)


def test_what_changes_no_bit_may_differ_between_nodes(tmp_path: Path) -> None:
    found, _ = gather(write(tmp_path, change=lambda k: other_platform(cuda_driver=str(k))))
    assert found.total == TOTAL


def test_missing_doubled_and_damaged_shards_are_named(tmp_path: Path) -> None:
    paths = write(tmp_path)
    for left_out, said in ((0, "items 0 to 1 of 7, before .*2-of-3"), (1, "2 to 3 of 7"), (2, "4 to 6 .*after .*2-of")):
        with pytest.raises(ArtifactError, match=said):
            gather([path for k, path in enumerate(paths) if k != left_out])
    with pytest.raises(ArtifactError, match=r"2-of-3\.h5 has items of another shard too"):
        gather([*paths, paths[1]])
    with pytest.raises(ArtifactError, match="no shard to gather"):
        gather([])
    with pytest.raises(ArtifactError, match=r"absent\.h5 does not exist"):
        gather([*paths, tmp_path / "absent.h5"])
    other = write(tmp_path / "others", 2)
    with pytest.raises(ArtifactError, match="has items of another shard too"):
        gather([paths[0], *other])
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"2-of-3\.h5 is truncated"):
        gather(paths)
    write_hdf5(tmp_path / "plain.h5", {"a": np.zeros(1)}, attributes={}, provenance={})
    with pytest.raises(ArtifactError, match=r"plain\.h5 is no shard"):
        gather([tmp_path / "plain.h5"])


def test_a_part_has_one_row_for_each_item() -> None:
    with pytest.raises(ValueError, match="'hidden' has 3 rows for 2 items"):
        Part(range(2), 7, items={"hidden": np.zeros((3, 1))})
