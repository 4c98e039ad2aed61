"""What interactive figures are drawn from has the bits of the artifacts, decoded here without the library."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import pages
from tremor.errors import ArtifactError
from tremor.report import interactive
from tremor.report.arrays import indexed, packed, thinned
from tremor.report.files import Case
from tremor.store.hdf5 import write_hdf5


def decoded(stored: dict[str, Any]) -> np.ndarray:
    if "values" in stored:
        return decoded(stored["values"])[decoded(stored["index"])]
    flat = np.frombuffer(base64.b64decode(stored["data"]), dtype="<" + stored["type"])
    return flat.reshape(stored.get("shape", [-1]))


@given(arrays.arrays(np.float64, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6)))
def test_values_come_back_exactly_also_by_index(values):
    np.testing.assert_array_equal(decoded(packed(values)), values)
    np.testing.assert_array_equal(decoded(indexed(values)), values)


def test_more_distinct_values_than_an_index_can_name_are_stored_as_they_are():
    values = np.arange(2**16 + 1, dtype=np.float64)
    np.testing.assert_array_equal(decoded(indexed(values)), values)


@given(st.integers(1, 3000), st.integers(1, 300))
def test_thinning_takes_every_kth_place_and_no_more_than_fit(length, largest):
    kept = thinned(length, largest)
    assert len(kept) <= largest
    assert kept[0] == 0
    assert len(set(np.diff(kept))) <= 1
    if length <= largest:
        assert len(kept) == length


def maps(tmp_path: Path, cells: tuple[int, int], largest: int) -> dict[str, Any]:
    facts = {"first_token": 11, "second_token": 22, "first_text": " a", "second_text": " b"}
    path = tmp_path / "planes.h5"
    write_hdf5(path, pages.planes(cells), attributes=facts, provenance={})
    return interactive.maps(Case({}, [path]), largest)


def test_maps_are_turned_so_that_e1_points_right(tmp_path):
    data = pages.planes()
    found = maps(tmp_path, pages.CELLS, 201)
    assert [panel["ranks"] for panel in found["panels"]] == [[1, 2], [1, 10]]
    for number, panel in enumerate(found["panels"]):
        np.testing.assert_array_equal(decoded(panel["gap"]), data["gap"][number, 0].T)
        np.testing.assert_array_equal(decoded(panel["x"]), data["e1"][number, 0])
        kinds = decoded(panel["class"])
        assert kinds.shape == pages.CELLS[::-1]
        assert kinds[0, 0] == 3  # another token
        inside = np.where(data["gap"][number, 0] > 0, 0, 1).T
        inside[data["gap"][number, 0].T == 0] = 2
        np.testing.assert_array_equal(kinds.ravel()[1:], inside.ravel()[1:])
        assert panel["every"] == 1


def test_a_large_map_is_thinned_not_averaged_and_says_so(tmp_path):
    data = pages.planes((50, 41))
    panel = maps(tmp_path, (50, 41), 20)["panels"][0]
    assert (panel["every"], panel["cells"]) == (3, [50, 41])
    np.testing.assert_array_equal(decoded(panel["gap"]), data["gap"][0, 0][::3, ::3].T)
    np.testing.assert_array_equal(decoded(panel["y"]), data["e2"][0, 0][::3])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"steps\.parquet is missing beside"):
        interactive.regimes(Case({}, [tmp_path / "crossovers.csv"]), 10)
