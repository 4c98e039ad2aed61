"""esa/robustness: noise of growing size on weights, many draws of it, on all weights and on the most important ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.evaluate import nll
from tremor.evaluate.effects import matched_control
from tremor.experiments import esa_shared
from tremor.experiments.esa_robustness_results import MEASURES, write_robustness
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.progress import track
from tremor.shards import WHOLE, Shard
from tremor.store.shards import Part
from tremor.weights import mutate
from tremor.weights.mutate import Edit, Mutation, Operation
from tremor.weights.scores import rankings
from tremor.weights.select import Selection, edits_of, select

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What one draw of noise did.

    Attributes:
        weights: Weights whose bits changed.
        rms: Root mean square of what was really added, in standard deviations of each weight's tensor.
        evaluation: Held-out texts beside the clean model.
    """

    weights: int
    rms: float
    evaluation: nll.Evaluation


def measure(
    session: Session,
    *,
    texts: Mapping[str, Any],
    scores: Mapping[str, Any],
    settings: Mapping[str, Any],
    draws: Path,
    levels: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Add noise, read the held-out texts, restore; every draw starts from the clean bits.

    Args:
        session: The model on its platform.
        texts: Config block `esa.texts`.
        scores: Config block `esa.scores`.
        settings: Config block `esa.robustness`.
        draws: CSV to write: a row for each draw.
        levels: CSV to write: a row for each kind of noise and level.
        statistics: JSON to write.
        provenance: Config, code and input digests.
    """
    whole = part(session, texts=texts, scores=scores, settings=settings)
    origin = session.provenance(**provenance, seeds=whole.seeds)
    write_robustness(whole, draws=draws, levels=levels, statistics=statistics, provenance=origin)


def part(
    session: Session,
    *,
    texts: Mapping[str, Any],
    scores: Mapping[str, Any],
    settings: Mapping[str, Any],
    shard: Shard = WHOLE,
) -> Part:
    """A shard's share of the draws of noise, each from the clean bits.

    ``shard`` says which, all unless told otherwise; the other args are those of :func:`measure`.

    Raises:
        ConfigError: There are more shards than items.
    """
    loaded: LoadedModel = session.loaded
    bench = esa_shared.Bench(loaded, esa_shared.passages("heldout", texts["heldout"]), batch_size=texts["batch_size"])
    selection = select(loaded.anatomy, layers=settings["layers"], components=settings["components"])
    target = _target(loaded, texts, scores, settings, selection) if "targeted" in settings["kinds"] else None
    plan = list(_plan(settings))
    every = [(level, draw) for level in range(len(plan)) for draw in range(settings["draws"])]
    rows = shard.rows(len(every), key="shards.esa_robustness")
    table: list[dict[str, Any]] = []
    per_text: dict[str, list[Floats]] = {name: [] for name in MEASURES}
    for number, draw in track(every[rows.start : rows.stop], "draws"):
        kind, level, index = plan[number]
        seed = _seed(settings["seed"], index, draw)
        edits = _edits(kind, loaded, selection, target, [settings["seed"], draw])
        found = once(bench, edits, _operation(kind, level, settings["scale"], seed))
        table.append({"number": number, "draw": draw, "seed": seed, **_row(found)})
        for name in MEASURES:
            per_text[name].append(_per_text(found.evaluation, name))
    facts = {
        "settings": dict(settings),
        "plan": [[kind, level] for kind, level, _ in plan],
        "nll_clean": bench.clean.evaluation.nll,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "population": selection.count,
        "targeted": None if target is None else len(target),
        "texts": bench.texts.digest,
    }
    items = {name: np.array(values) for name, values in per_text.items()}
    common = {"tokens": bench.texts.tokens}
    tables = {"draws": pd.DataFrame(table)}
    seeds = {"noise": settings["seed"], "scores": scores["seed"]}
    return Part(rows, len(every), items=items, common=common, tables=tables, facts=facts, seeds=seeds)


def once(bench: esa_shared.Bench, edits: Sequence[Edit], operation: Operation) -> Outcome:
    """One draw of noise and what it does.

    Raises:
        NumericsError: No weight changed.
    """
    loaded, clean = bench.loaded, bench.clean
    with mutate.mutated(loaded, edits, operation) as record:
        found = nll.evaluate(loaded, bench.texts, batch_size=clean.batch_size, clean=clean)
        return Outcome(record.changed, _rms(loaded, record), found)


def _plan(settings: Mapping[str, Any]) -> Iterator[tuple[str, float, int]]:
    """Kind, level and number of the level; noise on the important weights is followed by noise on random ones."""
    for kind in settings["kinds"]:
        for name in ("targeted", "random") if kind == "targeted" else (kind,):
            for index, level in enumerate(settings["levels"]):
                yield name, level, index


def _seed(seed: int, level: int, draw: int) -> int:
    """Seed of a draw at a level. All kinds share it, so that they add the same noise where they can."""
    return int(np.random.SeedSequence([seed, level, draw]).generate_state(1)[0])


def _operation(kind: str, level: float, scale: Any, seed: int) -> Operation:
    make = mutate.uniform if kind == "uniform" else mutate.gaussian
    return make(level, relative_to=scale, seed=seed)


def _target(
    loaded: LoadedModel,
    texts: Mapping[str, Any],
    scores: Mapping[str, Any],
    settings: Mapping[str, Any],
    selection: Selection,
) -> pd.DataFrame:
    """The most important weights by a score, which reads calibration texts and no held-out one."""
    name = settings["score"]
    ranked = rankings(
        [name],
        loaded,
        esa_shared.passages("calibration", texts["calibration"]),
        selection=selection,
        fraction=settings["fraction"],
        options=esa_shared.options(scores),
    )
    return ranked[name].tables["top"]


def _edits(
    kind: str, loaded: LoadedModel, selection: Selection, target: pd.DataFrame | None, seed: Sequence[int]
) -> list[Edit]:
    if kind in ("gaussian", "uniform"):
        return edits_of(selection)
    assert target is not None
    tensors, flat = target["tensor"].tolist(), target["flat_index"].to_numpy(dtype=np.int64)
    if kind == "random":  # drawn anew each time: which weights these are is chance too
        sizes = {name: parameter.numel() for name, parameter in selection.parameters()}
        rng = np.random.default_rng(seed)
        flat = matched_control(tensors, flat, sizes, rng, allowed=selection.parts).flat_index
    return mutate.edits_at(tensors, flat.tolist())


def _rms(loaded: LoadedModel, record: Mutation) -> float:
    total, count = 0.0, 0
    for part in record.parts:
        now = loaded.anatomy.parameter(part.tensor).detach().reshape(-1)
        if part.flat_index is None:
            spread = part.old.double().std(correction=0)
        else:  # the spread of the whole tensor as it was
            whole = now.clone()
            whole[part.flat_index] = part.old
            spread = whole.double().std(correction=0)
            now = now[part.flat_index]
        if float(spread) > 0:
            total += float(((now.double() - part.old.double()) / spread).square().sum())
        count += part.requested
    return float(np.sqrt(total / count))


def _row(outcome: Outcome) -> dict[str, Any]:
    found = outcome.evaluation
    values = (found.corpus_delta_nll, found.corpus_kl, found.flip_rate)
    head = {"status": found.overall, "weights": outcome.weights, "noise_rms": outcome.rms}
    return head | dict(zip(MEASURES, values, strict=True))


def _per_text(found: nll.Evaluation, name: str) -> Floats:
    values = found.flips / found.tokens if name == "flip_rate" else getattr(found, name)  # type: ignore[operator]
    return np.asarray(values, dtype=np.float64)
