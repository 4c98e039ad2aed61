"""The yardstick: what the machine's own matrix product reaches."""

from bench.context import Context
from bench.report import Row

ORDER = 0


def measure(context: Context) -> list[Row]:
    """The best float32 rate of several square sizes."""
    return [Row("float32 matrix product, best of sizes from 512", f"{context.gauge() / 1e9:.0f} GFLOP/s")]
