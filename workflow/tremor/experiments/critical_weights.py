"""critical_weights, second part: change the weights on top, at the bottom and at random, and measure what it costs."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.evaluate import effects, nll
from tremor.evaluate import texts as choosing
from tremor.experiments.critical_effects import Change, Set, changes, sets, write_effects
from tremor.experiments.session import Session
from tremor.progress import Progress
from tremor.shards import WHOLE, Shard
from tremor.store.shards import Part
from tremor.store.tables import read_parquet
from tremor.weights import bits, mutate
from tremor.weights.campaign import Campaign, Effect
from tremor.weights.mutate import Operation
from tremor.weights.select import select


def operation(settings: Mapping[str, Any]) -> Operation:
    """The mutation that the config block names."""
    name = settings["operation"]
    if name == "gaussian":
        return mutate.gaussian(settings["noise"], relative_to="weight", seed=settings["control_seed"])
    if name == "flip":
        return bits.flip(settings["bit"])
    known: dict[str, Operation] = {"zero": mutate.zero, "mean": mutate.mean, "sign": mutate.sign}
    return known[name]


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
    whole = part(session, settings, rankings=rankings)
    origin = session.provenance(**provenance, seeds=whole.seeds)
    write_effects(whole, table=table, controls=controls, data=data, statistics=statistics, provenance=origin)


def part(session: Session, settings: Mapping[str, Any], *, rankings: Path, shard: Shard = WHOLE) -> Part:
    """Effects of a shard's share of the changed models, all of them by default; else as :func:`measure`."""
    loaded = session.loaded
    passages = choosing.passages("heldout", settings["texts"])
    texts = nll.tokenise(loaded, [p.text for p in passages], bos=settings["bos"])
    planned = sets(read_parquet(rankings), settings, digest=loaded.digest, path=rankings)
    every = changes(planned, settings["controls"])
    rows = shard.rows(len(every), key="shards.critical_weights")
    run = Campaign(loaded, texts, batch_size=settings["batch_size"], memory=session.max_memory)
    mine = every[rows.start : rows.stop]
    table, own, act = [], {}, operation(settings)
    with Progress(len(mine), "changes") as progress:
        for change, edits, disjoint in _edits(run, mine, settings):
            # The least important may all be as the operation makes them already, and so may random ones; and a score
            # may put weights first that a pruned model has lost.
            idle = change.draw is not None or change.of.selection == "bottom"
            effect = run.effect(edits, act, allow_unchanged=idle or "zeros")
            table.append(_row(change, effect, disjoint))
            if change.draw is None:
                own[f"delta_nll/{change.of.number:06d}"] = _array(effect.evaluation.delta_nll)
                own[f"kl/{change.of.number:06d}"] = _array(effect.evaluation.kl)
            progress.advance()
    clean = run.clean.evaluation
    facts = {
        "settings": dict(settings),
        "sets": [one.described() for one in planned],
        "domains": [p.domain for p in passages],
        "texts_digest": texts.digest,
        "eval_texts_digest": choosing.digest([p.text for p in passages]),
        "clean": {"nll": clean.nll, "ppl": clean.ppl, "bits_per_byte": clean.bits_per_byte},
        "num_parameters": sum(p.numel() for p in loaded.model.parameters()),
    }
    common = {"tokens": texts.tokens, "clean_nll_sum": clean.nll_sum}
    tables = {"changes": pd.DataFrame(table)}
    seeds = {"controls": int(settings["control_seed"]), "bootstrap": int(settings["bootstrap_seed"])}
    return Part(rows, len(every), common=common, own=own, tables=tables, facts=facts, seeds=seeds)


def _edits(
    run: Campaign, mine: Sequence[Change], settings: Mapping[str, Any]
) -> Iterator[tuple[Change, list[mutate.Edit], bool | None]]:
    """What each change edits; controls are drawn from the first of their set on, whoever has those before."""
    # Of the values in a fused projection, controls are values too.
    allowed = select(run.loaded.anatomy, components=settings["components"]).parts
    drawn: dict[int, Iterator[effects.Drawn]] = {}
    at: dict[int, int] = {}
    for change in mine:
        chosen, number = change.of, change.of.number
        if change.draw is None:
            yield change, mutate.edits_at(chosen.tensors, chosen.flat_index), None
            continue
        if number not in drawn:
            drawn[number], at[number] = _controls(run, chosen, settings, allowed), 0
        while at[number] < change.draw:
            next(drawn[number])
            at[number] += 1
        control = next(drawn[number])
        at[number] += 1
        yield change, mutate.edits_at(control.tensors, control.flat_index.tolist()), control.disjoint


def _controls(
    run: Campaign, chosen: Set, settings: Mapping[str, Any], allowed: Mapping[str, npt.NDArray[np.int64]]
) -> Iterator[effects.Drawn]:
    """Random sets that match the chosen one in its tensors and counts, and in |w| if asked; one after the other."""
    parameters = {name: run.loaded.anatomy.parameter(name).detach() for name in dict.fromkeys(chosen.tensors)}
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    magnitudes = None
    if settings["control_match"] == "magnitude":
        magnitudes = {name: p.reshape(-1).float().abs().cpu().numpy() for name, p in parameters.items()}
    rng = np.random.default_rng([settings["control_seed"], zlib.crc32(chosen.metric.encode()), len(chosen.tensors)])
    while True:
        yield effects.matched_control(
            chosen.tensors,
            chosen.flat_index,
            sizes,
            rng,
            magnitudes=magnitudes,
            bins=settings["magnitude_bins"],
            allowed=allowed,
        )


def _array(values: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64]:
    assert values is not None
    return values


def _row(change: Change, effect: Effect, disjoint: bool | None) -> dict[str, Any]:
    found = effect.evaluation
    return {
        "set": change.of.number,
        "draw": -1 if change.draw is None else change.draw,
        "weights_requested": effect.requested,
        "weights_changed": effect.changed,
        "weights_no_op": effect.no_ops,
        "status": found.overall,
        "nll": found.nll,
        "ppl": found.ppl,
        "delta_nll": found.corpus_delta_nll,
        "kl": found.corpus_kl,
        "flip_rate": found.flip_rate,
        "disjoint": bool(disjoint),
    }
