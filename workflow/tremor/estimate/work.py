"""What a job does, in countable things, and the seconds, memory and disk these come to on a machine."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from tremor.estimate.machine import JOB_SECONDS, Rates
from tremor.estimate.shape import Shape
from tremor.sizes import BYTES

Start = Literal["model", "arrays", "figures", "none"]
PROCESS_BYTES = {"model": 480e6, "arrays": 120e6, "figures": 170e6, "none": 40e6}  # measured, without any model
LOADING = 1e9  # bytes a second at which weights come from a local disk into the type they run in; an assumption
FIGURE_SECONDS = 0.2  # one file of a figure, on the reference machine
ACTIVATIONS = 12  # tensors of the width that a position keeps while a block runs; the MLP's come on top


@dataclass(frozen=True)
class Pass:
    """Equal calls of the model: `calls` batches of `rows` sequences of `tokens` positions.

    Attributes:
        calls: Forward calls.
        rows: Sequences in a batch.
        tokens: Positions of each.
        backwards: Backward calls of batches of `backward_rows`.
        backward_rows: Cotangent rows of one backward; 0 takes `rows`.
        past: Positions in front, frozen in a cache.
        depth: Share of the blocks that are run.
        logits: Whether every position's logits are computed.
    """

    calls: float
    rows: float = 1
    tokens: float = 1
    backwards: float = 0
    backward_rows: float = 0
    past: float = 0
    depth: float = 1.0
    logits: bool = False

    def flops(self, shape: Shape) -> float:
        """Operations of all calls; a backward takes twice those of its forward."""
        each = self.depth * shape.flops(1, past=self.past + self.tokens / 2) * self.tokens
        each += self.tokens * shape.unembedding if self.logits else 0.0
        return each * (self.calls * self.rows + 2 * self.backwards * (self.backward_rows or self.rows))

    def overhead(self, shape: Shape, rates: Rates) -> float:
        """Seconds that the calls take however small the tensors are."""
        layers = shape.layers * self.depth
        if shape.scan:
            forward = rates.scan_call + rates.scan_step * max(0.0, self.tokens - 1)
            backward = rates.scan_backward * self.tokens
        else:
            forward, backward = rates.attention_call, rates.attention_backward
        return layers * (self.calls * forward + self.backwards * backward)


@dataclass(frozen=True)
class Work:
    """What one job does.

    Attributes:
        start: What it imports.
        passes: Its calls of the model.
        evaluated: Inputs whose answers are wanted (expected).
        svd: Singular value decompositions: (rows, columns, how many).
        dense: Other operations of dense algebra.
        plain: Seconds of Python and numpy on the reference machine.
        figures: Files of figures.
        disk: Bytes written.
        read: Bytes of artifacts read.
        precision: Type the model runs in.
        steps: Steps of an optimiser.
        generic: The job has no model of its own (its table entry says so).
    """

    start: Start
    passes: tuple[Pass, ...] = ()
    evaluated: float = 0
    svd: tuple[tuple[float, float, float], ...] = ()
    dense: float = 0.0
    plain: float = 0.0
    figures: int = 0
    disk: float = 10e3
    read: float = 0.0
    precision: str = "float32"
    steps: float = 0.0
    generic: bool = False
    extra_bytes: float = field(default=0.0)

    @property
    def forwards(self) -> float:
        """Forward calls of the model."""
        return sum(each.calls for each in self.passes)

    @property
    def backwards(self) -> float:
        """Backward calls of the model."""
        return sum(each.backwards for each in self.passes)


@dataclass(frozen=True)
class Cost:
    """What some jobs cost; costs add, but memory is that of the largest."""

    jobs: int = 0
    forwards: float = 0.0
    backwards: float = 0.0
    evaluated: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    memory: float = 0.0  # bytes
    disk: float = 0.0  # bytes
    generic: int = 0  # jobs without a model of their own

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            jobs=self.jobs + other.jobs,
            forwards=self.forwards + other.forwards,
            backwards=self.backwards + other.backwards,
            evaluated=self.evaluated + other.evaluated,
            flops=self.flops + other.flops,
            seconds=self.seconds + other.seconds,
            memory=max(self.memory, other.memory),
            disk=self.disk + other.disk,
            generic=self.generic + other.generic,
        )


def total(costs: Iterable[Cost]) -> Cost:
    """The sum."""
    return sum(costs, Cost())


def price(work: Work, shape: Shape | None, rates: Rates) -> Cost:
    """What a job costs on a machine.

    Seconds = start + calls x overhead + operations / rate, where a call of a large model takes at least the time to
    read its weights.

    Args:
        work: What it does.
        shape: The model it runs, if it runs one.
        rates: The machine.
    """
    dense = work.dense + sum(22 * n * min(a, b) ** 2 * max(a, b) for a, b, n in work.svd)
    flops, calls = dense, 0.0  # calls: seconds of the model, its loading included
    memory = PROCESS_BYTES[work.start] + work.read + work.extra_bytes
    disk = work.disk
    if shape is not None and work.passes:
        double = 2.0 if work.precision == "true_float64" else 1.0
        for each in work.passes:
            arithmetic = each.flops(shape) * double / rates.flops
            reading = (each.calls + each.backwards) * each.depth * shape.layers * shape.block
            reading *= BYTES[work.precision] / rates.bandwidth
            calls += each.overhead(shape, rates) + max(arithmetic, reading)
            flops += each.flops(shape)
        calls += shape.weights(work.precision) / LOADING
        memory += shape.weights(work.precision) + max(activations(each, shape, work.precision) for each in work.passes)
    seconds = {
        "model": rates.start_model, "arrays": rates.start_arrays, "figures": rates.start_figures, "none": JOB_SECONDS,
    }[work.start]  # fmt: skip
    seconds += calls + dense / rates.svd
    seconds += rates.slowness * (work.plain + FIGURE_SECONDS * work.figures)
    if work.steps and shape is not None:
        # The optimiser reads and writes weights, gradients and two moments, and calls torch for every tensor.
        seconds += work.steps * (16 * 4 * shape.parameters / rates.bandwidth + shape.layers * rates.attention_call)
        memory += 16 * shape.parameters
    return Cost(
        jobs=1,
        forwards=work.forwards,
        backwards=work.backwards,
        evaluated=work.evaluated,
        flops=flops,
        seconds=seconds,
        memory=memory,
        disk=disk,
        generic=int(work.generic),
    )


def activations(each: Pass, shape: Shape, dtype: str) -> float:
    """Bytes of transient tensors of a pass: one block's, all blocks' where there is a backward, past, and logits."""
    positions = each.rows * each.tokens
    block = positions * (ACTIVATIONS * shape.width + 3 * shape.inner)
    scores = 0.0 if shape.scan else each.rows * shape.heads * each.tokens * (each.tokens + each.past)
    kept = (block + scores) * (shape.layers if each.backwards else 1)
    if each.backwards and each.backward_rows:
        # One graph, many cotangents: gradients of the positions in front live beside those of the row.
        kept += each.backward_rows * (6 * shape.inner + 12 * shape.width * (1 + each.past))
    past = each.rows * shape.cache(int(each.past), "float32") / 4
    logits = positions * shape.vocab if each.logits else 0.0
    return BYTES[dtype] * (kept + past + logits)
