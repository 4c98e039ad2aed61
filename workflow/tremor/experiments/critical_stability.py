"""critical_weights, third part: does a ranking stay when the seed, the half of the texts or their domain changes?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.evaluate import texts as choosing
from tremor.experiments.critical_rankings import groups as sharing
from tremor.experiments.critical_rankings import options, streams
from tremor.experiments.session import Session
from tremor.models.corpus import Passage
from tremor.statistics.overlap import overlap, rank_biased_overlap
from tremor.store.documents import write_json
from tremor.store.tables import write_csv
from tremor.weights import scores as scoring
from tremor.weights.rank import Ranking
from tremor.weights.select import Selection, select


@dataclass(frozen=True)
class Condition:
    """One way of computing the scores again.

    Attributes:
        kind: What varies: "seed", "half" or "domain".
        name: Which seed, half or domain.
        seed: Seed of the scores.
        texts: What they read.
    """

    kind: str
    name: str
    seed: int
    texts: tuple[str, ...]


def conditions(passages: Sequence[Passage], seeds: Sequence[int], seed: int) -> list[Condition]:
    """All conditions: every seed on all texts, both halves (every second passage of each domain), every domain.

    Args:
        passages: Calibration passages.
        seeds: Seeds of scores.
        seed: The seed used with halves and domains.
    """
    texts = tuple(p.text for p in passages)
    found = [Condition("seed", str(s), s, texts) for s in seeds]
    domains = list(dict.fromkeys(p.domain for p in passages))
    of = {domain: [p.text for p in passages if p.domain == domain] for domain in domains}
    # Domains begin with the one half and the other in turn, so that odd numbers of passages even out.
    halves = [tuple(t for n, d in enumerate(domains) for t in of[d][(part + n) % 2 :: 2]) for part in (0, 1)]
    found += [Condition("half", name, seed, half) for name, half in zip(("first", "second"), halves, strict=True)]
    return [*found, *(Condition("domain", domain, seed, tuple(of[domain])) for domain in domains)]


def measure(
    session: Session,
    settings: Mapping[str, Any],
    *,
    table: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Rank under every condition and compare all pairs of a kind.

    A metric that reads no text has no halves and domains. Where the rankings under two seeds are the same to the last
    bit, the seed has no influence (dropout is off): that is called deterministic, not stable.

    Args:
        session: The loaded model.
        settings: Config block ``critical_weights``.
        table: CSV to write: one row for each metric, pair of conditions and K.
        statistics: JSON to write.
        provenance: Config, code and input digests.
    """
    loaded = session.loaded
    selection = select(loaded.anatomy, layers=settings["layers"], components=settings["components"])
    passages = choosing.passages("calibration", settings["calibration"])
    found: dict[str, dict[tuple[str, str], pd.DataFrame]] = {name: {} for name in settings["metrics"]}
    sizes: dict[tuple[str, str], int] = {}
    for condition in conditions(passages, settings["stability_seeds"], settings["scores"]["seed"]):
        sizes[condition.kind, condition.name] = len(condition.texts)
        for name, frame in _ranked(loaded, condition, selection, settings):
            found[name][condition.kind, condition.name] = frame
    rows = [row for name, frames in found.items() for row in _pairs(name, frames, sizes, selection, settings)]
    frame = pd.DataFrame(rows)
    seeds = {f"stability_{i}": int(s) for i, s in enumerate(settings["stability_seeds"])}
    origin = session.provenance(**provenance, seeds=seeds)
    write_csv(table, frame, provenance=origin)
    write_json(statistics, _summary(frame), provenance=origin)


def _ranked(
    loaded: Any, condition: Condition, selection: Selection, settings: Mapping[str, Any]
) -> Iterator[tuple[str, pd.DataFrame]]:
    names = [
        name
        for name in settings["metrics"]
        if condition.kind == "seed" or scoring.scorer(name).needs != "weights"  # these read no text
    ]
    for group in sharing(names):
        own = options(settings, seed=condition.seed)
        task = scoring.prepare(group[0], loaded, condition.texts, selection=selection, options=own)
        makers = {name: Ranking(max(settings["topk"]), selection=selection, scorer=name) for name in group}
        for tensor, scores in streams(task, group):
            for name in group:
                makers[name].add(tensor, scores[name])
        for name in group:
            yield name, makers[name].frame()


def _pairs(
    metric: str,
    frames: Mapping[tuple[str, str], pd.DataFrame],
    sizes: Mapping[tuple[str, str], int],
    selection: Selection,
    settings: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    for (first, a), (second, b) in combinations(frames.items(), 2):
        if first[0] != second[0]:
            continue
        same = (
            a["score"].equals(b["score"])
            and a["flat_index"].equals(b["flat_index"])
            and a["tensor"].equals(b["tensor"])
        )
        for k in settings["topk"]:
            sets = [list(zip(f["tensor"][:k], f["flat_index"][:k], strict=True)) for f in (a, b)]
            agreed = overlap(sets[0], sets[1], selection.count)
            yield {
                "metric": metric,
                "varied": first[0],
                "first": first[1],
                "second": second[1],
                "first_texts": sizes[first],
                "second_texts": sizes[second],
                "topk": k,
                "common": agreed.common,
                "jaccard": agreed.jaccard,
                "overlap_coefficient": agreed.coefficient,
                "chance_jaccard": agreed.chance,
                "p": agreed.p,
                "rbo": rank_biased_overlap(sets[0], sets[1], p=settings["persistence"]),
                "label": "deterministic" if same else "compared",
            }


def _summary(frame: pd.DataFrame) -> dict[str, Any]:
    """Mean, spread and extremes of the Jaccard index of each metric, kind and K."""
    found: dict[str, Any] = {}
    for (metric, varied, k), rows in frame.groupby(["metric", "varied", "topk"], sort=False):
        jaccard = rows["jaccard"].to_numpy(dtype=float)
        found.setdefault(str(metric), {}).setdefault(str(varied), {})[str(k)] = {
            "pairs": len(rows),
            "jaccard_mean": float(jaccard.mean()),
            "jaccard_std": float(np.std(jaccard, ddof=1)) if len(jaccard) > 1 else None,
            "jaccard_min": float(jaccard.min()),
            "jaccard_max": float(jaccard.max()),
            "chance_jaccard": float(rows["chance_jaccard"].mean()),
            "rbo_mean": float(rows["rbo"].mean()),
            "label": "deterministic" if (rows["label"] == "deterministic").all() else "compared",
        }
    return found
