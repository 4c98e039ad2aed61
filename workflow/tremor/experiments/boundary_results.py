"""exp12 and exp13: files and statistics of boundaries that were found, by one job or by several. No torch here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tremor.statistics.boundary import angle_statistics, vector_statistics
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.shards import Part
from tremor.store.tables import write_csv

# The columns of boundary.csv after the ones that name the ray: a stable interface, documented in docs/exp12.md.
COLUMNS = (
    "max_s", "min_t", "first_breakpoint", "moved_coordinates", "realised_l2", "evaluations", "certified",
)  # fmt: skip


def write_angles(whole: Part, *, data: Path, table: Path, statistics: Path, provenance: Mapping[str, Any]) -> None:
    """exp12: write what was found along all rays.

    Args:
        whole: All rays, with ``theta`` and the fields of ``probe.boundary.Boundaries``.
        data: HDF5 file to write.
        table: CSV file to write.
        statistics: JSON file to write.
        provenance: Of the job, or of the shards.
    """
    found = angle_statistics(whole.items["theta"], whole.items)
    _write(whole, ("theta",), found, data=data, table=table, statistics=statistics, provenance=provenance)


def write_vectors(whole: Part, *, data: Path, table: Path, statistics: Path, provenance: Mapping[str, Any]) -> None:
    """exp13: the same for rays with ``kind``, ``vector``, ``sign`` and ``sigma``; args as of :func:`write_angles`."""
    found = vector_statistics(whole.items)
    names = ("kind", "vector", "sign", "sigma")
    _write(whole, names, found, data=data, table=table, statistics=statistics, provenance=provenance)


def _write(
    whole: Part,
    names: tuple[str, ...],
    found: Mapping[str, Any],
    *,
    data: Path,
    table: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    write_hdf5(data, {**whole.items, **whole.common}, attributes=whole.facts, provenance=provenance)
    frame = pd.DataFrame({name: whole.items[name] for name in (*names, *COLUMNS)})
    write_csv(table, frame, provenance=provenance)
    write_json(statistics, {**found, **whole.facts}, provenance=provenance)


WRITERS: dict[str, Callable[..., None]] = {"exp12": write_angles, "exp13": write_vectors}
