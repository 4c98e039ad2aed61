"""Generated answers and what the model held at each token, whole in memory. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.api.results import Array, Float, Result
from tremor.compare.bits import compare_rows
from tremor.compare.divergence import Divergence, first_divergence
from tremor.compare.recording import Recording as File
from tremor.compare.recording import open_recording
from tremor.errors import ArtifactError
from tremor.store.arrays import Bf16


@dataclass(frozen=True, eq=False, repr=False)
class Recording(Result):
    """A generated answer and what the model held at each token; see docs/recordings.md. Row i belongs to token i.

    Attributes:
        text: The prompt.
        generated: The answer.
        ids: [n] int64, generated tokens.
        prompt_ids: [p] int64.
        pieces: Text of each generated token by itself.
        top_ids: [n, 10] int64, tokens of largest logits.
        top_logits: [n, 10] float32, as the model returned them.
        top_probs: [n, 10] float64.
        logsumexp: [n] float64, of all logits.
        margin: [n] float32, largest logit less the next.
        ties: [n] int64, tokens that share the largest logit; 1: no tie.
        states: Tap to [n, width] in the model's type (Bf16 for bfloat16).
        stopped: "eos", "length" or "context".
        attributes: What the file says of the model.
        path: The file, where one was kept.
    """

    text: str
    generated: str
    ids: npt.NDArray[np.int64]
    prompt_ids: npt.NDArray[np.int64]
    pieces: tuple[str, ...]
    top_ids: npt.NDArray[np.int64]
    top_logits: npt.NDArray[np.float32]
    top_probs: Float
    logsumexp: Float
    margin: npt.NDArray[np.float32]
    ties: npt.NDArray[np.int64]
    states: Mapping[str, Array | Bf16]
    stopped: str
    attributes: Mapping[str, Any] = field(repr=False)
    path: Path | None = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """One row for each token: piece, id, probability, margin, ties, and the runner-up's id."""
        return pd.DataFrame(
            {
                "piece": list(self.pieces),
                "id": self.ids,
                "probability": self.top_probs[:, 0],
                "margin": self.margin,
                "ties": self.ties,
                "runner_up_id": self.top_ids[:, 1],
            }
        )

    def compare(self, other: "Recording", tap: str = "final") -> "Comparison":
        """Where two answers to one prompt part, and how far their states are from each other before.

        Raises:
            ArtifactError: another model, tokenizer or prompt, or the tap was not recorded in both.
        """
        for name, what in (("weights_digest", "weights"), ("tokenizer_digest", "tokenizers"), ("text", "prompts")):
            if self.attributes[name] != other.attributes[name]:
                raise ArtifactError(f"the recordings are of different {what}; record both of the same")
        for run in (self, other):
            if tap not in run.states:
                known = ", ".join(run.states)
                raise ArtifactError(f"the tap {tap!r} was not recorded; record with taps='all' (there are {known})")
        parted = first_divergence(self.ids, other.ids)
        recorded = min(run.states[tap].shape[0] for run in (self, other))  # recorder.tap_steps may have ended it
        rows = slice(0, min(parted.common_rows, recorded))
        found = compare_rows(_rows(self.states[tap], rows), _rows(other.states[tap], rows))
        table = pd.DataFrame({"piece": list(self.pieces[rows]), **found.columns()})
        table["margin"], table["margin_other"] = self.margin[rows], other.margin[rows]
        return Comparison(tap, parted, table)


def _rows(value: Array | Bf16, rows: slice) -> Array | Bf16:
    return Bf16(value.bits[rows]) if isinstance(value, Bf16) else value[rows]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
    """Two answers to one prompt.

    Attributes:
        tap: The states that were compared.
        divergence: Where the token ids part.
        table: One row for each token that both decided in the same context: how the states differ, in bits and numbers.
    """

    tap: str
    divergence: Divergence
    table: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """A copy of the table."""
        return self.table.copy()


def read_recording(path: Path | str) -> Recording:
    """Read a recording of the workflow, ``results/recordings/<model>/<platform>/qNN.h5``, whole.

    Raises:
        ArtifactError: missing, damaged, or no recording.
    """
    with open_recording(path) as run:
        return _whole(run, Path(path))


def _whole(run: File, path: Path | None) -> Recording:
    return Recording(
        text=str(run.attributes["text"]),
        generated=str(run.attributes["generated_text"]),
        ids=run.ids,
        prompt_ids=run.prompt_ids,
        pieces=run.pieces,
        **{name: run.column(name) for name in ("top_ids", "top_logits", "top_probs", "logsumexp", "margin", "ties")},
        states={tap: run.states(tap, 0, run.rows(tap)) for tap in run.taps},
        stopped=run.stopped,
        attributes=run.attributes,
        path=path,
    )
