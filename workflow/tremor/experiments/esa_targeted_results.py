"""esa/targeted-perturbation: tables of changed models, evaluated by one job or by several. No torch here."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from tremor.evaluate.effects import dose_response
from tremor.experiments.esa_tables import against_controls
from tremor.experiments.esa_tables import table as typed
from tremor.store.documents import write_json
from tremor.store.shards import Part
from tremor.store.tables import write_csv

COMPARED = ("control_mean", "control_std", "control_lowest", "control_highest", "z", "p")
EFFECT = ("weights", "status", "delta_nll", "delta_nll_low", "delta_nll_high", "kl", "flip_rate")
Row = dict[str, Any]


def write_targeted(whole: Part, *, effects: Path, draws: Path, statistics: Path, provenance: Mapping[str, Any]) -> None:
    """Write the effects beside those of random sets, and every random set.

    Args:
        whole: All changed models.
        effects: CSV to write: one row for each score, operation, selection and share.
        draws: CSV to write: every random set.
        statistics: JSON to write.
        provenance: Of the job, or of the shards.
    """
    facts, found = whole.facts, whole.tables["changes"]
    rows: list[Row] = []
    random: list[Row] = []
    for number, (score, operation, fraction) in enumerate(facts["doses"]):
        head = {"score": score, "operation": operation, "fraction": fraction, "population": facts["population"]}
        own, controls = _dose(found[found["dose"] == number])
        rows += [{**head, **row} for row in own]
        random += [{**head, "draw": i, "delta_nll": value} for i, value in enumerate(controls)]
    table = pd.DataFrame(rows)
    table["nll_clean"] = facts["nll_clean"]
    table["dtype"] = facts["dtype"]
    order = ["score", "operation", "selection", "fraction", "weights", "population"]
    table = table[order + [name for name in table.columns if name not in order]]
    write_csv(effects, typed(table.to_dict("records")), provenance=provenance)
    columns = ["score", "operation", "fraction", "population", "draw", "delta_nll"]
    write_csv(draws, pd.DataFrame(random, columns=columns), provenance=provenance)
    names = ("nll_clean", "tokens", "heldout_texts", "calibration_texts")
    document = {**{name: facts[name] for name in names}, "dose_response": _responses(table)}
    write_json(statistics, document, provenance=provenance)


def _dose(found: pd.DataFrame) -> tuple[list[Row], list[float]]:
    """Rows of the top and bottom weights at one dose, and the effects of random sets matched to the top."""
    rows: list[Row] = []
    for selection in ("top", "bottom"):
        own = found[found["selection"] == selection].iloc[0].to_dict()
        told = {name: None if pd.isna(own[name]) else own[name] for name in EFFECT}
        rows.append({"selection": selection, **told, "controls": 0, **dict.fromkeys(COMPARED)})
    # A set that breaks the model does more than any number says.
    controls = [float(value) for value in found[found["selection"] == "random"]["delta_nll"].fillna(np.inf)]
    if controls:
        compared = against_controls(SimpleNamespace(delta_nll=rows[0]["delta_nll"]), controls)
        rows[0] |= {"controls": len(controls), "control_lowest": min(controls), **compared}
    return rows, controls


def _responses(table: pd.DataFrame) -> list[Row]:
    """Slope, half dose and monotony of every curve."""
    found = []
    for (score, name, selection), rows in table.groupby(["score", "operation", "selection"], sort=False):
        effect = rows["delta_nll"].astype("float64").fillna(np.inf)
        summary = dose_response(rows["fraction"].to_numpy(), effect.to_numpy())
        found.append({"score": score, "operation": name, "selection": selection, **summary})
    return found
