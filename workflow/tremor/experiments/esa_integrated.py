"""esa/integrated: the main numbers of every extreme sensitivity analysis of every model, in one table. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from tremor.errors import ArtifactError, ConfigError
from tremor.experiments import summaries
from tremor.statistics.overlap import overlap
from tremor.store.documents import write_json
from tremor.store.provenance import collect
from tremor.store.tables import read_csv

NATS = "nats per token"
TABLES = ("before", "after", "effects_before", "effects_after")
TUNING = "fine-tuning"
Pick = Literal["max", "min", "median"]


@dataclass(frozen=True)
class Headline:
    """A main number of an analysis.

    Attributes:
        quantity: What it is.
        column: Column of the summary.
        unit: Its unit; None for a pure number.
        pick: Which row of a model it is taken from; a summary with one row for each model has no choice.
        where: Values that columns must have.
        detail: Columns that say which row it is.
    """

    quantity: str
    column: str
    unit: str | None = None
    pick: Pick = "max"
    where: tuple[tuple[str, Any], ...] = ()
    detail: tuple[str, ...] = ()


HEADLINES: Mapping[str, tuple[Headline, ...]] = {
    "sensitivity": (
        Headline("costliest branch, weights zero", "delta_nll", NATS, where=(("mode", "zero"), ("level", "branch")),
                 detail=("block", "component")),
        Headline("costliest component, weights zero", "delta_nll", NATS,
                 where=(("mode", "zero"), ("level", "component")), detail=("block", "component")),
    ),
    "super-weights": (
        Headline("costliest set of weights, zero", "delta_nll", NATS, detail=("method", "weights", "p")),
        Headline("costliest single weight, zero", "first_delta_nll", NATS,
                 detail=("method", "first_tensor", "first_index")),
    ),
    "compare-sensitivity": (
        Headline("Jaccard index of two methods, median", "jaccard", pick="median"),
        Headline("Spearman correlation of two methods, median", "spearman", pick="median"),
    ),
    "targeted-perturbation": (
        Headline("costliest share of weights", "delta_nll", NATS,
                 detail=("score", "selection", "fraction", "operation")),
    ),
    "selective-weight-pruning": (
        Headline("costliest selection", "delta_nll", NATS, detail=("selection", "fill", "weights")),
    ),
    "pruning": (
        Headline("costliest pruned model", "delta_nll", NATS, detail=("score", "group", "sparsity")),
    ),
    "robustness": (
        Headline("costliest noise", "delta_nll", NATS, detail=("kind", "level", "scale")),
        Headline("choices changed by it, largest share", "flip_rate", detail=("kind", "level", "scale")),
    ),
    "adversarial": (
        Headline("costliest attack", "delta_nll", NATS, detail=("attack", "size", "unit")),
        Headline("greedy answers changed, largest share", "changed_rate", detail=("attack", "size", "unit")),
    ),
    "bit-level": (
        Headline("costliest case", "delta_nll_max", NATS, detail=("study", "format", "component", "setting")),
    ),
    "evaluate": (
        Headline("held-out NLL", "nll", NATS),
        Headline("bits per byte", "bits_per_byte", "bits per byte"),
        Headline("perplexity", "perplexity"),
        Headline("accuracy of the first choice", "accuracy"),
        Headline("expected calibration error", "ece"),
        Headline("Brier score", "brier"),
    ),
    "train": (
        Headline("change of the training text's NLL", "training_text_delta_nll", NATS),
        Headline("change of the held-out NLL", "heldout_delta_nll", NATS),
    ),
    "attribution": (
        Headline("Spearman correlation, model asked", "spearman", where=(("method", "llm"),),
                 detail=("judge", "p", "above_chance")),
        Headline("Spearman correlation, gradients", "spearman", where=(("method", "taylor_abs"),), detail=("p",)),
    ),
}  # fmt: skip


def report(
    sources: Mapping[str, Path],
    models: Sequence[str],
    *,
    tuned: Mapping[str, Sequence[Path]],
    methods: Sequence[str],
    table: Path,
    report: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Join the analyses.

    Args:
        sources: Summary of each analysis.
        models: Aliases, in order.
        tuned: Tables of super weights of each model (`before`, `after`, `effects_before`, `effects_after`), in the
            order of `models`; empty without fine-tuning.
        methods: Methods that are compared before and after fine-tuning.
        table: CSV to write.
        report: JSON to write: the same, by model and analysis.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: A summary lacks a model or a column.
        ConfigError: A method was not used on the model before fine-tuning.
    """
    frames = {name: (path, read_csv(path)) for name, path in sources.items()}
    rows: list[dict[str, Any]] = []
    for place, model in enumerate(models):
        for name, (path, frame) in frames.items():
            rows += [{"model": model, "analysis": name, **row} for row in headlines(name, frame, model, path)]
        if tuned:
            mine = {key: read_csv(paths[place]) for key, paths in tuned.items()}
            rows += [{"model": model, "analysis": TUNING, **row} for row in changes(mine, methods)]
    found = pd.DataFrame(rows)
    summaries.write("esa/integrated", table, found, provenance)
    document = {
        model: {
            name: part[["quantity", "value", "unit", "detail"]].to_dict("records")
            for name, part in own.groupby("analysis", sort=False)
        }
        for model, own in found.groupby("model", sort=False)
    }
    write_json(report, {"models": document}, provenance=collect(seeds=None, platform={}, model={}, **provenance))


