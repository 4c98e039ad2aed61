"""exp8, part 8: the values of every stage at the row that decided: how many differ, in bits, ulps and size; no torch.

Every coordinate is in one class and only one: equal bits, or one decade of |a - b|, or no number. So the counts of a
stage add up to its width, and nothing is cumulative until a reader adds it up.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor import floats
from tremor.compare import bits
from tremor.compare.stages import Stage
from tremor.experiments.decision_path import numbers
from tremor.experiments.stage_divergence import Question, questions, read_divergence
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.provenance import collect
from tremor.store.tables import write_csv

Count = npt.NDArray[np.int64]
ULP_CLASSES = 34
"""0, 1, 2-3, 4-7, ... steps of the lattice; the last class holds all above 2^32."""
NUMBERS = (
    "n_changed_bits", "n_flipped_bits", "max_abs", "mean_abs", "median_abs", "l2", "relative_l2", "cosine",
    "cosine_distance", "ulp_max", "ulp_mean", "ulp_median", "n_signed_zero",
)  # fmt: skip


def compare(
    a: Sequence[Path],
    b: Sequence[Path],
    *,
    divergence: Path,
    settings: Mapping[str, Any],
    table: Path,
    data: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Compare the values of all stages.

    Args:
        a: Recordings of the first platform.
        b: Those of the second.
        divergence: Table of part 2.
        settings: ``smallest_decade`` and ``largest_decade``.
        table: CSV file, one row for each question and stage.
        data: HDF5 file: ``decades`` [rows, classes] and ``ulps`` [rows, classes], in the order of the table.
        statistics: JSON file.
        provenance: Config, code and input digests.
    """
    powers = list(range(int(settings["smallest_decade"]), int(settings["largest_decade"]) + 1))
    rows, decades, ulps = [], [], []
    for question in questions(a, b):
        read_divergence(divergence, question)
        for stage in question.distinct:
            row, by_decade, by_ulp = _stage(question, stage, powers)
            rows.append(row)
            decades.append(by_decade)
            ulps.append(by_ulp)
    frame = pd.DataFrame(rows).astype({"block": "Int64"})
    origin = collect(seeds=None, platform={}, model={}, **provenance)
    counts = np.stack(decades)
    datasets = {"decades": counts, "ulps": np.stack(ulps)}
    names = ["equal_bits", "zero", f"below_1e{powers[0]}", *(f"1e{p}" for p in powers), "not_finite"]
    write_hdf5(data, datasets, attributes={"decade_classes": names, "powers": powers}, provenance=origin)
    write_csv(table, frame, provenance=origin)
    write_json(statistics, _told(frame, counts, names), provenance=origin)


def _stage(question: Question, stage: Stage, powers: Sequence[int]) -> tuple[dict[str, Any], Count, Count]:
    row = question.parted.row
    first, second = question.a.state(stage.name, row), question.b.state(stage.name, row)
    told = bits.compare_vectors(first, second)
    by_decade, by_ulp = decade_counts(first, second, powers), ulp_counts(first, second)
    named = {
        "question": question.name,
        "status": question.parted.divergence.kind,
        "row": row,
        "order": stage.order,
        "stage": stage.name,
        "block": stage.block,
        "part": stage.part,
        "width": stage.width,
        "equal_bits": told.equal_bits,
        "percent_changed": 100.0 * told.n_changed_bits / told.width,
        **{name: getattr(told, name) for name in NUMBERS},
    }
    return named, by_decade, by_ulp


def decade_counts(a: bits.Value, b: bits.Value, powers: Sequence[int]) -> Count:
    """Coordinates by the size of their difference, each in one class.

    Args:
        a: [n].
        b: [n].
        powers: Powers of ten, ascending by one.

    Returns:
        [3 + len(powers) + 1]: equal bits; other bits and no distance (+0 and -0); below 10^powers[0];
        [10^p, 10^(p+1)) for each power, the last one open above; NaN or infinite in either. They add up to n.
    """
    changed = bits.changed_coordinates(a, b)
    first, second = numbers(a), numbers(b)
    with np.errstate(invalid="ignore"):
        size = np.abs(first - second)
    lost = changed & ~(np.isfinite(first) & np.isfinite(second))
    there = changed & ~lost
    edges = 10.0 ** np.asarray(powers, dtype=np.float64)
    place = np.searchsorted(edges, size[there & (size > 0)], side="right")
    classes = np.bincount(place, minlength=len(edges) + 1)
    head = [np.sum(~changed), np.sum(there & (size == 0))]
    return np.array([*head, *classes, np.sum(lost)], dtype=np.int64)


def ulp_counts(a: bits.Value, b: bits.Value) -> Count:
    """Coordinates by lattice steps: 0, 1, 2-3, 4-7, ...; the last class holds what is beyond, and NaN.

    Returns:
        [:data:`ULP_CLASSES`], adding up to n.
    """
    lattice = bits.common_lattice(a, b)
    first, second = bits.on_lattice(a, lattice), bits.on_lattice(b, lattice)
    known = ~(np.isnan(first) | np.isnan(second))
    steps = floats.ulp_distance(np.where(known, first, 0), np.where(known, second, 0), lattice)
    place = np.where(steps == 0, 0, np.frexp(steps.astype(np.float64))[1])  # frexp(2^k) has exponent k + 1
    place = np.where(known, np.minimum(place, ULP_CLASSES - 1), ULP_CLASSES - 1)
    return np.bincount(place, minlength=ULP_CLASSES).astype(np.int64)


def _told(frame: pd.DataFrame, counts: Count, names: Sequence[str]) -> dict[str, Any]:
    return {
        "questions": int(frame["question"].nunique()),
        "stages": int(frame["stage"].nunique()),
        "values": int(frame["width"].sum()),
        "values_changed": int(frame["n_changed_bits"].sum()),
        "values_changed_percent": 100.0 * float(frame["n_changed_bits"].sum()) / float(frame["width"].sum()),
        "stages_equal_percent": 100.0 * float(frame["equal_bits"].mean()),
        "ulp_max": float(frame["ulp_max"].max()),
        "max_abs": float(frame["max_abs"].max()),
        "by_decade": dict(zip(names, counts.sum(axis=0).tolist(), strict=True)),
    }
