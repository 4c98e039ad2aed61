"""esa/super-weights: the most important single weights by every method, and what their removal costs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from tremor import platform
from tremor.errors import ConfigError, NumericsError
from tremor.experiments import esa_shared, esa_super_changes, score_parts
from tremor.experiments.esa_shared import Bench
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.shards import Shard
from tremor.store.documents import write_json
from tremor.store.shards import Part, gather
from tremor.store.tables import write_csv
from tremor.weights import spikes
from tremor.weights.merge import COLUMNS, merged
from tremor.weights.scores import Options, encode, rankings
from tremor.weights.select import Selection, select

PROCEDURE = "spikes"
INTEGERS = ("weights", "population", "first_block", "prompts", "votes", "group", "held_out")
TEXTS = ("method", "status", "first_tensor", "first_component", "first_index", "dtype", "study", "grid")


def measure(
    session: Session,
    *,
    texts: Mapping[str, Any],
    scores: Mapping[str, Any],
    settings: Mapping[str, Any],
    weights: Path,
    peaks: Path,
    effects: Path,
    changes: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
    parts: Sequence[Path] = (),
) -> None:
    """Rank the weights by every method, look for super weights, and zero, scale and spare what each method names.

    Args:
        session: The model on its platform.
        texts: Config block `esa.texts`.
        scores: Config block `esa.scores`.
        settings: Config block `esa.super_weights`.
        weights: CSV to write: the rankings, one schema.
        peaks: CSV to write: largest activations of each block and prompt.
        effects: CSV to write: one row for each method.
        changes: CSV to write: one row for each method and factor, and for each method and grid.
        statistics: JSON to write.
        provenance: Config, code and input digests.
        parts: Scores that shards have computed (:func:`part`); none, and all is computed here.
    """
    loaded: LoadedModel = session.loaded
    calibration = esa_shared.passages("calibration", texts["calibration"])
    bench = Bench(loaded, esa_shared.passages("heldout", texts["heldout"]), batch_size=texts["batch_size"])
    selection = select(loaded.anatomy, layers=settings["layers"], components=settings["components"])
    if parts:
        found = _gathered(session, parts, settings)
    else:
        found = _rankings(session, calibration, selection, esa_shared.options(scores), settings)
    prompts = calibration[: settings["prompts"]]
    trace, supers, seconds = _spikes(loaded, prompts, settings)
    if PROCEDURE in settings["methods"]:
        found[PROCEDURE] = _as_ranking(supers, loaded, session), seconds, {"votes": _share_of_votes(supers)}
    rows = []
    for method in settings["methods"]:
        table, spent, notes = found[method]
        rows.append(_row(method, table, spent, notes, bench, selection, settings))
    named = {method: found[method][0] for method in settings["methods"]}
    changed = esa_super_changes.changes(bench, selection, named, settings)
    origin = session.provenance(**provenance, seeds={"scores": scores["seed"], "controls": settings["seed"]})
    ranked = [table for table, _, _ in found.values() if len(table)]
    write_csv(weights, pd.concat(ranked, ignore_index=True), provenance=origin)
    write_csv(peaks, trace, provenance=origin)
    write_csv(effects, esa_shared.table(rows, integers=INTEGERS, texts=TEXTS), provenance=origin)
    write_csv(changes, esa_shared.table(changed, integers=INTEGERS, texts=TEXTS), provenance=origin)
    document = {
        "nll_clean": bench.clean.evaluation.nll,
        "tokens": int(bench.texts.tokens.sum()),
        "calibration_texts": len(calibration),
        "heldout_texts": len(bench.texts),
        "population": selection.count,
        "tensors": list(selection.tensors),
        "super_weights": [asdict(weight) for weight in supers],
        "notes": {method: notes for method, (_, _, notes) in found.items()},
    }
    write_json(statistics, document, provenance=origin)


Found = dict[str, tuple[pd.DataFrame, float, dict[str, Any]]]


def _rankings(
    session: Session, texts: Sequence[str], selection: Selection, options: Options, settings: Mapping[str, Any]
) -> Found:
    names = [name for name in settings["methods"] if name != PROCEDURE]
    if not names:
        return {}
    ranked = rankings(
        names, session.loaded, texts, settings["top_k"], selection=selection, options=options, run_id=_run_id(session)
    )
    return {name: (entry.tables["top"], entry.seconds, entry.notes) for name, entry in ranked.items()}


def part(
    session: Session,
    *,
    texts: Mapping[str, Any],
    scores: Mapping[str, Any],
    settings: Mapping[str, Any],
    shard: Shard,
) -> Part:
    """Rankings of a shard's share of the tensors, for :func:`measure`, whose args these are.

    Raises:
        ConfigError: There are more shards than tensors, or no method is a score.
    """
    loaded: LoadedModel = session.loaded
    names = [name for name in settings["methods"] if name != PROCEDURE]
    if not names:
        raise ConfigError("shards.esa_super_weights shares out scores, but esa.super_weights.methods names none; set 1")
    calibration = esa_shared.passages("calibration", texts["calibration"])
    selection = select(loaded.anatomy, layers=settings["layers"], components=settings["components"])
    rows = shard.share([entry.count for entry in selection.chosen.values()], key="shards.esa_super_weights")
    ranked = rankings(
        names, loaded, calibration, settings["top_k"], selection=selection, options=esa_shared.options(scores),
        run_id=_run_id(session), mine=selection.share(selection.tensors[rows.start : rows.stop]),
    )  # fmt: skip
    tables = {f"ranking.{name}": entry.tables["top"] for name, entry in ranked.items()}
    for name, entry in ranked.items():
        tables |= score_parts.tables_of(name, entry.terms)
    facts = {"terms": {name: score_parts.facts_of(entry.terms) for name, entry in ranked.items()}}
    cost = {f"seconds.{name}": entry.seconds for name, entry in ranked.items()}
    seeds = {"scores": scores["seed"]}
    return Part(rows, len(selection.tensors), tables=tables, facts=facts, seeds=seeds, cost=cost)


def _gathered(session: Session, parts: Sequence[Path], settings: Mapping[str, Any]) -> Found:
    """What shards have scored, as :func:`_rankings` gives it."""
    whole, origin = gather(parts)
    platform.require_same(origin["platform"], session.fingerprint, path=parts[0])
    found: Found = {}
    for name in whole.facts["terms"]:
        best = merged([whole.tables[f"ranking.{name}"]], settings["top_k"])
        if not len(best):
            raise NumericsError(f"{name} is not defined for any selected weight; select others, or leave it out")
        found[name] = best, whole.cost[f"seconds.{name}"], score_parts.terms_of(whole, name).notes()
    return found


def _run_id(session: Session) -> str:
    return str(session.manifest["alias"])


def _spikes(
    loaded: LoadedModel, prompts: Sequence[str], settings: Mapping[str, Any]
) -> tuple[pd.DataFrame, list[spikes.SuperWeight], float]:
    """The peaks of every prompt and block before any change, the super weights, and the time they took."""
    begin = (True, False) if loaded.tokenizer.bos_token_id is not None else (False,)
    kinds = [(text, bos) for text in range(len(prompts)) for bos in begin]
    ids = [encode(loaded, [prompts[text]], Options(bos="always" if bos else "never"))[0] for text, bos in kinds]
    started = time.perf_counter()
    supers, traces = spikes.find(
        loaded,
        ids,
        threshold=settings["threshold"],
        scale=settings["scale"],
        agreement=settings["agreement"],
        most=settings["most"],
    )
    seconds = time.perf_counter() - started
    rows = [
        {
            "prompt": text,
            "bos": bos,
            **asdict(peak),
            "spikes": peak.spikes(settings["threshold"], settings["scale"]),
            "originates": peak.originates(),
        }
        for (text, bos), trace in zip(kinds, traces, strict=True)
        for peak in trace
    ]
    return pd.DataFrame(rows), supers, seconds


def _share_of_votes(supers: Sequence[spikes.SuperWeight]) -> float | None:
    return supers[0].votes / supers[0].prompts if supers else None


def _as_ranking(supers: Sequence[spikes.SuperWeight], loaded: LoadedModel, session: Session) -> pd.DataFrame:
    """Super weights in the schema of rankings; the score is |output|."""
    rows = []
    for weight in supers:
        transposed = weight.tensor in loaded.anatomy.transposed
        index = [weight.column, weight.row] if transposed else [weight.row, weight.column]
        part = loaded.anatomy.block_parts[weight.block]
        component = "down" if part.down is not None else "o"
        rows.append(
            (
                _run_id(session), PROCEDURE, "global", weight.order, weight.tensor, weight.flat_index, str(index),
                weight.block, component, weight.weight, abs(weight.output_value),
            )
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(
    method: str,
    ranked: pd.DataFrame,
    seconds: float,
    notes: Mapping[str, Any],
    bench: Bench,
    selection: Selection,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """One method: its first weight, the effect of removing that one, and of removing all, beside matched controls."""
    quality = next((notes[n] for n in ("noise_over_estimate", "completeness_error", "votes") if n in notes), None)
    row: dict[str, Any] = {
        "method": method,
        "weights": len(ranked),
        "population": selection.count,
        "seconds": seconds,
        "quality": quality,
    }
    names = ("tensor", "block", "component", "index", "weight", "score")
    first = ranked.iloc[0] if len(ranked) else None
    row |= {f"first_{name}": None if first is None else first[name] for name in names}
    outcome = ("status", "delta_nll", "delta_nll_low", "delta_nll_high", "kl", "flip_rate")
    compared = ("control_mean", "control_std", "control_highest", "z", "p")
    if first is None:
        return row | dict.fromkeys(("first_delta_nll", *outcome, *compared)) | _constants(bench)
    tensors, flat = ranked["tensor"].tolist(), ranked["flat_index"].tolist()
    row["first_delta_nll"] = bench.changed(tensors[:1], flat[:1]).delta_nll
    effect = bench.changed(tensors, flat)
    row |= {name: getattr(effect, name) for name in outcome}
    # The procedure looks at all blocks, whatever is selected for scores.
    allowed = None if method == PROCEDURE else selection.parts
    controls = bench.controls(tensors, flat, draws=settings["controls"], seed=settings["seed"], allowed=allowed)
    return row | esa_shared.against_controls(effect, controls) | _constants(bench)


def _constants(bench: Bench) -> dict[str, Any]:
    dtype = str(bench.loaded.dtype).removeprefix("torch.")
    return {"nll_clean": bench.clean.evaluation.nll, "dtype": dtype}
