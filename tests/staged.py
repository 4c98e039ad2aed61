"""Recordings written by hand with blocks, sub-stages and names that share a tensor, for the parts of exp8."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synthetic import TOP, stored
from tremor import floats
from tremor.compare.recording import SCHEMA
from tremor.store.hdf5 import write_hdf5

Array = npt.NDArray[Any]
WIDTH, WIDE, VOCABULARY, ROWS = 12, 20, 40, 6
TAPS = (
    "embedding",
    "block.0.self_attn.q_proj",
    "block.0.self_attn.o_proj",
    "block.0.mixer",  # the tensor of o_proj under another name
    "block.0.mlp.up_proj",
    "block.0.mlp",
    "residual.1",
    "block.1.mixer",
    "block.1.mlp",
    "final_prenorm",
    "final",
)
GAIN = floats.round_to(np.linspace(0.5, 1.5, WIDTH), "bfloat16")


def weight() -> Array:
    """[vocabulary, width] unembedding."""
    return floats.round_to(np.random.default_rng(1).normal(size=(VOCABULARY, WIDTH)), "bfloat16")


def states(seed: int = 0, rows: int = ROWS) -> dict[str, Array]:
    """[rows, width] states of each tap, float32; the last two are a norm of a stream and that stream."""
    generator = np.random.default_rng(seed)
    found = {
        name: generator.normal(size=(rows, WIDE if name.endswith("up_proj") else WIDTH)).astype(np.float32)
        for name in TAPS
    }
    found["block.0.mixer"] = found["block.0.self_attn.o_proj"].copy()
    stream = found["final_prenorm"].astype(np.float64)
    found["final"] = (stream / np.sqrt(np.mean(stream**2, axis=1, keepdims=True)) * GAIN).astype(np.float32)
    return found


def up(values: Array) -> None:
    """Move the first coordinate of a row by one step of the float32 lattice, in place."""
    values[0] = floats.next_up(values[:1], "float32")[0]


def write(
    path: Path,
    held: dict[str, Array],
    *,
    question: str = "q01",
    ids: list[int] | None = None,
    logits: Array | None = None,
    dtype: str = "float32",
    prompt: tuple[int, ...] = (5, 6),
) -> Path:
    """Write a recording of given states; tokens are those of the logits, or the given ones."""
    rows = len(held["final"]) if logits is None else len(logits)
    if logits is None:
        logits = (held["final"].astype(np.float64) @ weight().T.astype(np.float64)).astype(np.float32)
    chosen = [int(k) for k in np.argmax(logits, axis=1)] if ids is None else ids
    order = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    top = np.take_along_axis(logits, order, axis=1)
    wide = logits.astype(np.float64)
    total = np.log(np.exp(wide).sum(axis=1))
    datasets = {
        "prompt_ids": np.array(prompt, dtype=np.int64),
        "generated_ids": np.array(chosen, dtype=np.int64),
        "top_ids": order.astype(np.int64),
        "top_logits": top,
        "top_probs": np.exp(top.astype(np.float64) - total[:, None]),
        "logsumexp": total,
        "margin": top[:, 0] - top[:, 1],
        "ties": (logits == top[:, :1]).sum(axis=1),
        **{f"states/{name}": stored(floats.round_to(values, dtype), dtype) for name, values in held.items()},
    }
    pieces = [f"t{token}" for token in chosen]
    attributes = {
        "question": question, "kind": "factual", "text": "Where?", "generated_text": "".join(pieces),
        "stopped": "length", "decode": "cached", "dtype": dtype, "taps": list(held), "n_layers": 2, "d_model": WIDTH,
        "model": "staged", "weights_digest": "sha256:w", "tokenizer_digest": "sha256:t", "pieces": pieces,
        "schema": SCHEMA,
    }  # fmt: skip
    assert rows == len(chosen)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_hdf5(path, datasets, attributes=attributes, provenance={"inputs": {}})
    return path


def write_matrix(path: Path) -> Path:
    """Write the unembedding artifact."""
    attributes = {"softcap": None, "scale": 1.0, "norm": "RMSNorm", "norm_adds_one": False, "dtype": "float32"}
    write_hdf5(path, {"weight": weight(), "gain": GAIN}, attributes=attributes, provenance={})
    return path


def turned(row: int, *, rows: int = ROWS, seed: int = 0) -> tuple[dict[str, Array], dict[str, Array], Array, Array]:
    """States and logits of two runs that part at a row: block 1 differs there by one step, and the top two swap.

    Rows after it belong to other texts, so all their states differ.
    """
    a = states(seed, rows)
    b = {name: values.copy() for name, values in a.items()}
    up(b["block.1.mixer"][row])
    for name in TAPS[TAPS.index("block.1.mixer") + 1 :]:
        up(b[name][row])
    for name, values in states(seed + 100, rows).items():
        b[name][row + 1 :] = values[row + 1 :]
    first, second = (run["final"].astype(np.float64) @ weight().T.astype(np.float64) for run in (a, b))
    one, other = np.argsort(-first[row])[:2]
    first[row, one] = first[row, other] + 1e-3
    second[row] = first[row]
    second[row, [one, other]] = second[row, [other, one]]
    return a, b, first.astype(np.float32), second.astype(np.float32)
