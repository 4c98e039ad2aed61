"""esa/selective-weight-pruning: named selections of weights replaced, and what the model says before and after."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tremor.errors import ConfigError, NumericsError
from tremor.evaluate.generation import Generated, common_prefix, generate
from tremor.experiments import esa_shared
from tremor.experiments.esa_populations import operation, populations, random_sets
from tremor.experiments.esa_shared import Bench, Effect
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.progress import Progress
from tremor.store.documents import write_json
from tremor.store.tables import write_csv
from tremor.weights.listed import read_selection
from tremor.weights.mutate import Edit, Operation, mutated
from tremor.weights.population import Population
from tremor.weights.prune import filtered

FILLS = {"zero": "zero", "mean": "mean", "noise": "fill"}  # name in the config: name of the operation
LISTED = 10_000  # a larger selection is described by its criteria and counts, not weight by weight
KINDS = ("greedy", "sampled")
Texts = dict[tuple[str, str], Generated]  # (prompt, kind)


def measure(
    session: Session,
    *,
    texts: Mapping[str, Any],
    scores: Mapping[str, Any],
    settings: Mapping[str, Any],
    effects: Path,
    generations: Path,
    selections: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Replace every selection by every fill; likelihood beside matched random sets, and text with the same seeds.

    Args:
        session: The model on its platform.
        texts: Config block `esa.texts`.
        scores: Config block `esa.scores`.
        settings: Config block `esa.selective_weight_pruning`.
        effects: CSV to write: one row for each selection and fill.
        generations: JSON to write: all texts.
        selections: JSON to write: criteria, counts and, of small selections, the weights.
        provenance: Config, code and input digests.

    Raises:
        ConfigError: A selection is empty.
        NumericsError: The unchanged model writes different text with the same seed.
    """
    loaded: LoadedModel = session.loaded
    bench = Bench(loaded, esa_shared.passages("heldout", texts["heldout"]), batch_size=texts["batch_size"])
    calibration = esa_shared.passages("calibration", texts["calibration"])
    clean = _written(loaded, settings)
    if _written(loaded, settings) != clean:
        raise NumericsError("the unchanged model wrote different text with the same seed; choose another platform")
    other = _written(loaded, {**settings, "seed": settings["seed"] + 1})
    names = settings["select"] or list(settings["selections"])
    rows, described, written = [], {}, [*_entries(None, None, clean, clean)]
    written += [
        {**entry, "kind": "other_seed"} for entry in _entries(None, None, other, clean) if entry["kind"] == "sampled"
    ]
    with Progress(len(names) * len(settings["fills"]), "replacements") as progress:
        for name in names:
            own = settings["selections"][name]
            population, chosen = _chosen(loaded, name, own, calibration, scores)
            described[name] = _described(own, population, chosen)
            for fill in settings["fills"]:
                change = operation(FILLS[fill], settings["noise"], settings["seed"])
                effect, after = _applied(bench, population.edits(chosen), change, settings)
                controls = random_sets(bench, population, chosen, change, settings["controls"], settings["seed"])
                written += _entries(name, fill, after, clean)
                head = {key: None if own["file"] else own[key] for key in ("score", "which")}
                rows.append({
                    "selection": name, **head, "fill": fill, "weights": effect.weights,
                    "population": population.count, **asdict(effect), "controls": len(controls),
                    **esa_shared.against_controls(effect, controls), **_differences(after, clean, other),
                    "nll_clean": bench.clean.evaluation.nll, "dtype": str(loaded.dtype).removeprefix("torch."),
                })  # fmt: skip
                progress.advance()
    origin = session.provenance(**provenance, seeds={"scores": scores["seed"], "selective": settings["seed"]})
    write_csv(effects, esa_shared.table(rows, texts=("score", "which")), provenance=origin)
    write_json(generations, {"tokens": settings["tokens"], "temperature": settings["temperature"],
                             "texts": written}, provenance=origin)  # fmt: skip
    write_json(selections, {"selections": described}, provenance=origin)


def _chosen(
    loaded: LoadedModel, name: str, own: Mapping[str, Any], calibration: list[str], scores: Mapping[str, Any]
) -> tuple[Population, torch.Tensor]:
    if own["file"]:
        return read_selection(loaded, Path(own["file"]), name)
    found = populations(
        loaded, [own["score"]], calibration=calibration, scores=scores,
        components=own["components"], layers=own["layers"],
    )  # fmt: skip
    _, population = next(found)
    keys = ("which", "percentile", "threshold", "most_per_block")
    try:
        return population, filtered(population, **{key: own[key] for key in keys})
    except ConfigError as error:
        raise ConfigError(f"esa.selective_weight_pruning.selections.{name}: {error}") from error


def _described(own: Mapping[str, Any], population: Population, chosen: torch.Tensor) -> dict[str, Any]:
    components: Counter[str] = Counter()
    blocks: Counter[int] = Counter()
    weights = []
    for edit in population.edits(chosen):
        assert edit.flat_index is not None
        layout = population.selection.chosen[edit.tensor].layout
        codes = layout.codes[layout.along_axis(edit.flat_index.numpy())]
        for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
            components[layout.parts[code].component] += int(count)
            blocks[layout.parts[code].block] += int(count)
        weights.append({"tensor": edit.tensor, "flat_index": edit.flat_index.tolist()})
    total = int(chosen.sum())
    return {
        "criteria": dict(own),
        "population": population.count,
        "total": total,
        "by_component": dict(components),
        "by_block": {str(block): blocks[block] for block in sorted(blocks)},
        "weights": weights if total <= LISTED else None,
    }


def _applied(bench: Bench, edits: list[Edit], change: Operation, settings: Mapping[str, Any]) -> tuple[Effect, Texts]:
    # The least important weights of a pruned model are those that it lost.
    with mutated(bench.loaded, edits, change, allow_unchanged="zeros") as record:
        effect = Effect(**{**asdict(bench.now()), "weights": record.changed})
        return effect, _written(bench.loaded, settings)


def _written(loaded: LoadedModel, settings: Mapping[str, Any]) -> Texts:
    found = {}
    for prompt in settings["prompts"]:
        for kind in KINDS:
            warm = settings["temperature"] if kind == "sampled" else None
            found[prompt, kind] = generate(
                loaded, prompt, tokens=settings["tokens"], temperature=warm, seed=settings["seed"]
            )
    return found


def _entries(name: str | None, fill: str | None, texts: Texts, clean: Texts) -> list[dict[str, Any]]:
    return [
        {
            "selection": name,
            "fill": fill,
            "prompt": prompt,
            "kind": kind,
            **asdict(text),
            "same": text.ids == clean[prompt, kind].ids,
            "tokens_before_first_difference": common_prefix(text.ids, clean[prompt, kind].ids),
        }
        for (prompt, kind), text in texts.items()
    ]


def _differences(after: Texts, clean: Texts, other: Texts) -> dict[str, float]:
    """Share of each continuation that is as before, mean over prompts; and what another seed alone does."""

    def kept(texts: Texts, kind: str) -> float:
        shares = []
        for key, text in texts.items():
            longest = max(len(text.ids), len(clean[key].ids), 1)
            shared = common_prefix(text.ids, clean[key].ids)
            shares.append(1.0 if text.ids == clean[key].ids else shared / longest)
        return float(np.mean([share for (_, k), share in zip(texts, shares, strict=True) if k == kind]))

    return {
        "greedy_kept": kept(after, "greedy"),
        "sampled_kept": kept(after, "sampled"),
        "other_seed_kept": kept(other, "sampled"),
    }
