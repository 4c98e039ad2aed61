"""A model's manifest: what it is, and the digests by which all below it notices new weights (no torch)."""

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tremor.errors import ArtifactError, ModelError
from tremor.models import catalogue
from tremor.store.documents import read_json

SCHEMA = 1

# Names that families use in config.json for the same thing.
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_WIDTH = ("hidden_size", "n_embd", "d_model")
_CONTEXT = ("max_position_embeddings", "n_positions", "context_length")
_VOCAB = ("vocab_size",)

# A header of more than 100 MB is what the safetensors format itself refuses.
_LARGEST_HEADER = 100_000_000


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """Read the table of contents of a safetensors file and check it against the file's size.

    Args:
        path: The file.

    Returns:
        Tensor name to `{"dtype", "shape", "data_offsets"}`.

    Raises:
        ModelError: If the file is truncated or no safetensors file.
    """
    size = path.stat().st_size
    damaged = ModelError(f"weight file {path} is truncated or damaged; copy or fetch it again")
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _LARGEST_HEADER + 1
        if length > min(_LARGEST_HEADER, size - 8):
            raise damaged
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (
        json.JSONDecodeError,
        UnicodeDecodeError,
        AttributeError,
        KeyError,
        TypeError,
        IndexError,
    ) as error:
        raise damaged from error
    if 8 + length + end != size:
        raise damaged
    return dict(header)


def file_digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _joint_digest(digests: Mapping[str, str]) -> str:
    """sha256 over names and digests, in the order of names."""
    lines = "".join(f"{name}\0{digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def _digests(paths: Iterable[Path]) -> dict[str, str]:
    return {path.name: file_digest(path) for path in paths}


def weights_digest(folder: Path) -> str:
    """Digest over all weight files of a model, as in its manifest.

    Args:
        folder: The model's folder.

    Returns:
        Hexadecimal sha256.
    """
    return _joint_digest(_digests(catalogue.weight_files(folder)))


def _number(config: Mapping[str, Any], names: Iterable[str]) -> int | None:
    parts = [config, config.get("text_config") or {}]
    found = (part.get(name) for part in parts for name in names)
    return next((value for value in found if isinstance(value, int) and value > 0), None)


def _origin(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Where the model comes from; a path of this machine stays out of artifacts."""
    known = ("repo", "revision") if entry.get("source") == "hub" else ("architecture",)
    return {name: entry[name] for name in known if entry.get("source") != "path" and entry.get(name) is not None}


def build(alias: str, entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Describe a model by its files.

    Args:
        alias: Name of the model in the configuration.
        entry: Its entry in the configuration.
        folder: Its folder.

    Returns:
        The manifest, plain JSON values. Equal files and entries give equal manifests.

    Raises:
        ModelError: If files are missing, unsafe or truncated.
    """
    config = catalogue.check(folder)
    weights, tokenizer = catalogue.weight_files(folder), catalogue.tokenizer_files(folder)
    tensors = [entry for path in weights for entry in read_header(path).values()]
    dtypes: dict[str, int] = {}
    for tensor in tensors:
        dtypes[tensor["dtype"]] = dtypes.get(tensor["dtype"], 0) + math.prod(tensor["shape"])
    weight_digests, tokenizer_digests = _digests(weights), _digests(tokenizer)
    settings = folder / catalogue.CONFIG
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "alias": alias,
        "source": entry.get("source"),
        **_origin(entry),
        "model_type": config["model_type"],
        "model_class": (config.get("architectures") or [None])[0],
        "parameters": sum(dtypes.values()),
        "dtypes": dict(sorted(dtypes.items())),
        "n_layers": _number(config, _LAYERS),
        "d_model": _number(config, _WIDTH),
        "vocab": _number(config, _VOCAB),
        "context": _number(config, _CONTEXT),
        "bytes": sum(path.stat().st_size for path in weights),
        "weights_digest": _joint_digest(weight_digests),
        "tokenizer_digest": _joint_digest(tokenizer_digests),
        "config_digest": file_digest(settings),
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": digest}
            for path, digest in (
                *((p, weight_digests[p.name]) for p in weights),
                *((p, tokenizer_digests[p.name]) for p in tokenizer),
                (settings, file_digest(settings)),
            )
        },
    }
    training = folder / "training.json"
    if training.is_file():
        try:
            manifest["training"] = json.loads(training.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ModelError(f"{training} is no valid JSON ({error}); delete the folder and train again") from error
    return manifest


def read(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Args:
        path: The JSON file.

    Returns:
        The manifest.

    Raises:
        ArtifactError: If it is no manifest of this schema.
    """
    try:
        manifest = read_json(path)
    except (OSError, ArtifactError) as error:
        raise ArtifactError(f"cannot read the model manifest {path}: {error}; delete it and run again") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA or "files" not in manifest:
        raise ArtifactError(f"{path} is no model manifest of schema {SCHEMA}; delete it and run again")
    return manifest


def verify(manifest: Mapping[str, Any], folder: Path, *, quick: bool = False) -> None:
    """Check that a model's files are those of its manifest.

    Args:
        manifest: The manifest.
        folder: The model's folder.
        quick: Compare only sizes of weight files, not their digests; tokenizer and config are compared whole.

    Raises:
        ArtifactError: If a file changed, is missing, or came to be after the manifest was made.
    """
    alias = manifest.get("alias")
    remedy = "changed since the manifest was made; rerun the workflow from the manifest on"
    files: Mapping[str, Mapping[str, Any]] = manifest["files"]
    present = {p.name for p in (*catalogue.weight_files(folder), *catalogue.tokenizer_files(folder))}
    for name in sorted(present ^ (set(files) - {catalogue.CONFIG})):
        raise ArtifactError(
            f"model '{alias}': file {name} {'appeared' if name in present else 'vanished'}; files {remedy}"
        )
    for name, entry in files.items():
        path = folder / name
        what = "weights" if path.suffix == ".safetensors" else ("config" if name == catalogue.CONFIG else "tokenizer")
        same = path.is_file() and path.stat().st_size == entry["bytes"]
        if same and not (quick and what == "weights"):
            same = file_digest(path) == entry["sha256"]
        if not same:
            raise ArtifactError(f"model '{alias}': {what} ({name}) {remedy}")


def stored_dtype(manifest: Mapping[str, Any]) -> str:
    """The type that most of a model's weights are stored in, so that loading casts as little as possible."""
    names = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
    known = {name: count for name, count in manifest["dtypes"].items() if name in names}
    return names[max(known, key=lambda name: known[name])] if known else "float32"
