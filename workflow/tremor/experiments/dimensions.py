"""exp4 parts 3 and 4: the coordinates that differ at the decisive row, and how states drift apart along the text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.compare.dimensions import changed_dimensions, difference_statistics, powers_of_ten
from tremor.compare.divergence import Divergence
from tremor.experiments import divergence
from tremor.statistics.spread import spread
from tremor.store.documents import write_json
from tremor.store.provenance import collect
from tremor.store.tables import read_parquet, write_csv

DRIFT = ("cosine_distance", "cosine", "l2", "relative_l2", "ulp_max", "n_changed_bits", "logit_max_abs")


def roles(found: Divergence) -> dict[str, int]:
    """The rows of a question that are looked at, by what they are.

    ``decisive`` is the row that decided two different tokens, ``before`` the one before it, where both runs still
    agreed. Where no row decided anything, ``last`` is the last one of common context.
    """
    if found.decisive is None:
        return {"last": found.common_rows - 1}
    return {"decisive": found.decisive, **({"before": found.decisive - 1} if found.decisive else {})}


def measure(
    recordings_a: Sequence[Path],
    recordings_b: Sequence[Path],
    document: Path,
    settings: Mapping[str, Any],
    *,
    table: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> pd.DataFrame:
    """Count the coordinates of the final state that differ at the decisive row, by threshold.

    Args:
        recordings_a: Recordings of the first platform.
        recordings_b: Of the second, in the same order.
        document: What `tremor.experiments.divergence` wrote about them.
        settings: ``threshold_powers`` and ``ulps`` of the config block exp4.
        table: CSV file to write.
        statistics: JSON file to write.
        provenance: Config, code and input digests.

    Returns:
        The table.
    """
    tables, documents = [], []
    thresholds = powers_of_ten(settings["threshold_powers"])
    origin: dict[str, Any] = {}
    for a, b, found in divergence.opened(recordings_a, recordings_b, document):
        origin = origin or divergence.origins(a, b, provenance)
        for role, row in roles(found).items():
            first, second = a.state("final", row), b.state("final", row)
            names = {"question": a.question, "role": role, "row": row}
            counts = changed_dimensions(first, second, thresholds, settings["ulps"])
            tables.append(pd.DataFrame([names] * len(counts)).join(counts))
            documents.append({**names, **difference_statistics(first, second)})
    whole = pd.concat(tables, ignore_index=True)
    write_csv(table, whole, provenance=origin)
    decided = [entry for entry in documents if entry["role"] == "decisive"]
    write_json(statistics, {"rows": documents, "decisive": _over(decided)}, provenance=origin)
    return whole


def _over(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = ("n_changed_bits", "ulp_max", "ulp_median", "l2", "relative_l2", "cosine_distance")
    return {name: spread(np.array([entry[name] for entry in entries], dtype=np.float64)) for name in names}


def drift(rows: Path, *, table: Path, provenance: Mapping[str, Any]) -> pd.DataFrame:
    """Statistics of the states' distance along the text: up to the decisive row, and after it.

    Args:
        rows: The table divergence.parquet.
        table: CSV file to write, a row for each question, context and measure.
        provenance: Config, code and input digests.

    Returns:
        The rows of divergence.parquet, for a figure.
    """
    found = read_parquet(rows, schema_version=divergence.SCHEMA)
    listed = [
        {"question": question, "context": context, "measure": name, **spread(part[name].to_numpy(dtype=np.float64))}
        for (question, context), part in found.groupby(["question", "context"], sort=False)
        for name in DRIFT
    ]
    frame = pd.DataFrame(listed)
    numbers = [name for name in frame.columns if name not in ("question", "context", "measure", "count")]
    frame[numbers] = frame[numbers].astype(np.float64)
    write_csv(table, frame, provenance=collect(seeds=None, platform={}, model={}, **provenance))
    return found
