"""What this machine can do, measured in some seconds: starts of processes, calls of layers, operations, bytes.

Each start is that of a fresh interpreter that imports what such a job imports, in processor seconds; the arithmetic is
measured in the same child that stands for a job with a model. Small models are bound by the starts and by the calls,
large ones by operations and by reading the weights.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tremor.errors import PlatformError

SECONDS = 0.15  # each quantity is measured for at least this long
# Start of a plotting job on the machine that the constants of the cost table were taken on.
REFERENCE_START = 1.1
_ARRAYS = "import pandas, h5py, tremor.store.hdf5, tremor.store.tables"
_FIGURES = _ARRAYS + ", matplotlib.pyplot, matplotlib.backends.backend_agg"
# Snakemake's own share of a job: choosing it, starting its script, storing what it did (see docs/scaling.md).
JOB_SECONDS = 0.15


@dataclass(frozen=True)
class Rates:
    """Seconds and rates of one machine."""

    start_model: float  # seconds from nothing to a loaded small model
    start_arrays: float  # seconds to numpy, pandas and HDF5
    start_figures: float  # the same and matplotlib
    attention_call: float  # seconds a layer with attention costs in a forward of one row and a few tokens
    attention_backward: float  # the same in a backward
    scan_call: float  # seconds a layer with a scan costs in a forward of one token
    scan_step: float  # seconds a further token of the scan costs a layer, forward
    scan_backward: float  # a token of the scan costs a layer, backward
    flops: float  # float32 operations a second
    svd: float  # float64 operations a second in singular value decompositions, of 22 d^3
    bandwidth: float  # bytes a second at which weights are read

    @property
    def slowness(self) -> float:
        """Factor for seconds of plain Python and numpy that were taken on another machine."""
        return self.start_figures / REFERENCE_START


def measure(*, width: int, device: str = "cpu", threads: int = 1) -> Rates:
    """Measure this machine.

    Args:
        width: Width of the model whose matrix products are timed.
        device: Where models run: auto, cpu, cuda or cuda:N.
        threads: Threads of torch.

    Raises:
        PlatformError: torch does not run here, or the device cannot be had.
    """
    command = [sys.executable, "-m", "tremor.estimate.machine", str(width), device, str(threads)]
    began = _spent()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    whole = _spent() - began
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise PlatformError(f"this machine cannot be measured ({said[0]}); `tremor doctor` says what is wrong")
    found = json.loads(done.stdout.splitlines()[-1])
    return Rates(
        start_model=JOB_SECONDS + whole - found.pop("measuring"),
        start_arrays=JOB_SECONDS + _imports(_ARRAYS),
        start_figures=JOB_SECONDS + _imports(_FIGURES),
        **found,
    )


def _spent() -> float:
    """Processor seconds of finished children: what a start costs on a machine that has nothing else to do."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _imports(statement: str) -> float:
    began = _spent()
    subprocess.run([sys.executable, "-c", statement], capture_output=True, check=True)
    return _spent() - began


def _each(
    action: Callable[[], object], synchronise: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of one call, the best of rounds that fill the time: a neighbour on the machine must not count."""
    action()
    synchronise()
    best, spent = float("inf"), 0.0
    while spent < SECONDS:
        began = clock()
        action()
        synchronise()
        took = clock() - began
        best, spent = min(best, took), spent + took
    return best


def _child(width: int, device: str, threads: int) -> dict[str, float]:
    """What a job with a model can do, and how long it took to find out."""
    from tremor import platform

    platform.apply(platform.Request(device=device, threads=threads))
    where = platform.resolve_device(device)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    import tremor.experiments.boundary  # noqa: F401  # what a job imports besides

    def wait() -> None:
        if where.startswith("cuda"):
            torch.cuda.synchronize()

    common = {"hidden_size": 32, "num_hidden_layers": 4, "vocab_size": 64}
    shapes: dict[str, dict[str, Any]] = {
        "llama": {**common, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2},
        "mamba": {**common, "state_size": 8, "time_step_rank": 4},
    }

    def build(name: str) -> Any:
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **shapes[name])).eval().to(where)

    models = {"llama": build("llama")}
    began = time.process_time()  # a job imports one architecture
    # Small tensors are one thread's work, whose own seconds a busy machine does not stretch.
    torch.set_num_threads(1)
    clock = time.perf_counter if where.startswith("cuda") else time.process_time
    models["mamba"] = build("mamba")

    def call(name: str, tokens: int, *, backward: bool = False) -> float:
        ids = torch.ones(1, tokens, dtype=torch.long, device=where)
        model = models[name]

        def run() -> None:
            with torch.set_grad_enabled(backward):
                answer = model(ids, use_cache=False).logits
            if backward:
                answer.sum().backward()

        return _each(run, wait, clock) / common["num_hidden_layers"]

    tokens = 8
    llama, mamba = call("llama", tokens), call("mamba", 1)
    scanned = call("mamba", 1 + tokens)
    calls = {
        "attention_call": llama,
        "attention_backward": max(0.0, call("llama", tokens, backward=True) - llama),
        "scan_call": mamba,
        "scan_step": max(0.0, scanned - mamba) / tokens,
        "scan_backward": max(0.0, call("mamba", 1 + tokens, backward=True) - scanned) / (1 + tokens),
    }
    alone = _arithmetic(torch, where, width, wait, clock)
    torch.set_num_threads(threads)
    together = _arithmetic(torch, where, width, wait, time.perf_counter)
    # The better of both: threads that wait for a neighbour's are slower than one, but not on a quiet machine.
    found = {**calls, **{name: max(alone[name], together[name]) for name in alone}}
    return {**found, "measuring": time.process_time() - began}


def _arithmetic(
    torch: Any, where: str, width: int, wait: Callable[[], None], clock: Callable[[], float]
) -> dict[str, float]:
    rows, inner = 512, 3 * width
    left, right = torch.randn(rows, width, device=where), torch.randn(width, inner, device=where)
    square = torch.randn(256, 256, dtype=torch.float64, device=where)
    large = torch.randn(2**22, device=where)  # 16 MiB, beyond the inner caches
    return {
        "flops": 2 * rows * width * inner / _each(lambda: left @ right, wait, clock),
        "svd": 22 * 256**3 / _each(lambda: torch.linalg.svd(square), wait, clock),
        "bandwidth": large.numel() * 4 / _each(lambda: large.sum(), wait, clock),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in this process and print the numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("width", type=int)
    parser.add_argument("device")
    parser.add_argument("threads", type=int)
    options = parser.parse_args(arguments)
    print(json.dumps(_child(options.width, options.device, options.threads)))
    return 0


def document(rates: Rates) -> dict[str, float]:
    """The rates as plain values."""
    return asdict(rates)


if __name__ == "__main__":
    sys.exit(main())
