"""Tables: CSV with a sidecar for those that people open, Parquet for the rest; typed and checksummed."""

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.errors import ArtifactError
from tremor.store.atomic import replacing
from tremor.store.documents import json_safe, read_json

SCHEMA_VERSION = 1
_REMEDY = "delete it and run snakemake again"
_QUOTE = re.compile(r'[",\r\n]')
_NUMBERS = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_FLOATS = {"float16", "float32", "float64"}
_NULLABLE = {name.capitalize().replace("Ui", "UI") for name in _NUMBERS} | {"boolean"}


def sidecar(path: Path | str) -> Path:
    """Path of the file beside a CSV that holds its column types, checksum and provenance."""
    path = Path(path)
    return path.with_name(path.name + ".meta.json")


def write_csv(path: Path | str, frame: pd.DataFrame, *, provenance: Mapping[str, Any]) -> None:
    """Write a CSV and its sidecar `<file>.csv.meta.json`.

    Floats get the shortest digits that read back to the same bits (at most 17 for float64, 9 for float32);
    NaN and infinities are `nan`, `inf`, `-inf`; a missing integer or text is empty. The sidecar is in place
    first.

    Args:
        path: the artifact.
        frame: columns of bool, integers, floats, text, or pandas' nullable integers and boolean; the index is
            not written and must be a plain range.
        provenance: from `provenance.collect`.

    Raises:
        TypeError: a column's dtype has no exact form in CSV.
        ValueError: the index holds data, names repeat, or a text column has both missing and empty cells.
        ArtifactError: the disk is full or read-only; the old artifact is intact.
    """
    path = Path(path)
    _check_frame(frame)
    columns = {name: _column_type(frame[name]) for name in frame.columns}
    cells = [[_cell(columns[name])(value) for value in frame[name]] for name in frame.columns]
    lines = [_line(row) for row in (tuple(frame.columns), *zip(*cells, strict=True))]
    content = "".join(lines).encode("utf-8")
    meta = {
        "schema": SCHEMA_VERSION,
        "sha256": hashlib.sha256(content).hexdigest(),
        "rows": len(frame),
        "columns": columns,
        "provenance": json_safe(provenance),
    }
    description = (json.dumps(meta, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode()
    _write_both(path, content, description)


def _line(cells: tuple[str, ...]) -> str:
    """One line of CSV; Python's own writer does not quote a lone carriage return before 3.13."""
    quoted = ['"' + cell.replace('"', '""') + '"' if _QUOTE.search(cell) else cell for cell in cells]
    return (",".join(quoted) if quoted != [""] else '""') + "\n"


def _write_both(path: Path, content: bytes, description: bytes) -> None:
    """Both are on the disk before the first takes its place; if the second cannot, the first is put back."""
    beside = sidecar(path)
    before = beside.read_bytes() if beside.is_file() else None
    committed = False
    try:
        with replacing(path) as table:
            table.write_bytes(content)
            with replacing(beside) as temporary:
                temporary.write_bytes(description)
            committed = True
    except BaseException:
        if committed:
            with suppress(OSError, ArtifactError):
                if before is None:
                    beside.unlink(missing_ok=True)
                else:
                    with replacing(beside) as temporary:
                        temporary.write_bytes(before)
        raise


def _check_frame(frame: pd.DataFrame) -> None:
    names = list(frame.columns)
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise ValueError("column names must be distinct texts")
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError("the index is not written: move it to a column with reset_index()")
    for name in names:  # its codes and its categories would be read back in another order than they were digested
        if isinstance(frame[name].dtype, pd.CategoricalDtype):
            raise ValueError(f"column {name!r} is categorical: write its values, as text or numbers")


def _column_type(column: "pd.Series[Any]") -> dict[str, Any]:
    name = str(column.dtype)
    if name in _NUMBERS | _FLOATS | {"bool"}:
        return {"dtype": name}
    if name in _NULLABLE:
        return {"dtype": name, "missing": True}
    present = column[column.notna()]
    if name not in ("object", "str", "string") or not all(isinstance(value, str) for value in present):
        raise TypeError(f"column {column.name!r} of dtype {name} has no exact form in CSV")
    missing = len(present) < len(column)
    if missing and (present == "").any():
        raise ValueError(f"column {column.name!r} has missing and empty texts, which CSV cannot tell apart")
    return {"dtype": "str", "missing": missing}


def _cell(kind: Mapping[str, Any]) -> Callable[[Any], str]:
    name = kind["dtype"]
    if name in _FLOATS:
        return lambda value: float_text(np.dtype(name).type(value))
    if name == "str":
        return lambda value: value if isinstance(value, str) else ""
    return lambda value: "" if value is pd.NA else str(value)


def float_text(value: np.floating[Any]) -> str:
    """Shortest decimal that reads back to the same bits of the value's own dtype (but for NaN payloads)."""
    number = float(value)
    if math.isnan(number):
        return "nan"
    if math.isinf(number):
        return "inf" if number > 0 else "-inf"
    short = str(value)
    # Readers parse to float64 first; the second rounding could, very rarely, end on the neighbour.
    return short if type(value)(float(short)) == value else repr(number)


def read_csv(path: Path | str, *, verify: bool = True) -> pd.DataFrame:
    """Read a CSV with the types it was written with.

    Args:
        path: the artifact.
        verify: compare with the sidecar's checksum; False reads a file edited on purpose.

    Returns:
        The table. Without a sidecar (a file of the user) pandas infers the types.

    Raises:
        ArtifactError: the file is missing, edited since it was written, or does not fit its sidecar.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; run snakemake to make it")
    content = path.read_bytes()
    if not sidecar(path).is_file():
        try:
            return pd.read_csv(io.BytesIO(content))
        except ValueError as error:  # ParserError, EmptyDataError, UnicodeDecodeError
            raise ArtifactError(f"{path} is not a readable CSV ({error}); correct it") from error
    meta = _read_sidecar(path)
    if verify and hashlib.sha256(content).hexdigest() != meta["sha256"]:
        raise ArtifactError(f"{path} was edited after it was written (its checksum in the sidecar differs); {_REMEDY}")
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))
        names, body = rows[0] if rows else [], rows[1:]
        if meta["columns"] and names != list(meta["columns"]):
            raise ValueError("other columns")
        # csv writes a lone empty cell as '""', but reads a hand-made blank line as no cell at all.
        values = list(zip(*body, strict=True)) if body else [()] * len(names)
        data = {name: _parse(values[i], meta["columns"][name]) for i, name in enumerate(names)}
        return pd.DataFrame(data, index=pd.RangeIndex(meta["rows"] if not names else len(body)))
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise ArtifactError(f"{path} does not fit the columns in {sidecar(path).name} ({error}); {_REMEDY}") from error


def _read_sidecar(path: Path) -> dict[str, Any]:
    meta = read_json(sidecar(path))
    if not isinstance(meta, dict) or not {"schema", "sha256", "rows", "columns", "provenance"} <= meta.keys():
        raise ArtifactError(f"{sidecar(path)} was not written by Tremor; delete it and {path}, and run snakemake again")
    if meta["schema"] != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {meta['schema']}, this Tremor reads {SCHEMA_VERSION}; {_REMEDY}"
        )
    return meta


def _parse(cells: tuple[str, ...], kind: Mapping[str, Any]) -> Any:
    name = kind["dtype"]
    if name in _FLOATS:
        return np.array([float(cell) for cell in cells], dtype=np.float64).astype(name)
    if name == "bool":
        return np.array([{"True": True, "False": False}[cell] for cell in cells], dtype=bool)
    if name in _NUMBERS:
        return np.array([int(cell) for cell in cells], dtype=name)
    if name == "boolean":
        return pd.array([{"True": True, "False": False, "": pd.NA}[cell] for cell in cells], dtype="boolean")
    if name in _NULLABLE:
        return pd.array([int(cell) if cell else pd.NA for cell in cells], dtype=name)
    if name != "str":
        raise ValueError(f"unknown type {name}")
    return pd.Series([None if kind["missing"] and not cell else cell for cell in cells], dtype="str")


def write_parquet(path: Path | str, frame: pd.DataFrame, *, provenance: Mapping[str, Any], schema_version: int) -> None:
    """Write a typed table, compressed with zstd, with page checksums and a digest of its content.

    Args:
        path: the artifact.
        frame: columns of any type Arrow knows (numbers, text, lists, times); plain range index.
        provenance: from `provenance.collect`.
        schema_version: version of this table's columns, compared by the reader.

    Raises:
        TypeError: a column has no Arrow type.
        ValueError: the index holds data or names repeat.
        ArtifactError: the disk is full or read-only; the old artifact is intact.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    _check_frame(frame)
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise TypeError(f"a column has no type in Parquet: {error}") from error
    text = json.dumps(json_safe(provenance), allow_nan=False)
    ours = {
        b"tremor_schema": str(SCHEMA_VERSION).encode(),
        b"schema_version": str(schema_version).encode(),
        b"content_sha256": _table_digest(table, schema_version).encode(),
        b"provenance": text.encode(),
        b"provenance_sha256": hashlib.sha256(text.encode()).hexdigest().encode(),
        # What pandas notes of the columns decides how they are turned back, and is covered by no checksum of Parquet.
        b"pandas_sha256": hashlib.sha256((table.schema.metadata or {}).get(b"pandas", b"")).hexdigest().encode(),
    }
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **ours})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True, version="2.6")


