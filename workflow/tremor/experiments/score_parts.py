"""Scores of some tensors in a part of a whole (see :mod:`tremor.store.shards`), and back. No torch."""

from typing import Any

import pandas as pd

from tremor.store.shards import Part
from tremor.weights.quality import Terms


def tables_of(score: str, terms: Terms) -> dict[str, pd.DataFrame]:
    """What a score says of its quality as tables of a part, with one row a tensor or less."""
    return {f"terms.{score}.{kind}": pd.DataFrame({"value": list(found)}) for kind, found in terms.lists.items()}


def facts_of(terms: Terms) -> dict[str, Any]:
    """The rest of it: names of these tables, and what is the same in all parts."""
    return {"lists": list(terms.lists), "common": dict(terms.common)}


def terms_of(whole: Part, score: str) -> Terms:
    """What a score says of its quality over all tensors; the facts of the parts have ``terms`` by score."""
    about = whole.facts["terms"][score]
    tables = {kind: whole.tables[f"terms.{score}.{kind}"] for kind in about["lists"]}
    return Terms({kind: t["value"].tolist() if len(t) else [] for kind, t in tables.items()}, about["common"])
