"""Summary tables: one row for each selected model, prompt and variant, gathered from the statistics files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tremor.errors import ArtifactError
from tremor.experiments.columns import COLUMNS
from tremor.store.documents import read_json
from tremor.store.provenance import collect
from tremor.store.tables import read_csv, write_csv


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
    for name in frame.columns:  # pandas makes floats of integers that stand beside a value which does not exist
        kinds = {type(row[name]) for row in table}
        if kinds == {int, type(None)}:
            frame[name] = frame[name].astype("Int64")
    _write(output, frame, provenance)


def stack(
    experiment: str,
    tables: Sequence[Path],
    rows: Sequence[Mapping[str, str]],
    *,
    output: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write a summary from tables that each hold several of its rows: one below the other, with the names before.

    Args:
        experiment: Key of :data:`COLUMNS`.
        tables: One CSV file for each entry of `rows`, with the columns of the experiment among its own.
        rows: Names (model, prompt, ...) of all rows of a file, in the order of the files.
        output: CSV file to write.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: a table lacks a column.
    """
    columns = list(COLUMNS[experiment])
    parts = []
    for path, names in zip(tables, rows, strict=True):
        frame = read_csv(path)
        missing = [column for column in columns if column not in frame]
        if missing:
            raise ArtifactError(f"{path} has no column '{missing[0]}'; delete it and run snakemake again")
        head = pd.DataFrame([names] * len(frame), index=frame.index)
        parts.append(pd.concat([head, frame[columns]], axis=1))
    _write(output, pd.concat(parts, ignore_index=True), provenance)


def write(experiment: str | None, output: Path, frame: pd.DataFrame, provenance: Mapping[str, Any]) -> None:
    """Write a table that was made whole: a summary with its columns in order, or another one as it is.

    Args:
        experiment: Key of :data:`COLUMNS`, None for a table that is no summary.
        output: CSV file to write.
        frame: The table.
        provenance: Config, code and input digests.
    """
    _write(output, frame if experiment is None else frame[list(COLUMNS[experiment])].copy(), provenance)


def _write(output: Path, frame: pd.DataFrame, provenance: Mapping[str, Any]) -> None:
    for name in frame.columns:  # a column that is None everywhere has no type of its own
        if frame[name].isna().all() and not isinstance(frame[name].dtype, pd.Int64Dtype):
            frame[name] = frame[name].astype("float64")
    write_csv(output, frame, provenance=collect(seeds=None, platform={}, model={}, **provenance))