def read_parquet(path: Path | str, *, schema_version: int | None = None) -> pd.DataFrame:
    """Read and verify a table.

    Args:
        path: the artifact.
        schema_version: version of the columns the caller understands; None takes any.

    Returns:
        The table with the types it was written with.

    Raises:
        ArtifactError: missing, truncated, edited, not Tremor's, or of another schema version.
    """
    import pyarrow as pa

    table, meta = _load_parquet(Path(path))
    found = int(meta[b"schema_version"])
    if schema_version is not None and found != schema_version:
        raise ArtifactError(f"{path} has schema version {found}, wanted is {schema_version}; {_REMEDY}")
    if _table_digest(table.combine_chunks(), found).encode() != meta[b"content_sha256"]:
        raise ArtifactError(f"{path} was changed after it was written; {_REMEDY}")
    try:
        frame: pd.DataFrame = table.to_pandas()
    except (pa.ArrowException, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"{path} cannot be turned into a table, it is damaged ({error}); {_REMEDY}") from error
    return frame


def parquet_digest(path: Path | str) -> str:
    """Digest of what a Parquet table says, without its provenance, as checked against the table.

    Raises:
        ArtifactError: the file is missing, truncated or was changed.
    """
    path = Path(path)
    read_parquet(path)
    return _load_parquet(path)[1][b"content_sha256"].decode()


