"""critical_weights, second part: change the weights on top, at the bottom and at random, and measure what it costs."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.errors import ArtifactError, NumericsError
from tremor.evaluate import effects, nll
from tremor.evaluate import texts as choosing
from tremor.evaluate.effects import Contrast, Resampler
from tremor.experiments.session import Session
from tremor.progress import track
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.tables import read_parquet, write_csv
from tremor.weights import bits, mutate
from tremor.weights.campaign import Campaign, Effect
from tremor.weights.mutate import Operation


def operation(settings: Mapping[str, Any]) -> Operation:
    """The mutation that the config block names."""
    name = settings["operation"]
    if name == "gaussian":
        return mutate.gaussian(settings["noise"], relative_to="weight", seed=settings["control_seed"])
    if name == "flip":
        return bits.flip(settings["bit"])
    known: dict[str, Operation] = {"zero": mutate.zero, "mean": mutate.mean, "sign": mutate.sign}
    return known[name]


@dataclass
class _Rows:
    """Results as they come: tables and what each row's texts say."""

    judge: Resampler
    confidence: float
    table: list[dict[str, Any]] = field(default_factory=list)
    controls: list[dict[str, Any]] = field(default_factory=list)
    delta: list[npt.NDArray[np.float64]] = field(default_factory=list)
    kl: list[npt.NDArray[np.float64]] = field(default_factory=list)


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


