"""exp3: which coordinates a step survives in, at which precision; and one prompt in four precisions. Runs no model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor import floats
from tremor.errors import ArtifactError, ConfigError
from tremor.statistics.precision import distance, survivors
from tremor.store.documents import write_json
from tremor.store.hdf5 import Hdf5Artifact, read_hdf5, write_hdf5
from tremor.store.provenance import collect
from tremor.store.tables import read_csv, write_csv

Array = npt.NDArray[Any]
PRECISIONS = ("true_float64", "float32", "float16", "bfloat16")  # by significant bits
FORMATS = ("float64", "float32", "float16", "bfloat16")
VARIANTS = ("vector", "sigma_vector")  # eps * v, and eps * sigma * v as the original's table has it
STATES = ("embedding", "hidden", "logits")
_DATASET = {"embedding": "x0", "hidden": "h0", "logits": "logits"}
_DISTANCE = ("l2", "relative_l2", "max_abs", "cosine_distance", "ulps_median", "ulps_max", "equal")


def measure(
    prompt: str,
    *,
    settings: Mapping[str, Any],
    spectrum: Path,
    states: Sequence[Path],
    tops: Sequence[Path],
    data: Path,
    coordinates: Path,
    survival: Path,
    levels: Path,
    precisions: Path,
    top: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Measure exp3 at one prompt.

    Args:
        prompt: Alias.
        settings: Config block ``exp3``.
        spectrum: The spectrum artifact of this model and prompt, in the model's own type.
        states: Answers of the model, one file for each precision.
        tops: Their most likely tokens.
        data: HDF5 file: which coordinates move, for each variant, step and number of bits.
        coordinates: CSV file, one row for each coordinate: the original's table.
        survival: CSV file, one row for each variant, step and format.
        levels: CSV file, one row for each variant, step and number of significant bits.
        precisions: CSV file, one row for each precision and state: distance from the widest one.
        top: CSV file: the most likely tokens in every precision.
        statistics: JSON file to write.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: the answers are of other weights or another prompt than the spectrum.
        ConfigError: the spectrum holds fewer vectors.
    """
    source = read_hdf5(spectrum)
    answers = {str(a.attributes["precision"]): a for a in (_answer(path, spectrum, source, prompt) for path in states)}
    rank, x = int(settings["vector"]), source.array("x0")
    values = source.array("singular_values")
    if rank > len(values):
        raise ConfigError(f"exp3.vector asks for singular vector {rank}, but the spectrum has {len(values)}; lower it")
    v, sigma = source.array("right")[rank - 1], float(values[rank - 1])
    powers = [int(power) for power in settings["powers"]]
    sizes = {"vector": [10.0**p for p in powers], "sigma_vector": [10.0**p * sigma for p in powers]}
    fmt = str(source.attributes["dtype"])
    by_format = _survival_table(x, v, powers, sizes)
    bits = np.arange(int(settings["significant_bits"]), 0, -1)
    moved = np.array(
        [
            [[survivors(x, size * v.astype(np.float64), int(b)) for b in bits] for size in sizes[name]]
            for name in VARIANTS
        ]
    )
    by_bits = _level_table(moved, powers, sizes, bits)
    compared, agreement = _compare(answers, prompt)
    tokens = pd.concat([read_csv(path) for path in tops], ignore_index=True)
    tokens = tokens[tokens["prompt"] == prompt].reset_index(drop=True)
    origin = collect(seeds=None, platform={}, model=dict(source.provenance.get("model", {})), **provenance)
    attributes = {"dtype": fmt, "vector": rank, "sigma": sigma, "prompt": prompt}
    write_hdf5(
        data,
        {"x0": x, "direction": v, "powers": np.array(powers), "significant_bits": bits, "moved": moved.astype(np.int8)},
        attributes={**attributes, "variants": list(VARIANTS)},
        provenance=origin,
    )
    write_csv(coordinates, _coordinate_table(x, v, powers, sizes["sigma_vector"], fmt), provenance=origin)
    write_csv(survival, by_format, provenance=origin)
    write_csv(levels, by_bits, provenance=origin)
    write_csv(precisions, compared, provenance=origin)
    write_csv(top, tokens, provenance=origin)
    document = {
        "reference": _reference(answers),
        "precisions": len(answers),
        "against": _against(compared, agreement, tokens),
        "same_token_everywhere": bool(tokens[tokens["rank"] == 1]["token_id"].nunique() == 1),
        "smallest_surviving": {f: _smallest(by_format, f) for f in FORMATS},
        "width": len(x),
        **attributes,
    }
    write_json(statistics, document, provenance=origin)


def _answer(path: Path, spectrum: Path, source: Hdf5Artifact, prompt: str) -> Hdf5Artifact:
    answer = read_hdf5(path)
    digests = [a.provenance.get("model", {}).get("weights_digest") for a in (answer, source)]
    if digests[0] != digests[1] or not np.array_equal(answer.array(f"{prompt}/ids"), source.array("ids")):
        raise ArtifactError(
            f"{path} has other weights or another prompt than {spectrum}; run snakemake with `--forcerun exp3_states`"
        )
    return answer


def _reference(answers: Mapping[str, Hdf5Artifact]) -> str:
    return next(name for name in PRECISIONS if name in answers)


