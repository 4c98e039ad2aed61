"""What a job needs of its machine, from the model's own numbers; for clusters, which must be told before (no torch)."""

import math
from collections.abc import Iterable, Mapping
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
