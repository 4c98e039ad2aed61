"""esa/targeted-perturbation: rising shares of the most important weights, beside random and least important ones."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.evaluate.effects import dose_response
from tremor.experiments import esa_shared
from tremor.experiments.esa_populations import operation, populations, random_sets
from tremor.experiments.esa_shared import Bench
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.progress import Progress
from tremor.store.documents import write_json
from tremor.store.tables import write_csv
from tremor.weights.mutate import Operation
from tremor.weights.population import Population, highest, lowest, rounded

COMPARED = ("control_mean", "control_std", "control_lowest", "control_highest", "z", "p")
Row = dict[str, Any]


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
    loaded: LoadedModel = session.loaded
    bench = Bench(loaded, esa_shared.passages("heldout", texts["heldout"]), batch_size=texts["batch_size"])
    calibration = esa_shared.passages("calibration", texts["calibration"])
    rows: list[Row] = []
    random: list[Row] = []
    every = len(settings["scores"]) * len(settings["operations"]) * len(settings["fractions"])
    with Progress(every, "doses") as progress:
        for score, population in populations(
            loaded, settings["scores"], calibration=calibration, scores=scores,
            components=settings["components"], layers=settings["layers"],
        ):  # fmt: skip
            for name in settings["operations"]:
                change = operation(name, settings["noise"], settings["seed"])
                for fraction in sorted(settings["fractions"]):
                    head = {"score": score, "operation": name, "fraction": fraction, "population": population.count}
                    found, controls = _dose(bench, population, fraction, change, settings)
                    rows += [{**head, **row} for row in found]
                    random += [{**head, "draw": i, "delta_nll": value} for i, value in enumerate(controls)]
                    progress.advance()
    table = pd.DataFrame(rows)
    table["nll_clean"] = bench.clean.evaluation.nll
    table["dtype"] = str(loaded.dtype).removeprefix("torch.")
    origin = session.provenance(**provenance, seeds={"scores": scores["seed"], "controls": settings["seed"]})
    order = ["score", "operation", "selection", "fraction", "weights", "population"]
    table = table[order + [name for name in table.columns if name not in order]]
    write_csv(effects, esa_shared.table(table.to_dict("records")), provenance=origin)
    columns = ["score", "operation", "fraction", "population", "draw", "delta_nll"]
    write_csv(draws, pd.DataFrame(random, columns=columns), provenance=origin)
    write_json(statistics, {"nll_clean": bench.clean.evaluation.nll, "tokens": int(bench.texts.tokens.sum()),
                            "heldout_texts": len(bench.texts), "calibration_texts": len(calibration),
                            "dose_response": _responses(table)}, provenance=origin)  # fmt: skip


def _dose(
    bench: Bench, population: Population, fraction: float, change: Operation, settings: Mapping[str, Any]
) -> tuple[list[Row], list[float]]:
    """Top and bottom weights at one dose, and the effects of random sets matched to the top."""
    count = max(1, rounded(fraction, population.count))
    top = highest(population.scores, count)
    sets = {"top": top, "bottom": lowest(population.scores, count)}
    # The least important may all be zero already: the model may come out of a pruning.
    effects = [
        bench.edited(population.edits(chosen), change, allow_unchanged=selection == "bottom")
        for selection, chosen in sets.items()
    ]
    rows: list[Row] = [
        {"selection": selection, **asdict(effect), "controls": 0, **dict.fromkeys(COMPARED)}
        for selection, effect in zip(sets, effects, strict=True)
    ]
    number = settings["controls"] if fraction <= settings["large"] else settings["controls_large"]
    drawn = number if count < population.count else 0  # of all weights there is one set only
    controls = random_sets(bench, population, top, change, drawn, settings["seed"])
    if controls:
        found = esa_shared.against_controls(effects[0], controls)
        rows[0] |= {"controls": len(controls), "control_lowest": min(controls), **found}
    return rows, controls


def _responses(table: pd.DataFrame) -> list[Row]:
    """Slope, half dose and monotony of every curve."""
    found = []
    for (score, name, selection), rows in table.groupby(["score", "operation", "selection"], sort=False):
        effect = rows["delta_nll"].astype("float64").fillna(np.inf)
        summary = dose_response(rows["fraction"].to_numpy(), effect.to_numpy())
        found.append({"score": score, "operation": name, "selection": selection, **summary})
    return found
