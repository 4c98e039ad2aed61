"""exp7 parts 2 and 3 without a model: crops of stored maps, and how random the maps are. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.errors import ConfigError
from tremor.statistics.planes import EQUAL, FIRST, OTHER, SECOND, classes, windowed
from tremor.statistics.spatial import NULLS, STATISTICS, NullTest, against_nulls
from tremor.store.hdf5 import Hdf5Artifact, read_hdf5, write_hdf5
from tremor.store.provenance import collect
from tremor.store.tables import read_csv, write_csv

Array = npt.NDArray[Any]
MAPS = (
    "gap", "gap_float64", "token", "leaders", "realised_1", "realised_2", "off_plane", "moved_coordinates",
    "distinct_input",
)  # fmt: skip
# Columns of maps.csv, and of results/exp7/summary.csv after the names of the row: documented in docs/exp7.md.
SUMMARY = (
    "rank_1", "rank_2", "sigma_1", "sigma_2", "radius", "points", "first_token", "second_token",
    "first_fraction", "second_fraction", "equal_fraction", "other_fraction", "tied_fraction", "distinct_inputs",
    "median_off_plane_over_radius", "median_realised_over_nominal", *STATISTICS,
    *(f"{name}_p_{null}" for name in STATISTICS for null in NULLS), "mode", "dtype", "device",
)  # fmt: skip


def crop(planes: Path, *, settings: Mapping[str, Any], data: Path, provenance: Mapping[str, Any]) -> None:
    """Cut the zoom window out of the finest maps that contain it.

    Args:
        planes: The maps.
        settings: ``zoom_window`` of the config block ``exp7``.
        data: HDF5 file to write, of the layout of the maps with one level.
        provenance: Config, code and input digests.

    Raises:
        ConfigError: no map contains the window, or the one that does has fewer than 2 points in it.
    """
    source = read_hdf5(planes)
    window = settings["zoom_window"]
    reach = max(abs(float(end)) for pair in window for end in pair)
    radii = source.array("radii")
    fitting = np.flatnonzero(radii >= reach * (1 - 1e-6))
    if not fitting.size:
        raise ConfigError(f"exp7.zoom_window reaches to {reach:g}, beyond the widest map ({radii.max():g}); shrink it")
    level = int(fitting[np.argmin(radii[fitting])])
    e1, e2 = source.array("e1")[0, level], source.array("e2")[0, level]
    try:
        cut = windowed({name: source.array(name)[:, [level]] for name in MAPS}, e1, e2, window)
    except ValueError as error:
        raise ConfigError(f"exp7.zoom_window: {error}; widen it, or set exp7.zoom_method: recompute") from error
    count = len(source.array("ranks"))
    axes = {name: np.tile(cut.pop(name), (count, 1, 1)) for name in ("e1", "e2")}
    kept = {name: value for name, value in source.datasets.items() if name not in (*MAPS, "e1", "e2", "radii")}
    datasets = {**kept, **cut, **axes, "radii": radii[[level]]}
    origin = collect(seeds=None, platform=source.provenance["platform"], model=source.provenance["model"], **provenance)
    write_hdf5(data, datasets, attributes=source.attributes, provenance=origin)


def measure(
    planes: Path,
    *,
    settings: Mapping[str, Any],
    table: Path,
    tests: Path,
    provenance: Mapping[str, Any],
) -> None:
    """exp7 part 3: statistics of every map against null models.

    Args:
        planes: The maps.
        settings: ``draws``, ``window`` and ``seed`` of the config block ``exp7``.
        table: CSV file to write: one row for each map.
        tests: CSV file to write: one row for each map, statistic and null model.
        provenance: Config, code and input digests.
    """
    source = read_hdf5(planes)
    seed = int(settings["seed"])
    rows, details = [], []
    for plane, ranks in enumerate(source.array("ranks")):
        for level, radius in enumerate(source.array("radii")):
            gap = source.array("gap")[plane, level]
            spacing = tuple(_spacing(source.array(name)[plane, level]) for name in ("e1", "e2"))
            found = against_nulls(
                gap,
                (spacing[0], spacing[1]),
                draws=int(settings["draws"]),
                seed=seed,
                window=int(settings["window"]),
            )
            where = {"rank_1": int(ranks[0]), "rank_2": int(ranks[1]), "radius": float(radius)}
            details += [{**where, **asdict(test)} for test in found]
            rows.append({**where, **_row(source, plane, level), **_wide(found)})
    seeds = {"null_models": seed}
    origin = collect(
        seeds=seeds, platform=source.provenance["platform"], model=source.provenance["model"], **provenance
    )
    write_csv(tests, pd.DataFrame(details), provenance=origin)
    write_csv(table, pd.DataFrame(rows)[list(SUMMARY)], provenance=origin)


def _spacing(axis: Array) -> float:
    return float((axis[-1] - axis[0]) / (len(axis) - 1))


def _row(source: Hdf5Artifact, plane: int, level: int) -> dict[str, Any]:
    attributes = source.attributes
    pair = (int(attributes["first_token"]), int(attributes["second_token"]))
    at = {name: source.array(name)[plane, level] for name in (*MAPS, "e1", "e2")}
    kind = classes(at["gap"], at["token"], pair)
    nominal = np.hypot(at["e1"][:, None], at["e2"][None, :])
    realised = np.hypot(at["realised_1"], at["realised_2"])
    away = nominal > 0
    sigma = source.array("sigma")[plane]
    return {
        "sigma_1": float(sigma[0]),
        "sigma_2": float(sigma[1]),
        "points": kind.size,
        "first_token": pair[0],
        "second_token": pair[1],
        "first_fraction": float(np.mean(kind == FIRST)),
        "second_fraction": float(np.mean(kind == SECOND)),
        "equal_fraction": float(np.mean(kind == EQUAL)),
        "other_fraction": float(np.mean(kind == OTHER)),
        "tied_fraction": float(np.mean(at["leaders"] > 1)),
        "distinct_inputs": len(np.unique(at["distinct_input"])),
        "median_off_plane_over_radius": float(np.median(at["off_plane"]) / source.array("radii")[level]),
        "median_realised_over_nominal": float(np.median(realised[away] / nominal[away])),
        **{name: str(attributes[name]) for name in ("mode", "dtype", "device")},
    }


def _wide(found: Sequence[NullTest]) -> dict[str, float]:
    values = {test.statistic: test.value for test in found}
    return {**values, **{f"{test.statistic}_p_{test.null}": test.p_two_sided for test in found}}


def summarise(
    tables: Sequence[Path], rows: Sequence[Mapping[str, str]], *, output: Path, provenance: Mapping[str, Any]
) -> None:
    """One table of all maps: the names of the row, then :data:`SUMMARY`.

    Args:
        tables: ``maps.csv`` of each row.
        rows: Names (model, prompt, tie, arithmetic) in the order of the tables.
        output: CSV file to write.
        provenance: Config, code and input digests.
    """
    parts = []
    for path, names in zip(tables, rows, strict=True):
        frame = read_csv(path)
        parts.append(pd.concat([pd.DataFrame([dict(names)] * len(frame)), frame], axis=1))
    write_csv(
        output,
        pd.concat(parts, ignore_index=True),
        provenance=collect(seeds=None, platform={}, model={}, **provenance),
    )
