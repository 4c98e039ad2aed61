"""esa/compare-sensitivity: tables of scores that were made by one job or by several. No torch here."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.experiments.esa_tables import table
from tremor.experiments.score_parts import terms_of
from tremor.statistics.overlap import correlation, overlap, rank_biased_overlap
from tremor.store.documents import write_json
from tremor.store.shards import Part
from tremor.store.tables import write_csv
from tremor.weights.merge import merged

Floats = npt.NDArray[np.float64]


def write_comparison(
    whole: Part, *, weights: Path, methods: Path, pairs: Path, statistics: Path, provenance: Mapping[str, Any]
) -> None:
    """Compare each pair of methods and write all tables.

    Args:
        whole: All tensors.
        weights: CSV to write: the rankings, one schema.
        methods: CSV to write: one row for each method.
        pairs: CSV to write: one row for each pair of methods.
        statistics: JSON to write.
        provenance: Of the job, or of the shards.
    """
    facts, settings = whole.facts, whole.facts["settings"]
    ranked = {name: merged([whole.tables[f"ranking.{name}"]], settings["top_k"]) for name in facts["methods"]}
    values = {name: whole.tables[f"sample.{name}"]["value"].to_numpy() for name in facts["methods"]}
    spent = {name: whole.cost[f"seconds.{name}"] for name in facts["methods"]}
    rows = [
        {
            "method": name,
            **facts["methods"][name],
            "seconds": spent[name],
            "score_max": float(best["score"].iloc[0]),
            "score_kth": float(best["score"].iloc[-1]),
            "score_median": float(np.median(values[name])),
            "tensors_in_top": int(best["tensor"].nunique()),
        }
        for name, best in ranked.items()
    ]
    compared = []
    for first, second in itertools.combinations(facts["methods"], 2):
        entry = _pair(first, second, ranked, values, facts["population"], settings["persistence"])
        compared.append({**entry, "seconds_first": spent[first], "seconds_second": spent[second]})
    write_csv(weights, pd.concat(ranked.values(), ignore_index=True), provenance=provenance)
    write_csv(methods, table(rows), provenance=provenance)
    write_csv(pairs, table(compared), provenance=provenance)
    notes = {name: terms_of(whole, name).notes() for name in facts["noted"]}
    document = {"population": facts["population"], "tensors": facts["tensors"], "notes": notes}
    write_json(statistics, document, provenance=provenance)


def _pair(
    first: str,
    second: str,
    tables: Mapping[str, pd.DataFrame],
    values: Mapping[str, Floats],
    population: int,
    persistence: float,
) -> dict[str, Any]:
    one, other = (list(zip(tables[m]["tensor"], tables[m]["flat_index"], strict=True)) for m in (first, second))
    sets = asdict(overlap(one, other, population))
    ranks = correlation(values[first], values[second])
    return {
        "first": first,
        "second": second,
        "k": len(one),
        "population": population,
        "common": sets["common"],
        "jaccard": sets["jaccard"],
        "jaccard_chance": sets["chance"],
        "overlap_coefficient": sets["coefficient"],
        "p": sets["p"],
        "rbo": rank_biased_overlap(one, other, p=persistence),
        "spearman": ranks.spearman,
        "kendall": ranks.kendall,
        "correlated": ranks.n,
    }
