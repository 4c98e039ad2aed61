"""exp2: sigma_1 over a set of prompts, and what difference quotients and their noisy averages make of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.experiments import gains
from tremor.experiments.prompt_set import read_prompts, select
from tremor.experiments.session import Session
from tremor.probe.base import to_array
from tremor.statistics.quotient import distribution, plateau
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.tables import write_csv


def measure(
    session: Session,
    *,
    precision: str,
    prompts: Path,
    probe: Mapping[str, Any],
    spectrum: Mapping[str, Any],
    settings: Mapping[str, Any],
    data: Path,
    table: Path,
    quotients: Path,
    averages: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Measure exp2 on one model in one precision: all prompts, one load.

    Args:
        session: The loaded model, in float64 for ``true_float64``.
        precision: ``bfloat16``, ``float32`` or ``true_float64``.
        prompts: The prompt set.
        probe: Config block ``probe``.
        spectrum: Config block ``spectrum``.
        settings: Config block ``exp2``.
        data: HDF5 file: for each prompt ids, x0, h0, singular values and the leading right singular vectors.
        table: CSV file, one row for each prompt.
        quotients: CSV file, one row for each prompt, direction and step.
        averages: CSV file, one row for each kind of noise, direction, step and number of copies.
        statistics: JSON file to write.
        provenance: Config, code and input digests.
    """
    chosen = read_prompts(prompts, settings["names"])
    noisy = {prompt.name for prompt in select(chosen, settings["noise_prompts"], where="exp2.names")}
    nudged = {prompt.name for prompt in select(chosen, settings["quotient_prompts"], where="exp2.names")}
    bos, top_k, seed = settings["bos"], int(settings["top_k"]), int(settings["noise_seed"])
    loaded, gate = gains.in_precision(session, precision, chosen[0].text, bos=bos)
    arithmetic = "float64" if precision == gains.TRUE else settings["arithmetic"]
    noise = gains.Noise(settings["noise_isotropic"], settings["noise_along"], settings["noise_samples"], seed)
    datasets: dict[str, Any] = {}
    rows, nudges, means, evaluated, modes = [], [], [], 0, {}
    for prompt in chosen:
        there = gains.place(loaded, prompt, spectrum, bos=bos, max_memory=session.max_memory)
        tools = gains.instruments(
            loaded, there, probe=probe, max_memory=session.max_memory, samples=settings["floor_samples"], seed=seed
        )
        count = len(there.spectrum.singular_values)
        rows.append(gains.spectrum_row(there, top_k, tools.floor, tools.response.h0))
        modes = {"mode": tools.response.mode, "batch_size": tools.response.batch_size}
        if prompt.name in nudged:
            along = gains.ranks(top_k, settings["ranks"], count)
            found, run, _ = gains.quotient_table(loaded, there, tools, along, settings["powers"], arithmetic=arithmetic)
            nudges.append(found)
            evaluated += run
        if prompt.name in noisy:
            along = gains.ranks(0, settings["noise_ranks"], count)
            along = [("top_k_singular" if rank <= top_k else kind, rank) for kind, rank in along]
            means.append(gains.average_table(loaded, there, tools, along, settings["noise_powers"], noise))
        datasets |= {
            f"{prompt.name}/ids": there.base.ids,
            f"{prompt.name}/x0": to_array(there.base.embeddings[-1]),
            f"{prompt.name}/h0": tools.response.h0,
            f"{prompt.name}/singular_values": there.spectrum.singular_values,
            f"{prompt.name}/right": there.directions[:top_k],
        }
    frame, steps, noisy_steps = (
        pd.DataFrame(rows),
        pd.concat(nudges, ignore_index=True),
        pd.concat(means, ignore_index=True),
    )
    attributes = {
        "precision": precision,
        "dtype": gains.dtype_of(loaded),
        "arithmetic": arithmetic,
        "spectrum_method": spectrum["method"],
        **modes,
    }
    origin = session.provenance(seeds={"noise": seed}, **provenance)
    write_hdf5(data, datasets, attributes={**attributes, "prompts": [p.name for p in chosen]}, provenance=origin)
    write_csv(table, frame, provenance=origin)
    write_csv(quotients, steps, provenance=origin)
    write_csv(averages, noisy_steps, provenance=origin)
    document = {
        "prompts": len(frame),
        "kinds": frame["kind"].nunique(),
        "sigma_1": distribution(frame["sigma_1"]),
        "relative_gain": distribution(frame["relative_gain"]),
        "stable_rank": distribution(frame["stable_rank"]),
        "noise_floor_l2": distribution(frame["noise_floor_l2"]),
        "by_kind": {kind: distribution(own["sigma_1"]) for kind, own in frame.groupby("kind")},
        "leading": plateaus(steps),
        "quotients": {
            "rows": len(steps),
            "evaluated_inputs": evaluated,
            "token_changes": int(steps["token_changed"].sum()),
        },
        "averages": {
            "rows": len(noisy_steps),
            "largest_n": int(noisy_steps["n_samples"].max()),
            "bias_over_gain_smallest_step": _relative_bias(noisy_steps, smallest=True),
            "bias_over_gain_largest_step": _relative_bias(noisy_steps, smallest=False),
        },
        "max_residual": float(frame["max_residual"].max()),
        "converged": bool(frame["converged"].all()),
        "gate": gate or {"relative_error": None},
        **attributes,
    }
    write_json(statistics, document, provenance=origin)


def plateaus(steps: pd.DataFrame) -> dict[str, Any]:
    """Over prompts, of the leading direction: medians of where its quotients say sigma."""
    found = pd.DataFrame([plateau(own) for _, own in steps[steps["dimension"] == 1].groupby("prompt", sort=False)])

    def median(name: str) -> float | None:
        known = found[name].dropna().astype(float) if len(found) else pd.Series(dtype=float)
        return float(np.median(known)) if len(known) else None

    names = ("agreeing_steps", "agree_from", "agree_to", "first_moving_step", "still_steps")
    return {name: median(name) for name in names}


def _relative_bias(table: pd.DataFrame, *, smallest: bool) -> float:
    """Bias over gain of the first direction at the largest n and one end of the steps, median over noises."""
    own = table[table["dimension"] == table["dimension"].iloc[0]]
    end = own["epsilon"].min() if smallest else own["epsilon"].max()
    last = own[(own["n_samples"] == own["n_samples"].max()) & (own["epsilon"] == end)]
    return float((last["bias"] / last["smooth_gain"]).median())
