"""Rankings of weights, effects of changing them, and gains of blocks. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.api.results import Array, Float, Picture, Result


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Result):
    """The weights that a score finds largest.

    Attributes:
        scorer: Name of the score.
        table: rank, tensor, flat_index, index, block, component, weight, score; see docs/critical_weights.md.
        population: Weights that were scored.
        seconds: Wall time.
        notes: What the score says of its own quality.
    """

    scorer: str
    table: pd.DataFrame
    population: int
    seconds: float
    notes: Mapping[str, Any]

    def to_frame(self) -> pd.DataFrame:
        """A copy of the table."""
        return self.table.copy()


@dataclass(frozen=True, eq=False, repr=False)
class Ablation(Result):
    """What a change of weights does to held-out text, beside random weights of the same tensors.

    Attributes:
        scorer: What chose the weights.
        weights: How many were changed.
        status: "ok", "nan_logits" or "inf_loss".
        delta_nll: Change of the NLL, nats a token; None for NaN.
        delta_nll_low: Lower end of its 95 % interval over the texts.
        delta_nll_high: Upper end.
        first_delta_nll: Of the first weight alone.
        kl: Mean KL(clean || changed), nats a token.
        flip_rate: Share of tokens whose first choice changed.
        controls: [draws] delta_nll of random sets.
        z: How many standard deviations of the controls the effect lies above their mean; None where they do not vary.
        p: Share of controls at least as large, counting the effect itself.
        nll_clean: NLL of the unchanged model, nats a token.
    """

    scorer: str
    weights: int
    status: str
    delta_nll: float | None
    delta_nll_low: float | None
    delta_nll_high: float | None
    first_delta_nll: float | None
    kl: float | None
    flip_rate: float | None
    controls: Float
    control_mean: float | None
    control_std: float | None
    control_highest: float | None
    z: float | None
    p: float | None
    nll_clean: float

    def to_frame(self) -> pd.DataFrame:
        """One row, columns as in effects.csv of esa/super-weights."""
        left_out = ("scorer", "controls")
        row = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in left_out}
        return pd.DataFrame([{"method": self.scorer, **row}])

    def plot(self, *others: "Ablation") -> Picture:
        """This effect and others of the same texts, each beside its controls."""
        from tremor.figures.esa_scores import effects

        table = pd.concat([one.to_frame().astype(_NUMBERS) for one in (self, *others)], ignore_index=True)
        return Picture(effects(table))


_ENDS = ("delta_nll", "delta_nll_low", "delta_nll_high", "first_delta_nll")
_NUMBERS = dict.fromkeys((*_ENDS, "control_mean", "control_std", "control_highest"), np.float64)


@dataclass(frozen=True, eq=False, repr=False)
class Gain(Result):
    """How much a small change of a block's output changes the answer, block by block; see docs/delta.md.

    Attributes:
        model: Name of the model.
        table: One row for each block, the gain columns of gain.csv.
        values: Numbers of every block and text [blocks, texts], by name.
        layers: [blocks] int64.
        texts: What it was measured at.
    """

    model: str
    table: pd.DataFrame
    values: Mapping[str, Array]
    layers: npt.NDArray[np.int64]
    texts: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """A copy of the table."""
        return self.table.copy()

    def plot(self, *others: "Gain") -> Picture:
        """Gains over relative depth, of this model and of others."""
        from tremor.figures.delta import gain

        return Picture(gain({one.model: one.table for one in (self, *others)}))
