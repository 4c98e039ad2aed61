"""esa/pruning: sparsity against likelihood for several scores and patterns, and pruned models to keep."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tremor.experiments import esa_shared
from tremor.experiments.esa_populations import populations
from tremor.experiments.esa_shared import Bench, Effect
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.progress import Progress
from tremor.store.documents import write_json
from tremor.store.tables import write_csv
from tremor.weights.checkpoints import save
from tremor.weights.mutate import mutated, zero
from tremor.weights.population import Population
from tremor.weights.prune import n_of_m, unstructured
from tremor.weights.variants import variants


def measure(
    session: Session,
    *,
    directory: Path,
    texts: Mapping[str, Any],
    scores: Mapping[str, Any],
    settings: Mapping[str, Any],
    curves: Path,
    checkpoints: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Prune in every way that is asked for, one clean baseline for all, and save the models that are asked for.

    Args:
        session: The model on its platform.
        directory: The model's folder, for the tokenizer of what is saved.
        texts: Config block `esa.texts`.
        scores: Config block `esa.scores`.
        settings: Config block `esa.pruning`.
        curves: CSV to write: one row for each score, group or pattern, and sparsity.
        checkpoints: Folder to make: a model folder for each saved way of pruning.
        statistics: JSON to write.
        provenance: Config, code and input digests.
    """
    loaded: LoadedModel = session.loaded
    bench = Bench(loaded, esa_shared.passages("heldout", texts["heldout"]), batch_size=texts["batch_size"])
    calibration = esa_shared.passages("calibration", texts["calibration"])
    shutil.rmtree(checkpoints, ignore_errors=True)
    checkpoints.mkdir(parents=True)
    wanted = variants(settings)
    rows, manifests, tensors = [], {}, 0
    with Progress(len(wanted), "prunings") as progress:
        for score, population in populations(
            loaded, settings["scores"], calibration=calibration, scores=scores,
            components=settings["components"], layers=settings["layers"],
        ):  # fmt: skip
            tensors = len(population.spans)
            for name, (own, group, sparsity) in wanted.items():
                if own != score:
                    continue
                chosen = _chosen(population, group, sparsity, settings["which"])
                folder = checkpoints / name if name in settings["checkpoints"] else None
                alias = f"{session.manifest['alias']}-{name}"
                effect, manifest = _pruned(bench, population, chosen, directory, folder, alias)
                if manifest is not None:
                    manifests[name] = {key: manifest[key] for key in ("weights_digest", "parameters", "bytes")}
                head = {"score": score, "group": group, "sparsity": sparsity}
                rows.append({**head, **_outcome(bench, population, chosen, effect, name if folder else None)})
                progress.advance()
    origin = session.provenance(**provenance, seeds={"scores": scores["seed"]})
    write_csv(curves, esa_shared.table(rows, texts=("checkpoint",)), provenance=origin)
    document = {
        "nll_clean": bench.clean.evaluation.nll,
        "tokens": int(bench.texts.tokens.sum()),
        "heldout_texts": len(bench.texts),
        "calibration_texts": len(calibration),
        "tensors": tensors,
        "checkpoints": manifests,
    }
    write_json(statistics, document, provenance=origin)


def _chosen(population: Population, group: str, sparsity: float, which: Any) -> torch.Tensor:
    if ":" in group:
        n, m = (int(part) for part in group.split(":"))
        return n_of_m(population, n, m, which=which)
    return unstructured(population, sparsity, group=group, which=which)  # type: ignore[arg-type]


def _pruned(
    bench: Bench, population: Population, chosen: torch.Tensor, directory: Path, folder: Path | None, alias: str
) -> tuple[Effect, dict[str, Any] | None]:
    edits = population.edits(chosen)
    # A model that was pruned before holds zeros already.
    with mutated(bench.loaded, edits, zero, allow_unchanged=True) as record:
        effect = Effect(**{**asdict(bench.now()), "weights": record.changed})
        manifest = None if folder is None else save(bench.loaded, directory, folder, alias=alias, zeros=edits)
    return effect, manifest


def _outcome(
    bench: Bench, population: Population, chosen: torch.Tensor, effect: Effect, checkpoint: str | None
) -> dict[str, Any]:
    count, found = int(chosen.sum()), asdict(effect)
    return {
        "sparsity_found": count / population.count,
        "population": population.count,
        "pruned": count,
        "changed": found.pop("weights"),
        **found,
        "ppl_ratio": None if effect.delta_nll is None else float(np.exp(effect.delta_nll)),
        "checkpoint": checkpoint,
        "nll_clean": bench.clean.evaluation.nll,
        "dtype": str(bench.loaded.dtype).removeprefix("torch."),
    }
