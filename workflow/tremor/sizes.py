"""What a job needs of its machine, from the model's own numbers; for clusters, which must be told before (no torch)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PROCESS_MB = 1500  # an interpreter with torch, transformers and a CPU context; measured 0.6 to 0.9 GB, CUDA takes more
GIB_MB = 1024
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8, "true_float64": 8}
AUTO_GIB = 4.0  # `probe.max_memory: auto` takes half of what is free; a cluster is asked for twice this


def memory_mb(manifest: Mapping[str, Any], *, dtypes: Iterable[str], transient_gib: float | str) -> int:
    """Main memory of a job that runs a model.

    The weights in each type they are held in, a tenth of the stored files more while they are read tensor by tensor,
    the transient tensors that the job is allowed, and the process itself.

    Args:
        manifest: The model's manifest.
        dtypes: A type for each time the weights are held: once to run, once more with gradients or in true float64.
        transient_gib: ``probe.max_memory``: GiB for transient tensors, or ``auto``.

    Returns:
        MB, rounded up.
    """
    weights: int = manifest["parameters"] * sum(BYTES[dtype] for dtype in dtypes)
    reading = 0.1 * float(manifest["bytes"])
    transient = 2 * AUTO_GIB if transient_gib == "auto" else float(transient_gib)
    return PROCESS_MB + math.ceil((weights + reading) / 2**20 + transient * GIB_MB)


TAYLOR = ("taylor_signed", "taylor_abs", "grad_squared")  # share one backward pass, each with an accumulator
# Float32 numbers for each weight that a score has at once beside the model: gradients, sums, products with the Hessian.
# Measured on 62 million weights: 3.0 for one of TAYLOR, 5.0 for all three, 3.1 (Fisher), 4.2 (path), 11.4 (curvature).
COPIES = {"fisher_token": 4, "fisher_true": 4, "hutchinson": 12, "obd": 12, "weight_ig": 5}
POPULATION = 5  # the same where all scores are held and put in order; measured 4.9
CHANGED = 3  # where all weights are changed and put back; measured 2.3


def copies(scores: Iterable[str] = (), *, ordered: bool = False, changed: bool = False) -> int:
    """Float32 numbers for each weight that a job has at once beside the model, one pass after the other.

    Args:
        scores: Names of scores; those that read weights or activations alone need none.
        ordered: Whether all scores are held and put in order.
        changed: Whether all weights are changed and put back.
    """
    names = list(scores)
    together = sum(name in TAYLOR for name in names)
    scoring = max([together + 2 if together else 0, *(COPIES.get(name, 0) for name in names)])
    return max(scoring + POPULATION * ordered, CHANGED * changed)


STAGES = 8  # tensors of the width that the stages of one token have at most: embedding, first block, final ones
TAPS = 14  # the same for a block with all its taps, besides what its matrices take and give
TOKEN_BYTES = 1024  # ids, leaders and their readings
QUESTION_BYTES = 100_000  # attributes, and what HDF5 and its checksums take


def recording_mb(manifest: Mapping[str, Any], *, dtype: str, settings: Mapping[str, Any], names: Sequence[str]) -> int:
    """Disk that recordings take at most, before compression, which saves little.

    A matrix between m inputs and n outputs, m the width at least, takes and gives no more than twice its size over the
    width: so many numbers do all taps of a token have, besides those as wide as the stream.

    Args:
        manifest: The model's manifest.
        dtype: Type the model runs in.
        settings: The config block ``recorder``.
        names: Questions that the job records.

    Returns:
        MB, rounded up.
    """
    width, layers, tokens = (int(n or 0) for n in (manifest["d_model"], manifest["n_layers"], settings["tokens"]))
    stages = {"final": 1}.get(settings["taps"], STAGES) * width
    full = stages if settings["taps"] != "all" else (STAGES + TAPS * layers) * width
    if settings["taps"] == "all":
        full += 2 * math.ceil(int(manifest["parameters"]) / max(1, width))
    steps = tokens if settings["tap_steps"] == "all" else min(tokens, int(settings["tap_steps"]))
    size = 0
    for name in names:
        here = full if settings["tap_questions"] == "all" or name in settings["tap_questions"] else stages
        size += BYTES[dtype] * (here * steps + stages * (tokens - steps)) + TOKEN_BYTES * tokens + QUESTION_BYTES
    return math.ceil(size / 2**20)
