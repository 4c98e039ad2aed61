"""Parts of a result, made by shards, and how they become the whole again (see :mod:`tremor.shards`).

A single job, too, makes one :class:`Part` and hands it on, so there is one way from numbers to files. No torch here:
gathering is no GPU work.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor import platform
from tremor.errors import ArtifactError
from tremor.store.arrays import Array, array_digest
from tremor.store.documents import json_safe
from tremor.store.hdf5 import read_hdf5, write_hdf5
from tremor.store.provenance import collect

_REMEDY = "delete the folder of the shards and run snakemake again"
_WILDCARDS = ("shard", "experiment")  # of a part's rule; everything else of its configuration belongs to the whole
_KINDS = ("items", "common", "own", "tables")


@dataclass(frozen=True)
class Part:
    """What one job found of some of an experiment's items.

    Attributes:
        rows: Which items.
        total: Items of the whole.
        items: Arrays [rows, ...], one row for each item.
        common: Arrays that every part has, bit for bit the same.
        own: Arrays of single items, each with a name that no other part has.
        tables: Tables with any number of rows for each item, in the order of the items.
        facts: Plain values that are the same in every part.
        seeds: Of what was drawn, for the provenance.
        cost: What the job took, by name; no part of the result, since shards share less work than a whole.
    """

    rows: range
    total: int
    items: Mapping[str, Array] = field(default_factory=dict)
    common: Mapping[str, Array] = field(default_factory=dict)
    own: Mapping[str, Array] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.items.items():
            if len(value) != len(self.rows):
                raise ValueError(f"{name!r} has {len(value)} rows for {len(self.rows)} items")


def with_cost(provenance: Mapping[str, Any], part: Part) -> dict[str, Any]:
    """Provenance of a job that tells what the job took, beside its time and memory."""
    return {**provenance, "volatile": {**provenance.get("volatile", {}), **part.cost}}


def write_part(path: Path, part: Part, *, provenance: Mapping[str, Any]) -> None:
    """Write a part to a file that :func:`gather` reads."""
    datasets: dict[str, Any] = {f"items/{name}": value for name, value in part.items.items()}
    datasets |= {f"common/{name}": value for name, value in part.common.items()}
    datasets |= {f"own/{name}": value for name, value in part.own.items()}
    for table, frame in part.tables.items():
        datasets |= {f"tables/{table}/{name}": _column(frame[name]) for name in frame.columns}
    attributes = {
        "rows": [part.rows.start, part.rows.stop],
        "total": part.total,
        "facts": dict(part.facts),
        "cost": dict(part.cost),
        "columns": {table: list(frame.columns) for table, frame in part.tables.items()},
    }
    write_hdf5(path, datasets, attributes={"part": attributes}, provenance=provenance)


@dataclass(frozen=True)
class _Read:
    path: Path
    part: Part
    provenance: dict[str, Any]


def gather(paths: Sequence[Path]) -> tuple[Part, dict[str, Any]]:
    """Put the parts of a whole together.

    Args:
        paths: Files of all parts, in any order.

    Returns:
        The whole, and provenance for what is made of it: that of the shards, which differ in nothing but their times.

    Raises:
        ArtifactError: a part is missing, damaged, or was made by another model, code, configuration or arithmetic; the
            message names it.
    """
    found = sorted((_read(path) for path in paths), key=lambda one: one.part.rows.start)
    if not found:
        raise ArtifactError("there is no shard to gather; run snakemake to make them")
    first = found[0]
    for other in found[1:]:
        _require_same(first, other)
    _require_complete(found)
    parts = [one.part for one in found]
    whole = Part(
        rows=range(first.part.total),
        total=first.part.total,
        items={name: np.concatenate([part.items[name] for part in parts]) for name in first.part.items},
        common=first.part.common,
        own={name: value for part in parts for name, value in part.own.items()},
        tables={name: stacked([part.tables[name] for part in parts]) for name in first.part.tables},
        facts=first.part.facts,
        cost={name: sum(part.cost[name] for part in parts) for name in first.part.cost},
    )
    return whole, _provenance(found)


def _require_complete(found: Sequence[_Read]) -> None:
    """Refuse parts, sorted by their rows, of which one is missing or stands twice."""
    at, total = 0, found[0].part.total
    for one in found:
        if one.part.rows.start < at:
            raise ArtifactError(f"shard {one.path} has items of another shard too; {_REMEDY}")
        if one.part.rows.start > at:
            raise ArtifactError(
                f"no shard has the items {at} to {one.part.rows.start - 1} of {total}, before {one.path}; {_REMEDY}"
            )
        at = one.part.rows.stop
    if at != total:
        raise ArtifactError(f"no shard has the items {at} to {total - 1} of {total}, after {found[-1].path}; {_REMEDY}")


def stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables below each other; empty ones, which know no types, do not count where there are others."""
    full = [table for table in tables if len(table)]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame()


