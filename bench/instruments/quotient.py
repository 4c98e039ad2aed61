"""Difference quotients: 18 decades of steps along 13 directions, each distinct input once."""

import numpy as np

from bench import llama, timing
from bench.context import Context
from bench.report import Row
from tremor.probe.quotient import quotients
from tremor.probe.readout import Readout
from tremor.probe.response import Response

ORDER = 35
DIRECTIONS, DECADES = 13, 18


def measure(context: Context) -> list[Row]:
    """The grid of exp2 at one prompt, against the cells that a loop over it would run, two forwards each."""
    base = llama.point(context.loaded, 6)
    response = Response(context.loaded, base, mode="batched")
    readout = Readout(response)
    vectors = np.random.default_rng(0).normal(size=(DIRECTIONS, len(base.x)))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    steps = [10.0**-k for k in range(1, DECADES + 1)]

    def grid() -> int:
        return quotients(response, readout, vectors, steps, np.copy, arithmetic="float32").observed.evaluated

    inputs = grid()
    times = timing.repeated(grid, 5)
    cells = DIRECTIONS * DECADES
    return [
        Row("difference quotients, distinct inputs run", f"{inputs} for {cells} cells (a loop runs {2 * cells})"),
        Row("difference quotients, the whole grid", times.text(1e3, "ms")),
    ]
