"""critical_weights, fourth part: what metrics agree on, where the weights lie, how heavy the tails are. No torch."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from tremor.statistics import tails
from tremor.statistics.overlap import correlation, overlap, rank_biased_overlap
from tremor.store.documents import write_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.provenance import collect
from tremor.store.tables import read_csv, read_parquet, write_csv

TAIL = 0.1  # a tail is at most this share of the scores
HILL_SHARES = (0.001, 0.01, 0.05)
SAME = 0.1  # early and late differ by less than this share of the larger: no trend


def analyse(
    settings: Mapping[str, Any],
    *,
    rankings: Path,
    scores: Path,
    components: Path,
    overlaps: Path,
    depth: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Compare the metrics and describe their scores.

    Args:
        settings: Keys topk, metrics, persistence, tail_draws and sample_seed of the block ``critical_weights``.
        rankings: Rankings of the first part.
        scores: Its sampled scores.
        components: Its table of components.
        overlaps: CSV to write: one row for each pair of metrics and K.
        depth: CSV to write: one row for each metric, block and component.
        statistics: JSON to write: depth profile and tail of each metric.
        provenance: Config, code and input digests.
    """
    ranked = read_parquet(rankings)
    top = ranked[ranked["selection"] == "top"].sort_values(["scorer", "rank"])
    source = read_hdf5(scores)
    population = int(source.attributes["population"])
    sampled = {name: np.asarray(source.array(f"score/{name}")) for name in settings["metrics"]}
    parts = read_csv(components)
    agreement = pd.DataFrame(_agreement(settings, top, sampled, population))
    where = by_depth(parts, top, settings["topk"])
    document = {
        name: {
            "depth": profile(where[where["metric"] == name]),
            "tail": _tail(values, settings),
        }
        for name, values in sampled.items()
    }
    origin = collect(seeds={"tail": settings["sample_seed"]}, platform={}, model={}, **provenance)
    write_csv(overlaps, agreement, provenance=origin)
    write_csv(depth, where, provenance=origin)
    whole = {"population": population, "sample": len(source.array("flat_index")), "metrics": document}
    write_json(statistics, whole, provenance=origin)


def _agreement(
    settings: Mapping[str, Any],
    top: pd.DataFrame,
    sampled: Mapping[str, npt.NDArray[np.float32]],
    population: int,
) -> Iterator[dict[str, Any]]:
    lists = {name: list(zip(rows["tensor"], rows["flat_index"], strict=True)) for name, rows in top.groupby("scorer")}
    for first, second in combinations(settings["metrics"], 2):
        known = np.isfinite(sampled[first]) & np.isfinite(sampled[second])
        rank = correlation(sampled[first][known], sampled[second][known], seed=settings["sample_seed"])
        for k in settings["topk"]:
            a, b = lists[first][:k], lists[second][:k]
            found = overlap(a, b, population)
            yield {
                "first": first,
                "second": second,
                "topk": k,
                "common": found.common,
                "jaccard": found.jaccard,
                "overlap_coefficient": found.coefficient,
                "chance_jaccard": found.chance,
                "p": found.p,
                "rbo": rank_biased_overlap(a, b, p=settings["persistence"]),
                "spearman": np.nan if rank.spearman is None else rank.spearman,
                "kendall": np.nan if rank.kendall is None else rank.kendall,
                "correlated_weights": rank.n,
                "kendall_weights": rank.kendall_n,
            }


