"""exp7: the file of maps that were made by one job or by several. No torch here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tremor.statistics.planes import first_appearance
from tremor.store.hdf5 import write_hdf5
from tremor.store.shards import Part

KEY = "input_digest"  # of a part only: which cells of a map have the same input


def write_planes(whole: Part, *, data: Path, provenance: Mapping[str, Any]) -> None:
    """Write the maps of all planes and levels.

    Args:
        whole: The rows of all maps, plane by plane and level by level.
        data: HDF5 file to write.
        provenance: Of the job, or of the shards.
    """
    levels = whole.common["e1"].shape[:2]
    maps = {name: rows.reshape(*levels, -1, *rows.shape[1:]) for name, rows in whole.items.items()}
    keys = maps.pop(KEY)
    distinct = np.empty(keys.shape[:-1], dtype=np.int32)
    for level in np.ndindex(*levels):
        distinct[level] = first_appearance(keys[level].reshape(-1, 2)).reshape(distinct.shape[2:])
    attributes = {**whole.facts, "tokens": sorted({int(token) for token in np.unique(maps["token"])})}
    datasets = {**maps, "distinct_input": distinct, **whole.common}
    write_hdf5(data, datasets, attributes=attributes, provenance=provenance)
