"""esa/compare-sensitivity: run time of the methods, and how much their rankings agree."""

import itertools
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.experiments import esa_shared
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.statistics.overlap import correlation, overlap, rank_biased_overlap
from tremor.store.documents import write_json
from tremor.store.tables import write_csv
from tremor.weights.rank import Ranking
from tremor.weights.scores import SCORES, Task, encode
from tremor.weights.scores.inputs import comparable
from tremor.weights.select import Selection, select

Floats = npt.NDArray[np.float64]


def measure(
    session: Session,
    *,
    texts: Mapping[str, Any],
    scores: Mapping[str, Any],
    settings: Mapping[str, Any],
    weights: Path,
    methods: Path,
    pairs: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Run every method by itself on the weights that all are defined for, and compare each pair.

    Args:
        session: The model on its platform.
        texts: Config block `esa.texts`.
        scores: Config block `esa.scores`.
        settings: Config block `esa.compare_sensitivity`.
        weights: CSV to write: the rankings, one schema.
        methods: CSV to write: one row for each method.
        pairs: CSV to write: one row for each pair of methods.
        statistics: JSON to write.
        provenance: Config, code and input digests.
    """
    loaded: LoadedModel = session.loaded
    chosen = esa_shared.options(scores)
    sequences = encode(loaded, esa_shared.passages("calibration", texts["calibration"]), chosen)
    wanted = select(loaded.anatomy, layers=settings["layers"], components=settings["components"])
    task = Task(loaded, sequences, wanted, chosen)
    task = replace(task, selection=comparable(task))
    places = _sample(task.selection, settings["sample"], settings["seed"])
    tables, values, rows = {}, {}, []
    for method in settings["methods"]:
        tables[method], values[method], row = _run(method, task, places, settings["top_k"], session)
        rows.append(row)
    spent = {row["method"]: row["seconds"] for row in rows}
    compared = []
    for first, second in itertools.combinations(settings["methods"], 2):
        entry = _pair(first, second, tables, values, task.selection.count, settings["persistence"])
        compared.append({**entry, "seconds_first": spent[first], "seconds_second": spent[second]})
    origin = session.provenance(**provenance, seeds={"scores": scores["seed"], "sample": settings["seed"]})
    write_csv(weights, pd.concat(tables.values(), ignore_index=True), provenance=origin)
    write_csv(methods, esa_shared.table(rows), provenance=origin)
    write_csv(pairs, esa_shared.table(compared), provenance=origin)
    document = {"population": task.selection.count, "tensors": list(task.selection.tensors), "notes": task.notes}
    write_json(statistics, document, provenance=origin)


def _sample(selection: Selection, count: int, seed: int) -> dict[str, npt.NDArray[np.int64]]:
    """Flat indices by tensor of scalars drawn without replacement from all selected ones; all if there are fewer."""
    total = selection.count
    drawn = np.arange(total)
    if count < total:
        drawn = np.sort(np.random.default_rng(seed).choice(total, count, replace=False))
    found, start = {}, 0
    for name, entry in selection.chosen.items():
        mine = drawn[(drawn >= start) & (drawn < start + entry.count)] - start
        mask = entry.mask()
        found[name] = mine if mask is None else mask.reshape(-1).nonzero().flatten().numpy()[mine]
        start += entry.count
    return found


def _run(
    method: str, task: Task, places: Mapping[str, npt.NDArray[np.int64]], k: int, session: Session
) -> tuple[pd.DataFrame, Floats, dict[str, Any]]:
    """Rank by one method; its scores at the sampled places are picked up as they stream by."""
    sampled = {}
    started = time.perf_counter()
    ranking = Ranking(k, selection=task.selection, scorer=method, run_id=str(session.manifest["alias"]))
    for name, scores in SCORES[method].stream(task):
        ranking.add(name, scores)
        sampled[name] = scores.detach().reshape(-1)[places[name]].double().cpu().numpy()
    table = ranking.frame()
    seconds = time.perf_counter() - started
    values = np.concatenate([sampled[name] for name in task.selection.tensors])
    row = {
        "method": method,
        "needs": SCORES[method].needs,
        "repeats": "seeded" if SCORES[method].seeded else "deterministic",
        "seconds": seconds,
        "score_max": float(table["score"].iloc[0]),
        "score_kth": float(table["score"].iloc[-1]),
        "score_median": float(np.median(values)),
        "tensors_in_top": int(table["tensor"].nunique()),
    }
    return table, values, row


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