def measure(
    session: Session,
    settings: Mapping[str, Any],
    *,
    rankings: Path,
    table: Path,
    controls: Path,
    data: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Run the campaign.

    Args:
        session: The loaded model.
        settings: Config block ``critical_weights``.
        rankings: Rankings of the first part.
        table: CSV to write: one row for each metric, K, ratio and end of the ranking.
        controls: CSV to write: one row for each random control.
        data: HDF5 to write: the effects text by text.
        statistics: JSON to write: the experiment's summary.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: The ranking is of another model, or shorter than K.
        NumericsError: A mutation did not do what it says, or the model is not the same twice.
    """
    loaded = session.loaded
    passages = choosing.passages("heldout", settings["texts"])
    texts = nll.tokenise(loaded, [p.text for p in passages], bos=settings["bos"])
    run = Campaign(loaded, texts, batch_size=settings["batch_size"], memory=session.max_memory)
    judge = Resampler(texts.tokens, draws=settings["bootstrap"], seed=settings["bootstrap_seed"])
    rows = _Rows(judge, settings["confidence"])
    ranked = read_parquet(rankings)
    _check(ranked, loaded.digest, rankings)
    for metric in track(settings["metrics"], description="metrics"):
        _metric(run, metric, ranked[ranked["scorer"] == metric], settings, rows)
    frame = pd.DataFrame(rows.table)
    frame["p_holm"] = adjusted(frame)
    if not any(np.any(values != 0) for values in rows.delta):
        raise NumericsError("no mutation of the campaign moved the likelihood of any text; it measures nothing")
    seeds = {"controls": int(settings["control_seed"]), "bootstrap": int(settings["bootstrap_seed"])}
    origin = session.provenance(**provenance, seeds=seeds)
    write_csv(table, frame, provenance=origin)
    write_csv(controls, pd.DataFrame(rows.controls), provenance=origin)
    arrays: dict[str, Any] = {
        "delta_nll": np.stack(rows.delta),
        "kl": np.stack(rows.kl),
        "tokens": texts.tokens,
        "clean_nll_sum": run.clean.evaluation.nll_sum,
    }
    attributes = {"domains": [p.domain for p in passages], "texts_digest": texts.digest}
    write_hdf5(data, arrays, attributes=attributes, provenance=origin)
    write_json(statistics, _summary(run, frame, passages, settings), provenance=origin)


def adjusted(frame: pd.DataFrame) -> "pd.Series[float]":
    """Holm's adjustment of p_t over all sets that have one; sets that several rows share count once."""
    own = frame[frame["p_t"].notna()].drop_duplicates(["metric", "selection", "weights_requested"])
    known = dict(zip(zip(own["metric"], own["weights_requested"], strict=True), effects.holm(own["p_t"]), strict=True))
    rows = zip(frame["metric"], frame["weights_requested"], frame["p_t"].notna(), strict=True)
    return pd.Series([known[m, k] if tested else np.nan for m, k, tested in rows], index=frame.index, dtype="float64")


def _check(ranked: pd.DataFrame, digest: str, path: Path) -> None:
    if set(ranked["run_id"]) != {digest[:16]}:
        raise ArtifactError(f"{path} ranks the weights of another model; delete it and run snakemake again")


def _metric(run: Campaign, metric: str, ranked: pd.DataFrame, settings: Mapping[str, Any], rows: _Rows) -> None:
    act = operation(settings)
    for side in ("top", "bottom"):
        ordered = ranked[ranked["selection"] == side].sort_values("rank")
        if len(ordered) < max(settings["topk"]):
            raise ArtifactError(
                f"{metric} ranks {len(ordered)} weights, fewer than the {max(settings['topk'])} of "
                "critical_weights.topk; lower that or select more components"
            )
        ratios = settings["mask_ratios"] if side == "top" else [max(settings["mask_ratios"])]
        wanted = plans(settings["topk"], ratios, settings["control_ratios"] if side == "top" else [])
        seen: dict[int, tuple[Effect, Contrast | None]] = {}
        for (k, ratio), plan in wanted.items():
            if plan.count not in seen:
                chosen = ordered.iloc[: plan.count]
                effect = run.effect(_edits(chosen), act, allow_unchanged=side == "bottom")
                drawn = list(_controls(run, metric, chosen, settings, act)) if plan.controls else []
                rows.controls += [{"metric": metric, "weights": plan.count, **row} for row in drawn]
                seen[plan.count] = effect, _contrast(effect, drawn)
            effect, against = seen[plan.count]
            rows.table.append(_row(run, rows, metric, side, k, ratio, effect, against, ordered.iloc[: plan.count]))
            rows.delta.append(_array(effect.evaluation.delta_nll))
            rows.kl.append(_array(effect.evaluation.kl))


def _edits(chosen: pd.DataFrame) -> list[mutate.Edit]:
    return mutate.edits_at(chosen["tensor"].tolist(), chosen["flat_index"].tolist())


def _array(values: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64]:
    assert values is not None
    return values


def _controls(
    run: Campaign, metric: str, chosen: pd.DataFrame, settings: Mapping[str, Any], act: Operation
) -> Iterator[dict[str, Any]]:
    """Effects of random sets that match the chosen one in its tensors and counts, and in |w| if asked."""
    tensors = chosen["tensor"].tolist()
    parameters = {name: run.loaded.anatomy.parameter(name).detach() for name in dict.fromkeys(tensors)}
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    magnitudes = None
    if settings["control_match"] == "magnitude":
        magnitudes = {name: p.reshape(-1).float().abs().cpu().numpy() for name, p in parameters.items()}
    rng = np.random.default_rng([settings["control_seed"], zlib.crc32(metric.encode()), len(chosen)])
    for draw in range(settings["controls"]):
        control = effects.matched_control(
            tensors, chosen["flat_index"], sizes, rng, magnitudes=magnitudes, bins=settings["magnitude_bins"]
        )
        edits = mutate.edits_at(control.tensors, control.flat_index.tolist())
        effect = run.effect(edits, act, allow_unchanged=True)
        found = effect.evaluation
        yield {
            "draw": draw,
            "weights_changed": effect.changed,
            "status": found.overall,
            "delta_nll": found.corpus_delta_nll,
            "kl": found.corpus_kl,
            "flip_rate": found.flip_rate,
            "disjoint": control.disjoint,
        }


def _contrast(effect: Effect, drawn: Sequence[Mapping[str, Any]]) -> Contrast | None:
    if not drawn or "nan_logits" in {effect.evaluation.overall, *(row["status"] for row in drawn)}:
        return None
    return effects.contrast(effect.evaluation.corpus_delta_nll, [row["delta_nll"] for row in drawn])


def _row(
    run: Campaign, rows: _Rows, metric: str, side: str, k: int, ratio: float, effect: Effect,
    against: Contrast | None, chosen: pd.DataFrame,
) -> dict[str, Any]:  # fmt: skip
    clean, found = run.clean.evaluation, effect.evaluation
    finite = found.overall == "ok"
    interval = rows.judge.interval(_array(found.delta_nll), confidence=rows.confidence) if finite else None
    return {
        "metric": metric,
        "selection": side,
        "topk": k,
        "mask_ratio": ratio,
        "weights_requested": effect.requested,
        "weights_changed": effect.changed,
        "weights_no_op": effect.no_ops,
        "tensors": int(chosen["tensor"].nunique()),
        "status": found.overall,
        "baseline_nll": clean.nll,
        "perturbed_nll": found.nll,
        "delta_nll": found.corpus_delta_nll,
        "delta_nll_low": interval.low if interval else np.nan,
        "delta_nll_high": interval.high if interval else np.nan,
        "baseline_ppl": clean.ppl,
        "perturbed_ppl": found.ppl,
        "ppl_increase": found.ppl - clean.ppl,
        "ppl_ratio": found.ppl / clean.ppl,
        "kl": found.corpus_kl,
        "flip_rate": found.flip_rate,
        "controls": against.draws if against else 0,
        "control_mean": against.mean if against else np.nan,
        "control_std": against.std if against else np.nan,
        "control_max": against.highest if against else np.nan,
        "z": np.nan if against is None or against.z is None else against.z,
        "p": against.p if against else np.nan,
        "p_t": np.nan if against is None or against.p_t is None else against.p_t,
        "eval_texts_count": len(run.texts),
        "eval_tokens": int(run.texts.tokens.sum()),
    }


def _summary(
    run: Campaign, frame: pd.DataFrame, passages: Sequence[Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Counterpart of the ancestor's experiment_summary."""
    top = frame[(frame["selection"] == "top") & (frame["status"] == "ok")]
    curves = {}
    for metric, rows in frame[frame["selection"] == "top"].groupby("metric", sort=False):
        doses = rows.drop_duplicates("weights_requested").sort_values("weights_requested")
        curves[str(metric)] = effects.dose_response(doses["weights_requested"], doses["delta_nll"])
    clean = run.clean.evaluation
    return {
        "baseline_nll": clean.nll,
        "baseline_perplexity": clean.ppl,
        "baseline_bits_per_byte": clean.bits_per_byte,
        "num_parameters": sum(p.numel() for p in run.loaded.model.parameters()),
        "eval_texts_count": len(run.texts),
        "eval_tokens": int(run.texts.tokens.sum()),
        "eval_texts_digest": choosing.digest([p.text for p in passages]),
        "eval_domains": sorted({p.domain for p in passages}),
        "metrics": list(settings["metrics"]),
        "topk": list(settings["topk"]),
        "mask_ratios": list(settings["mask_ratios"]),
        "operation": settings["operation"],
        "controls": settings["controls"],
        "max_delta_nll": float(top["delta_nll"].max()) if len(top) else None,
        "max_ppl_ratio": float(top["ppl_ratio"].max()) if len(top) else None,
        "mean_delta_nll": float(top["delta_nll"].mean()) if len(top) else None,
        "destroyed": int((frame["status"] != "ok").sum()),
        "significant": int((frame["p_holm"] < 0.05).sum()),
        "tested": int(frame["p_holm"].notna().sum()),
        "dose_response": curves,
        "config": dict(settings),
    }
