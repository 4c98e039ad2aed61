"""Summary tables: one row for each selected model, prompt and variant, gathered from the statistics files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tremor.errors import ArtifactError
from tremor.store.documents import read_json
from tremor.store.provenance import collect
from tremor.store.tables import write_csv

# Columns of results/<exp>/summary.csv after the names of the row; a stable interface, documented in docs/.
DISTANCES = (
    "rays", "certified_rays", "censored_rays", "violations",
    "embedding_l2_mean", "embedding_l2_median", "embedding_l2_min", "embedding_l2_max",
    "hidden_l2_mean", "hidden_l2_median", "hidden_l2_min", "hidden_l2_max",
    "hidden_over_embedding", "gain_smooth", "noise_floor_l2", "mode", "dtype", "device",
)  # fmt: skip
ANGLES = (
    "rays", "certified_rays", "censored_rays", "nonzero_rays", "mean_evaluations",
    "max_s_mean", "max_s_median", "max_s_min", "max_s_max", "max_s_std", "max_s_range",
    "argmin_angle_degrees", "argmax_angle_degrees",
    "cardinal.e1.max_s", "cardinal.e2.max_s", "cardinal.minus_e1.max_s", "cardinal.minus_e2.max_s",
    "median_max_s_over_first_breakpoint", "mode", "dtype", "method", "threshold",
)  # fmt: skip
VECTORS = (
    "rays", "certified_rays", "censored_rays", "nonzero_rays", "mean_evaluations",
    "singular.rays", "singular.max_s_mean", "singular.max_s_median", "singular.max_s_min", "singular.max_s_max",
    "random.rays", "random.max_s_mean", "random.max_s_median", "random.max_s_min", "random.max_s_max",
    "argmin_vector", "argmax_vector", "spearman_max_s_sigma", "spearman_p", "mann_whitney_p",
    "median_abs_log10_sign_ratio", "mode", "dtype", "method", "threshold",
)  # fmt: skip
SPECTRUM = (
    "values", "sigma_1", "sigma_2", "sigma_last", "frobenius_norm", "stable_rank", "effective_rank", "max_residual",
    "orthogonality", "converged", "method", "dtype",
)  # fmt: skip
COLUMNS: Mapping[str, Sequence[str]] = {
    "spectrum": SPECTRUM,
    "exp12": ANGLES,
    "exp13": VECTORS,
    "exp15": DISTANCES,
}


def _value(document: Mapping[str, Any], dotted: str, path: Path) -> Any:
    value: Any = document
    for part in dotted.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ArtifactError(f"{path} has no '{dotted}'; delete it and run snakemake again")
        value = value[part]
    return value


def gather(
    experiment: str,
    statistics: Sequence[Path],
    rows: Sequence[Mapping[str, str]],
    *,
    output: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write a summary table from statistics files.

    Args:
        experiment: Key of :data:`COLUMNS`.
        statistics: One JSON file for each row.
        rows: Names of each row (model, prompt, arithmetic, ...), in the order of the files.
        output: CSV file to write.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: a file lacks a value.
    """
    table = []
    for path, names in zip(statistics, rows, strict=True):
        document = read_json(path)
        values = {column.replace(".", "_"): _value(document, column, path) for column in COLUMNS[experiment]}
        table.append({**names, **values})
    frame = pd.DataFrame(table)
    for name in frame.columns:  # a column that is None everywhere has no type of its own
        if frame[name].isna().all():
            frame[name] = frame[name].astype("float64")
    write_csv(output, frame, provenance=collect(seeds=None, platform={}, model={}, **provenance))
