"""Noise at all positions: the cancellation test on the dtype's lattice, and normalised noise of several kinds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tremor import floats
from tremor.errors import NumericsError, PlatformError
from tremor.experiments import gains
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.probe.base import base_point, dtype_name, to_array, to_tensor
from tremor.probe.response import as_bits
from tremor.progress import track
from tremor.statistics.perturbation import noise_directions, state_metrics, token_metrics
from tremor.store.documents import write_json
from tremor.store.tables import write_csv

Array = npt.NDArray[Any]
LATTICE = "constant_positive"


@dataclass(frozen=True)
class Answer:
    """What a whole sequence of embeddings gives at the last position."""

    prenorm: Array  # [d] output of the last block
    final: Array  # [d] after all modules that follow it, once
    logits: npt.NDArray[np.float64]  # [vocab]


@torch.no_grad()
def answer(loaded: LoadedModel, embeddings: torch.Tensor) -> Answer:
    """One forward of embeddings [T, d], batch 1, without a cache.

    Raises:
        NumericsError: a logit is NaN or infinite.
    """
    with loaded.anatomy.record(("final_prenorm", "final")) as record:
        loaded.anatomy.base(inputs_embeds=embeddings[None], use_cache=False)
    final = record["final"][0, -1]
    logits = to_array(loaded.anatomy.unembed(final[None])[0]).astype(np.float64)
    if not np.isfinite(logits).all():
        raise NumericsError(
            "a logit is NaN or infinite under this noise; lower perturbation.*_powers or widen the type"
        )
    return Answer(to_array(record["final_prenorm"][0, -1]), to_array(final), logits)


def cancelled(embeddings: torch.Tensor, constant: float) -> torch.Tensor:
    """fl(fl(E + c) - c) in the embeddings' own type: what is left of E after adding a constant and taking it away."""
    return (embeddings + constant) - constant


def noisy(embeddings: torch.Tensor, settings: Mapping[str, Any]) -> Iterator[tuple[str, str, int, float, torch.Tensor]]:
    """All perturbed sequences: kind, scale, power, magnitude and embeddings [T, d] in the model's type."""
    exact = to_array(embeddings).astype(np.float64)
    fmt = dtype_name(embeddings.dtype)

    def rounded(values: Array) -> torch.Tensor:
        return to_tensor(floats.round_to(values, fmt), embeddings)  # once; torch goes by way of float32

    for power in settings["lattice_powers"]:
        size = 2.0**power
        yield LATTICE, "lattice", power, size, cancelled(embeddings, size)
    directions = noise_directions(settings["kinds"], *exact.shape, seed=int(settings["seed"]))
    length = np.linalg.norm(exact, axis=1, keepdims=True)
    for kind, unit in directions.items():
        for power in settings["relative_powers"]:
            size = float(f"1e{power}")
            yield kind, "relative", power, size, rounded(exact + size * length * unit)
        for power in settings["absolute_powers"]:
            size = 2.0**power
            yield kind, "absolute", power, size, rounded(exact + size * unit)


def measure(
    session: Session,
    prompts: Mapping[str, Mapping[str, Any]],
    *,
    precision: str,
    settings: Mapping[str, Any],
    table: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Perturb every prompt in every way; one load.

    Args:
        session: The loaded model, in float64 for ``true_float64``.
        prompts: Alias to ``text`` and ``bos``.
        precision: ``bfloat16``, ``float16``, ``float32`` or ``true_float64``.
        settings: Config block ``perturbation``.
        table: CSV file, one row for each prompt and perturbation.
        statistics: JSON file to write.
        provenance: Config, code and input digests.

    Raises:
        PlatformError: the same sequence answers with other bits the second time.
    """
    first = next(iter(prompts.values()))
    loaded, gate = gains.in_precision(session, precision, first["text"], bos=first["bos"])
    rows: list[dict[str, Any]] = []
    for name, prompt in prompts.items():
        base = base_point(loaded, prompt["text"], bos=prompt["bos"])
        rows += [{"prompt": name, **row} for row in _rows(loaded, base.embeddings, settings)]
    frame = pd.DataFrame(rows)
    origin = session.provenance(seeds={"noise": int(settings["seed"])}, **provenance)
    write_csv(table, frame, provenance=origin)
    document = {
        "prompts": len(prompts),
        "rows": len(frame),
        "token_changes": int(frame["token_changed"].sum()),
        **{scale: changes(frame, scale) for scale in ("lattice", "relative", "absolute")},
        "gate": gate or {"relative_error": None},
        "precision": precision,
        "dtype": dtype_name(loaded.dtype),
    }
    write_json(statistics, document, provenance=origin)


def _rows(loaded: LoadedModel, embeddings: torch.Tensor, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    before, again = answer(loaded, embeddings), answer(loaded, embeddings)
    if before.logits.tobytes() != again.logits.tobytes():
        raise PlatformError(
            "the same forward pass gave different bits twice, so no effect of noise can be told from chance; "
            "check deterministic kernels with `tremor doctor`, or use device: cpu"
        )
    decode = gains.decoder(loaded)
    original = to_array(embeddings)
    own = _leader(before.logits)
    for kind, scale, power, size, sequence in track(noisy(embeddings, settings), "noises"):
        after = answer(loaded, sequence)
        new = _leader(after.logits)
        yield {
            "power": power,
            "magnitude": size,
            "scale": scale,
            "perturbation_type": kind,
            "original_token_id": own[0],
            "original_token": decode(own[0]),
            "new_token_id": new[0],
            "new_token": decode(new[0]),
            "token_changed": own[0] != new[0],
            "original_prob": own[1],
            "new_prob": new[1],
            "logit_diff": float(np.linalg.norm(after.logits - before.logits)),
            "moved_coordinates": int((as_bits(sequence) != as_bits(embeddings)).sum()),
            **token_metrics(original, to_array(sequence)),
            **state_metrics(before.prenorm, after.prenorm, "before"),
            **state_metrics(before.final, after.final, "after"),
        }


def _leader(logits: npt.NDArray[np.float64]) -> tuple[int, float]:
    """The most likely token and its probability."""
    token = int(np.argmax(logits))
    return token, float(1.0 / np.exp(logits - logits[token]).sum())


def changes(frame: pd.DataFrame, scale: str) -> dict[str, Any]:
    """Of one scale: how many rows change the token, and the smallest relative length of noise that does."""
    own = frame[frame["scale"] == scale]
    changed = own[own["token_changed"]]
    return {
        "rows": len(own),
        "token_changes": len(changed),
        "smallest_changing_magnitude": float(changed["magnitude"].min()) if len(changed) else None,
        "smallest_changing_relative_l2": float(changed["relative_embedding_diff"].min()) if len(changed) else None,
        "largest_harmless_relative_l2": _largest(own[~own["token_changed"]]["relative_embedding_diff"]),
    }


def _largest(values: "pd.Series[float]") -> float | None:
    known: Sequence[float] = values.dropna().tolist()
    return max(known) if known else None
