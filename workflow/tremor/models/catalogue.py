"""Where the models of a configuration lie, and whether their files are complete and safe (no torch)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tremor.errors import ConfigError, ModelError

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"

# Formats that run code or may do so when they are opened.
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")

# One of these groups makes a tokenizer; the other files refine it.
_TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("spiece.model",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
)
_TOKENIZER_EXTRAS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)


def directory(alias: str, entry: Mapping[str, Any], resources: Path) -> Path:
    """The folder of a model; it need not exist yet.

    Args:
        alias: Name of the model in the configuration.
        entry: Its entry: `{"source": "embedded" | "hub" | "path", ...}`.
        resources: The workflow's resources folder.

    Returns:
        `resources/models/<alias>` for models that the workflow trains or fetches, else the user's path.

    Raises:
        ConfigError: If the source is unknown or a path is missing.
    """
    source = entry.get("source")
    if source in ("embedded", "hub"):
        return resources / "models" / alias
    if source == "path":
        path = entry.get("path")
        if not path:
            raise ConfigError(f"models.{alias}: source 'path' needs a path")
        return Path(path).expanduser()
    raise ConfigError(f"models.{alias}.source: '{source}' is unknown; use embedded, hub or path")


def read_config(folder: Path) -> dict[str, Any]:
    """Read a model's config.json.

    Args:
        folder: The model's folder.

    Returns:
        The config; the part about text where a model has several.

    Raises:
        ModelError: If the folder or the file is missing, or the file is no JSON object.
    """
    if not folder.is_dir():
        raise ModelError(f"model folder {folder} does not exist; check the path, or let the workflow build it")
    path = folder / CONFIG
    if not path.is_file():
        raise ModelError(f"{folder} is no model folder: it has no {CONFIG}; save the model with save_pretrained()")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); make it readable, or copy the model") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is no valid JSON ({error}); copy it again") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(f"{path} names no model_type; it is not the config of a transformers model")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold a model's weights.

    Args:
        folder: The model's folder.

    Returns:
        Paths, sorted by name.

    Raises:
        ModelError: If there are none, only pickles, or the index names one that is missing.
    """
    index = folder / INDEX
    single = folder / "model.safetensors"
    if index.is_file() and not single.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{index} is damaged ({error}); copy or fetch the model again") from error
        for name in names:
            if not isinstance(name, str) or Path(name).name != name:
                raise ModelError(f"{index} names a weight file outside the model's folder: {name!r}")
            if not (folder / name).is_file():
                raise ModelError(f"{folder}: weight file {name}, named in {INDEX}, is missing; copy or fetch it again")
        return [folder / name for name in names]
    if single.is_file():
        return [single]
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ModelError(
            f"{folder} has pickle weights only ({', '.join(pickles[:3])}), which can run code when opened; "
            "convert them elsewhere with save_pretrained(safe_serialization=True)"
        )
    raise ModelError(f"{folder} has no model.safetensors and no {INDEX}; copy or fetch the model again")


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a model's tokenizer.

    Args:
        folder: The model's folder.

    Returns:
        Paths, sorted by name.

    Raises:
        ModelError: If there is no tokenizer.
    """
    names = {name for group in _TOKENIZERS if all((folder / n).is_file() for n in group) for name in group}
    if not names:
        raise ModelError(
            f"{folder} has no tokenizer (tokenizer.json, tokenizer.model or vocab.json with merges.txt); "
            "save it beside the model with tokenizer.save_pretrained()"
        )
    names |= {name for name in _TOKENIZER_EXTRAS if (folder / name).is_file()}
    return [folder / name for name in sorted(names)]


def check(folder: Path) -> dict[str, Any]:
    """Check that a folder holds all that a model needs.

    Args:
        folder: The model's folder.

    Returns:
        Its config.

    Raises:
        ModelError: For the first thing that is missing or unsafe.
    """
    config = read_config(folder)
    weight_files(folder)
    tokenizer_files(folder)
    return config
