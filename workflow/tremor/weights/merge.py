"""Rankings of parts of a model become one of the whole. No torch: shards are gathered without."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

COLUMNS = (
    "run_id", "scorer", "scope", "rank", "tensor", "flat_index", "index", "block", "component", "weight", "score",
)  # fmt: skip
TEXTS = ("run_id", "scorer", "scope", "tensor", "index", "component")


def merged(tables: Sequence[pd.DataFrame], k: int, *, largest: bool = True) -> pd.DataFrame:
    """The K best of several global rankings, as one ranking of all their tensors has them.

    A weight among the K best of the whole is among the K best of its part. Equal scores are ordered by tensor and flat
    index within a part, and the parts stand in the order of the tensors, so a stable sort orders them in the whole.

    Args:
        tables: Rankings of the ranking schema with scope "global", of disjoint tensors, in the order of the tensors;
            each has its K best, or all it has.
        k: How many are kept.
        largest: Whether the largest scores come first, or the smallest.

    Returns:
        One table of the schema, further columns kept; empty if all are.
    """
    full = [table for table in tables if len(table)]
    if not full:
        return pd.DataFrame(columns=list(COLUMNS))
    joined = pd.concat(full, ignore_index=True)
    # Scores are at most float64, so the column holds them as they were compared. Minus zero equals zero in both.
    scores = joined["score"].to_numpy(dtype=np.float64)
    order = np.argsort(-scores if largest else scores, kind="stable")[:k]
    found = joined.iloc[order].reset_index(drop=True)
    found["rank"] = np.arange(1, len(found) + 1)
    for name in TEXTS:
        found[name] = found[name].astype("str")
    return found
