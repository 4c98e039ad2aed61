"""Scores and rankings of weights: against a heap over scalars in Python, and against a plain forward-backward."""

import heapq

import numpy as np
import torch

from bench import timing
from bench.context import Context
from bench.report import Row, at_least, at_most
from tremor.weights.rank import top_k
from tremor.weights.scores import SCORES, Task
from tremor.weights.scores.gradients import SHARED, plain_pass, shared
from tremor.weights.select import Selection, select

ORDER = 80
K = 100
TEXTS, LENGTH = 8, 48  # of random tokens, as long as a passage
NAIVE_SCALARS = 500_000  # its time is linear in their number, and over a large model it would take hours


def heap(selection: Selection, limit: int, *, lists: bool) -> int:
    """The K largest magnitudes of the first `limit` scalars, one after the other; how many were seen.

    Args:
        selection: The scalars.
        limit: Stop after so many.
        lists: Turn each tensor into a Python list first, instead of reading its elements one by one as is usually done.
    """
    best: list[tuple[float, str, tuple[int, ...]]] = []
    seen = 0
    for name, parameter in selection.parameters():
        flat = parameter.detach().abs().reshape(-1)
        scores = flat.tolist() if lists else (element.item() for element in flat)
        for index, score in zip(np.ndindex(*parameter.shape), scores, strict=True):
            entry = (score, name, index)
            if len(best) < K:
                heapq.heappush(best, entry)
            elif entry > best[0]:
                heapq.heapreplace(best, entry)
            seen += 1
            if seen == limit:
                return seen
    return seen


def measure(context: Context) -> list[Row]:
    """Times faster than the heap, and cost of gradient scores over the passes they need."""
    loaded = context.loaded
    selection = select(loaded.anatomy)
    task = Task(loaded, [], selection)
    ranked = timing.repeated(lambda: top_k(SCORES["magnitude"].stream(task), K, selection=selection), 5)
    seen = min(NAIVE_SCALARS, selection.count)
    naive, listed = (
        timing.once(lambda lists=lists: heap(selection, seen, lists=lists)) * selection.count / seen
        for lists in (False, True)
    )
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(0, loaded.anatomy.vocab, (LENGTH,), generator=generator) for _ in range(TEXTS)]
    reading = Task(loaded, [ids.to(loaded.device) for ids in drawn], selection)

    def drain() -> None:
        for _ in shared(reading, SHARED):
            pass

    plain_pass(loaded, reading.sequences, reading)  # both warm
    plain = timing.repeated(lambda: plain_pass(loaded, reading.sequences, reading), 5)
    scored = timing.repeated(drain, 5)
    one = timing.repeated(lambda: sum(1 for _ in SCORES["taylor_abs"].stream(reading)), 5)
    note = f"{selection.count} scalars; {ranked.text()}, the heap {naive:.3g} s, over lists {listed:.3g} s"
    return [
        at_least("global top-K against a Python heap over scalars, times faster", naive / ranked.best, 100, note=note),
        at_most("gradient score over a plain forward-backward, time", one.best / plain.best, 1.3, note=one.text()),
        at_most("three gradient scores of one pass over it, time", scored.best / plain.best, 1.3, note=scored.text()),
    ]
