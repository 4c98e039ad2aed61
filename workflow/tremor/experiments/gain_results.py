"""exp2: files and statistics of what was measured at the prompts, by one job or by several. No torch here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.statistics.quotient import distribution, plateau
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.shards import Part
from tremor.store.tables import write_csv


def write_gains(
    whole: Part,
    *,
    data: Path,
    table: Path,
    quotients: Path,
    averages: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write the tables of all prompts and what they say together.

    Args:
        whole: All prompts.
        data: HDF5 file to write.
        table: CSV file, one row for each prompt.
        quotients: CSV file, one row for each prompt, direction and step.
        averages: CSV file, one row for each kind of noise, direction, step and number of copies.
        statistics: JSON file to write.
        provenance: Of the job, or of the shards.
    """
    frame, steps, noisy_steps = (whole.tables[name] for name in ("prompts", "quotients", "averages"))
    attributes = {name: value for name, value in whole.facts.items() if name != "gate"}
    attributes["batch_size"] = int(whole.items["batch_size"][-1])
    write_hdf5(data, whole.own, attributes={**attributes, "prompts": frame["name"].tolist()}, provenance=provenance)
    write_csv(table, frame, provenance=provenance)
    write_csv(quotients, steps, provenance=provenance)
    write_csv(averages, noisy_steps, provenance=provenance)
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
            "evaluated_inputs": int(whole.items["evaluated"].sum()),
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
        "gate": whole.facts["gate"],
        **attributes,
    }
    write_json(statistics, document, provenance=provenance)


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
