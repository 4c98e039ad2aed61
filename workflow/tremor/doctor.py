"""What this machine computes with, and whether it repeats itself bit for bit: the answers of `tremor doctor`."""

import os
import platform as system
from importlib import metadata
from pathlib import Path
from typing import Any

from tremor import __version__, platform, surroundings
from tremor.errors import TremorError
from tremor.surroundings import Finding

PACKAGES = ("torch", "transformers", "numpy", "snakemake")
ROWS = 64  # of the batch that the control runs
TINY = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 32,
}  # fmt: skip


def examine(*, device: str, dtype: str, threads: int, folder: Path) -> list[Finding]:
    """Look at this machine; torch must not be imported yet, as in a job.

    Args:
        device: auto, cpu, cuda or cuda:N.
        dtype: Type the control's model runs in.
        threads: Threads of torch.
        folder: Where results will be written.

    Returns:
        The findings, those of the platform first.

    Raises:
        PlatformError: the device cannot be had.
    """
    request = platform.Request(device=device, dtype=dtype, threads=threads)
    platform.apply(request)
    resolved = platform.resolve_device(device)
    applied = platform.fingerprint(request, resolved)["applied"]
    return [
        Finding("tremor", f"{__version__}, Python {system.python_version()}, {system.system()} {system.machine()}"),
        Finding("packages", ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)),
        *_machine(applied, resolved),
        *_environment(applied),
        surroundings.versions(surroundings.pins()),
        surroundings.disk(folder),
        surroundings.bytecode(),
        surroundings.cluster(),
        *_controls(resolved, dtype),
        _gate(),
    ]


def _machine(applied: dict[str, Any], device: str) -> list[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = int(applied["threads"])
    crowded = (
        f"torch runs {threads} threads on {cores} cores, which is slow; lower probe.threads" if threads > cores else ""
    )
    count = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_properties(i).name for i in range(count)) or "none"
    return [
        Finding("device", f"{device} ({applied['device_name']})"),
        Finding("CUDA devices", names),
        Finding("instruction set", f"{applied['cpu_capability']} (CPU kernels of torch)"),
        Finding("threads", f"{threads} of {cores} cores", crowded),
        Finding("libraries", f"MKL {applied['mkl'] or 'none'}, oneDNN {applied['onednn'] or 'none'}"),
        Finding(
            "arithmetic",
            f"deterministic {'on' if applied['deterministic'] else 'off'}, TF32 {'on' if applied['tf32'] else 'off'}, "
            f"matmul precision {applied['float32_matmul_precision']}",
        ),
    ]


def _environment(applied: dict[str, Any]) -> list[Finding]:
    """Variables from outside that change bits; those that every job sets itself are not worth a line."""
    set_here = platform.BASE_ENVIRONMENT
    found = {k: v for k, v in applied["environment"].items() if set_here.get(k) != v}
    text = ", ".join(f"{name}={value}" for name, value in found.items())
    return [Finding("environment", text or "no variable that changes bits is set")]


def _controls(device: str, dtype: str) -> list[Finding]:
    """The A/A control on a tiny random model: equal inputs must give equal bits, in both modes."""
    from tremor.probe.response import Response

    loaded, base = _tiny(device, dtype)
    findings = []
    for mode, size in (("reference", 1), ("batched", ROWS)):
        name = f"A/A control, {mode}"
        try:
            response = Response(loaded, base, mode=mode, batch_size=size, repeats=5)  # type: ignore[arg-type]
        except TremorError as error:
            findings.append(Finding(name, "FAILED", str(error)))
        else:
            shape = "1 row" if mode == "reference" else f"{response.batch_size} rows"
            findings.append(Finding(name, f"equal bits in {response.control.runs} runs of {shape}"))
    return findings


def _gate() -> Finding:
    """Whether float64 is float64 here: on the CPU, where `true_float64` runs wherever a GPU's is too slow to matter."""
    from tremor.models import true64, true64_gate

    name = "true float64"
    loaded, _ = _tiny("cpu", "float32")
    try:
        wide = true64.convert(loaded)
        found = true64_gate.require(wide, _base(wide, "float64"))
    except TremorError as error:
        return Finding(
            name, "FAILED", f"{error}; results with true_float64 cannot be trusted here, install the lock's versions"
        )
    return Finding(name, f"a step of 1e-12 is answered as the derivative says, off by {found.relative_error:.1g}")


def _tiny(device: str, dtype: str) -> tuple[Any, Any]:
    """A random Llama of no use but to compute with, and a base point of it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tremor.models.anatomy import describe
    from tremor.models.loader import DTYPES, LoadedModel

    # The global generator is the only one that transformers initialises from; its state is given back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model("llama", **TINY)
        model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    model = model.to(device=device, dtype=DTYPES[dtype]).eval().requires_grad_(False)
    anatomy = describe(model)
    loaded = LoadedModel(
        model=model,
        tokenizer=None,  # type: ignore[arg-type]  # the ids are given
        anatomy=anatomy,
        dtype=DTYPES[dtype],
        device=torch.device(device),
        attention="sdpa",
        experts=None,
        digest="",
    )
    return loaded, _base(loaded, dtype)


def _base(loaded: Any, dtype: str) -> Any:
    """A base point of some tokens, whichever they are."""
    import numpy as np
    import torch

    from tremor.probe.base import BasePoint, to_array

    ids = np.arange(1, 7, dtype=np.int64)
    embeddings = loaded.anatomy.embed(torch.from_numpy(ids)[None].to(loaded.device))[0].detach()
    return BasePoint(text="", ids=ids, embeddings=embeddings, x=to_array(embeddings[-1]), fmt=dtype)
