"""Table of all recordings: what each question gave on each platform (no torch)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.errors import ArtifactError
from tremor.experiments.columns import COLUMNS
from tremor.store.hdf5 import Bf16, Hdf5Reader
from tremor.store.provenance import collect
from tremor.store.tables import write_csv


def tabulate(
    recordings: Sequence[Path], rows: Sequence[Mapping[str, str]], *, output: Path, provenance: Mapping[str, Any]
) -> None:
    """Write `results/recordings/summary.csv`.

    Args:
        recordings: The files, all questions of the first row's model and platform, then of the second's.
        rows: Names of model and platform.
        output: CSV file to write.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: a recording is damaged, or made for another model than its folder says.
    """
    each = len(recordings) // len(rows)
    lines = []
    for index, path in enumerate(recordings):
        names = rows[index // each]
        lines.append({**names, "number": index % each + 1, **_describe(path, names["model"])})
    frame = pd.DataFrame(lines)[["model", "platform", *COLUMNS["recordings"]]]
    write_csv(output, frame, provenance=collect(seeds=None, platform={}, model={}, **provenance))


def _describe(path: Path, model: str) -> dict[str, Any]:
    with Hdf5Reader(path) as file:
        known = file.attributes
        if known["model"] != model:
            raise ArtifactError(f"{path} is a recording of model '{known['model']}', not of '{model}'; remove it")
        margins = np.asarray(file.read("margin"), dtype=np.float64)
        ties = np.asarray(file.read("ties"))
        leaders = np.asarray(file.read("top_probs"))[:, 0]
        shapes = [file.shape(f"states/{name}") for name in known["taps"]]
        sizes = [math.prod(shape) * _item(file, name) for name, shape in zip(known["taps"], shapes, strict=True)]
        return {
            "question": known["question"],
            "kind": known["kind"],
            "prompt_tokens": file.shape("prompt_ids")[0],
            "tokens": len(margins),
            "stopped": known["stopped"],
            "taps": len(shapes),
            "tap_rows": sum(shape[0] for shape in shapes),
            "state_bytes": sum(sizes),
            "tied_steps": int((ties > 1).sum()),
            "most_tied": int(ties.max()),
            "margin_min": float(margins.min()),
            "margin_min_step": int(margins.argmin()),
            "margin_median": float(np.median(margins)),
            "leader_probability_min": float(leaders.min()),
            # One row, one line: what is not printable is escaped.
            "text": "".join(c if c.isprintable() else repr(c)[1:-1] for c in known["generated_text"]),
            "decode": known["decode"],
            "dtype": known["dtype"],
        }


def _item(file: Hdf5Reader, tap: str) -> int:
    """Bytes of one number of a tap; models may keep some states in a wider type than they run in."""
    row = file.read(f"states/{tap}", 0, 1)
    return row.bits.itemsize if isinstance(row, Bf16) else row.itemsize
