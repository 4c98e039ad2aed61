"""The lists of weights that the cross-examination takes up: rankings, and the super weights. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tremor.errors import ArtifactError, ConfigError
from tremor.experiments.session import Session
from tremor.store.tables import read_csv, read_parquet, table_provenance


@dataclass(frozen=True, eq=False)
class Listed:
    """A score's weights, best first.

    Attributes:
        source: "critical_weights" or "esa/super-weights".
        score: Name of the score or method.
        weights: Rows of its ranking, inside blocks only where that is asked for.
        named: How many the ranking holds.
    """

    source: str
    score: str
    weights: pd.DataFrame
    named: int

    def sizes(self, topk: Sequence[int]) -> list[int]:
        """Sizes of the sets: each K, and the whole list where it is shorter."""
        return sorted({min(k, len(self.weights)) for k in topk} - {0})


def lists(session: Session, rankings: Path | None, supers: Path | None, settings: Mapping[str, Any]) -> list[Listed]:
    """The weights that scores name, each list best first.

    Raises:
        ArtifactError: A file ranks the weights of another model, or lacks a score.
        ConfigError: No list has a weight to change.
    """
    found = []
    if settings["scores"]:
        assert rankings is not None
        ranked = read_parquet(rankings)
        if set(ranked["run_id"]) != {session.loaded.digest[:16]}:
            raise ArtifactError(f"{rankings} ranks the weights of another model; delete it and run snakemake again")
        ranked = ranked[ranked["selection"] == "top"]
        for name in settings["scores"]:
            own = ranked[ranked["scorer"] == name]
            if not len(own):
                raise ArtifactError(f"{rankings} has no {name}; delete it and run snakemake again")
            found.append(_listed("critical_weights", name, own, settings["inside"]))
    if settings["methods"]:
        assert supers is not None
        named = read_csv(supers)
        made_of = table_provenance(supers)["model"].get("weights_digest")
        if made_of != session.manifest["weights_digest"]:
            raise ArtifactError(f"{supers} names weights of another model; delete it and run snakemake again")
        for name in settings["methods"]:
            found.append(_listed("esa/super-weights", name, named[named["scorer"] == name], settings["inside"]))
    if not any(len(listed.weights) for listed in found):
        raise ConfigError(
            "none of the lists of cross.scores and cross.methods names a weight inside a block; set cross.inside: "
            "false, or name other scores"
        )
    return found


def _listed(source: str, score: str, ranked: pd.DataFrame, inside: bool) -> Listed:
    ordered = ranked.sort_values("rank", kind="stable").reset_index(drop=True)
    kept = ordered[ordered["block"] >= 0] if inside else ordered
    return Listed(source, score, kept.reset_index(drop=True), len(ordered))


def plans(found: Sequence[Listed], settings: Mapping[str, Any]) -> list[tuple[Listed, int, str]]:
    """All sets: a list, how many of its weights, and what becomes of them."""
    return [
        (listed, k, operation)
        for listed in found
        for k in listed.sizes(settings["topk"])
        for operation in settings["operations"]
    ]