def _survival_table(x: Array, v: Array, powers: list[int], sizes: Mapping[str, list[float]]) -> pd.DataFrame:
    """Realised steps in each format; x is first rounded to it."""
    rows = []
    for variant in VARIANTS:
        for fmt in FORMATS:
            start = floats.round_to(x, fmt)
            for power, size in zip(powers, sizes[variant], strict=True):
                p = floats.nudge(start, v, size, arithmetic="float64", fmt=fmt)
                step = floats.realised_step(start, p[None], v, fmt)
                ulps = floats.ulp_distance(p, start, fmt)
                moved = int(step.moved_coordinates[0])
                rows.append(
                    {
                        "variant": variant,
                        "format": fmt,
                        "epsilon_power": power,
                        "requested_l2": size * float(np.linalg.norm(v.astype(np.float64))),
                        "moved_coordinates": moved,
                        "moved_percent": 100.0 * moved / len(x),
                        "ulps_sum": int(step.ulps[0]),
                        "ulps_max": int(ulps.max()),
                        "realised_l2": float(step.l2[0]),
                        "realised_along": float(step.along[0]),
                        "off_direction_l2": float(step.off_direction[0]),
                    }
                )
    return pd.DataFrame(rows)


def _level_table(moved: Array, powers: list[int], sizes: Mapping[str, list[float]], bits: Array) -> pd.DataFrame:
    rows = []
    for i, variant in enumerate(VARIANTS):
        for j, power in enumerate(powers):
            for k, level in enumerate(bits):
                count = int(moved[i, j, k].sum())
                rows.append(
                    {
                        "variant": variant,
                        "epsilon_power": power,
                        "requested_l2": sizes[variant][j],
                        "significant_bits": int(level),
                        "moved_coordinates": count,
                        "moved_percent": 100.0 * count / moved.shape[-1],
                    }
                )
    return pd.DataFrame(rows)


def _coordinate_table(x: Array, v: Array, powers: list[int], sizes: list[float], fmt: str) -> pd.DataFrame:
    """The original's table, in the model's type: eps * sigma * v, x + that, and the size of the difference."""
    columns: dict[str, Array] = {"dim_index": np.arange(len(x)), "original_value": x}
    for power, size in zip(powers, sizes, strict=True):
        p = floats.nudge(x, v, size, arithmetic="float32", fmt=fmt)
        columns[f"eps_1e{power}_perturbation"] = (np.float32(size) * v).astype(np.float32)
        columns[f"eps_1e{power}_new_value"] = p
        columns[f"eps_1e{power}_difference"] = np.abs(p.astype(np.float64) - x.astype(np.float64))
    return pd.DataFrame(columns)


def _compare(answers: Mapping[str, Hdf5Artifact], prompt: str) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Each precision's states against those of the widest, and how well the leading tokens agree."""
    widest = answers[_reference(answers)]
    rows, agreement = [], {}
    for precision in PRECISIONS:
        if precision not in answers:
            continue
        own = answers[precision]
        fmt = str(own.attributes["dtype"])
        for state in STATES:
            name = f"{prompt}/{_DATASET[state]}"
            found = distance(own.array(name), widest.array(name), fmt)
            rows.append(
                {
                    "precision": precision,
                    "reference": _reference(answers),
                    "state": state,
                    "width": len(own.array(name)),
                    **{f"{key}_coordinates" if key == "equal" else key: found[key] for key in _DISTANCE},
                }
            )
        logits = own.array(f"{prompt}/logits").astype(np.float64)
        agreement[precision] = {"tied_leaders": int((logits == logits.max()).sum())}
    return pd.DataFrame(rows), agreement


def _against(compared: pd.DataFrame, agreement: Mapping[str, Any], tokens: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """By precision what the summary shows; None throughout for a precision that was not asked for."""
    named = {p: list(own.sort_values("rank")["token_id"]) for p, own in tokens.groupby("precision")}
    reference = named[str(compared["reference"].iloc[0])]
    found: dict[str, dict[str, Any]] = {}
    for precision in PRECISIONS:
        rows = compared[compared["precision"] == precision].set_index("state")
        known = len(rows) > 0
        own = named.get(precision, [])
        found[precision] = {
            "hidden_relative_l2": float(rows["relative_l2"]["hidden"]) if known else None,
            "hidden_ulps_median": float(rows["ulps_median"]["hidden"]) if known else None,
            "hidden_ulps_max": int(rows["ulps_max"]["hidden"]) if known else None,
            "logits_relative_l2": float(rows["relative_l2"]["logits"]) if known else None,
            "same_token": own[0] == reference[0] if known else None,
            "top_overlap": len(set(own) & set(reference)) if known else None,
            "top_same_order": own == reference if known else None,
            "tied_leaders": agreement[precision]["tied_leaders"] if known else None,
        }
    return found


def _smallest(by_format: pd.DataFrame, fmt: str) -> int | None:
    """Smallest power of the step along v that moves any coordinate in a format."""
    own = by_format[(by_format["format"] == fmt) & (by_format["variant"] == "vector")]
    moved = own[own["moved_coordinates"] > 0]["epsilon_power"]
    return int(moved.min()) if len(moved) else None
