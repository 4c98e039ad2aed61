"""Names of the ways of pruning that a configuration asks for (no torch)."""

from collections.abc import Mapping
from typing import Any


def variants(settings: Mapping[str, Any]) -> dict[str, tuple[str, str, float]]:
    """All ways of pruning that a block asks for: name to score, group or pattern, and sparsity.

    Args:
        settings: The block `esa.pruning` as plain values.
    """
    found = {}
    for score in settings["scores"]:
        for group in settings["groups"]:
            for sparsity in settings["sparsities"]:
                found[f"{score}-{group}-{sparsity:g}"] = (score, group, float(sparsity))
        for pattern in settings["patterns"]:
            n, m = (int(part) for part in pattern.split(":"))
            found[f"{score}-{n}of{m}"] = (score, pattern, n / m)
    return found
