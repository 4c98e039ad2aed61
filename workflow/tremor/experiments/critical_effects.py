"""critical_weights: which models a campaign changes, and tables of what it found, by one job or several. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.errors import ArtifactError, NumericsError
from tremor.evaluate import effects
from tremor.evaluate.effects import Contrast, Resampler
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.shards import Part
from tremor.store.tables import write_csv


@dataclass(frozen=True)
class Plan:
    """Which sets of a ranking are changed: the first `count` of it, once, whatever asks for them.

    Attributes:
        count: Weights.
        controls: Whether random controls are drawn for this set.
    """

    count: int
    controls: bool


def plans(
    topk: Sequence[int], ratios: Sequence[float], control_ratios: Sequence[float]
) -> dict[tuple[int, float], Plan]:
    """The sets for every K and ratio; equal sets of different K are evaluated once."""
    with_controls = {effects.doses(k, control_ratios)[r] for k in topk for r in control_ratios}
    found = {}
    for k in topk:
        for ratio, count in effects.doses(k, ratios).items():
            found[k, ratio] = Plan(count, count in with_controls)
    return found


@dataclass(frozen=True)
class Set:
    """The first weights of a ranking, from its top or its bottom.

    Attributes:
        number: Its place among all sets of the campaign.
        metric: Whose ranking.
        selection: "top" or "bottom".
        controls: Whether random controls are drawn for it.
        tensors: Tensor of each weight.
        flat_index: Flat index of each weight.
    """

    number: int
    metric: str
    selection: str
    controls: bool
    tensors: list[str]
    flat_index: list[int]

    def described(self) -> dict[str, Any]:
        """What the tables need of it."""
        return {
            "metric": self.metric, "selection": self.selection, "count": len(self.tensors), "controls": self.controls,
            "tensors": len(set(self.tensors)),
        }  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One model to be evaluated: a set, or a random control of it (`draw`, from 0)."""

    of: Set
    draw: int | None


def sets(ranked: pd.DataFrame, settings: Mapping[str, Any], *, digest: str, path: Path) -> list[Set]:
    """All sets that a campaign changes, in order.

    Args:
        ranked: The rankings.
        settings: Config block ``critical_weights``.
        digest: Of the model's weights.
        path: Where the rankings are, for messages.

    Raises:
        ArtifactError: The ranking is of another model, or shorter than K.
    """
    if set(ranked["run_id"]) != {digest[:16]}:
        raise ArtifactError(f"{path} ranks the weights of another model; delete it and run snakemake again")
    found: list[Set] = []
    for metric in settings["metrics"]:
        for side in ("top", "bottom"):
            own = ranked[(ranked["scorer"] == metric) & (ranked["selection"] == side)].sort_values("rank")
            if len(own) < max(settings["topk"]):
                raise ArtifactError(
                    f"{metric} ranks {len(own)} weights, fewer than the {max(settings['topk'])} of "
                    "critical_weights.topk; lower that or select more components"
                )
            for plan in dict.fromkeys(_plans(settings, side).values()):
                chosen = own.iloc[: plan.count]
                tensors, flat = chosen["tensor"].tolist(), chosen["flat_index"].tolist()
                found.append(Set(len(found), metric, side, plan.controls, tensors, flat))
    return found


def _plans(settings: Mapping[str, Any], side: str) -> dict[tuple[int, float], Plan]:
    if side == "top":
        return plans(settings["topk"], settings["mask_ratios"], settings["control_ratios"])
    return plans(settings["topk"], [max(settings["mask_ratios"])], [])


def changes(planned: Sequence[Set], controls: int) -> list[Change]:
    """All models that are evaluated, in order: each set, then its controls."""
    return [
        Change(one, draw)
        for one in planned
        for draw in (None, *(range(controls) if one.controls else ()))
    ]  # fmt: skip


def write_effects(
    whole: Part, *, table: Path, controls: Path, data: Path, statistics: Path, provenance: Mapping[str, Any]
) -> None:
    """Write the tables of a campaign.

    Args:
        whole: All changed models.
        table: CSV to write: one row for each metric, K, ratio and end of the ranking.
        controls: CSV to write: one row for each random control.
        data: HDF5 to write: the effects text by text.
        statistics: JSON to write: the experiment's summary.
        provenance: Of the job, or of the shards.

    Raises:
        NumericsError: No change moved the likelihood of any text.
    """
    settings, found = whole.facts["settings"], whole.tables["changes"]
    numbers = [(k, r, n) for k, r, n in _rows(whole.facts["sets"], settings)]
    delta, kl = (np.stack([whole.own[f"{kind}/{n:06d}"] for _, _, n in numbers]) for kind in ("delta_nll", "kl"))
    judge = Resampler(whole.common["tokens"], draws=settings["bootstrap"], seed=settings["bootstrap_seed"])
    rows = [_row(whole, judge, found[found["set"] == n], k, r, n) for k, r, n in numbers]
    frame = pd.DataFrame(rows)
    frame["p_holm"] = adjusted(frame)
    if not np.any(delta != 0):
        raise NumericsError("no mutation of the campaign moved the likelihood of any text; it measures nothing")
    write_csv(table, frame, provenance=provenance)
    write_csv(controls, _controls(found, whole.facts["sets"]), provenance=provenance)
    arrays = {"delta_nll": delta, "kl": kl, **whole.common}
    attributes = {name: whole.facts[name] for name in ("domains", "texts_digest")}
    write_hdf5(data, arrays, attributes=attributes, provenance=provenance)
    write_json(statistics, _summary(whole, frame, settings), provenance=provenance)


