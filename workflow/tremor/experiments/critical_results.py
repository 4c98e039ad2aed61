"""critical_weights: files and statistics of scores that were made by one job or by several. No torch here.

Tables of a part: ``sample``; for each group of metrics that share a pass ``components.<first metric>``; for each metric
``ranking.<metric>.top``, ``ranking.<metric>.bottom`` and those of :mod:`tremor.experiments.score_parts`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.errors import NumericsError
from tremor.experiments.score_parts import terms_of
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.shards import Part
from tremor.store.tables import write_csv, write_parquet
from tremor.weights.merge import merged

SCHEMA_VERSION = 1
PERCENTILES = (50, 75, 90, 95, 99, 99.9)
SIDES = ("top", "bottom")


def write_rankings(
    whole: Part,
    *,
    rankings: Path,
    scores: Path,
    components: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write rankings, sampled scores and statistics of all tensors.

    Args:
        whole: All tensors.
        rankings: Parquet to write.
        scores: HDF5 to write.
        components: CSV to write.
        statistics: JSON to write.
        provenance: Of the job, or of the shards.

    Raises:
        NumericsError: A metric scored no weight at all.
    """
    facts, tables = whole.facts, whole.tables
    ranked, parts, metrics = [], [], {}
    sample = tables["sample"]
    for group in facts["groups"]:
        described = tables[f"components.{group[0]}"]
        if not len(described):
            raise NumericsError(f"{group[0]} is not defined for any selected weight; select others, or leave it out")
        parts.append(described)
        for name in group:
            for side in SIDES:
                best = merged([tables[f"ranking.{name}.{side}"]], facts["topk"], largest=side == "top")
                ranked.append(best.assign(selection=side, run_id=facts["run_id"]))
            metrics[name] = {
                "needs": facts["needs"][name],
                "seconds": whole.cost[f"seconds.{group[0]}"],
                "computed_together": list(group),
                **_statistics(described[described["metric"] == name], sample[f"score/{name}"].to_numpy()),
                "notes": terms_of(whole, name).notes(),
            }
    best = pd.concat(ranked, ignore_index=True)
    write_parquet(rankings, best, provenance=provenance, schema_version=SCHEMA_VERSION)
    attributes = {
        "tensors": facts["sampled_tensors"],
        "population": facts["population"],
        "complete": facts["sample"] == facts["population"],
    }
    datasets = {"tensor": sample["tensor"].to_numpy(), "flat_index": sample["flat_index"].to_numpy()}
    datasets |= {f"score/{name}": sample[f"score/{name}"].to_numpy() for name in facts["metrics"]}
    write_hdf5(scores, datasets, attributes=attributes, provenance=provenance)
    rows = pd.concat(parts, ignore_index=True).astype(dict.fromkeys(("metric", "tensor", "component"), "str"))
    write_csv(components, rows, provenance=provenance)
    names = (
        "population", "num_parameters", "tensors", "sample", "calibration_texts", "calibration_digest",
        "calibration_domains",
    )  # fmt: skip
    write_json(statistics, {**{name: facts[name] for name in names}, "metrics": metrics}, provenance=provenance)


def _statistics(rows: pd.DataFrame, sampled: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Exact moments over all scalars from those of the parts; percentiles from the sample."""
    count = rows["weights"].to_numpy(dtype=np.float64)
    mean = rows["mean_score"].to_numpy(dtype=np.float64)
    variance = rows["std_score"].to_numpy(dtype=np.float64) ** 2
    total = float((count * mean).sum() / count.sum())
    spread = float((count * (variance + (mean - total) ** 2)).sum() / count.sum())
    known = sampled[np.isfinite(sampled)]
    return {
        "num_tensors": int(rows["tensor"].nunique()),
        "total_weights": int(count.sum()),
        "mean_score": total,
        "std_score": spread**0.5,
        "min_score": float(rows["min_score"].min()),
        "max_score": float(rows["max_score"].max()),
        "zero_share": float((known == 0).mean()) if known.size else None,
        "percentiles": {f"p{p:g}": float(np.percentile(known, p)) for p in PERCENTILES} if known.size else {},
    }