def headlines(analysis: str, frame: pd.DataFrame, model: str, path: Path) -> list[dict[str, Any]]:
    """Main numbers of a model; a number that is not there is NaN, with the reason as its detail."""
    found = []
    for entry in HEADLINES[analysis]:
        missing = {entry.column, "model", *(name for name, _ in entry.where)} - set(frame.columns)
        if missing:
            raise ArtifactError(f"{path} has no column '{min(missing)}'; delete it and run snakemake again")
        own = frame[frame["model"] == model]
        if own.empty:
            raise ArtifactError(f"{path} has no row of model '{model}'; delete it and run snakemake again")
        for name, wanted in entry.where:
            own = own[own[name] == wanted]
        found.append({"quantity": entry.quantity, "unit": entry.unit, **_picked(own, entry)})
    return found


def _picked(own: pd.DataFrame, entry: Headline) -> dict[str, Any]:
    values = pd.to_numeric(own[entry.column]).astype("float64")
    known = values[values.notna()]
    if known.empty:
        states = sorted(set(own["status"].dropna())) if "status" in own else []
        why = f"no number ({', '.join(states)})" if states else "no row has it"
        return {"value": np.nan, "detail": why}
    if entry.pick == "median":
        return {"value": float(known.median()), "detail": f"of {len(known)}"}
    place = known.idxmax() if entry.pick == "max" else known.idxmin()
    detail = "; ".join(f"{name} {_text(own.loc[place, name])}" for name in entry.detail if name in own)
    return {"value": float(known.loc[place]), "detail": detail or None}


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def changes(tables: Mapping[str, pd.DataFrame], methods: Sequence[str]) -> list[dict[str, Any]]:
    """How far super weights are the same after fine-tuning.

    Args:
        tables: Rankings `before` and `after`, and effects `effects_before` and `effects_after`.
        methods: Methods that are compared.

    Returns:
        For each method the Jaccard index of its weights, and the change of what removing them costs.

    Raises:
        ConfigError: A method was not used on the model before.
    """
    effects = {when: tables[f"effects_{when}"].set_index("method") for when in ("before", "after")}
    rows: list[dict[str, Any]] = []
    for method in methods:
        if method not in effects["before"].index:
            raise ConfigError(
                f"esa.integrated.tuned_methods names {method}, which esa.super_weights.methods does not; add it there"
            )
        sets = []
        for when in ("before", "after"):
            own = tables[when][tables[when]["scorer"] == method]
            sets.append(list(zip(own["tensor"], own["flat_index"].astype(int), strict=True)))
        population = int(effects["before"].loc[method, "population"])
        same = overlap(sets[0], sets[1], population)
        first = "same" if sets[0] and sets[0][:1] == sets[1][:1] else "another" if sets[0] and sets[1] else "no"
        counts = f"{len(sets[0])} and {len(sets[1])} weights, {same.common} in both; chance {same.chance:.2g}"
        rows.append(
            {
                "quantity": f"Jaccard index, {method}",
                "value": same.jaccard, "unit": None,
                "detail": f"{counts}; {first} first weight" if sets[0] or sets[1] else "no weight before or after",
            }
        )  # fmt: skip
        costs = [pd.to_numeric(effects[when].loc[method, "delta_nll"]) for when in ("before", "after")]
        rows.append(
            {
                "quantity": f"removal cost, change, {method}",
                "value": float(costs[1]) - float(costs[0]) if not any(pd.isna(c) for c in costs) else np.nan,
                "unit": NATS,
                "detail": f"{_cost(costs[0])} before, {_cost(costs[1])} after",
            }
        )
    return rows


def _cost(value: Any) -> str:
    return "no number" if pd.isna(value) else f"{float(value):.3g}"
