"""Selections of weights that a user names in a JSON file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tremor.errors import ArtifactError, ConfigError
from tremor.models.loader import LoadedModel
from tremor.store.documents import read_json
from tremor.weights.population import Population
from tremor.weights.select import select


def read_selection(loaded: LoadedModel, path: Path, name: str) -> tuple[Population, torch.Tensor]:
    """Weights of a file `{"weights": [{"tensor": ..., "flat_index": [...]}, ...]}`.

    Args:
        loaded: The model.
        path: The file; or a `selections.json` of the analysis, of which the selection of the same name is taken.
        name: Name of the selection.

    Returns:
        All weights of the tensors it names (without scores: zeros), and which of them are meant, bool [count].

    Raises:
        ConfigError: The file is missing or not of this form, names no weight, or one that the model does not have.
    """
    named = _listed(path, name)
    sizes = {n: p.numel() for n, p in loaded.model.named_parameters()}
    for tensor, index in named.items():
        if tensor not in sizes:
            raise ConfigError(f"{path}: the model has no tensor {tensor!r}; see model.named_parameters()")
        if int(index.min()) < 0 or int(index.max()) >= sizes[tensor] or len(index.unique()) < len(index):
            raise ConfigError(
                f"{path}: indices of {tensor} are repeated or outside 0 to {sizes[tensor] - 1}; correct them"
            )
    whole = select(loaded.anatomy, vectors=True).only(list(named))
    spans, start = {}, 0
    for tensor, entry in whole.chosen.items():
        spans[tensor] = (start, start + entry.count)
        start += entry.count
    chosen = torch.zeros(start, dtype=torch.bool)
    for tensor, index in named.items():
        chosen[spans[tensor][0] + index] = True
    return Population(whole, torch.zeros(start), spans), chosen


def _listed(path: Path, name: str) -> dict[str, torch.Tensor]:
    form = '{"weights": [{"tensor": "...", "flat_index": [0, 1]}]}'
    try:
        document = read_json(path)
    except ArtifactError as error:
        raise ConfigError(f"selection {name}: {error}".replace("run snakemake to make it", "check its path")) from error
    if isinstance(document, Mapping) and isinstance(document.get("selections"), Mapping):
        document = document["selections"].get(name)
    entries: Any = document.get("weights") if isinstance(document, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path} lists no weights for the selection {name}; write {form}")
    grouped: dict[str, list[int]] = {}
    for entry in entries:
        tensor: Any = entry.get("tensor") if isinstance(entry, Mapping) else None
        index: Any = entry.get("flat_index") if isinstance(entry, Mapping) else None
        numbers = isinstance(index, list) and index and all(type(i) is int for i in index)
        if not isinstance(tensor, str) or not numbers:
            raise ConfigError(f"{path} has an entry without tensor or indices; write {form}")
        grouped.setdefault(tensor, []).extend(index)
    return {tensor: torch.tensor(index, dtype=torch.int64) for tensor, index in grouped.items()}
