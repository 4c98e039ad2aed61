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
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.statistics.crossed import CrossedBootstrap
from tremor.store.documents import write_json
from tremor.store.tables import write_csv
from tremor.weights import mutate
from tremor.weights.mutate import Edit, Mutation, Operation
from tremor.weights.scores import rankings
from tremor.weights.select import Selection, select

Floats = npt.NDArray[np.float64]
MEASURES = ("delta_nll", "kl", "flip_rate")
INTEGERS = ("weights", "draws", "failed", "seed")
TEXTS = ("kind", "status", "scale")


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
    loaded: LoadedModel = session.loaded
    bench = esa_shared.Bench(loaded, esa_shared.passages("heldout", texts["heldout"]), batch_size=texts["batch_size"])
    selection = select(loaded.anatomy, layers=settings["layers"], components=settings["components"])
    bootstrap = CrossedBootstrap(settings["draws"], bench.texts.tokens, resamples=settings["bootstrap"])
    target = _target(loaded, texts, scores, settings, selection) if "targeted" in settings["kinds"] else None
    rows, summary = [], []
    for kind, level, index in _plan(settings):
        found = []
        for draw in range(settings["draws"]):
            seed = _seed(settings["seed"], index, draw)
            edits = _edits(kind, loaded, selection, target, [settings["seed"], draw])
            found.append(once(bench, edits, _operation(kind, level, settings["scale"], seed)))
            rows.append({"kind": kind, "level": level, "draw": draw, "seed": seed, **_row(found[-1])})
        summary.append({"kind": kind, "level": level, **_summary(found, bootstrap, selection.count, bench, settings)})
    origin = session.provenance(**provenance, seeds={"noise": settings["seed"], "scores": scores["seed"]})
    write_csv(draws, esa_shared.table(rows, integers=(*INTEGERS, "draw"), texts=TEXTS), provenance=origin)
    write_csv(levels, esa_shared.table(summary, integers=(*INTEGERS, "population"), texts=TEXTS), provenance=origin)
    document = {
        "nll_clean": bench.clean.evaluation.nll,
        "tokens": int(bench.texts.tokens.sum()),
        "population": selection.count,
        "targeted": None if target is None else len(target),
        "score": settings["score"],
        "texts": bench.texts.digest,
    }
    write_json(statistics, document, provenance=origin)


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
        found = []
        for name, entry in selection.chosen.items():
            mask = entry.mask()
            found.append(Edit(name, None if mask is None else mask.reshape(-1).nonzero().flatten()))
        return found
    assert target is not None
    tensors, flat = target["tensor"].tolist(), target["flat_index"].to_numpy(dtype=np.int64)
    if kind == "random":  # drawn anew each time: which weights these are is chance too
        sizes = {name: parameter.numel() for name, parameter in selection.parameters()}
        flat = matched_control(tensors, flat, sizes, np.random.default_rng(seed)).flat_index
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
    return head | {name: None if np.isnan(value) else value for name, value in zip(MEASURES, values, strict=True)}


def _summary(
    found: Sequence[Outcome],
    bootstrap: CrossedBootstrap,
    population: int,
    bench: esa_shared.Bench,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Means and intervals over draws and texts; without numbers where a draw has none, which `failed` counts."""
    statuses = [outcome.evaluation.overall for outcome in found]
    failed = sum(status != "ok" for status in statuses)
    row: dict[str, Any] = {
        "scale": settings["scale"],
        "draws": len(found),
        "failed": failed,
        "weights": max(outcome.weights for outcome in found),
        "population": population,
        "noise_rms": float(np.mean([outcome.rms for outcome in found])),
    }
    for name in MEASURES:
        own = bootstrap.mean(np.array([_per_text(o.evaluation, name) for o in found])) if not failed else None
        row |= {
            name: None if own is None else own.mean,
            f"{name}_low": None if own is None else own.low,
            f"{name}_high": None if own is None else own.high,
            f"{name}_draw_std": None if own is None else own.draw_std,
        }
    return row | {
        "nll_clean": bench.clean.evaluation.nll,
        "dtype": str(bench.loaded.dtype).removeprefix("torch."),
    }


def _per_text(found: nll.Evaluation, name: str) -> Floats:
    values = found.flips / found.tokens if name == "flip_rate" else getattr(found, name)  # type: ignore[operator]
    return np.asarray(values, dtype=np.float64)
