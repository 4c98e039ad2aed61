"""JSON artifacts: manifests, statistics. A mapping ends with a checksum of itself, which reading checks and removes."""

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from tremor.errors import ArtifactError
from tremor.store.atomic import write_bytes

_REMEDY = "delete it and run snakemake again"
CHECKSUM = "content_sha256"


def json_safe(value: Any) -> Any:
    """The value in terms of JSON.

    NaN and infinities become null: JSON has no word for them, and the non-standard tokens break other
    readers. A statistic that may be NaN should carry a count or reason beside it. Numbers of numpy become
    Python numbers of exactly the same value, arrays lists, paths text with forward slashes, sets sorted
    lists.

    Args:
        value: mappings, sequences, sets, dataclasses, numpy scalars and arrays, paths, enums, plain values.

    Raises:
        TypeError: something else, or a mapping with keys that are not text or numbers.
    """
    if value is None or isinstance(value, (str, bool)) or type(value) is int:
        return str(value) if isinstance(value, str) else value
    if isinstance(value, Enum):
        return json_safe(value.value)
    # Rules read manifests at parse time and must not wait for numpy; without it there are no values of its types.
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return json_safe(value.item())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int):
        return int(value)
    if numpy is not None and isinstance(value, numpy.ndarray):
        return json_safe(value.tolist())
    if isinstance(value, PurePath):
        return value.as_posix()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_safe(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((json_safe(item) for item in value), key=lambda item: (str(type(item)), item))
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def _key(key: object) -> str:
    if isinstance(key, str):
        return str(key)
    numpy = sys.modules.get("numpy")
    if isinstance(key, (int, float)) or (numpy is not None and isinstance(key, numpy.number)):
        return str(json_safe(key))
    raise TypeError(f"a {type(key).__name__} cannot be a key in JSON")


def write_json(path: PurePath | str, obj: Any, *, provenance: Mapping[str, Any] | None = None) -> None:
    """Write a JSON document atomically, in the order given, indented, UTF-8.

    Args:
        path: the artifact.
        obj: anything `json_safe` takes; NaN and infinities are written as null.
        provenance: goes under the key "provenance" of the document, which must then be a mapping without that
            key.

    Raises:
        TypeError: the object cannot be written as JSON.
        ValueError: provenance is given and the object has no room for it, or it has a key of the name of the checksum.
        ArtifactError: the disk is full or read-only.
    """
    document = json_safe(obj)
    if provenance is not None:
        if not isinstance(document, dict) or "provenance" in document:
            raise ValueError("provenance needs a mapping without the key 'provenance'")
        document["provenance"] = json_safe(provenance)
    if isinstance(document, dict):
        if CHECKSUM in document:
            raise ValueError(f"the key {CHECKSUM!r} is taken by the checksum of the document")
        document[CHECKSUM] = _checksum(document)
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Lone surrogates have no UTF-8; escaped they survive.
    content = text.encode("utf-8", errors="surrogatepass") if _encodable(text) else _escaped(document)
    write_bytes(str(path), content)


def _checksum(document: dict[str, Any]) -> str:
    """sha256 of a document's values, keys and their order; white space and ways to write a letter do not count."""
    text = json.dumps({name: value for name, value in document.items() if name != CHECKSUM})
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _escaped(document: Any) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def read_json(path: PurePath | str) -> Any:
    """Read a JSON document.

    Args:
        path: the artifact.

    Returns:
        The document, without its checksum; provenance, if any, under its key. A file that somebody else wrote has no
        checksum, and is taken as it is.

    Raises:
        ArtifactError: the file is missing, truncated, not JSON, or was changed after it was written.
    """
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist; run snakemake to make it") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise ArtifactError(f"{path} is not a complete JSON document ({error}); {_REMEDY}") from error
    if isinstance(document, dict) and document:
        last = next(reversed(document))
        if CHECKSUM in document:
            stated = document.pop(CHECKSUM)
            if stated != _checksum(document):
                raise ArtifactError(f"{path} was changed after it was written; {_REMEDY}")
        elif len(last) == len(CHECKSUM) and sum(a != b for a, b in zip(last, CHECKSUM, strict=True)) == 1:
            # One letter of the very name is wrong: damage must not switch the check off.
            raise ArtifactError(f"{path} was changed after it was written; {_REMEDY}")
    return document
