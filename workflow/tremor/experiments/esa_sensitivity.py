"""esa/sensitivity: every block and every component taken out by itself, exactly, against one clean baseline."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from tremor.experiments import esa_shared
from tremor.experiments.esa_shared import Bench, Effect
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.progress import track
from tremor.store.documents import write_json
from tremor.store.tables import write_csv
from tremor.weights.activations import intervened
from tremor.weights.parts import Part, mean_outputs, parts_of, replaced
from tremor.weights.scores import encode

OUTCOME = ("status", "delta_nll", "delta_nll_low", "delta_nll_high", "kl", "flip_rate")


def measure(
    session: Session,
    *,
    texts: Mapping[str, Any],
    settings: Mapping[str, Any],
    effects: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Take out one part after the other, and rank them by what that costs.

    Args:
        session: The model on its platform.
        texts: Config block `esa.texts`.
        settings: Config block `esa.sensitivity`.
        effects: CSV to write: one row for each part and mode.
        statistics: JSON to write.
        provenance: Config, code and input digests.

    Raises:
        ConfigError: A layer does not exist.
        NumericsError: A hook was not reached.
    """
    loaded: LoadedModel = session.loaded
    bench = Bench(loaded, esa_shared.passages("heldout", texts["heldout"]), batch_size=texts["batch_size"])
    layers = esa_shared.layers(loaded, settings["layers"])
    parts = [part for block in layers for part in parts_of(loaded.anatomy, block, heads=settings["heads"])]
    means = {}
    if "mean" in settings["modes"]:
        sequences = encode(loaded, esa_shared.passages("calibration", texts["calibration"]))
        means = mean_outputs(loaded, sequences, [output.tap for part in parts for output in part.outputs])
    rows, left_out = [], []
    for mode in settings["modes"]:
        for part in track(parts, f"parts ({mode})"):
            if mode == "mean" and not part.outputs:
                left_out.append({"block": part.block, "component": part.name})
                continue
            effect = removed(bench, part) if mode == "zero" else _averaged(bench, part, means)
            weights = effect.weights if mode == "zero" and part.edits else None  # others are cut out at their outputs
            rows.append({**_named(part), "mode": mode, **asdict(effect), "weights": weights})
    table = _ranked(pd.DataFrame(rows))
    table["nll_clean"] = bench.clean.evaluation.nll
    table["dtype"] = str(loaded.dtype).removeprefix("torch.")
    origin = session.provenance(**provenance)
    write_csv(effects, esa_shared.table(table.to_dict("records"), integers=("weights", "rank")), provenance=origin)
    document = {
        "nll_clean": bench.clean.evaluation.nll,
        "tokens": int(bench.texts.tokens.sum()),
        "heldout_texts": len(bench.texts),
        "parts": len(parts),
        "no_output_of_their_own": left_out,
        "most_sensitive": {
            f"{mode} {level}": rows.sort_values("rank")[["block", "component"]].head(5).to_dict("records")
            for (mode, level), rows in table.groupby(["mode", "level"], sort=False)
        },
    }
    write_json(statistics, document, provenance=origin)


def _named(part: Part) -> dict[str, Any]:
    return {"block": part.block, "component": part.name, "level": part.level}


def removed(bench: Bench, part: Part) -> Effect:
    """A part's weights are zero; a block or branch adds nothing to the stream."""
    if part.edits:
        # A bias may be zero already, as after training from scratch; that all weights are is reported as 0 weights.
        return bench.edited(part.edits, allow_unchanged=True)
    with intervened(bench.loaded.anatomy, replaced({}, part.outputs)):
        return bench.now()


def _averaged(bench: Bench, part: Part, means: Mapping[str, Any]) -> Effect:
    with intervened(bench.loaded.anatomy, replaced(dict(means), part.outputs)):
        return bench.now()


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Rank 1 costs most, among the parts of the same mode and level; what broke the model comes first."""
    cost = table["delta_nll"].astype("float64").fillna(float("inf"))
    table["rank"] = cost.groupby([table["mode"], table["level"]]).rank(ascending=False, method="first").astype("int64")
    return table[["block", "component", "level", "mode", "weights", "rank", *OUTCOME]]
