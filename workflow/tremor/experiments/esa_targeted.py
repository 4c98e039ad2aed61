"""esa/targeted-perturbation: rising shares of the most important weights, beside random and least important ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tremor.experiments import esa_shared
from tremor.experiments.esa_populations import operation, scoring
from tremor.experiments.esa_shared import Bench, Effect
from tremor.experiments.esa_targeted_results import write_targeted
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.progress import Progress
from tremor.shards import WHOLE, Shard
from tremor.store.shards import Part
from tremor.weights.population import Population, gather, highest, lowest, matched, rounded
from tremor.weights.scores import SCORES


def measure(
    session: Session,
    *,
    texts: Mapping[str, Any],
    scores: Mapping[str, Any],
    settings: Mapping[str, Any],
    effects: Path,
    draws: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Change rising shares of the weights by every score, and as many random ones of the same tensors.

    Args:
        session: The model on its platform.
        texts: Config block `esa.texts`.
        scores: Config block `esa.scores`.
        settings: Config block `esa.targeted_perturbation`.
        effects: CSV to write: one row for each score, operation, selection and share.
        draws: CSV to write: every random set.
        statistics: JSON to write.
        provenance: Config, code and input digests.
    """
    whole = part(session, texts=texts, scores=scores, settings=settings)
    origin = session.provenance(**provenance, seeds=whole.seeds)
    write_targeted(whole, effects=effects, draws=draws, statistics=statistics, provenance=origin)


@dataclass(frozen=True)
class _Change:
    """One changed model: the top or the bottom of a dose, or a random set matched to its top (`draw`, from 0)."""

    dose: int
    score: str
    operation: str
    count: int
    selection: str
    draw: int = -1


def _doses(settings: Mapping[str, Any], population: int) -> list[tuple[str, str, float, int]]:
    """Score, operation, share and number of weights of every dose."""
    return [
        (score, name, fraction, max(1, rounded(fraction, population)))
        for score in settings["scores"]
        for name in settings["operations"]
        for fraction in sorted(settings["fractions"])
    ]


def _changes(
    doses: Sequence[tuple[str, str, float, int]], settings: Mapping[str, Any], population: int
) -> Iterator[_Change]:
    for number, (score, name, fraction, count) in enumerate(doses):
        for selection in ("top", "bottom"):
            yield _Change(number, score, name, count, selection)
        drawn = settings["controls"] if fraction <= settings["large"] else settings["controls_large"]
        for draw in range(drawn if count < population else 0):  # of all weights there is one set only
            yield _Change(number, score, name, count, "random", draw)


def part(
    session: Session,
    *,
    texts: Mapping[str, Any],
    scores: Mapping[str, Any],
    settings: Mapping[str, Any],
    shard: Shard = WHOLE,
) -> Part:
    """A shard's share of the changed models: top, bottom and random weights, dose by dose.

    ``shard`` says which, all unless told otherwise; the other args are those of :func:`measure`.

    Raises:
        ConfigError: There are more shards than items.
    """
    loaded: LoadedModel = session.loaded
    bench = Bench(loaded, esa_shared.passages("heldout", texts["heldout"]), batch_size=texts["batch_size"])
    calibration = esa_shared.passages("calibration", texts["calibration"])
    task = scoring(
        loaded, calibration=calibration, scores=scores, components=settings["components"], layers=settings["layers"]
    )
    population = task.selection.count
    doses = _doses(settings, population)
    every = list(_changes(doses, settings, population))
    rows = shard.rows(len(every), key="shards.esa_targeted_perturbation")
    table, tops = [], dict[int, Tensor]()
    with Progress(len(rows), "changes") as progress:
        for score, mine in groupby(every[rows.start : rows.stop], key=lambda change: change.score):
            weights = gather(task.selection, SCORES[score].stream(task))  # only scores that this job needs
            for change in mine:
                if change.dose not in tops:
                    tops = {change.dose: highest(weights.scores, change.count)}
                effect = _effect(bench, weights, tops[change.dose], change, settings)
                place = {"dose": change.dose, "selection": change.selection, "draw": change.draw}
                table.append({**place, **asdict(effect)})
                progress.advance()
    facts = {
        "settings": dict(settings),
        "doses": [list(dose[:3]) for dose in doses],
        "population": population,
        "nll_clean": bench.clean.evaluation.nll,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "tokens": int(bench.texts.tokens.sum()),
        "heldout_texts": len(bench.texts),
        "calibration_texts": len(calibration),
    }
    found = esa_shared.table(table, texts=("selection", "status"))
    seeds = {"scores": scores["seed"], "controls": settings["seed"]}
    return Part(rows, len(every), tables={"changes": found}, facts=facts, seeds=seeds)


def _effect(bench: Bench, weights: Population, top: Tensor, change: _Change, settings: Mapping[str, Any]) -> Effect:
    act = operation(change.operation, settings["noise"], settings["seed"])
    if change.selection == "bottom":
        # The least important may all be zero already: the model may come out of a pruning.
        return bench.edited(weights.edits(lowest(weights.scores, change.count)), act, allow_unchanged=True)
    if change.selection == "top":
        return bench.edited(weights.edits(top), act)
    random = matched(weights, top, np.random.default_rng([settings["seed"], change.draw]))
    return bench.edited(weights.edits(random), act, allow_unchanged=True)
