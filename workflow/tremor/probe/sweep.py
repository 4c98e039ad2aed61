"""Sweeps: many nominal steps, of which few are distinct inputs, each run once.

Along a fine grid of steps most inputs are bit for bit the same, because rounding makes a staircase of them (spec
exp1, exp14: a walk of 1000 steps has tens of distinct inputs). A sweep evaluates each distinct input once and says,
for every step, which one it was.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor.probe.base import to_array
from tremor.probe.response import Response

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Distinct:
    """The distinct rows of a table of inputs, in order of first appearance."""

    inputs: Array  # [k, d]
    first: npt.NDArray[np.int64]  # [k] row of each one's first appearance
    index: npt.NDArray[np.int64]  # [m] which distinct input each row is


def distinct(inputs: Array) -> Distinct:
    """Find the rows [m, d] that differ in bits."""
    rows = np.ascontiguousarray(inputs)
    seen: dict[bytes, int] = {}
    first: list[int] = []
    index = np.empty(len(rows), dtype=np.int64)
    for number, row in enumerate(rows):
        key = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
        if key not in seen:
            seen[key] = len(first)
            first.append(number)
        index[number] = seen[key]
    return Distinct(inputs=rows[first], first=np.array(first, dtype=np.int64), index=index)


def stream(response: Response, inputs: Array) -> Iterator[tuple[slice, dict[str, Array]]]:
    """Answers at every tap to inputs [k, d], one batch at a time: nothing holds more than a batch of rows.

    Yields:
        The slice of the inputs, and for each tap the answers [rows, width] as carried numpy values.
    """
    for rows, answer in response.batches(inputs):
        yield rows, {name: to_array(value) for name, value in answer.items()}


def answers(response: Response, inputs: Array) -> tuple[Distinct, dict[str, Array]]:
    """Answers at every tap to inputs [m, d], each distinct input run once and kept once.

    Returns:
        The distinct inputs, and for each tap the answers [k, width] to them; ``found[tap][distinct.index]`` has one
        row for each input.
    """
    different = distinct(inputs)
    parts: dict[str, list[Array]] = {name: [] for name in response.taps}
    for _, answer in stream(response, different.inputs):
        for name, value in answer.items():
            parts[name].append(value)
    return different, {name: np.concatenate(values) for name, values in parts.items() if values}
