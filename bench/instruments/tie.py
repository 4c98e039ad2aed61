"""The root finder of ties against the originals' 500 Adam steps."""

from bench import llama, timing
from bench.context import Context
from bench.naive import adam_tie
from bench.report import Row, at_most
from tremor.probe.readout import Readout
from tremor.probe.response import Response
from tremor.probe.tie import find_tie

ORDER = 40
BATCH = 16  # a search asks for one input at a time: a narrow batch is its natural shape
STEPS = 500


def measure(context: Context) -> list[Row]:
    """Evaluations and seconds to a tie, and the gap that is left, on both sides."""
    base = llama.point(context.loaded, 6)
    readout = Readout(Response(context.loaded, base, mode="batched", batch_size=BATCH))
    found = find_tie(readout, method="geometric")
    times = timing.repeated(lambda: find_tie(readout, method="geometric"), 1 if context.large else 5)
    steps = STEPS // 10 if context.large else STEPS
    left = float("nan")

    def plain() -> None:
        nonlocal left
        left = adam_tie(context.loaded, base, steps)

    seconds = timing.once(plain) * STEPS / steps
    gap = abs(found.gaps.float64)
    note = f"{times.text()}, gap {gap:.1g} left, logit ulp {found.gaps.logit_ulp:.1g}"
    return [
        at_most("evaluations to a tie, gradients included", found.evaluations, 30, note=note),
        Row(f"plain Adam, {STEPS} steps", f"{seconds:.3g} s; least gap after {steps}: {left:.1g}, by its float32 dot"),
        Row("root finder of ties, times faster", f"{seconds / times.best:.3g}×"),
    ]
