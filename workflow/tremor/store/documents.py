"""JSON artifacts: manifests, statistics, provenance sidecars."""

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np

from tremor.errors import ArtifactError
from tremor.store.atomic import write_bytes

_REMEDY = "delete it and run snakemake again"


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
    if isinstance(value, np.generic):
        return json_safe(value.item())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, np.ndarray):
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
    if isinstance(key, (int, float, np.number)):
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
        ValueError: provenance is given and the object has no room for it.
        ArtifactError: the disk is full or read-only.
    """
    document = json_safe(obj)
    if provenance is not None:
        if not isinstance(document, dict) or "provenance" in document:
            raise ValueError("provenance needs a mapping without the key 'provenance'")
        document["provenance"] = json_safe(provenance)
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Lone surrogates have no UTF-8; escaped they survive.
    content = text.encode("utf-8", errors="surrogatepass") if _encodable(text) else _escaped(document)
    write_bytes(str(path), content)


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _escaped(document: Any) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def read_json(path: PurePath | str) -> Any:
    """Read a JSON document.

    Args:
        path: the artifact.

    Returns:
        The document; provenance, if any, under its key.

    Raises:
        ArtifactError: the file is missing, truncated or not JSON.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist; run snakemake to make it") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise ArtifactError(f"{path} is not a complete JSON document ({error}); {_REMEDY}") from error
