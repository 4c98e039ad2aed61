"""exp8, part 7: what two platforms' unembedding kernels made of the same vectors; no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.compare import bits
from tremor.compare.recording import open_recording
from tremor.errors import ArtifactError
from tremor.experiments.decision_path import favours, numbers
from tremor.store.arrays import Bf16
from tremor.store.documents import write_json
from tremor.store.hdf5 import Hdf5Reader
from tremor.store.provenance import collect
from tremor.store.tables import read_csv, write_csv

NUMBERS = ("equal_bits", "n_changed_bits", "max_abs", "relative_l2", "ulp_max", "ulp_mean", "ulp_median")
KEYS = ("question", "which", "row", "dot_row", "dot_stage")


def compare(
    a: Path,
    b: Path,
    recordings: Sequence[Path],
    *,
    divergence: Path,
    table: Path,
    dots: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Compare the kernels of two platforms.

    Args:
        a: Kernel answers of the pair's first platform.
        b: Those of the second.
        recordings: Of the first platform, to see whether its kernel gives again what it gave while generating.
        divergence: Table of part 2.
        table: CSV file, one row for each question and row: all logits.
        dots: CSV file, one row for each question, row and stage: the dot products with the two tokens.
        statistics: JSON file.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: the platforms were not given the same vectors.
    """
    heads = read_csv(divergence).set_index("question")
    with Hdf5Reader(a) as first, Hdf5Reader(b) as second:
        if first.attributes["vectors_sha256"] != second.attributes["vectors_sha256"]:
            raise ArtifactError(f"{a} and {b} were made from different vectors; delete both and run snakemake again")
        index = {name: list(_array(first.read(name))) for name in KEYS}
        exact = _array(first.read("exact")) & _array(second.read("exact"))
        recorded = _recorded(recordings)
        rows = [
            _row(first, second, number, index, heads, recorded, bool(exact[number]))
            for number in range(len(index["row"]))
        ]
        products = _dots(first, second, index)
    origin = collect(seeds=None, platform={}, model={}, **provenance)
    frame, inner = pd.DataFrame(rows), pd.DataFrame(products)
    write_csv(table, frame, provenance=origin)
    write_csv(dots, inner, provenance=origin)
    write_json(statistics, _told(frame, inner), provenance=origin)


def _array(value: Any) -> Any:
    assert isinstance(value, np.ndarray)
    return value


def _recorded(recordings: Sequence[Path]) -> dict[str, Path]:
    found = {}
    for path in recordings:
        with open_recording(path) as run:
            found[run.question] = path
    return found


def _row(
    first: Hdf5Reader,
    second: Hdf5Reader,
    number: int,
    index: Mapping[str, list[Any]],
    heads: pd.DataFrame,
    recorded: Mapping[str, Path],
    exact: bool,
) -> dict[str, Any]:
    """All logits of one row, one vector of each platform in memory."""
    question, row = str(index["question"][number]), int(index["row"][number])
    one, other = (_vector(reader.read("logits", number, number + 1)) for reader in (first, second))
    told = bits.compare_vectors(one, other)
    values = [numbers(each) for each in (one, other)]
    tokens = [int(heads.loc[question, name]) for name in ("chosen_a", "chosen_b")]
    gaps = [float(each[tokens[0]] - each[tokens[1]]) for each in values]
    with open_recording(recorded[question]) as run:
        top = run.top(row)
    return {
        "question": question,
        "which": str(index["which"][number]),
        "row": row,
        "vectors_exact": exact,
        "vocabulary": told.width,
        **{name: getattr(told, name) for name in NUMBERS},
        "argmax_a": int(np.argmax(values[0])),
        "argmax_b": int(np.argmax(values[1])),
        "same_argmax": int(np.argmax(values[0])) == int(np.argmax(values[1])),
        "token_a": tokens[0],
        "token_b": tokens[1],
        "gap_a": gaps[0],
        "gap_b": gaps[1],
        "favours_a": favours(gaps[0]),
        "favours_b": favours(gaps[1]),
        "reproduces_recording": bool(np.array_equal(values[0][top.ids], top.logits.astype(np.float64))),
    }


def _vector(value: Any) -> Any:
    return Bf16(value.bits[0]) if isinstance(value, Bf16) else value[0]


def _dots(first: Hdf5Reader, second: Hdf5Reader, index: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    one, other = (_array(reader.read("dots")) for reader in (first, second))
    rows = []
    for number, (place, stage) in enumerate(zip(index["dot_row"], index["dot_stage"], strict=True)):
        told = bits.compare_vectors(one[number], other[number])
        gaps = [float(pair[0].astype(np.float64) - pair[1].astype(np.float64)) for pair in (one[number], other[number])]
        rows.append(
            {
                "question": str(index["question"][place]),
                "which": str(index["which"][place]),
                "row": int(index["row"][place]),
                "stage": str(stage),
                **{
                    f"dot_token_{token}_{side}": float(pair[which])
                    for side, pair in (("a", one[number]), ("b", other[number]))
                    for which, token in enumerate("ab")
                },
                "gap_a": gaps[0],
                "gap_b": gaps[1],
                "favours_a": favours(gaps[0]),
                "favours_b": favours(gaps[1]),
                "equal_bits": told.equal_bits,
                "ulp_max": told.ulp_max,
            }
        )
    return rows


def _told(frame: pd.DataFrame, dots: pd.DataFrame) -> dict[str, Any]:
    return {
        "rows": len(frame),
        "equal_rows": int(frame["equal_bits"].sum()),
        "changed_logits_percent": 100.0 * float(frame["n_changed_bits"].sum()) / float(frame["vocabulary"].sum()),
        "ulp_max": float(frame["ulp_max"].max()),
        "other_argmax": int((~frame["same_argmax"]).sum()),
        "reproduces_recording": int(frame["reproduces_recording"].sum()),
        "vectors_exact": bool(frame["vectors_exact"].all()),
        "equal_dots_percent": 100.0 * float(dots["equal_bits"].mean()),
        "dots_favour_another": int((dots["favours_a"] != dots["favours_b"]).sum()),
    }
