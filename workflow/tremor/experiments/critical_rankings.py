"""critical_weights, first part: score every weight by several metrics, rank them, and describe the scores."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from tremor.evaluate import texts as choosing
from tremor.experiments.session import Session
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.tables import write_csv, write_parquet
from tremor.weights import scores as scoring
from tremor.weights.rank import Ranking
from tremor.weights.scores import Options, Task, gradients
from tremor.weights.select import Chosen, Selection, select

SCHEMA_VERSION = 1
PERCENTILES = (50, 75, 90, 95, 99, 99.9)


def options(settings: Mapping[str, Any], *, seed: int | None = None) -> Options:
    """Settings of the scores from the config block."""
    own = settings["scores"]
    return Options(
        seed=own["seed"] if seed is None else seed,
        bos=settings["bos"],
        fisher_draws=own["fisher_draws"],
        probes=own["probes"],
        dampening=own["dampening"],
        steps=own["steps"],
    )


def groups(metrics: Sequence[str]) -> list[list[str]]:
    """Metrics that share a backward pass together, the others alone."""
    shared = [name for name in metrics if name in gradients.SHARED]
    return [*([shared] if shared else []), *([name] for name in metrics if name not in gradients.SHARED)]


def streams(task: Task, group: Sequence[str]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Tensor name and its scores by metric."""
    if len(group) > 1:
        yield from gradients.shared(task, group)
        return
    for tensor, found in scoring.scorer(group[0]).stream(task):
        yield tensor, {group[0]: found}


def sample_places(selection: Selection, most: int, seed: int) -> dict[str, npt.NDArray[np.int64]]:
    """Flat positions of a uniform sample of the selected scalars; all of them where there are no more than `most`.

    Args:
        selection: The scalars.
        most: Size of the sample.
        seed: Its seed.

    Returns:
        Sorted flat indices by tensor; a tensor without any is left out.
    """
    total = selection.count
    if total <= most:
        ranks = np.arange(total)
    else:
        ranks = np.sort(np.random.default_rng(seed).choice(total, most, replace=False, shuffle=False))
    found, start = {}, 0
    for name, entry in selection.chosen.items():
        inside = ranks[np.searchsorted(ranks, start) : np.searchsorted(ranks, start + entry.count)] - start
        start += entry.count
        if len(inside):
            found[name] = inside if entry.along is None else _within(entry, inside)
    return found


