"""esa/robustness: tables of draws of noise that were made by one job or by several. No torch here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.experiments.esa_tables import table
from tremor.statistics.crossed import CrossedBootstrap
from tremor.store.documents import write_json
from tremor.store.shards import Part
from tremor.store.tables import write_csv

MEASURES = ("delta_nll", "kl", "flip_rate")
INTEGERS = ("weights", "draws", "failed", "seed")
TEXTS = ("kind", "status", "scale")


def write_robustness(
    whole: Part, *, draws: Path, levels: Path, statistics: Path, provenance: Mapping[str, Any]
) -> None:
    """Write the table of the draws, and means and intervals of each level.

    Args:
        whole: All draws, of all kinds and levels.
        draws: CSV to write: a row for each draw.
        levels: CSV to write: a row for each kind of noise and level.
        statistics: JSON to write.
        provenance: Of the job, or of the shards.
    """
    facts, settings, found = whole.facts, whole.facts["settings"], whole.tables["draws"]
    tokens = whole.common["tokens"]
    bootstrap = CrossedBootstrap(settings["draws"], tokens, resamples=settings["bootstrap"])
    rows, summary = [], []
    for number, (kind, level) in enumerate(facts["plan"]):
        here = np.flatnonzero(found["number"] == number)
        own = found.iloc[here].drop(columns="number")
        rows += [{"kind": kind, "level": level, **_told(row)} for row in own.to_dict("records")]
        summary.append({"kind": kind, "level": level, **_summary(whole, own, here, bootstrap)})
    write_csv(draws, table(rows, integers=(*INTEGERS, "draw"), texts=TEXTS), provenance=provenance)
    write_csv(levels, table(summary, integers=(*INTEGERS, "population"), texts=TEXTS), provenance=provenance)
    document = {
        "nll_clean": facts["nll_clean"],
        "tokens": int(tokens.sum()),
        "population": facts["population"],
        "targeted": facts["targeted"],
        "score": settings["score"],
        "texts": facts["texts"],
    }
    write_json(statistics, document, provenance=provenance)


def _told(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row without numbers that are none."""
    return {str(k): None if k in MEASURES and np.isnan(value) else value for k, value in row.items()}


def _summary(whole: Part, own: pd.DataFrame, here: Any, bootstrap: CrossedBootstrap) -> dict[str, Any]:
    """Means and intervals over draws and texts; without numbers where a draw has none, which `failed` counts."""
    failed = int((own["status"] != "ok").sum())
    row: dict[str, Any] = {
        "scale": whole.facts["settings"]["scale"],
        "draws": len(own),
        "failed": failed,
        "weights": int(own["weights"].max()),
        "population": whole.facts["population"],
        "noise_rms": float(np.mean(own["noise_rms"].to_numpy())),
    }
    for name in MEASURES:
        found = bootstrap.mean(whole.items[name][here]) if not failed else None
        row |= {
            name: None if found is None else found.mean,
            f"{name}_low": None if found is None else found.low,
            f"{name}_high": None if found is None else found.high,
            f"{name}_draw_std": None if found is None else found.draw_std,
        }
    return row | {"nll_clean": whole.facts["nll_clean"], "dtype": whole.facts["dtype"]}
