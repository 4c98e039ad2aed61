"""Tables of the extreme sensitivity analyses. No torch: shards are gathered without."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pandas as pd

from tremor.evaluate.effects import contrast


class Measured(Protocol):
    """What an edit of weights does to held-out text; see :class:`tremor.experiments.esa_shared.Effect`."""

    @property
    def delta_nll(self) -> float | None:
        """Change of the corpus NLL, nats a token; None for NaN."""


def against_controls(effect: Measured, controls: Sequence[float]) -> dict[str, float | None]:
    """Columns that compare an effect with its controls; empty where the effect is not a number."""
    names = ("control_mean", "control_std", "control_highest", "z", "p")
    if effect.delta_nll is None:
        return dict.fromkeys(names)
    found = contrast(effect.delta_nll, controls)
    return dict(zip(names, (found.mean, found.std, found.highest, found.z, found.p), strict=True))


def table(
    rows: Sequence[Mapping[str, Any]], *, integers: Sequence[str] = (), texts: Sequence[str] = ()
) -> pd.DataFrame:
    """Rows as a table whose columns keep their type when values are missing."""
    frame = pd.DataFrame(list(rows))
    for name in frame.columns:
        if name in integers:
            frame[name] = frame[name].astype("Int64")
        elif name not in texts and frame[name].dtype == object and not any(isinstance(v, str) for v in frame[name]):
            frame[name] = frame[name].astype("float64")
    return frame
