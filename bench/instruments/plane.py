"""The maps of exp7 against a batch-1 loop over the full sequence."""

import numpy as np

from bench import llama, timing
from bench.context import Context
from bench.naive import plain_map
from bench.report import Row, at_least
from tremor.probe.flips import symmetric_steps
from tremor.probe.plane import gap_map
from tremor.probe.readout import Readout
from tremor.probe.response import Response

ORDER = 45
POINTS, RADIUS = 201, 1e-8
PAIR = (1, 2)


def measure(context: Context) -> list[Row]:
    """Three maps at the original's size and steps; the loop is timed on some of their cells."""
    base = llama.point(context.loaded, 6)
    readout = Readout(Response(context.loaded, base, mode="batched"))
    points = 31 if context.large else POINTS
    axis = symmetric_steps(RADIUS, points)
    planes = [llama.plane(len(base.x), 4)[:2].copy() for _ in range(3)]
    for number, plane in enumerate(planes):  # three planes through one direction
        second = np.random.default_rng(number).standard_normal(len(base.x))
        second -= second @ plane[0] * plane[0]
        plane[1] = second / np.linalg.norm(second)
    distinct = 0

    def maps() -> None:
        nonlocal distinct
        distinct = 0
        for plane in planes:
            found = gap_map(readout, plane, axis, axis, PAIR, arithmetic="float64")
            distinct += int(found.distinct_input.max()) + 1

    times = timing.repeated(maps, 1, warm=0)
    cells = 3 * points**2
    sample = symmetric_steps(RADIUS, 5)
    plain = timing.repeated(lambda: plain_map(context.loaded, base, planes[0], sample, PAIR), 2)
    loop = plain.best / len(sample) ** 2 * cells
    what = f"three maps of {points}² cells"
    return [
        Row(what, f"{times.text()}; {distinct} distinct inputs of {cells}"),
        Row("batch-1 loop over the sequence, a cell", plain.text(1e3 / len(sample) ** 2, "ms")),
        at_least("maps of exp7, times faster than the loop", loop / times.best, 50, unit="×"),
    ]
