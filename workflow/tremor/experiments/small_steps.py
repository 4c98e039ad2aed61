"""exp14: equal small steps along a singular vector: which of them change the input, which the answer?"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.experiments import nudges
from tremor.experiments.session import Session
from tremor.floats import Arithmetic
from tremor.probe import walk as walking
from tremor.probe.noise import noise_floor
from tremor.statistics.walk import describe_direction, slope, walk_statistics
from tremor.store.documents import write_json
from tremor.store.hdf5 import Hdf5Artifact, write_hdf5
from tremor.store.tables import write_csv, write_parquet

Array = npt.NDArray[Any]
SCHEMA = 1  # of steps.parquet


def measure(
    session: Session,
    prompt: Mapping[str, Any],
    *,
    arithmetic: Arithmetic,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
    spectrum: Path,
    data: Path,
    steps: Path,
    jumps: Path,
    scaling: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Walk along one singular vector, once for each size of a step.

    Args:
        session: The loaded model.
        prompt: ``text`` and ``bos``.
        arithmetic: How the nudge is added.
        probe: Config block ``probe``.
        settings: Config block ``exp14``.
        spectrum: The spectrum artifact of this model, prompt and dtype.
        data: HDF5 file: distinct inputs and answers, and which of them each step is.
        steps: Parquet file, one row for each step.
        jumps: CSV file, one row for each change of the answer; empty but there where nothing changed.
        scaling: CSV file, one row for each size.
        statistics: JSON file to write.
        provenance: Config, code and input digests.
    """
    base, source = nudges.open_base(session, prompt, spectrum)
    rank = nudges.ranked(source, settings["vector"], key="exp14.vector")
    direction, sigma = source.array("right")[rank], float(source.array("singular_values")[rank])
    response = nudges.respond(session.loaded, base, ("final",), probe=probe, max_memory=session.max_memory)
    product = nudges.smooth_map(session, base, source)
    multiples = np.arange(int(settings["count"]) + 1)
    sizes = [walking.grid(settings["start"], step, multiples) for step in settings["steps"]]
    inputs = [walking.inputs_at(base.x, direction, s, arithmetic=arithmetic, fmt=base.fmt) for s in sizes]
    # All walks at once: an input that two of them share, such as the first, is run once.
    walked, answers = walking.resume(response, np.concatenate(inputs))
    rows = response.rows_evaluated
    seed = int(settings["noise_seed"])
    floor = noise_floor(response, product, samples=int(settings["noise_samples"]), seed=seed)
    index = walked.index.reshape(len(sizes), -1)
    tables, summaries = [], []
    for number, (step, nominal, own) in enumerate(zip(settings["steps"], sizes, index, strict=True)):
        found = walking.moves(
            base.x, direction, sizes=nominal, index=own, inputs=walked.inputs, answers=answers["final"]
        )
        values = asdict(found)
        values["sigma_prediction_l2"] = sigma * np.abs(found.input_along)
        values["smooth_prediction_l2"] = _smooth(source, walked.inputs, own)
        walk_columns = {"walk": number, "step_size": float(step), "step": multiples[:-1]}
        tables.append(pd.DataFrame({**walk_columns, **values}))
        distinct_sizes = len(np.unique(nominal.astype(np.float32) if arithmetic == "float32" else nominal))
        counted = walk_statistics(values, distinct_sizes=distinct_sizes, distinct_inputs=len(np.unique(own)))
        summaries.append({"step_size": float(step), **counted})
    table = pd.concat(tables, ignore_index=True)
    scaled = _scaling_table(summaries, sigma, floor.median_l2)
    origin = session.provenance(seeds={"noise_floor": seed}, **provenance)
    attributes = {
        **nudges.attributes(response, base, arithmetic),
        "vector": rank + 1,
        "sigma": sigma,
        "start": float(settings["start"]),
        "noise_floor_l2": floor.median_l2,
    }
    write_hdf5(
        data,
        {
            "ids": base.ids,
            "x0": base.x,
            "h0": response.h0,
            "direction": direction,
            "singular_values": source.array("singular_values"),
            "step_size": np.array(settings["steps"], dtype=np.float64),
            "epsilon": np.array(sizes),
            "index": index,
            "input": walked.inputs,
            "answer": answers["final"],
        },
        attributes=attributes,
        provenance=origin,
    )
    write_parquet(steps, table, provenance=origin, schema_version=SCHEMA)
    write_csv(jumps, table[table["output_changed"] > 0].reset_index(drop=True), provenance=origin)
    write_csv(scaling, scaled, provenance=origin)
    document = {
        "walks": summaries,
        "finest": min(summaries, key=lambda walk: walk["step_size"]),
        "scaling": {
            "slope_jump_size": slope(scaled["input_step_median"], scaled["jump_size_median"]),
            "slope_mean_difference": slope(scaled["step_size"], scaled["difference_mean"]),
        },
        "evaluated_inputs": len(walked.inputs),
        "model_rows": rows,
        "noise_floor_low_l2": floor.low_l2,
        "noise_floor_high_l2": floor.high_l2,
        "direction": describe_direction(direction),
        **attributes,
    }
    write_json(statistics, document, provenance=origin)


def _smooth(source: Hdf5Artifact, inputs: Array, index: Array) -> Array:
    """Length of J times each realised step of a walk; NaN where the whole Jacobian is not known."""
    lengths = np.zeros(len(index) - 1)
    if "jacobian" not in source.datasets:
        return np.full_like(lengths, np.nan)
    matrix = source.array("jacobian").astype(np.float64)
    moved = np.flatnonzero(index[1:] != index[:-1])
    for rows in np.array_split(moved, max(1, len(moved) // 256)):
        steps = inputs[index[rows + 1]].astype(np.float64) - inputs[index[rows]].astype(np.float64)
        lengths[rows] = np.linalg.norm(steps @ matrix.T, axis=1)
    return lengths


def _scaling_table(summaries: list[dict[str, Any]], sigma: float, floor: float) -> pd.DataFrame:
    """One row for each size of a step: what changes, how far, against the smooth prediction and the floor."""
    rows = []
    for walk in summaries:
        rows.append(
            {
                **{
                    name: walk[name]
                    for name in (
                        "step_size",
                        "steps",
                        "distinct_sizes",
                        "distinct_inputs",
                        "input_unchanged",
                        "input_changed_output_not",
                        "both_changed",
                        "jumps",
                        "jump_percent",
                    )
                },
                "input_step_median": walk["input_step"]["median"],
                "difference_mean": walk["difference"]["mean"],
                "jump_size_median": walk["jump_size"]["median"],
                "spacing_steps_mean": walk["spacing_steps"]["mean"],
                "spacing_realised_mean": walk["spacing_realised"]["mean"],
                "gain_rms": walk["gain_rms"],
                "sigma": sigma,
                "noise_floor_l2": floor,
            }
        )
    frame = pd.DataFrame(rows)
    empty = [name for name in frame.columns if frame[name].dtype == object]  # None: no jump to speak of
    return frame.astype(dict.fromkeys(empty, "float64"))
