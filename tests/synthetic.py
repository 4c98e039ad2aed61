"""Recordings written by hand: a pretended model on two platforms, with the datasets and attributes of the recorder.

The pretended model's final state is a function of the tokens before it and of nothing else, its logits are one matrix
times that state. A second platform moves a few coordinates by one step of the lattice, and at a given row it turns a
near tie the other way: from there on the two runs have different contexts, as real ones do.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor import floats
from tremor.compare.recording import SCHEMA
from tremor.store.arrays import Bf16
from tremor.store.hdf5 import write_hdf5

Array = npt.NDArray[Any]
TOP = 10


def stored(values: Array, dtype: str) -> Array | Bf16:
    """Lattice values as a recording stores them."""
    if dtype == "bfloat16":
        return Bf16(floats.bits(values, dtype))
    return values.astype({"float32": np.float32, "float16": np.float16}[dtype])


@dataclass(frozen=True)
class Pretended:
    """A model that is one random matrix, and how it answers."""

    width: int = 24
    vocabulary: int = 150
    seed: int = 0
    weight: Array = field(init=False)
    table: Array = field(init=False)

    def __post_init__(self) -> None:
        generator = np.random.default_rng(self.seed)
        # On the bfloat16 lattice, so that every platform's type holds the same weights.
        for name in ("weight", "table"):
            drawn = floats.round_to(generator.normal(size=(self.vocabulary, self.width)), "bfloat16")
            object.__setattr__(self, name, drawn)

    def state(self, context: list[int], dtype: str) -> Array:
        """[width] final state after a context."""
        key = hashlib.sha256(np.asarray(context, dtype="<i8").tobytes()).digest()
        generator = np.random.default_rng(int.from_bytes(key[:8], "little") + self.seed)
        return floats.round_to(3.0 * generator.normal(size=self.width), dtype)

    def logits(self, state: Array, dtype: str) -> Array:
        """[vocabulary] float32 values on the lattice of the type."""
        return floats.round_to(self.weight.astype(np.float64) @ state.astype(np.float64), dtype).astype(np.float32)


@dataclass(frozen=True)
class Side:
    """What one platform does differently."""

    dtype: str = "float32"
    drift_from: int | None = None  # row from which coordinate row % width is one lattice step larger
    turn_at: int | None = None  # row at which the second best token wins
    length: int = 12
    weights_digest: str = "sha256:weights"
    tokenizer_digest: str = "sha256:tokenizer"


def write_recording(
    path: Path,
    model: Pretended,
    side: Side,
    *,
    question: str = "q01",
    text: str = "Where?",
    prompt: tuple[int, ...] = (5, 6, 7),
    changes: dict[str, Any] | None = None,
) -> list[int]:
    """Write one recording; the ids it generated.

    Args:
        path: HDF5 file.
        model: What answers.
        side: On which platform.
        question: Its name.
        text: Its text.
        prompt: Its ids.
        changes: Attributes to write instead.
    """
    ids: list[int] = []
    rows: dict[str, list[Any]] = {name: [] for name in ("state", "logits", "embedding")}
    for row in range(side.length):
        context = [*prompt, *ids]
        state = model.state(context, side.dtype)
        if side.drift_from is not None and row >= side.drift_from:
            place = row % model.width
            state[place] = floats.next_up(state[place : place + 1], side.dtype)[0]
        if side.turn_at == row:
            state = _turned(model, state, side.dtype)
        logits = model.logits(state, side.dtype)
        rows["state"].append(state)
        rows["logits"].append(logits)
        rows["embedding"].append(model.table[context[-1]])
        ids.append(int(np.argsort(-logits, kind="stable")[0]))
    logits = np.stack(rows["logits"])
    order = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    top = np.take_along_axis(logits, order, axis=1)
    wide = logits.astype(np.float64)
    lse = np.log(np.exp(wide - wide.max(axis=1, keepdims=True)).sum(axis=1)) + wide.max(axis=1)
    state = np.stack(rows["state"])
    datasets = {
        "prompt_ids": np.array(prompt, dtype=np.int64),
        "generated_ids": np.array(ids, dtype=np.int64),
        "top_ids": order.astype(np.int64),
        "top_logits": top,
        "top_probs": np.exp(top.astype(np.float64) - lse[:, None]),
        "logsumexp": lse,
        "margin": top[:, 0] - top[:, 1],
        "ties": (logits == top[:, :1]).sum(axis=1),
        "states/embedding": stored(np.stack(rows["embedding"]), side.dtype),
        "states/final_prenorm": stored(2.0 * state, side.dtype),
        "states/final": stored(state, side.dtype),
    }
    pieces = [f" t{token}é" for token in ids]
    attributes = {
        "question": question, "kind": "factual", "text": text, "generated_text": "".join(pieces), "stopped": "length",
        "decode": "cached", "dtype": side.dtype, "taps": ["embedding", "final_prenorm", "final"], "n_layers": 1,
        "d_model": model.width, "model": "pretended", "weights_digest": side.weights_digest,
        "tokenizer_digest": side.tokenizer_digest, "pieces": pieces, "schema": SCHEMA, **(changes or {}),
    }  # fmt: skip
    write_hdf5(path, datasets, attributes=attributes, provenance={"inputs": {}})
    return ids


def _turned(model: Pretended, state: Array, dtype: str) -> Array:
    """The state nearest to this one, or nearly, in which the two best tokens have changed places."""
    logits = model.logits(state, dtype)
    first, second = np.argsort(-logits, kind="stable")[:2]
    across = (model.weight[second] - model.weight[first]).astype(np.float64)
    gap = float(logits[first] - logits[second])
    moved: Array = floats.round_to(state + (1.05 * gap + 0.01) * across / (across @ across), dtype)
    found = model.logits(moved, dtype)
    assert found[second] > found[first]
    return moved


def write_unembedding(path: Path, model: Pretended, dtype: str = "float32") -> None:
    """Write the artifact with the pretended model's matrix."""
    write_hdf5(
        path,
        {"weight": stored(model.weight, dtype)},
        attributes={"softcap": None, "scale": None, "dtype": dtype, "weights_digest": Side.weights_digest},
        provenance={},
    )


def write_pair(
    folder: Path, model: Pretended, a: Side, b: Side, *, questions: int = 1
) -> tuple[list[Path], list[Path]]:
    """Recordings of both sides, one file a question."""
    paths: tuple[list[Path], list[Path]] = ([], [])
    for number in range(1, questions + 1):
        for name, side, listed in zip("ab", (a, b), paths, strict=True):
            path = folder / name / f"q{number:02}.h5"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_recording(path, model, side, question=f"q{number:02}", prompt=(5, 6, 7, number))
            listed.append(path)
    return paths
