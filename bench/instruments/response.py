"""The batched response: rows a second, as a fraction of the matrix rate."""

import numpy as np

from bench import llama, timing
from bench.context import Context
from bench.report import Row, at_least
from tremor.probe.response import Response

ORDER = 10


def measure(context: Context) -> list[Row]:
    """Evaluate whole batches at 6 tokens; and, for comparison, one reference forward."""
    base = llama.point(context.loaded, 6)
    response = Response(context.loaded, base, mode="batched")
    inputs = np.repeat(base.x[None], response.batch_size, axis=0)
    times = timing.repeated(lambda: response.evaluate(inputs), 5 if context.large else 25)
    rate = context.gauge()
    needed = 2 * llama.block_parameters(context.loaded) * response.batch_size
    reference = Response(context.loaded, base, mode="reference")
    single = timing.repeated(lambda: reference.evaluate(base.x[None]), 25)
    return [
        Row("batched response, a row", f"{times.text(1e3 / response.batch_size, 'ms')}, batch {response.batch_size}"),
        at_least("batched response, fraction of the matrix rate", needed / times.best / rate, 0.6),
        Row("reference response, a forward", single.text(1e3, "ms")),
    ]
