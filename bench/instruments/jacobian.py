"""The Jacobian against torch's own, against its floor of arithmetic, and against its memory bound."""

import sys

from bench import ROOT, llama, naive, timing
from bench.context import Context
from bench.report import Row, at_least, at_most
from tremor.probe.jacobian import MAX_CHUNK, gradient_bytes, jacobian

ORDER = 30

# Growth of the resident set in a process of its own; the kernel's high-water mark is reset before (Linux).
_PEAK = """
import sys
from pathlib import Path
from bench import llama
import torch
from tremor.probe.jacobian import jacobian
def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])
torch.set_num_threads(2)
loaded = llama.build(llama.SMALL)
base = llama.point(loaded, 64)
jacobian(loaded, llama.point(loaded, 2), chunk=1, tap="residual.1")
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
jacobian(loaded, base, chunk=int(sys.argv[1]))
print(status("VmHWM") - before)
"""


def measure(context: Context) -> list[Row]:
    """Full Jacobians; the floor is what the products of the rows that are run need at the matrix rate."""
    rows: list[Row] = []
    parameters = llama.block_parameters(context.loaded)
    width = context.shape.width
    for tokens, target in ((6, 4), (64, 25)):
        base = llama.point(context.loaded, tokens)
        times = timing.repeated(lambda base=base: jacobian(context.loaded, base), 1 if context.large else 9)  # type: ignore[misc]
        rows.append(Row(f"Jacobian at {tokens} tokens", times.text()))
        if not context.large:
            plain = timing.repeated(
                lambda base=base: naive.full_jacobian(context.loaded, base),  # type: ignore[misc]
                5 if tokens == 6 else 1,
                warm=0,
            )
            rows.append(Row(f"torch's Jacobian of the sequence at {tokens} tokens", plain.text()))
            rows.append(
                at_least(f"Jacobian at {tokens} tokens, times faster", plain.best / times.best, target, unit="×")
            )
        if tokens == 6:
            rate = context.gauge()
            floor = 2 * parameters * (width + tokens) / rate  # forward of the prompt, backward of each output
            rows.append(
                at_least("Jacobian, fraction of its floor", floor / times.best, 0.5, note=f"floor {floor:.3g} s")
            )
            both = 4 * parameters * width / rate  # what any method needs that runs a forward for each row
            rows.append(
                Row(
                    "Jacobian, fraction of the floor of a forward and a backward a row",
                    f"{both / times.best:.3g} (floor {both:.3g} s)",
                )
            )
            if not context.large:
                other = timing.repeated(lambda base=base: jacobian(context.loaded, base, method="replicated"), 5)  # type: ignore[misc]
                floor = 2 * parameters * (2 * width + tokens - 1) / rate
                rows.append(
                    Row(
                        "Jacobian by replicated rows, fraction of its floor",
                        f"{floor / other.best:.3g} ({other.text()}, floor {floor:.3g} s)",
                    )
                )
    return rows if context.large else rows + _memory(context)


def _memory(context: Context) -> list[Row]:
    base = llama.point(context.loaded, 64)
    rows = []
    for chunk in (32, min(MAX_CHUNK, context.shape.width)):
        _, printed = timing.command([sys.executable, "-c", _PEAK, str(chunk)], str(ROOT), 1)
        # The matrix itself, twice while its parts are joined, and the allocator's slack come on top.
        bound = chunk * gradient_bytes(context.loaded, base) + 32 * 2**20
        rows.append(
            at_most(
                f"Jacobian at 64 tokens, peak memory, chunk {chunk}",
                float(printed) * 1024 / 2**20,
                round(bound / 2**20),
                unit=" MiB",
            )
        )
    return rows
