"""esa/attribution: a language model is asked which components of a model matter, and is held to what they cost.

Experimental. The answer is not read from generated text: every component's name is scored as the continuation of one
fixed prompt, so that any model gives a complete ranking, and none can be misread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tremor.errors import ArtifactError, ConfigError
from tremor.evaluate.continuation import continuation, encode
from tremor.experiments import esa_shared
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.progress import track
from tremor.statistics.attribution import agreement, consistency, position_bias
from tremor.store.documents import write_json
from tremor.store.tables import read_csv, write_csv
from tremor.weights.scores import score
from tremor.weights.select import Selection, select

HEADER = {"rms": "size", "largest": "peak", "kurtosis": "tails", "weights": "count"}
SCORED = ("taylor_abs", "magnitude")  # scores that are summed over a component's weights
ASKED = ("llm", "llm_blind", "llm_calibrated")
BLANK = "?"
Floats = npt.NDArray[np.float64]


def describe(
    session: Session,
    *,
    texts: Mapping[str, Any],
    scores: Mapping[str, Any],
    effects: Path,
    level: str,
    components: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Statistics of every component, its scores by other methods, and what taking it out costs.

    Args:
        session: The model that is described.
        texts: Config block `esa.texts`.
        scores: Config block `esa.scores`.
        effects: Table effects.csv of esa/sensitivity.
        level: "branch" or "component", as in that table.
        components: CSV to write.
        provenance: Config, code and input digests.

    Raises:
        ConfigError: The table has no such components taken out by zero.
    """
    loaded: LoadedModel = session.loaded
    measured = read_csv(effects)
    missing = {"block", "component", "level", "mode", "delta_nll", "status"} - set(measured.columns)
    if missing:
        raise ArtifactError(f"{effects} has no column '{min(missing)}'; delete it and run snakemake again")
    measured = measured[(measured["mode"] == "zero") & (measured["level"] == level)].reset_index(drop=True)
    if len(measured) < 3:
        raise ConfigError(
            f"esa/sensitivity took out {len(measured)} parts of level {level}; esa/attribution needs three: let "
            "esa.sensitivity.modes include zero, leave esa.sensitivity.layers null, or set esa.attribution.level"
        )
    chosen = [
        select(loaded.anatomy, layers=[int(block)], components=[str(name)], vectors=True)
        for block, name in zip(measured["block"], measured["component"], strict=True)
    ]
    rows = [_statistics(loaded, selection) for selection in chosen]
    table = pd.concat([measured[["block", "component"]], pd.DataFrame(rows)], axis=1)
    calibration = esa_shared.passages("calibration", texts["calibration"])
    for name in SCORED:
        table[name] = _summed(name, loaded, calibration, chosen, esa_shared.options(scores))
    table["delta_nll"], table["status"] = measured["delta_nll"], measured["status"]
    write_csv(components, table, provenance=session.provenance(**provenance, seeds={"scores": scores["seed"]}))


def _statistics(loaded: LoadedModel, selection: Selection) -> dict[str, float | int]:
    """Moments over all weights of a component, in float64."""
    count, sums, largest = 0, np.zeros(3), 0.0
    for name, parameter in selection.parameters():
        mask = selection.chosen[name].mask(parameter.device)
        values = (parameter if mask is None else parameter[mask]).detach().double()
        count += values.numel()
        sums += [float(values.sum()), float(values.square().sum()), float(values.pow(4).sum())]
        largest = max(largest, float(values.abs().max()))
    square = sums[1] / count
    kurtosis = sums[2] / count / square**2 if square > 0 else float("nan")
    return {"weights": count, "rms": float(np.sqrt(square)), "largest": largest, "kurtosis": float(kurtosis)}


def _summed(name: str, loaded: LoadedModel, texts: Sequence[str], chosen: Sequence[Selection], options: Any) -> Floats:
    """Sum of a score over the weights of each component; weights without that score add nothing."""
    total = np.zeros(len(chosen))
    for tensor, values in score(name, loaded, texts, selection=select(loaded.anatomy), options=options):
        for place, selection in enumerate(chosen):
            if tensor not in selection.chosen:
                continue
            mask = selection.chosen[tensor].mask(values.device)
            mine = values if mask is None else values[mask]
            total[place] += float(mine.double()[torch.isfinite(mine)].sum())
    return total


