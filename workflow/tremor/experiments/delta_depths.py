"""delta/jacobian across models: every measure at common relative depths, and its ratio to the first model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.errors import ArtifactError
from tremor.statistics.depth import at_depths, common_depths
from tremor.store.provenance import collect
from tremor.store.tables import read_csv, write_csv

# Columns of gain.csv that are compared; what multiplies along the layers is interpolated by its logarithm.
MEASURES = (
    *(f"{what}_{source}_{target}" for what in ("spectral", "frobenius", "relative_worst", "relative_typical")
      for source in ("last", "all") for target in ("logits", "centred_logits", "final")),
    *(f"sensitivity_{noise}_{what}" for noise in ("absolute", "relative_all", "relative_last")
      for what in ("mean", "gain_mean")),
    "secant_mean", "secant_max",
    *(f"erank_{level}_{centring}_{power}" for level in ("last", "token") for centring in ("centred", "uncentred")
      for power in ("sigma", "sigma2")),
)  # fmt: skip


def compare(
    tables: Sequence[Path],
    rows: Sequence[Mapping[str, str]],
    *,
    depths: int,
    output: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write the comparison table: one row for each measure, common depth and model.

    Args:
        tables: gain.csv of each model.
        rows: Their names, in the order of the tables; ratios are to the first.
        depths: Number of common depths.
        output: CSV file to write.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: the measured layers of the models share no range of depths.
    """
    frames = [read_csv(path) for path in tables]
    places = [frame["relative_depth"].to_numpy(dtype=np.float64) for frame in frames]
    wanted = common_depths(places, depths)
    if not len(wanted):
        raise ArtifactError(
            f"the layers measured in {tables[0]} and the other models' share no relative depth; "
            "set delta.jacobian.layers: all"
        )
    found = []
    for measure in MEASURES:
        if not all(measure in frame for frame in frames):
            continue
        values = [
            at_depths(place, frame[measure].to_numpy(dtype=np.float64), wanted, log=True)
            for place, frame in zip(places, frames, strict=True)
        ]
        for names, frame, value in zip(rows, frames, values, strict=True):
            found.append(
                pd.DataFrame(
                    {
                        "measure": measure,
                        "relative_depth": wanted,
                        "model": names["model"],
                        "n_layers": int(frame["n_layers"].iloc[0]),
                        "value": value,
                        "ratio_to_first": value / values[0],
                    }
                )
            )
    origin = collect(seeds=None, platform={}, model={}, **provenance)
    write_csv(output, pd.concat(found, ignore_index=True), provenance=origin)
