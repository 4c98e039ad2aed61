"""esa/compare-sensitivity: run time of the methods, and how much their rankings agree."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.experiments import esa_shared, score_parts
from tremor.experiments.esa_compare_results import write_comparison
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.shards import WHOLE, Shard
from tremor.store.shards import Part
from tremor.weights.quality import Terms
from tremor.weights.rank import Ranking
from tremor.weights.scores import SCORES, Task, encode
from tremor.weights.scores.inputs import comparable
from tremor.weights.select import Selection, select


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
    whole = part(session, texts=texts, scores=scores, settings=settings)
    origin = session.provenance(**provenance, seeds=whole.seeds)
    write_comparison(whole, weights=weights, methods=methods, pairs=pairs, statistics=statistics, provenance=origin)


def part(
    session: Session,
    *,
    texts: Mapping[str, Any],
    scores: Mapping[str, Any],
    settings: Mapping[str, Any],
    shard: Shard = WHOLE,
) -> Part:
    """Every method on the weights that all are defined for, in a shard's share of the tensors.

    ``shard`` says which, all unless told otherwise; the other args are those of :func:`measure`.

    Raises:
        ConfigError: There are more shards than items.
    """
    loaded: LoadedModel = session.loaded
    chosen = esa_shared.options(scores)
    sequences = encode(loaded, esa_shared.passages("calibration", texts["calibration"]), chosen)
    wanted = select(loaded.anatomy, layers=settings["layers"], components=settings["components"])
    task = Task(loaded, sequences, wanted, chosen)
    selection = comparable(task)
    places = _sample(selection, settings["sample"], settings["seed"])
    rows = shard.share([entry.count for entry in selection.chosen.values()], key="shards.esa_compare_sensitivity")
    names = selection.tensors[rows.start : rows.stop]
    task = replace(task, selection=selection, mine=selection.share(names))
    tables: dict[str, pd.DataFrame] = {}
    cost = {}
    for method in settings["methods"]:
        sampled: dict[str, npt.NDArray[np.float64]] = {}
        started = time.perf_counter()
        ranking = Ranking(settings["top_k"], selection=selection, scorer=method, run_id=str(session.manifest["alias"]))
        for name, found in SCORES[method].stream(task):
            ranking.add(name, found)
            sampled[name] = found.detach().reshape(-1)[places[name]].double().cpu().numpy()
        tables[f"ranking.{method}"] = ranking.frame(partial=True)
        cost[f"seconds.{method}"] = time.perf_counter() - started
        tables[f"sample.{method}"] = pd.DataFrame({"value": np.concatenate([sampled[name] for name in names])})
        tables |= score_parts.tables_of(method, task.terms.get(method, Terms()))
    facts = {
        "methods": {
            name: {"needs": SCORES[name].needs, "repeats": "seeded" if SCORES[name].seeded else "deterministic"}
            for name in settings["methods"]
        },
        "terms": {name: score_parts.facts_of(task.terms.get(name, Terms())) for name in settings["methods"]},
        "noted": [name for name in settings["methods"] if name in task.terms],
        "settings": dict(settings),
        "population": selection.count,
        "tensors": list(selection.tensors),
    }
    seeds = {"scores": scores["seed"], "sample": settings["seed"]}
    return Part(rows, len(selection.tensors), tables=tables, facts=facts, seeds=seeds, cost=cost)


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