def _within(entry: Chosen, ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Flat positions of the r-th selected scalars of a partly selected tensor."""
    mask = entry.mask()
    assert mask is not None
    return np.flatnonzero(mask.reshape(-1).numpy())[ranks]


def describe(entry: Chosen, scores: Tensor) -> list[dict[str, Any]]:
    """Count, mean, standard deviation, smallest and largest score of every component inside a parameter."""
    rows, layout = [], entry.layout
    keep = np.ones(len(layout.codes), dtype=bool) if entry.along is None else entry.along
    for code in np.unique(layout.codes[keep]):
        along = torch.from_numpy(np.flatnonzero(keep & (layout.codes == code))).to(scores.device)
        part = scores.reshape(layout.shape).index_select(layout.axis, along).double()
        rows.append(
            {
                "tensor": layout.name,
                "block": layout.parts[code].block,
                "component": layout.parts[code].component,
                "weights": part.numel(),
                "mean_score": float(part.mean()),
                "std_score": float(part.std(correction=0)),
                "min_score": float(part.min()),
                "max_score": float(part.max()),
            }
        )
    return rows


def measure(
    session: Session,
    settings: Mapping[str, Any],
    *,
    rankings: Path,
    scores: Path,
    components: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Score, rank and describe.

    Args:
        session: The loaded model.
        settings: Config block ``critical_weights``.
        rankings: Parquet to write: the largest and smallest scores of each metric, the schema of rankings.
        scores: HDF5 to write: scores of a sample of scalars, the same scalars for all metrics.
        components: CSV to write: scores of each component of each tensor.
        statistics: JSON to write.
        provenance: Config, code and input digests.
    """
    loaded = session.loaded
    selection = select(loaded.anatomy, layers=settings["layers"], components=settings["components"])
    passages = choosing.passages("calibration", settings["calibration"])
    texts = [passage.text for passage in passages]
    places = sample_places(selection, settings["sample"], settings["sample_seed"])
    count = sum(map(len, places.values()))
    sampled = {name: np.full(count, np.nan, dtype=np.float32) for name in settings["metrics"]}
    starts = dict(zip(places, np.cumsum([0, *map(len, places.values())]), strict=False))
    tables: list[pd.DataFrame] = []
    parts: list[dict[str, Any]] = []
    metrics: dict[str, Any] = {}
    for group in groups(settings["metrics"]):
        started = time.perf_counter()
        task = scoring.prepare(group[0], loaded, texts, selection=selection, options=options(settings))
        makers = {
            (name, side): Ranking(max(settings["topk"]), selection=selection, largest=side == "top", scorer=name)
            for name in group
            for side in ("top", "bottom")
        }
        for tensor, found in streams(task, group):
            for (name, _), ranking in makers.items():
                ranking.add(tensor, found[name])
            for name in group:
                parts += [{"metric": name, **row} for row in describe(selection.chosen[tensor], found[name])]
                if tensor in places:
                    index = torch.from_numpy(places[tensor]).to(found[name].device)
                    values = found[name].reshape(-1)[index].float().cpu().numpy()
                    sampled[name][starts[tensor] : starts[tensor] + len(values)] = values
        tables += [r.frame().assign(selection=side, run_id=loaded.digest[:16]) for (_, side), r in makers.items()]
        seconds = time.perf_counter() - started
        for name in group:
            metrics[name] = {
                "needs": scoring.scorer(name).needs,
                "seconds": seconds,
                "computed_together": list(group),
                **_statistics([row for row in parts if row["metric"] == name], sampled[name]),
                "notes": task.notes.get(name, {}),
            }
    seeds = {"scores": int(settings["scores"]["seed"]), "sample": int(settings["sample_seed"])}
    origin = session.provenance(**provenance, seeds=seeds)
    write_parquet(rankings, pd.concat(tables, ignore_index=True), provenance=origin, schema_version=SCHEMA_VERSION)
    attributes = {"tensors": list(places), "population": selection.count, "complete": count == selection.count}
    datasets: dict[str, Any] = {
        "tensor": np.repeat(np.arange(len(places)), [len(p) for p in places.values()]),
        "flat_index": np.concatenate(list(places.values())),
        **{f"score/{name}": values for name, values in sampled.items()},
    }
    write_hdf5(scores, datasets, attributes=attributes, provenance=origin)
    write_csv(components, pd.DataFrame(parts), provenance=origin)
    document = {
        "population": selection.count,
        "num_parameters": sum(p.numel() for p in loaded.model.parameters()),
        "tensors": len(selection.tensors),
        "sample": count,
        "calibration_texts": len(texts),
        "calibration_digest": choosing.digest(texts),
        "calibration_domains": sorted({passage.domain for passage in passages}),
        "metrics": metrics,
    }
    write_json(statistics, document, provenance=origin)


def _statistics(rows: Sequence[Mapping[str, Any]], sampled: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Exact moments over all scalars from those of the parts; percentiles from the sample."""
    count = np.array([row["weights"] for row in rows], dtype=np.float64)
    mean = np.array([row["mean_score"] for row in rows])
    variance = np.array([row["std_score"] for row in rows]) ** 2
    total = float((count * mean).sum() / count.sum())
    spread = float((count * (variance + (mean - total) ** 2)).sum() / count.sum())
    known = sampled[np.isfinite(sampled)]
    return {
        "num_tensors": len({row["tensor"] for row in rows}),
        "total_weights": int(count.sum()),
        "mean_score": total,
        "std_score": spread**0.5,
        "min_score": min(row["min_score"] for row in rows),
        "max_score": max(row["max_score"] for row in rows),
        "zero_share": float((known == 0).mean()) if known.size else None,
        "percentiles": {f"p{p:g}": float(np.percentile(known, p)) for p in PERCENTILES} if known.size else {},
    }
