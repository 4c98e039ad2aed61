"""exp1: how the difference between two near inputs travels through the layers, and a walk in equal steps."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor import floats
from tremor.experiments import nudges
from tremor.experiments.session import Session
from tremor.models import true64, true64_gate
from tremor.models.loader import LoadedModel
from tremor.probe import walk as walking
from tremor.probe.base import BasePoint, base_point
from tremor.probe.response import Response
from tremor.probe.sweep import Distinct
from tremor.statistics.difference import METRICS, Difference, paired
from tremor.statistics.walk import describe_direction
from tremor.store.documents import write_json
from tremor.store.hdf5 import Hdf5Artifact, write_hdf5
from tremor.store.tables import write_csv, write_parquet

Array = npt.NDArray[Any]
TRUE = "true_float64"
SCHEMA = 1  # of walk.parquet
REFERENCES = ("base", "first", "previous")  # what a step of the walk is compared with


@dataclass(frozen=True)
class Subject:
    """The function that is measured: a model, its base point, and how a nudge is added to it."""

    loaded: LoadedModel
    base: BasePoint
    arithmetic: floats.Arithmetic
    gate: Mapping[str, Any] | None  # verdict that lets a model be called float64


def subject(session: Session, base: BasePoint, prompt: Mapping[str, Any], numerics: str) -> Subject:
    """The model as loaded, or its copy in true float64, which must pass the gate.

    Raises:
        NumericsError: the model may not be called float64.
    """
    if numerics != TRUE:
        return Subject(session.loaded, base, "float32" if numerics == "float32" else "float64", None)
    wide = true64.convert(session.loaded)
    point = base_point(wide, prompt["text"], bos=prompt["bos"])
    return Subject(wide, point, "float64", asdict(true64_gate.require(wide, point)))


@dataclass(frozen=True)
class States:
    """Distinct inputs and their states at every tap; ``embedding`` is the input itself."""

    distinct: Distinct
    taps: dict[str, Array]

    @property
    def index(self) -> npt.NDArray[np.int64]:
        """Which distinct input each input asked for is."""
        return self.distinct.index


def _states(response: Response, inputs: Array, known: States | None = None) -> States:
    found, answers = walking.resume(response, inputs, (known.distinct, known.taps) if known else None)
    return States(found, {"embedding": found.inputs, **answers})


def measure(
    session: Session,
    prompt: Mapping[str, Any],
    *,
    numerics: str,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
    spectrum: Path,
    states: Path,
    layers: Path,
    sweep: Path,
    walk: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Measure exp1 at one prompt in one numerics.

    Args:
        session: The loaded model.
        prompt: ``text`` and ``bos``.
        numerics: ``float64`` or ``float32`` (how the nudge is added to the model's own format), or ``true_float64``.
        probe: Config block ``probe``.
        settings: Config block ``exp1``.
        spectrum: The spectrum artifact of this model, prompt and dtype.
        states: HDF5 file with all inputs and states.
        layers: CSV file: differences by direction, jump and tap.
        sweep: CSV file: counts and largest differences of the input and behind the first block by jump.
        walk: Parquet file: differences by step, tap and reference.
        statistics: JSON file to write.
        provenance: Config, code and input digests.
    """
    origin_base, source = nudges.open_base(session, prompt, spectrum)
    it = subject(session, origin_base, prompt, numerics)
    # "last" may be a rank that is named as well.
    ranks = list(dict.fromkeys(nudges.ranked(source, rank, key="exp1.vectors") for rank in settings["vectors"]))
    directions = source.array("right")[ranks]
    sizes = walking.grid(settings["start"], settings["step"], np.array([0, *settings["jumps"]]))
    steps = walking.grid(settings["start"], settings["step"], np.arange(settings["walk_steps"] + 1))
    taps = nudges.stages(it.loaded.anatomy)
    first = nudges.first_block(it.loaded.anatomy)
    response = nudges.respond(it.loaded, it.base, taps, probe=probe, max_memory=session.max_memory)
    jumped = _states(response, np.concatenate([_inputs(it, direction, sizes) for direction in directions]))
    walker = response
    if numerics == TRUE:  # here every step is a distinct input; the first block is what the sweep asks for
        walker = nudges.respond(it.loaded, it.base, (first,), probe=probe, max_memory=session.max_memory)
    path = np.concatenate([it.base.x[None], _inputs(it, directions[0], steps)])
    walked = _states(walker, path, jumped)
    evaluated = len(jumped.distinct.inputs) + len(walked.distinct.inputs)
    evaluated -= len({i.tobytes() for i in jumped.distinct.inputs} & {i.tobytes() for i in walked.distinct.inputs})
    threshold = float(settings["threshold"])
    by_layer = _layer_table(jumped, settings, ranks, source, sizes, threshold)
    by_step = _walk_table(walked, steps, threshold)
    by_jump = _sweep_table(by_step, first)
    origin = session.provenance(**provenance)
    attributes = {
        **nudges.attributes(response, it.base, it.arithmetic),
        "numerics": numerics,
        "first_block": first,
        "start": float(settings["start"]),
        "step": float(settings["step"]),
        "threshold": threshold,
    }
    write_hdf5(
        states,
        {
            "ids": it.base.ids,
            "x0": it.base.x,
            "rank": np.array(ranks) + 1,
            "direction": directions,
            "jump": np.array([0, *settings["jumps"]]),
            "jump_epsilon": sizes,
            "jump_index": jumped.index.reshape(len(ranks), -1),
            "walk_epsilon": steps,
            "walk_index": walked.index[1:],
            "walk_base_index": walked.index[0],
            **{f"jump_states/{name}": value for name, value in jumped.taps.items()},
            **{f"walk_states/{name}": value for name, value in walked.taps.items()},
        },
        attributes={**attributes, "taps": list(jumped.taps)},
        provenance=origin,
    )
    write_csv(layers, by_layer, provenance=origin)
    write_csv(sweep, by_jump, provenance=origin)
    write_parquet(walk, by_step, provenance=origin, schema_version=SCHEMA)
    document = {
        "evaluated_inputs": evaluated,
        "model_rows": response.rows_evaluated + (walker.rows_evaluated if walker is not response else 0),
        "sigma_1": float(source.array("singular_values")[0]),
        "walk": _walk_counts(walked, first),
        "sweep": _sweep_counts(by_jump),
        "propagation": _propagation(by_layer),
        "directions": {str(rank + 1): describe_direction(d) for rank, d in zip(ranks, directions, strict=True)},
        "gate": it.gate or {"relative_error": None},
        **attributes,
    }
    write_json(statistics, document, provenance=origin)


