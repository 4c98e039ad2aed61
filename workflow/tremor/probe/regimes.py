"""Gain over the size of a step, over many decades: what the answer does, beside what the smooth map says it should.

Along each direction the model is asked at many nearby sizes in every decade; sizes that round to the same input are
run once. What is kept of an answer is its distance from the answer to x, at every tap, and the share of coordinates
whose bits changed: nothing holds more than a batch of states.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor import floats
from tremor.probe.response import Response
from tremor.probe.sweep import distinct, stream

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GainMap:
    """Steps along m directions at s sizes; k of their inputs are distinct, the first of these is x itself."""

    taps: tuple[str, ...]  # t of them
    sizes: Float  # [s] nominal sizes, ascending
    index: npt.NDArray[np.int64]  # [m, s] which distinct input each step is; 0: it moved nothing
    moved_coordinates: npt.NDArray[np.int64]  # [m, s] coordinates of the input that changed
    realised: Float  # [m, s] length of the step the model saw
    along: Float  # [m, s] its component along the direction
    off_direction: Float  # [m, s] norm of the rest
    output: Float  # [k, t] distance from the answer to x
    changed: Float  # [k, t] share of coordinates whose bits changed
    smooth: Float  # [k] length of J times the realised step, at the last tap
    residual: Float  # [k] distance of the answer's change from it, at the last tap


def step_sizes(largest: float, *, decades: int, per_decade: int) -> Float:
    """Ascending sizes down from the largest, evenly spaced in the logarithm."""
    exponents = np.arange(-decades * per_decade, 1) / per_decade
    sizes: Float = largest * 10.0**exponents
    return sizes


def gain_map(response: Response, directions: Array, sizes: Float, product: Callable[[Float], Float]) -> GainMap:
    """Measure the answers to steps along directions.

    The sum x + s * d is formed in float64 and rounded once to the format of x.

    Args:
        response: The model's answer; its last tap is the one the smooth map predicts.
        directions: [m, d] float32 unit vectors.
        sizes: [s] nominal sizes.
        product: J times steps, [n, d] -> [n, width of the last tap], in float64.
    """
    base = response.base
    inputs = [
        floats.nudge(base.x, direction, sizes[:, None], arithmetic="float64", fmt=base.fmt) for direction in directions
    ]
    steps = [floats.realised_step(base.x, moved, d, base.fmt) for moved, d in zip(inputs, directions, strict=True)]
    different = distinct(np.concatenate([base.x[None], *inputs]))
    count, taps = len(different.inputs), response.taps
    output, changed = np.zeros((count, len(taps))), np.zeros((count, len(taps)))
    smooth, residual = np.zeros(count), np.zeros(count)
    reference: dict[str, Array] = {}
    for rows, answer in stream(response, different.inputs):
        reference = reference or {tap: value[0] for tap, value in answer.items()}  # the first input is x
        change = np.zeros((rows.stop - rows.start, 0))
        for column, tap in enumerate(taps):
            change = answer[tap].astype(np.float64) - reference[tap].astype(np.float64)
            output[rows, column] = np.linalg.norm(change, axis=1)
            changed[rows, column] = np.mean(_bits(answer[tap]) != _bits(reference[tap]), axis=1)
        predicted = product(different.inputs[rows].astype(np.float64) - base.x.astype(np.float64))
        smooth[rows] = np.linalg.norm(predicted, axis=1)
        residual[rows] = np.linalg.norm(change - predicted, axis=1)
    return GainMap(
        taps=tuple(taps),
        sizes=sizes,
        index=different.index[1:].reshape(len(directions), -1),
        moved_coordinates=np.array([step.moved_coordinates for step in steps]),
        realised=np.array([step.l2 for step in steps]),
        along=np.array([step.along for step in steps]),
        off_direction=np.array([step.off_direction for step in steps]),
        output=output,
        changed=changed,
        smooth=smooth,
        residual=residual,
    )


def _bits(values: Array) -> Array:
    return np.ascontiguousarray(values).view({4: np.int32, 8: np.int64}[values.dtype.itemsize])


def named_directions(right: Array, names: Sequence[int | str], *, seed: int) -> tuple[list[str], Array]:
    """Directions by rank, ``middle``, ``last`` or ``random``.

    Args:
        right: [k, d] right singular vectors, float32.
        names: Ranks from 1, or names.
        seed: Of the random direction.

    Returns:
        Names such as ``v1`` and ``random``, and unit vectors [m, d] float32.

    Raises:
        ValueError: a rank is beyond the vectors there are.
    """
    labels, vectors = [], []
    for name in names:
        if name == "random":
            # Drawn on the CPU in float64 and rounded once, so that every device has the same direction.
            draw = np.random.default_rng(seed).normal(size=right.shape[1])
            labels.append("random")
            vectors.append((draw / np.linalg.norm(draw)).astype(np.float32))
            continue
        rank = {"middle": (len(right) + 1) // 2, "last": len(right)}.get(str(name)) or int(name)
        if rank > len(right):
            raise ValueError(f"there is no singular vector {rank}, only {len(right)}")
        labels.append(f"v{rank}")
        vectors.append(right[rank - 1])
    # The middle vector may be one that was named by its rank.
    keep = [k for k, label in enumerate(labels) if label not in labels[:k]]
    return [labels[k] for k in keep], np.array([vectors[k] for k in keep], dtype=np.float32)
