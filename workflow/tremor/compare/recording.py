"""Reading recordings: one question's run on one platform, as the recorder wrote it; lazily, without torch.

A recording is an HDF5 artifact (see docs/recordings.md). Row i of everything belongs to generated token i: ``state(tap,
i)`` is what the model held at the last position when it predicted that token, and ``top(i)`` what it predicted.
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tremor import floats
from tremor.errors import ArtifactError
from tremor.store.arrays import Array, Bf16
from tremor.store.hdf5_reader import Hdf5Reader

SCHEMA = "recording/1"
"""Version of the datasets and attributes of a recording."""

TF32_UNIT = 2.0**-11  # TensorFloat-32 rounds the factors of a float32 product to 11 significant bits
STATES = "states/"
ROWS = ("top_ids", "top_logits", "top_probs", "logsumexp", "margin", "ties")
ATTRIBUTES = (
    "question", "kind", "text", "generated_text", "stopped", "decode", "dtype", "taps", "n_layers", "d_model",
    "model", "weights_digest", "tokenizer_digest", "pieces", "schema",
)  # fmt: skip

_REMEDY = "delete it and run snakemake again"


@dataclass(frozen=True)
class Top:
    """What the model predicted at one step, best first."""

    ids: npt.NDArray[np.int64]  # [k]
    logits: npt.NDArray[np.float32]  # [k] as the model returned them, widened exactly
    probabilities: npt.NDArray[np.float64]  # [k] softmax over the whole vocabulary
    logsumexp: float  # of all logits
    margin: float  # largest logit minus the next
    ties: int  # tokens whose logit equals the largest bit for bit; 1: no tie

    @property
    def tied(self) -> bool:
        """Whether the decision was left to the order in which equal logits are sorted."""
        return self.ties > 1 or self.margin == 0.0


class Recording:
    """One question on one platform; open it in a `with` block, or by :func:`open_recording` and `close`.

    Args:
        path: The recording.

    Raises:
        ArtifactError: missing, truncated, edited, of another schema, or no recording.
    """

    ids: npt.NDArray[np.int64]  # [n] generated tokens, at least one
    prompt_ids: npt.NDArray[np.int64]  # [p]
    pieces: tuple[str, ...]  # [n] text of each generated token by itself
    taps: tuple[str, ...]  # recorded states, in forward order
    attributes: dict[str, Any]
    provenance: dict[str, Any]

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._reader = Hdf5Reader(self.path)
        self._reader.__enter__()
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was read stays."""
        self._reader.__exit__(None, None, None)

    def _load(self) -> None:
        reader = self._reader
        self.attributes, self.provenance = reader.attributes, reader.provenance
        missing = [name for name in ATTRIBUTES if name not in reader.attributes]
        if missing:
            raise ArtifactError(f"{self.path} is no recording, it has no attribute {missing[0]!r}; name another file")
        if reader.attributes["schema"] != SCHEMA:
            found = reader.attributes["schema"]
            raise ArtifactError(f"{self.path} has the schema {found}, wanted is {SCHEMA}; {_REMEDY}")
        self.ids = _integers(reader.read("generated_ids"))
        self.prompt_ids = _integers(reader.read("prompt_ids"))
        self.pieces = tuple(str(piece) for piece in reader.attributes["pieces"])
        self.taps = tuple(str(tap) for tap in reader.attributes["taps"])
        wrong = [name for name in ROWS if reader.shape(name)[0] != len(self.ids)]
        # A tap may be recorded for the first tokens only (recorder.tap_steps), but never for more than there are.
        wrong += [STATES + tap for tap in self.taps if not 0 < self.rows(tap) <= len(self.ids)]
        if not len(self.ids) or wrong or len(self.pieces) != len(self.ids):
            what = wrong[0] if wrong else "generated_ids" if not len(self.ids) else "pieces"
            raise ArtifactError(f"{what!r} of {self.path} does not fit {len(self.ids)} generated tokens; {_REMEDY}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def question(self) -> str:
        """Name of the question, such as ``q01``."""
        return str(self.attributes["question"])

    @property
    def dtype(self) -> str:
        """Type the model ran in."""
        return str(self.attributes["dtype"])

    @property
    def unit_roundoff(self) -> float:
        """Half the spacing at 1 of the numbers that the platform multiplies."""
        applied = self.provenance.get("platform", {}).get("applied", {})
        tf32 = self.dtype == "float32" and bool(applied.get("tf32"))
        return TF32_UNIT if tf32 else floats.format_of(self.dtype).epsilon / 2

    @property
    def stopped(self) -> str:
        """Why it ended: ``eos``, ``length`` or ``context``."""
        return str(self.attributes["stopped"])

    def width(self, tap: str) -> int:
        """Length of a tap's states."""
        return self._reader.shape(self._stored(tap))[1]

    def rows(self, tap: str) -> int:
        """Number of tokens, from the first, whose states of this tap were recorded."""
        return self._reader.shape(self._stored(tap))[0]

    def _stored(self, tap: str) -> str:
        if tap not in self.taps:
            raise ArtifactError(
                f"{self.path} does not hold the states {tap!r} (it has {', '.join(self.taps) or 'none'}); record "
                "more with recorder.taps"
            )
        return STATES + tap

    def state(self, tap: str, row: int) -> Array | Bf16:
        """One state [width], in the model's type; one chunk of the file is read.

        Raises:
            ArtifactError: the tap or its row was not recorded, or the chunk is damaged.
            IndexError: no such token.
        """
        block = self.states(tap, row, row + 1)
        return Bf16(block.bits[0]) if isinstance(block, Bf16) else block[0]

    def states(self, tap: str, start: int, stop: int) -> Array | Bf16:
        """States start <= i < stop of a tap, [stop - start, width], in the model's type."""
        self._in_range(start, stop)
        if stop > self.rows(tap):
            raise ArtifactError(
                f"{self.path} holds {tap!r} for the first {self.rows(tap)} tokens, not for token {stop - 1}; raise "
                "recorder.tap_steps"
            )
        return self._reader.read(self._stored(tap), start, stop)

    def column(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Rows start <= i < stop of one of :data:`ROWS`.

        Raises:
            ArtifactError: the dataset is damaged.
            IndexError: no such rows.
        """
        end = len(self.ids) if stop is None else stop
        self._in_range(start, end)
        return _plain(self._reader.read(name, start, end))

    def top(self, row: int) -> Top:
        """What was predicted at one step."""
        logits, probabilities, ids = (self.column(n, row, row + 1)[0] for n in ("top_logits", "top_probs", "top_ids"))
        return Top(
            ids=ids,
            logits=logits,
            probabilities=probabilities,
            logsumexp=float(self.column("logsumexp", row, row + 1)[0]),
            margin=float(self.column("margin", row, row + 1)[0]),
            ties=int(self.column("ties", row, row + 1)[0]),
        )

    def _in_range(self, start: int, stop: int) -> None:
        if not 0 <= start < stop <= len(self.ids):
            raise IndexError(f"{self.path} has rows 0 to {len(self.ids) - 1}, asked for {start} to {stop - 1}")


def _plain(value: Array | Bf16) -> Array:
    assert isinstance(value, np.ndarray)  # only states are stored as bfloat16
    return value


def _integers(value: Array | Bf16) -> npt.NDArray[np.int64]:
    return _plain(value).astype(np.int64)


def open_recording(path: Path | str) -> Recording:
    """Open a recording for reading, row by row.

    Example:
        with open_recording(path) as run:
            last = run.state("final", len(run) - 1)

    Raises:
        ArtifactError: missing, truncated, edited, of another schema, or no recording.
    """
    return Recording(path)


def require_comparable(a: Recording, b: Recording) -> None:
    """Refuse two recordings whose difference would say nothing of the platforms.

    Raises:
        ArtifactError: another model, tokenizer, question, or prompt.
    """
    for name, what in (
        ("weights_digest", "weights"),
        ("tokenizer_digest", "tokenizers"),
        ("question", "questions"),
        ("text", "texts"),
    ):
        if a.attributes[name] != b.attributes[name]:
            raise ArtifactError(
                f"{a.path} and {b.path} were recorded with different {what} ({_short(a.attributes[name])}, "
                f"{_short(b.attributes[name])}); record both with the same"
            )
    if not np.array_equal(a.prompt_ids, b.prompt_ids):
        raise ArtifactError(f"{a.path} and {b.path} have different prompt ids; record both from the same prompt")


def _short(value: object, most: int = 24) -> str:
    text = str(value)
    return text if len(text) <= most else text[: most - 1] + "…"
