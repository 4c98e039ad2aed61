"""What the figures that can be moved about in are drawn from: maps of exp7, the boundary of exp12, the regimes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from tremor.report.arrays import indexed, packed, thinned
from tremor.report.files import Case
from tremor.statistics.planes import EQUAL, FIRST, OTHER, SECOND, classes
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv, read_parquet

KINDS = (FIRST, SECOND, EQUAL, OTHER)  # the page's numbers of the classes: 0, 1, 2, 3
REGIMES = ("stable", "chaotic", "signal", "nonlinear")
_LINES = ("sigma", "noise_floor", "first_change", "crossover_seen")  # columns of crossovers.csv; NaN: there is none


def maps(case: Case, cells: int) -> dict[str, Any]:
    """The gap over each plane at each radius (exp7), and which token is ahead.

    Args:
        case: With ``planes.h5``.
        cells: Most cells along an axis; of a larger map every k-th cell is taken, its value as it is.

    Returns:
        ``kind``, ``first``, ``second`` (the two tokens) and ``panels``: coordinates along both axes, the gap (logits),
        the class of each cell, and ``every`` (k, 1 where all cells are there).
    """
    names = ("gap", "token", "e1", "e2", "ranks", "radii")
    source = read_hdf5(case.named("planes.h5"), names=names)
    data: Mapping[str, Any] = source.datasets
    pair = (int(source.attributes["first_token"]), int(source.attributes["second_token"]))
    kinds = classes(data["gap"], data["token"], pair)
    numbers = np.zeros(kinds.shape, dtype=np.uint8)
    for number, kind in enumerate(KINDS):
        numbers[kinds == kind] = number
    panels = []
    for plane, level in np.ndindex(*data["gap"].shape[:2]):
        rows, columns = (thinned(length, cells) for length in data["gap"].shape[2:])
        every = max(int(index[1] - index[0]) if len(index) > 1 else 1 for index in (rows, columns))
        own = np.ix_(rows, columns)
        panels.append(
            {
                "ranks": [int(rank) for rank in data["ranks"][plane]],
                "radius": float(data["radii"][level]),
                "cells": list(data["gap"].shape[2:]),
                "every": every,
                "x": packed(data["e1"][plane, level][rows].astype(np.float64)),
                "y": packed(data["e2"][plane, level][columns].astype(np.float64)),
                "gap": indexed(data["gap"][plane, level][own].T.astype(np.float64)),
                "class": packed(numbers[plane, level][own].T),
            }
        )
    texts = {key: str(source.attributes[f"{key}_text"]) for key in ("first", "second")}
    return {"kind": "maps", **texts, "panels": panels}


def boundary(case: Case, cells: int) -> dict[str, Any]:
    """The boundary around a prompt in a plane (exp12), ray by ray, in the order of the angle.

    Args:
        case: With ``boundary.h5``.
        cells: Not used: a circle has few rays.

    Returns:
        ``kind``, the two ranks of the plane, ``s_max``, and arrays ``theta`` (radians), ``max_s``, ``first_breakpoint``
        (NaN: none), ``evaluations``, ``censored``, ``certified``.
    """
    names = ("theta", "max_s", "first_breakpoint", "evaluations", "censored", "certified")
    source = read_hdf5(case.named("boundary.h5"), names=names)
    data: Mapping[str, Any] = source.datasets
    order = np.argsort(data["theta"], kind="stable")
    kept: dict[str, Any] = {"theta": packed(data["theta"][order].astype(np.float64))}
    for name in ("max_s", "first_breakpoint"):
        kept[name] = packed(data[name][order])
    kept["evaluations"] = packed(data["evaluations"][order].astype(np.float64))
    for name in ("censored", "certified"):
        kept[name] = packed(data[name][order].astype(np.uint8))
    plane = [int(rank) for rank in source.attributes["plane"]]
    return {"kind": "boundary", "plane": plane, "s_max": float(source.attributes["s_max"]), **kept}


def regimes(case: Case, cells: int) -> dict[str, Any]:
    """Gain over the size of the realised step, and the share of coordinates that change at each tap.

    Args:
        case: With ``steps.parquet``, ``avalanche.parquet`` and ``crossovers.csv``.
        cells: Not used: there are a few hundred steps.

    Returns:
        ``kind``, names of the ``regimes``, and for each number format and direction: ``realised``, ``gain`` and
        ``regime`` of each step that moved the input, the borders, and the avalanche (``taps``, ``steps``, ``share``).
    """
    steps = read_parquet(case.named("steps.parquet"))
    shares = read_parquet(case.named("avalanche.parquet"))
    borders = read_csv(case.named("crossovers.csv"))
    curves = []
    for (precision, direction), own in steps.groupby(["precision", "direction"], sort=False):
        moved = own[own["realised"] > 0].sort_values("realised", kind="stable")
        row = borders[(borders["precision"] == precision) & (borders["direction"] == direction)].iloc[0]
        part = shares[(shares["precision"] == precision) & (shares["direction"] == direction)]
        numbers = moved["regime"].map({name: number for number, name in enumerate(REGIMES)})
        curves.append(
            {
                "precision": str(precision),
                "direction": str(direction),
                "realised": packed(moved["realised"].to_numpy(dtype=np.float64)),
                "gain": packed(moved["gain_realised"].to_numpy(dtype=np.float64)),
                "regime": packed(numbers.to_numpy(dtype=np.uint8)),
                **{name: _finite(row[name]) for name in _LINES},
                **_avalanche(part),
            }
        )
    return {"kind": "regimes", "regimes": list(REGIMES), "curves": curves}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _avalanche(part: pd.DataFrame) -> dict[str, Any]:
    """Share of changed coordinates [taps, steps]; taps in forward order, steps by their realised size."""
    found = part[part["realised"] > 0].drop_duplicates(["layer", "realised"])
    table = found.pivot(index="layer", columns="realised", values="changed_share")
    taps = found.drop_duplicates("layer").sort_values("layer")["tap"]
    return {
        "taps": [str(tap) for tap in taps],
        "steps": packed(table.columns.to_numpy(dtype=np.float64)),
        "share": indexed(table.to_numpy(dtype=np.float64)),
    }


READERS: Mapping[str, Callable[[Case, int], dict[str, Any]]] = {"exp7": maps, "exp12": boundary, "regimes": regimes}