def _rows(described: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[tuple[int, float, int]]:
    """K, ratio and number of the set of every row of the table; equal sets of different K are one set."""
    number = {(one["metric"], one["selection"], one["count"]): n for n, one in enumerate(described)}
    return [
        (k, ratio, number[metric, side, plan.count])
        for metric in settings["metrics"]
        for side in ("top", "bottom")
        for (k, ratio), plan in _plans(settings, side).items()
    ]


def _controls(found: pd.DataFrame, described: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    drawn = found[found["draw"] >= 0]
    columns = ("draw", "weights_changed", "status", "delta_nll", "kl", "flip_rate", "disjoint")
    if not len(drawn):
        return pd.DataFrame()
    of = [described[n] for n in drawn["set"]]
    head = {"metric": [one["metric"] for one in of], "weights": [one["count"] for one in of]}
    plain = pd.DataFrame({**head, **{name: drawn[name].to_numpy() for name in columns}})
    return plain.astype({"metric": "str", "status": "str"})


def adjusted(frame: pd.DataFrame) -> "pd.Series[float]":
    """Holm's adjustment of p_t over all sets that have one; sets that several rows share count once."""
    own = frame[frame["p_t"].notna()].drop_duplicates(["metric", "selection", "weights_requested"])
    known = dict(zip(zip(own["metric"], own["weights_requested"], strict=True), effects.holm(own["p_t"]), strict=True))
    rows = zip(frame["metric"], frame["weights_requested"], frame["p_t"].notna(), strict=True)
    return pd.Series([known[m, k] if tested else np.nan for m, k, tested in rows], index=frame.index, dtype="float64")


def _contrast(effect: Mapping[str, Any], drawn: pd.DataFrame) -> Contrast | None:
    if not len(drawn) or "nan_logits" in {effect["status"], *drawn["status"]}:
        return None
    return effects.contrast(effect["delta_nll"], drawn["delta_nll"].tolist())


def _row(whole: Part, judge: Resampler, found: pd.DataFrame, k: int, ratio: float, number: int) -> dict[str, Any]:
    """One row of the table from the rows of a set: its effect, and its controls."""
    described, settings, clean = whole.facts["sets"][number], whole.facts["settings"], whole.facts["clean"]
    effect = found[found["draw"] < 0].iloc[0].to_dict()
    against = _contrast(effect, found[found["draw"] >= 0])
    interval = None
    if effect["status"] == "ok":
        interval = judge.interval(whole.own[f"delta_nll/{number:06d}"], confidence=settings["confidence"])
    return {
        "metric": described["metric"],
        "selection": described["selection"],
        "topk": k,
        "mask_ratio": ratio,
        **{name: int(effect[name]) for name in ("weights_requested", "weights_changed", "weights_no_op")},
        "tensors": described["tensors"],
        "status": effect["status"],
        "baseline_nll": clean["nll"],
        "perturbed_nll": effect["nll"],
        "delta_nll": effect["delta_nll"],
        "delta_nll_low": interval.low if interval else np.nan,
        "delta_nll_high": interval.high if interval else np.nan,
        "baseline_ppl": clean["ppl"],
        "perturbed_ppl": effect["ppl"],
        "ppl_increase": effect["ppl"] - clean["ppl"],
        "ppl_ratio": effect["ppl"] / clean["ppl"],
        "kl": effect["kl"],
        "flip_rate": effect["flip_rate"],
        "controls": against.draws if against else 0,
        "control_mean": against.mean if against else np.nan,
        "control_std": against.std if against else np.nan,
        "control_max": against.highest if against else np.nan,
        "z": np.nan if against is None or against.z is None else against.z,
        "p": against.p if against else np.nan,
        "p_t": np.nan if against is None or against.p_t is None else against.p_t,
        "eval_texts_count": len(whole.common["tokens"]),
        "eval_tokens": _tokens(whole),
    }


def _tokens(whole: Part) -> int:
    tokens: npt.NDArray[Any] = whole.common["tokens"]
    return int(tokens.sum())


def _summary(whole: Part, frame: pd.DataFrame, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Counterpart of the ancestor's experiment_summary."""
    top = frame[(frame["selection"] == "top") & (frame["status"] == "ok")]
    curves = {}
    for metric, rows in frame[frame["selection"] == "top"].groupby("metric", sort=False):
        doses = rows.drop_duplicates("weights_requested").sort_values("weights_requested")
        curves[str(metric)] = effects.dose_response(doses["weights_requested"], doses["delta_nll"])
    facts = whole.facts
    distinct = frame.drop_duplicates(["metric", "selection", "weights_requested"])  # equal sets of several K are one
    return {
        "baseline_nll": facts["clean"]["nll"],
        "baseline_perplexity": facts["clean"]["ppl"],
        "baseline_bits_per_byte": facts["clean"]["bits_per_byte"],
        "num_parameters": facts["num_parameters"],
        "eval_texts_count": len(whole.common["tokens"]),
        "eval_tokens": _tokens(whole),
        "eval_texts_digest": facts["eval_texts_digest"],
        "eval_domains": sorted(set(facts["domains"])),
        **{name: settings[name] for name in ("metrics", "topk", "mask_ratios", "operation", "controls")},
        "max_delta_nll": float(top["delta_nll"].max()) if len(top) else None,
        "max_ppl_ratio": float(top["ppl_ratio"].max()) if len(top) else None,
        "mean_delta_nll": float(top["delta_nll"].mean()) if len(top) else None,
        "destroyed": int((distinct["status"] != "ok").sum()),
        "significant": int((distinct["p_holm"] < 0.05).sum()),
        "tested": int(distinct["p_holm"].notna().sum()),
        "dose_response": curves,
        "config": dict(settings),
    }
