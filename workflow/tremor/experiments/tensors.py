"""exp10, part 2: the chains of two platforms, product by product, in bits and in steps of the lattice; no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.compare import bits
from tremor.errors import ArtifactError
from tremor.store.arrays import Bf16
from tremor.store.documents import write_json
from tremor.store.hdf5 import Hdf5Reader
from tremor.store.provenance import collect
from tremor.store.tables import write_csv

NUMBERS = (
    "n_changed_bits", "max_abs", "mean_abs", "relative_l2", "ulp_max", "ulp_mean", "ulp_median", "n_signed_zero",
    "n_nan_a", "n_nan_b", "n_inf_a", "n_inf_b",
)  # fmt: skip
SAME = ("dim", "matrices", "scale", "seed", "dtypes")


def compare(a: Path, b: Path, *, steps: Path, types: Path, statistics: Path, provenance: Mapping[str, Any]) -> None:
    """Compare the chains of two platforms.

    Args:
        a: Chain of the first platform.
        b: Chain of the second.
        steps: CSV file, one row for each type and step.
        types: CSV file, one row for each type.
        statistics: JSON file with the same, and where each type parts first.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: the chains did not start from the same bits.
    """
    with Hdf5Reader(a) as first, Hdf5Reader(b) as second:
        _require_same_inputs(first, second)
        rows = [
            _row(first, second, dtype, step)
            for dtype in first.attributes["dtypes"]
            for step in range(int(first.attributes["matrices"]))
        ]
        common = {"dim": int(first.attributes["dim"]), "repeats": int(first.attributes["repeats"])}
    table = pd.DataFrame(rows)
    told = [{**_told(group), **common} for _, group in table.groupby("dtype", sort=False)]
    origin = collect(seeds=None, platform={}, model={}, **provenance)
    write_csv(
        steps, table.astype({"first_index": "Int64", "first_row": "Int64", "first_column": "Int64"}), provenance=origin
    )
    write_csv(types, pd.DataFrame(told).astype({"first_differing_step": "Int64"}), provenance=origin)
    write_json(statistics, {"types": told, "identical": all(each["identical"] for each in told)}, provenance=origin)


def _require_same_inputs(first: Hdf5Reader, second: Hdf5Reader) -> None:
    for name in SAME:
        if first.attributes[name] != second.attributes[name]:
            raise ArtifactError(
                f"{first.path} and {second.path} have different chains ({name}: {first.attributes[name]}, "
                f"{second.attributes[name]}); make both with the same exp10 settings"
            )
    ours, theirs = first.attributes["inputs_sha256"], second.attributes["inputs_sha256"]
    different = [dtype for dtype in ours if ours[dtype] != theirs.get(dtype)]
    if different:
        raise ArtifactError(
            f"{first.path} and {second.path} started from different {different[0]} matrices (digests differ), so a "
            "difference of products would say nothing; run both with the same version of numpy"
        )


def _row(first: Hdf5Reader, second: Hdf5Reader, dtype: str, step: int) -> dict[str, Any]:
    """One product on both platforms; one of each is in memory."""
    name = f"product/{dtype}"
    a, b = _flat(first.read(name, step, step + 1)), _flat(second.read(name, step, step + 1))
    told = bits.compare_vectors(a, b)
    changed = np.flatnonzero(bits.changed_coordinates(a, b))
    width = int(first.attributes["dim"])
    place = int(changed[0]) if len(changed) else None
    errors = [reader.read(f"error/{dtype}", step, step + 1)[0] for reader in (first, second)]  # type: ignore[index]
    unrepeated = [reader.read(f"unrepeated/{dtype}", step, step + 1)[0] for reader in (first, second)]  # type: ignore[index]
    return {
        "dtype": dtype,
        "step": step + 1,
        "entries": told.width,
        "equal_bits": told.equal_bits,
        **{key: getattr(told, key) for key in NUMBERS},
        "first_index": place,
        "first_row": None if place is None else place // width,
        "first_column": None if place is None else place % width,
        "error_a": float(errors[0]),
        "error_b": float(errors[1]),
        "unrepeated_a": int(unrepeated[0]),
        "unrepeated_b": int(unrepeated[1]),
    }


def _flat(value: Any) -> Any:
    return Bf16(value.bits.reshape(-1)) if isinstance(value, Bf16) else value.reshape(-1)


def _told(group: pd.DataFrame) -> dict[str, Any]:
    """What the summary says of a type."""
    different = group[~group["equal_bits"]]
    last = group.iloc[-1]
    return {
        "dtype": str(last["dtype"]),
        "steps": len(group),
        "identical": not len(different),
        "first_differing_step": int(different["step"].iloc[0]) if len(different) else None,
        "differing_steps": len(different),
        "changed_first_percent": 100.0 * float(group["n_changed_bits"].iloc[0]) / float(last["entries"]),
        "changed_last_percent": 100.0 * float(last["n_changed_bits"]) / float(last["entries"]),
        "ulp_max_last": float(last["ulp_max"]),
        "ulp_median_last": float(last["ulp_median"]),
        "relative_l2_first": float(group["relative_l2"].iloc[0]),
        "relative_l2_last": float(last["relative_l2"]),
        "error_last_a": float(last["error_a"]),
        "error_last_b": float(last["error_b"]),
        "repeats_agree": bool((group["unrepeated_a"] == 0).all() and (group["unrepeated_b"] == 0).all()),
    }