def _load_parquet(path: Path) -> tuple[Any, dict[bytes, bytes]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; run snakemake to make it")
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path} cannot be read, it is truncated or no Parquet file; {_REMEDY}") from error
    meta: dict[bytes, bytes] = table.schema.metadata or {}
    complete = b"schema_version" in meta and b"content_sha256" in meta
    if meta.get(b"tremor_schema") != str(SCHEMA_VERSION).encode() or not complete:
        raise ArtifactError(f"{path} was not written by this version of Tremor; {_REMEDY}")
    if hashlib.sha256(meta.get(b"provenance", b"")).hexdigest().encode() != meta.get(b"provenance_sha256"):
        raise ArtifactError(f"the provenance of {path} was edited; {_REMEDY}")
    if hashlib.sha256(meta.get(b"pandas", b"")).hexdigest().encode() != meta.get(b"pandas_sha256"):
        raise ArtifactError(f"the description of the columns of {path} was changed after it was written; {_REMEDY}")
    return table, meta


def _table_digest(table: Any, schema_version: int) -> str:
    """sha256 of what the table says, whatever the layout in the file."""
    digest = hashlib.sha256(json.dumps([schema_version, table.num_rows, table.column_names]).encode())
    for column in table.columns:
        _add_column(digest, column.combine_chunks() if hasattr(column, "combine_chunks") else column)
    return digest.hexdigest()


def _add_column(digest: Any, column: Any) -> None:
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    kind = column.type
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    # Parquet renames the items of a list, so only the fact counts here; the items' type follows with them.
    digest.update(f"{'list' if listed else kind}:{len(column)}:{column.null_count};".encode())
    if column.null_count:
        digest.update(np.asarray(column.is_null().to_numpy(zero_copy_only=False)).tobytes())
    if pa.types.is_floating(kind):  # a missing value comes as NaN, and was counted above
        digest.update(np.ascontiguousarray(column.to_numpy(zero_copy_only=False)).tobytes())
    elif pa.types.is_boolean(kind):
        digest.update(np.ascontiguousarray(column.fill_null(False).to_numpy(zero_copy_only=False)).tobytes())
    elif pa.types.is_integer(kind):
        digest.update(np.ascontiguousarray(column.fill_null(0).to_numpy(zero_copy_only=False)).tobytes())
    elif listed:
        lengths = column.value_lengths().fill_null(0)
        digest.update(np.ascontiguousarray(lengths.to_numpy(zero_copy_only=False)).astype("<i8").tobytes())
        _add_column(digest, column.flatten())
    else:
        for value in column.to_pylist():
            raw = repr(value).encode("utf-8", errors="backslashreplace")
            digest.update(len(raw).to_bytes(8, "little") + raw)


def table_provenance(path: Path | str) -> dict[str, Any]:
    """Provenance of a CSV or Parquet table.

    Raises:
        ArtifactError: the table or its sidecar is missing or damaged, or a CSV was edited.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        found: dict[str, Any] = json.loads(_load_parquet(path)[1][b"provenance"])
        return found
    if not sidecar(path).is_file():
        raise ArtifactError(f"{path} carries no provenance ({sidecar(path).name} is missing); {_REMEDY}")
    read_csv(path)
    found = _read_sidecar(path)["provenance"]
    return found
