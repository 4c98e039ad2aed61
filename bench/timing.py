"""Clocks: the best and the median of repeated runs, and the machine's matrix rate as the common yardstick."""

import gc
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

GEMM_SIZES = (512, 1024, 1536, 2048)


@dataclass(frozen=True)
class Times:
    """Seconds of repeated runs of one thing."""

    seconds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The least disturbed run."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The middle run."""
        return statistics.median(self.seconds)

    def text(self, scale: float = 1.0, unit: str = "s", digits: int = 3) -> str:
        """Best and median, as the tables show them."""
        return f"{self.best * scale:.{digits}g} {unit} (median {self.median * scale:.{digits}g})"


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
_clock = "wall"


def use_clock(name: str) -> None:
    """Choose what a second is: ``wall``, or ``cpu`` for one thread on a machine that others are using."""
    global _clock
    _clock = name


def synchronise() -> None:
    """Wait for the device, whose work is queued."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def once(function: Callable[[], object]) -> float:
    """Seconds of one run."""
    clock = CLOCKS[_clock]
    synchronise()
    begin = clock()
    function()
    synchronise()
    return clock() - begin


def repeated(function: Callable[[], object], runs: int, *, warm: int = 1) -> Times:
    """Time several runs, after unmeasured ones that fill caches and choose kernels."""
    for _ in range(warm):
        function()
    gc.collect()
    return Times(tuple(once(function) for _ in range(runs)))


def gemm_rate(device: torch.device, runs: int = 7) -> float:
    """The best float32 matrix product of several square sizes, in floating-point operations a second."""
    best = 0.0
    sizes = (*GEMM_SIZES, 4096, 8192) if device.type == "cuda" else GEMM_SIZES
    for size in sizes:
        a, b = (torch.randn(size, size, device=device) for _ in range(2))
        out = torch.empty(size, size, device=device)
        times = repeated(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), runs)  # type: ignore[misc]
        best = max(best, 2 * size**3 / times.best)
    return best


def command(arguments: Sequence[str], cwd: str, runs: int) -> tuple[Times, str]:
    """Time a command in a process of its own; what it prints comes back.

    Raises:
        RuntimeError: the command failed.
    """
    seconds = []
    for _ in range(runs):
        begin = _process_seconds()
        done = subprocess.run(list(arguments), cwd=cwd, capture_output=True, text=True, check=False)
        seconds.append(_process_seconds() - begin)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments[:4])} ... failed:\n{done.stderr[-2000:]}{done.stdout[-2000:]}")
    return Times(tuple(seconds)), done.stdout


def _process_seconds() -> float:
    """The chosen clock for processes of their own: the wall's, or what finished children have used."""
    if _clock == "wall":
        return time.perf_counter()
    times = os.times()
    return times.children_user + times.children_system


def load() -> float:
    """Processes that wanted a core in the last minute."""
    return os.getloadavg()[0]
