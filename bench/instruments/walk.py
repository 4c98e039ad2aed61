"""A walk in equal small steps, each distinct input once, against one full forward a step."""

import numpy as np

from bench import llama, timing
from bench.context import Context
from bench.naive import PlainSearch
from bench.report import Row, at_least
from tremor.probe import walk
from tremor.probe.base import to_tensor
from tremor.probe.response import Response

ORDER = 25
STEPS, START, STEP = 500, 1e-6, 1e-11


def measure(context: Context) -> list[Row]:
    """The walk of exp14 with its inputs, answers and accounts; the plain loop is timed on a part of its steps."""
    base = llama.point(context.loaded, 6)
    direction = llama.plane(len(base.x), 1)[0]
    sizes = walk.grid(START, STEP, np.arange(STEPS + 1))
    response = Response(context.loaded, base, mode="batched")

    def run() -> walk.Moves:
        inputs = walk.inputs_at(base.x, direction, sizes, arithmetic="float64", fmt=base.fmt)
        found, answers = walk.resume(response, inputs)
        return walk.moves(
            base.x, direction, sizes=sizes, index=found.index, inputs=found.inputs, answers=answers["final"]
        )

    moves = run()
    times = timing.repeated(run, 1 if context.large else 5, warm=0)
    plain = PlainSearch(context.loaded, base)
    sample = walk.inputs_at(base.x, direction, sizes[::50], arithmetic="float64", fmt=base.fmt)
    rows = [to_tensor(row, base.embeddings) for row in sample]
    forward = timing.Times(tuple(timing.once(lambda r=row: plain._answer(r)) for row in rows))  # type: ignore[misc]
    changed = int((moves.input_changed > 0).sum())
    return [
        Row(f"walk of {STEPS} small steps", f"{times.text()}; {changed} steps change the input"),
        at_least("walk, times faster than a forward a step", forward.best * (STEPS + 1) / times.best, 20, unit="×"),
    ]
