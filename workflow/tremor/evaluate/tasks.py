"""Task files of lm-evaluation-harness that need no network: read as plain data, their data files named. No torch.

A task file may name functions of Python (`!function`) and data sets of the hub. Neither is taken here: what runs is the
harness on the user's own JSON, CSV, text or Parquet files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tremor.errors import ConfigError

FORMATS = ("json", "csv", "text", "parquet")


def read_task(path: Path) -> dict[str, Any]:
    """Read a task file, its data files as absolute paths.

    Args:
        path: YAML file.

    Raises:
        ConfigError: The file is missing, is no plain YAML mapping, or asks for data that is not in local files.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"esa.evaluate.tasks: {path} does not exist; give the path of a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = str(error).splitlines()[0]
        raise ConfigError(f"{path} is no plain YAML ({line}); tasks with tags such as !function are not run") from error
    if not isinstance(found, dict) or not isinstance(found.get("task"), str):
        raise ConfigError(f"{path} names no task; it needs at least task, dataset_path, dataset_kwargs and output_type")
    if found.get("dataset_path") not in FORMATS:
        raise ConfigError(
            f"{path}: dataset_path is {found.get('dataset_path')!r}, which would be fetched; use one of "
            f"{', '.join(FORMATS)} with dataset_kwargs: {{data_files: ...}}"
        )
    named = (found.get("dataset_kwargs") or {}).get("data_files")
    if not named:
        raise ConfigError(f"{path}: dataset_kwargs.data_files is missing; name the local files that hold the data")
    return {**found, "dataset_kwargs": {**found["dataset_kwargs"], "data_files": _located(named, path.parent)}}


def _located(named: Any, folder: Path) -> Any:
    if isinstance(named, Mapping):
        return {str(split): _located(part, folder) for split, part in named.items()}
    if isinstance(named, (list, tuple)):
        return [_located(part, folder) for part in named]
    path = (folder / str(named)).resolve()
    if not path.is_file():
        raise ConfigError(
            f"data file {path} of a task does not exist; correct data_files, which starts at the task file"
        )
    return str(path)


def data_files(task: Mapping[str, Any]) -> list[str]:
    """All data files of a task from :func:`read_task`."""
    found: list[str] = []
    todo = [task["dataset_kwargs"]["data_files"]]
    while todo:
        part = todo.pop(0)
        if isinstance(part, Mapping):
            todo += list(part.values())
        elif isinstance(part, list):
            todo += part
        else:
            found.append(part)
    return found