def _inputs(it: Subject, direction: Array, sizes: npt.NDArray[np.float64]) -> Array:
    return walking.inputs_at(it.base.x, direction, sizes, arithmetic=it.arithmetic, fmt=it.base.fmt)


def _layer_table(
    jumped: States,
    settings: Mapping[str, Any],
    ranks: list[int],
    source: Hdf5Artifact,
    sizes: npt.NDArray[np.float64],
    threshold: float,
) -> pd.DataFrame:
    """One row for each direction, jump and tap: the state at start + jump * step against that at start."""
    index = jumped.index.reshape(len(ranks), -1)
    sigma = source.array("singular_values")
    frames = []
    for rank, row in zip(ranks, index, strict=True):
        reference = np.full(len(row) - 1, row[0])
        length = paired(jumped.taps["embedding"], reference, row[1:]).l2_distance
        for tap, values in jumped.taps.items():
            found = paired(values, reference, row[1:], threshold=threshold)
            with np.errstate(invalid="ignore", divide="ignore"):
                gain = np.where(length > 0, found.l2_distance / length, np.nan)
            columns = {
                "vector": rank + 1,
                "sigma": float(sigma[rank]),
                "jump": np.array(settings["jumps"]),
                "e1": sizes[0],
                "e2": sizes[1:],
                "tap": tap,
                **_columns(found),
                "gain": gain,
            }
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _columns(found: Difference) -> dict[str, Array]:
    return {name: getattr(found, name) for name in METRICS}


def _walk_table(walked: States, steps: npt.NDArray[np.float64], threshold: float) -> pd.DataFrame:
    """One row for each tap, reference and step from 1 on."""
    index = walked.index[1:]
    count = len(index) - 1
    against = {
        "base": np.full(count, walked.index[0]),
        "first": np.full(count, index[0]),
        "previous": index[:-1],
    }
    frames = []
    for tap, values in walked.taps.items():
        for reference in REFERENCES:
            found = paired(values, against[reference], index[1:], threshold=threshold)
            columns = {"step": np.arange(1, count + 1), "epsilon": steps[1:], "tap": tap, "reference": reference}
            frames.append(pd.DataFrame({**columns, "distinct_input": index[1:], **_columns(found)}))
    return pd.concat(frames, ignore_index=True)


def _sweep_table(by_step: pd.DataFrame, first: str) -> pd.DataFrame:
    """The walk against its first point, of the input and behind the first block only."""
    rows = by_step[by_step["reference"] == "first"]
    inside, behind = rows[rows["tap"] == "embedding"], rows[rows["tap"] == first]
    columns = {
        "jump": inside["step"],
        "epsilon": inside["epsilon"],
        "embedding_count": inside["num_changed"],
        "embedding_max_diff": inside["max_absolute_diff"],
        "first_block_count": behind["num_changed"],
        "first_block_max_diff": behind["max_absolute_diff"],
    }
    return pd.DataFrame({name: column.to_numpy() for name, column in columns.items()})


def _walk_counts(walked: States, first: str) -> dict[str, Any]:
    """Steps over which any bit changes, whatever the threshold of the tables."""
    index = walked.index[1:]

    def changes(tap: str) -> int | None:
        states = walked.taps.get(tap)
        return None if states is None else int((paired(states, index[:-1], index[1:]).num_changed > 0).sum())

    return {
        "steps": len(index) - 1,
        "distinct_inputs": len(np.unique(index)),
        "input_changes": changes("embedding"),
        "first_block_changes": changes(first),
        "final_changes": changes("final"),
    }


def _sweep_counts(by_jump: pd.DataFrame) -> dict[str, Any]:
    return {
        f"{name}_{what}": by_jump[name].iloc[-1 if what == "last" else by_jump[name].argmax()]
        for name in ("embedding_count", "first_block_count", "embedding_max_diff", "first_block_max_diff")
        for what in ("max", "last")
    }


def _propagation(by_layer: pd.DataFrame) -> dict[str, Any]:
    """Of the leading direction: the smallest jump that moves the input, and the gain of input to answer there."""
    rows = by_layer[by_layer["vector"] == by_layer["vector"].iloc[0]]
    moved = rows[(rows["tap"] == "embedding") & (rows["l2_distance"] > 0)]["jump"]  # whatever the threshold
    final = rows[rows["tap"] == "final"].set_index("jump")["gain"]
    known = [jump for jump in moved if np.isfinite(final[jump])]
    return {
        "jumps": int(rows["jump"].nunique()),
        "first_moving_jump": int(moved.min()) if len(moved) else None,
        "gain_first": float(final[known[0]]) if known else None,
        "gain_min": float(min(final[jump] for jump in known)) if known else None,
        "gain_max": float(max(final[jump] for jump in known)) if known else None,
    }
