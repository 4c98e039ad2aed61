"""A walk: inputs at given steps along one direction, and what changes from each of them to the next.

Serves exp1 (jumps and walk) and exp14 (small steps). The inputs are a staircase in the step, so a fine walk has few
distinct ones; each is run once. A *jump* is a change of the answer between two neighbouring steps: it lies between
their two nominal sizes, and belongs to neither.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor import floats
from tremor.probe.response import Response
from tremor.probe.sweep import Distinct, distinct
from tremor.probe.sweep import answers as answers_to

Array = npt.NDArray[Any]


def grid(start: float, step: float, multiples: Array) -> npt.NDArray[np.float64]:
    """Nominal sizes start + k * step, each formed anew: a running sum would gather rounding."""
    return start + step * np.asarray(multiples, dtype=np.float64)


def inputs_at(
    x: Array, direction: Array, sizes: npt.NDArray[np.float64], *, arithmetic: floats.Arithmetic, fmt: str
) -> Array:
    """The inputs [m, d] at nominal sizes [m] along a direction [d]."""
    return floats.nudge(x, direction, sizes[:, None], arithmetic=arithmetic, fmt=fmt)


def resume(
    response: Response, inputs: Array, known: tuple[Distinct, dict[str, Array]] | None = None
) -> tuple[Distinct, dict[str, Array]]:
    """Answers at every tap of a response to inputs [m, d], each distinct input run once, known ones not at all.

    Args:
        response: The model's answer.
        inputs: Inputs; many may be equal.
        known: Inputs that were run before, on the same function, with their answers at the same taps or more.

    Returns:
        The distinct inputs, and for each tap the answers [k, width] to them.
    """
    different = distinct(inputs)
    old = {row.tobytes(): number for number, row in enumerate(known[0].inputs)} if known else {}
    row = np.array([old.get(each.tobytes(), -1) for each in different.inputs], dtype=np.int64)
    fresh = np.flatnonzero(row < 0)
    row[fresh] = len(old) + np.arange(fresh.size)  # the new answers follow the known ones
    _, new = answers_to(response, different.inputs[fresh])
    found = {}
    for name in response.taps:
        pool = ([known[1][name]] if known else []) + ([new[name]] if fresh.size else [])
        found[name] = np.concatenate(pool)[row]
    return different, found


@dataclass(frozen=True)
class Moves:
    """What changes from each step of a walk to the next; all [m - 1], norms in float64."""

    low: npt.NDArray[np.float64]  # nominal size before the step
    high: npt.NDArray[np.float64]  # and after it
    input_changed: npt.NDArray[np.int64]  # coordinates of the input whose bits differ
    input_l2: npt.NDArray[np.float64]  # length of the realised step
    input_along: npt.NDArray[np.float64]  # its component along the direction
    position: npt.NDArray[np.float64]  # component of (input - x) along the direction, after the step
    output_changed: npt.NDArray[np.int64]  # coordinates of the answer whose bits differ
    output_l2: npt.NDArray[np.float64]  # length of the answer's change

    @property
    def jumps(self) -> npt.NDArray[np.int64]:
        """Numbers of the steps over which the answer changes; jump k lies in (low[k], high[k]]."""
        return np.flatnonzero(self.output_changed > 0)


def moves(
    x: Array,
    direction: Array,
    *,
    sizes: npt.NDArray[np.float64],
    index: npt.NDArray[np.int64],
    inputs: Array,
    answers: Array,
) -> Moves:
    """Account for a walk, step by step.

    Args:
        x: [d] base input.
        direction: [d].
        sizes: [m] nominal sizes.
        index: [m] which distinct input each of them is.
        inputs: [k, d] the distinct inputs.
        answers: [k, width] the answers to them.
    """
    before, after = index[:-1], index[1:]
    unit = direction.astype(np.float64)
    unit = unit / np.linalg.norm(unit)
    along = (inputs.astype(np.float64) - x.astype(np.float64)) @ unit
    count = len(before)
    changed, changed_out = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    l2, l2_out = np.zeros(count), np.zeros(count)
    moved = np.flatnonzero(before != after)  # equal inputs have equal answers: the A/A control saw to that
    for table, number, length in ((inputs, changed, l2), (answers, changed_out, l2_out)):
        for rows in np.array_split(moved, max(1, len(moved) * table.shape[1] // 2**22)):
            a, b = table[before[rows]], table[after[rows]]
            number[rows] = np.sum(bit_patterns(a) != bit_patterns(b), axis=1)
            length[rows] = np.linalg.norm(b.astype(np.float64) - a.astype(np.float64), axis=1)
    return Moves(
        low=sizes[:-1],
        high=sizes[1:],
        input_changed=changed,
        input_l2=l2,
        input_along=along[after] - along[before],
        position=along[after],
        output_changed=changed_out,
        output_l2=l2_out,
    )


def bit_patterns(values: Array) -> Array:
    """Integer view of carried values: a float32 carrier is one to one with the narrow format it carries."""
    return np.ascontiguousarray(values).view({4: np.int32, 8: np.int64}[values.dtype.itemsize])