def ask(
    session: Session,
    *,
    subject: str,
    settings: Mapping[str, Any],
    components: Path,
    answers: Path,
    methods: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Ask a language model, and score its ranking and the others against the measured costs.

    Args:
        session: The model that is asked.
        subject: Alias of the model that it is asked about.
        settings: Config block `esa.attribution`.
        components: Table of :func:`describe`.
        answers: CSV to write: one row for each component.
        methods: CSV to write: one row for each way of ranking.
        statistics: JSON to write, with a prompt as it was asked.
        provenance: Config, code and input digests.

    Raises:
        ConfigError: The prompt does not fit into the context of the model, or `top_k` is not below the components.
    """
    loaded: LoadedModel = session.loaded
    table = read_csv(components)
    names = [f"{block} {name}" for block, name in zip(table["block"], table["component"], strict=True)]
    if settings["top_k"] >= len(names):
        raise ConfigError(
            f"esa.attribution.top_k is {settings['top_k']}, and {subject} has {len(names)} components; lower it"
        )
    shown = values_shown(table, settings["statistics"])
    orders = _orders(len(names), settings)
    listed = answer(loaded, names, shown, settings["statistics"], orders)
    blind = answer(loaded, names, [BLANK] * len(names), settings["statistics"], orders)
    asked = {"llm": listed, "llm_blind": blind, "llm_calibrated": listed - blind}
    costs = table["delta_nll"].to_numpy(dtype=np.float64)
    costs = np.where(np.isnan(costs), np.inf, costs)  # taken out, the model gives no number: nothing costs more
    rankings = {name: scores.mean(axis=0) for name, scores in asked.items()}
    rankings |= {name: table[name].to_numpy(dtype=np.float64) for name in (*SCORED, "rms", "weights")}
    rows = []
    for method, scores in rankings.items():
        found = agreement(
            scores, costs, k=settings["top_k"], permutations=settings["permutations"], seed=settings["seed"]
        )
        own = asked.get(method)
        rows.append(
            {
                "judge": str(session.manifest["alias"]) if own is not None else None,
                "method": method,
                "experimental": own is not None,
                "components": found.n,
                **{key: value for key, value in asdict(found).items() if key != "n"},
                "above_chance": found.p is not None and found.p <= 0.05,
                "consistency": None if own is None else consistency(own),
                "position_bias": None if own is None else position_bias(own, np.argsort(orders, axis=1)),
            }
        )
    origin = session.provenance(**provenance, seeds={"attribution": settings["seed"]})
    report = pd.DataFrame({"component": names, **rankings, "delta_nll": costs})
    write_csv(answers, report, provenance=origin)
    frame = esa_shared.table(rows, texts=("judge", "method"))
    write_csv(methods, frame, provenance=origin)
    document = {
        "judge": str(session.manifest["alias"]),
        "subject": subject,
        "experimental": True,
        "prompt": prompt(names, shown, settings["statistics"], orders[0]),
        "orders": orders.tolist(),
        "measured_order": [names[i] for i in np.argsort(-costs, kind="stable")],
        "llm_order": [names[i] for i in np.argsort(-rankings["llm"], kind="stable")],
    }
    write_json(statistics, document, provenance=origin)


def _orders(count: int, settings: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """Orders of the list [orders, n]: every place of the list is taken by chance, none by depth."""
    rng = np.random.default_rng(settings["seed"])
    return np.stack([rng.permutation(count) for _ in range(settings["orders"])])


def values_shown(table: pd.DataFrame, statistics: Sequence[str]) -> list[str]:
    """Each component's statistics as the prompt shows them: whole numbers, 100 for the largest of all components."""
    columns = []
    for name in statistics:
        values = table[name].to_numpy(dtype=np.float64)
        top = np.nanmax(np.abs(values))
        columns.append([str(round(100 * value / top)) if np.isfinite(value) else BLANK for value in values])
    return [" ".join(cells) for cells in zip(*columns, strict=True)]


def prompt(names: Sequence[str], shown: Sequence[str], statistics: Sequence[str], order: Sequence[int]) -> str:
    """The fixed prompt; a component's name is to follow it."""
    head = " ".join(HEADER[name] for name in statistics)
    lines = "".join(f"{names[i]} {shown[i]}\n" for i in order)
    return f"Part and {head}:\n{lines}The part that matters most is"


def answer(
    loaded: LoadedModel,
    names: Sequence[str],
    shown: Sequence[str],
    statistics: Sequence[str],
    orders: npt.NDArray[np.int64],
) -> Floats:
    """Log-probability of each name among all names, for each order of the list.

    Args:
        loaded: The model that is asked.
        names: Of the components.
        shown: Their statistics as text.
        statistics: Names of these.
        orders: int [orders, n].

    Returns:
        float64 [orders, n]; a row's exponentials sum to 1.

    Raises:
        ConfigError: The prompt and a name do not fit into the context of the model.
    """
    context = loaded.anatomy.context
    found = np.zeros(orders.shape)
    for row, order in enumerate(track(orders, "orders")):
        text = prompt(names, shown, statistics, order.tolist())
        needed = max(len(encode(loaded, f"{text} {name}")) for name in names)
        if context is not None and needed > context:
            raise ConfigError(
                f"the prompt of esa.attribution has {needed} tokens, the context of the model that is asked {context}: "
                "choose another esa.attribution.judge, or fewer statistics"
            )
        own = np.array([continuation(loaded, text, f" {name}")[0] for name in names])
        found[row] = own - np.logaddexp.reduce(own)
    return found