def _column(values: "pd.Series[Any]") -> Array:
    """A column as an array that HDF5 can hold: text as JSON, for the texts of tokens hold any byte."""
    if isinstance(values.dtype, np.dtype) and values.dtype != object:
        plain: Array = values.to_numpy()
        return plain
    return np.array([json.dumps(text) for text in values], dtype=object)


def _values(column: Array) -> Array:
    return np.array([json.loads(text) for text in column], dtype=object) if column.dtype == object else column


def _read(path: Path) -> _Read:
    artifact = read_hdf5(path)
    about = artifact.attributes.get("part")
    if not isinstance(about, dict):
        raise ArtifactError(f"{path} is no shard; delete it and run snakemake again")
    groups: dict[str, dict[str, Array]] = {kind: {} for kind in _KINDS}
    for name in artifact.datasets:
        kind, _, rest = name.partition("/")
        groups[kind][rest] = artifact.array(name)
    tables = {
        table: pd.DataFrame({name: _values(groups["tables"][f"{table}/{name}"]) for name in columns})
        for table, columns in about["columns"].items()
    }
    part = Part(
        rows=range(*about["rows"]),
        total=about["total"],
        items=groups["items"],
        common=groups["common"],
        own=groups["own"],
        tables=tables,
        facts=about["facts"],
        cost=about["cost"],
    )
    return _Read(path, part, artifact.provenance)


def _require_same(first: _Read, other: _Read) -> None:
    """Refuse a part that is of another whole."""
    for name, own, foreign in _differing(first, other):
        raise ArtifactError(
            f"shard {other.path} is of another run than {first.path}: {name} is {foreign} there and {own} here; "
            f"{_REMEDY}"
        )
    # Nodes of a cluster may differ in what never changes a bit, such as the driver; not in what may.
    platform.require_same(other.provenance.get("platform", {}), first.provenance.get("platform", {}), path=other.path)


def _differing(first: _Read, other: _Read) -> Iterator[tuple[str, str, str]]:
    """What two parts should agree in and do not: its name, and both values."""
    a, b = _stable(first.provenance), _stable(other.provenance)
    pairs: dict[str, tuple[Any, Any]] = {f"provenance {name!r}": (a.get(name), b.get(name)) for name in {**a, **b}}
    facts = (dict(first.part.facts), dict(other.part.facts))
    pairs |= {f"{name!r}": tuple(side.get(name) for side in facts) for name in {**facts[0], **facts[1]}}  # type: ignore[misc]
    pairs["the number of items"] = first.part.total, other.part.total
    pairs["the list of arrays"] = sorted(first.part.items), sorted(other.part.items)
    digests = [{name: array_digest(v)[:12] for name, v in one.part.common.items()} for one in (first, other)]
    pairs |= {f"array {name!r}": tuple(d.get(name) for d in digests) for name in {**digests[0], **digests[1]}}  # type: ignore[misc]
    for name, (own, foreign) in pairs.items():
        if own != foreign:
            yield name, repr(own), repr(foreign)


def _stable(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What the provenances of all parts of a whole have in common."""
    kept = {name: value for name, value in provenance.items() if name not in ("volatile", "platform")}
    config = dict(kept.get("config", {}))
    config["wildcards"] = {k: v for k, v in config.get("wildcards", {}).items() if k not in _WILDCARDS}
    return {**kept, "config": config}


def _provenance(found: Sequence[_Read]) -> dict[str, Any]:
    """Provenance of the whole: what its shards were made from, and what they took."""
    own = _stable(found[0].provenance)
    made = collect(
        config=own["config"],
        code=own.get("code", ""),
        inputs=own.get("inputs", {}),
        seeds=own.get("seeds"),
        platform=found[0].provenance.get("platform", {}),
        model=own.get("model", {}),
    )
    taken = [one.provenance.get("volatile", {}).get("wall_time_s") for one in found]
    made["volatile"] |= {"shards": len(found), "shard_wall_time_s": json_safe(taken)}
    return made