def by_depth(parts: pd.DataFrame, top: pd.DataFrame, topk: Sequence[int]) -> pd.DataFrame:
    """Scores and selected weights of each block and component.

    Args:
        parts: Table of components of the first part.
        top: The largest scores of each metric.
        topk: Sizes of the selected sets.

    Returns:
        One row for each metric, block (-1 outside the blocks) and component: weights, mean and largest score, and for
        each K the selected weights and their share over the share of all weights that lie there (1 is chance).
    """
    keys = ["metric", "block", "component"]
    weighted = parts.assign(total=parts["mean_score"] * parts["weights"])
    frame = weighted.groupby(keys, sort=False).agg(
        weights=("weights", "sum"), total=("total", "sum"), max_score=("max_score", "max")
    )
    frame["mean_score"] = frame["total"] / frame["weights"]
    frame = frame.drop(columns="total").reset_index()
    everything = frame.groupby("metric")["weights"].transform("sum")
    for k in topk:
        picked = top[top["rank"] <= k].groupby(["scorer", "block", "component"]).size()
        index = pd.MultiIndex.from_frame(frame[keys])
        frame[f"top_{k}"] = picked.reindex(index, fill_value=0).to_numpy(dtype=np.int64)
        frame[f"enrichment_{k}"] = frame[f"top_{k}"] / k / (frame["weights"] / everything)
    return frame


def profile(where: pd.DataFrame) -> dict[str, Any]:
    """How the mean score changes with depth: early, middle and late third, a label, and a rank correlation.

    Args:
        where: Rows of one metric from :func:`by_depth`.
    """
    inside = where[where["block"] >= 0]
    total = (inside["mean_score"] * inside["weights"]).groupby(inside["block"]).sum()
    means = (total / inside.groupby("block")["weights"].sum()).sort_index().to_numpy(dtype=float)
    by_component = where.assign(total=where["mean_score"] * where["weights"]).groupby("component", sort=False)
    ordered = (by_component["total"].sum() / by_component["weights"].sum()).sort_values(ascending=False)
    if len(means) < 3:
        return {"blocks": len(means), "label": None, "components": ordered.to_dict()}
    early, middle, late = (float(part.mean()) for part in np.array_split(means, 3))
    rank = float(stats.spearmanr(np.arange(len(means)), means).statistic) if np.ptp(means) > 0 else None
    return {
        "blocks": len(means),
        "early": early,
        "middle": middle,
        "late": late,
        "label": label(early, middle, late),
        "spearman_with_depth": rank,
        "components": ordered.to_dict(),
    }


def label(early: float, middle: float, late: float) -> str:
    """stable, increasing, decreasing, peak_middle, valley_middle or irregular."""
    if middle > max(early, late) * (1 + SAME):
        return "peak_middle"
    if middle < min(early, late) * (1 - SAME):
        return "valley_middle"
    if abs(early - late) < SAME * max(early, late):
        return "stable"
    rising = early <= middle * (1 + SAME) and middle <= late * (1 + SAME)
    falling = late <= middle * (1 + SAME) and middle <= early * (1 + SAME)
    return "increasing" if rising else "decreasing" if falling else "irregular"


def _tail(values: npt.NDArray[np.float32], settings: Mapping[str, Any]) -> dict[str, Any]:
    known = values[np.isfinite(values)].astype(np.float64)
    positive = int(np.count_nonzero(known > 0))
    shares = [share for share in HILL_SHARES if share * positive >= 2]
    return {
        "scores": len(known),
        "positive": positive,
        "hill": [tails.hill(known, share) for share in shares],
        "power_law": tails.power_law(known, largest=TAIL, draws=settings["tail_draws"], seed=settings["sample_seed"]),
    }


def write_tops(
    settings: Mapping[str, Any], *, rankings: Path, tops: Sequence[Path], provenance: Mapping[str, Any]
) -> None:
    """Write the best weights of each metric to tables of their own.

    Args:
        settings: Keys metrics and topk of the block ``critical_weights``.
        rankings: Rankings of the first part.
        tops: One CSV for each metric and K, in this order.
        provenance: Config, code and input digests.
    """
    ranked = read_parquet(rankings)
    origin = collect(seeds=None, platform={}, model={}, **provenance)
    wanted = [(metric, k) for metric in settings["metrics"] for k in settings["topk"]]
    for (metric, k), path in zip(wanted, tops, strict=True):
        rows = ranked[(ranked["scorer"] == metric) & (ranked["selection"] == "top") & (ranked["rank"] <= k)]
        write_csv(path, rows.drop(columns="selection").sort_values("rank").reset_index(drop=True), provenance=origin)
