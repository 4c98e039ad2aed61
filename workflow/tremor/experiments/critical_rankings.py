"""critical_weights, first part: score every weight by several metrics, rank them, and describe the scores."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from tremor.evaluate import texts as choosing
from tremor.experiments import score_parts
from tremor.experiments.critical_results import SIDES, write_rankings
from tremor.experiments.session import Session
from tremor.shards import WHOLE, Shard
from tremor.store.shards import Part
from tremor.weights import scores as scoring
from tremor.weights.quality import Terms
from tremor.weights.rank import Ranking
from tremor.weights.scores import Options, Task, gradients
from tremor.weights.select import Chosen, Selection, select


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
    whole = part(session, settings)
    origin = session.provenance(**provenance, seeds=whole.seeds)
    write_rankings(
        whole, rankings=rankings, scores=scores, components=components, statistics=statistics, provenance=origin
    )


@dataclass
class _Share:
    """What a job makes of the tensors that it scores, table by table (see `critical_results`)."""

    names: tuple[str, ...]
    places: Mapping[str, npt.NDArray[np.int64]]
    sampled: dict[str, dict[str, npt.NDArray[np.float32]]] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    common: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)

    def score(
        self,
        session: Session,
        settings: Mapping[str, Any],
        group: Sequence[str],
        texts: Sequence[str],
        every: Selection,
    ) -> None:
        """Score by metrics that share a pass; rank, describe, and pick the sampled scalars."""
        started = time.perf_counter()
        own, mine = options(settings), every.share(self.names)
        task = scoring.prepare(group[0], session.loaded, texts, selection=every, options=own, mine=mine)
        makers = {
            (name, side): Ranking(max(settings["topk"]), selection=every, largest=side == "top", scorer=name)
            for name in group
            for side in SIDES
        }
        parts: list[dict[str, Any]] = []
        picked: dict[str, dict[str, npt.NDArray[np.float32]]] = {name: {} for name in group}
        for tensor, found in streams(task, group):
            for (name, _), ranking in makers.items():
                ranking.add(tensor, found[name])
            for name in group:
                parts += [{"metric": name, **row} for row in describe(every.chosen[tensor], found[name])]
                if tensor in self.places:
                    index = torch.from_numpy(self.places[tensor]).to(found[name].device)
                    picked[name][tensor] = found[name].reshape(-1)[index].float().cpu().numpy()
        self.tables[f"components.{group[0]}"] = pd.DataFrame(parts)
        for (name, side), ranking in makers.items():
            self.tables[f"ranking.{name}.{side}"] = ranking.frame(partial=True)
        for name in group:
            terms = task.terms.get(name, Terms())
            self.tables |= score_parts.tables_of(name, terms)
            self.common[name] = score_parts.facts_of(terms)
        self.sampled |= picked
        self.cost[f"seconds.{group[0]}"] = time.perf_counter() - started

    def sample(self, order: Mapping[str, int]) -> pd.DataFrame:
        """Scores of the sampled scalars of these tensors, NaN where a metric is not defined."""
        here = [name for name in self.names if name in self.places]
        columns: dict[str, Any] = {
            "tensor": np.repeat([order[name] for name in here], [len(self.places[name]) for name in here]),
            "flat_index": np.concatenate([self.places[name] for name in here] or [np.empty(0, dtype=np.int64)]),
        }
        for metric, found in self.sampled.items():
            missing = (np.full(len(self.places[name]), np.nan, dtype=np.float32) for name in here)
            values = [found.get(name, nothing) for name, nothing in zip(here, missing, strict=True)]
            columns[f"score/{metric}"] = np.concatenate(values or [np.empty(0, dtype=np.float32)])
        return pd.DataFrame(columns)


def part(session: Session, settings: Mapping[str, Any], *, shard: Shard = WHOLE) -> Part:
    """The scores of a shard's share of the tensors, all of them by default; the other args are those of `measure`."""
    loaded = session.loaded
    selection = select(loaded.anatomy, layers=settings["layers"], components=settings["components"])
    passages = choosing.passages("calibration", settings["calibration"])
    texts = [passage.text for passage in passages]
    places = sample_places(selection, settings["sample"], settings["sample_seed"])
    sizes = [entry.count for entry in selection.chosen.values()]
    rows = shard.share(sizes, key="shards.critical_rankings")
    share = _Share(selection.tensors[rows.start : rows.stop], places)
    shared = groups(settings["metrics"])
    for group in shared:
        share.score(session, settings, group, texts, selection)
    facts = {
        "run_id": loaded.digest[:16],
        "topk": max(settings["topk"]),
        "groups": [list(group) for group in shared],
        "metrics": list(settings["metrics"]),
        "needs": {name: scoring.scorer(name).needs for name in settings["metrics"]},
        "terms": share.common,
        "sampled_tensors": list(places),
        "sample": sum(map(len, places.values())),
        "population": selection.count,
        "num_parameters": sum(p.numel() for p in loaded.model.parameters()),
        "tensors": len(selection.tensors),
        "calibration_texts": len(texts),
        "calibration_digest": choosing.digest(texts),
        "calibration_domains": sorted({passage.domain for passage in passages}),
    }
    order = {name: number for number, name in enumerate(places)}
    tables = {**share.tables, "sample": share.sample(order)}
    seeds = {"scores": int(settings["scores"]["seed"]), "sample": int(settings["sample_seed"])}
    return Part(rows, len(sizes), tables=tables, facts=facts, seeds=seeds, cost=share.cost)
