"""Maps of the gap of two tokens over a plane of inputs, with the coordinates that the inputs really have.

At steps of a few ulps the nominal axes are not where the inputs are: each coordinate of x0 + e1 h1 + e2 h2 is rounded,
so the realised input lies beside the plane, often further from it than it has moved within it. The map therefore comes
with the realised coordinates and the distance from the plane of every cell.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor import floats
from tremor.probe.readout import Readout
from tremor.statistics.planes import first_appearance

Array = npt.NDArray[Any]
BATCHES = 4  # batches of cells that are formed at a time


@dataclass(frozen=True)
class PlaneMap:
    """One map; axis 0 is e1, axis 1 is e2."""

    gap: npt.NDArray[np.float64]  # [n1, n2] logit of the first token minus that of the second, as the model gives them
    gap_float64: npt.NDArray[np.float64]  # [n1, n2] h . (v1 - v2) in float64
    token: npt.NDArray[np.int32]  # [n1, n2] chosen token
    leaders: npt.NDArray[np.int32]  # [n1, n2] tokens that share the highest logit
    realised_1: npt.NDArray[np.float64]  # [n1, n2] coordinate of the realised step along h1
    realised_2: npt.NDArray[np.float64]  # [n1, n2] and along h2
    off_plane: npt.NDArray[np.float64]  # [n1, n2] distance of the realised input from the plane
    moved_coordinates: npt.NDArray[np.int32]  # [n1, n2]
    distinct_input: npt.NDArray[np.int32]  # [n1, n2] number of the distinct input, in order of first appearance


def plane_inputs(
    x: Array, directions: Array, e1: Array, e2: Array, *, arithmetic: floats.Arithmetic, fmt: str
) -> Array:
    """Inputs at points of the plane of two directions.

    ``float64``: x + e1 h1 + e2 h2 in float64, rounded once. ``float32``: (x + e1 h1) + e2 h2 with every product and
    sum rounded to float32, as the originals added: two steps below half an ulp then leave the input where it was, even
    where their sum is above it.

    Args:
        x: [d] base input on the lattice of ``fmt``.
        directions: [2, d] float32.
        e1: [m] nominal coordinates along the first direction.
        e2: [m] along the second.
        arithmetic: Where the sum is done.
        fmt: Lattice of the input.

    Returns:
        [m, d] in the carrier dtype of ``fmt``; x itself, bit for bit, where both coordinates are 0.
    """
    if arithmetic == "float32":
        middle = floats.nudge(x, directions[0], e1[:, None], arithmetic="float32", fmt=fmt)
        return floats.nudge(middle, directions[1], e2[:, None], arithmetic="float32", fmt=fmt)
    if arithmetic != "float64":
        raise ValueError(f"unknown arithmetic '{arithmetic}'; one of float64, float32")
    h1, h2 = directions.astype(np.float64)
    moved = floats.round_to(x.astype(np.float64) + e1[:, None] * h1 + e2[:, None] * h2, fmt)
    return np.where(((e1 == 0) & (e2 == 0))[:, None], x, moved)


def realised_coordinates(x: Array, moved: Array, directions: Array) -> tuple[Array, Array, Array]:
    """Coordinates of inputs [m, d] in the plane x + a1 h1 + a2 h2, by least squares, and their distance from it."""
    step = moved.astype(np.float64) - x.astype(np.float64)
    h1, h2 = directions.astype(np.float64)
    # Singular vectors rounded to float32 are orthogonal to 1e-7 only, hence the Gram matrix. Sums over rows and not
    # products of matrices, whose rounding of a row depends on how many there are: a tile must say what the map says.
    inverse = np.linalg.inv(np.array([[h1 @ h1, h1 @ h2], [h2 @ h1, h2 @ h2]]))
    b1, b2 = (step * h1).sum(axis=1), (step * h2).sum(axis=1)
    a1, a2 = (row[0] * b1 + row[1] * b2 for row in inverse)
    off = np.linalg.norm(step - a1[:, None] * h1 - a2[:, None] * h2, axis=1)
    return a1, a2, off


def gap_map(
    readout: Readout,
    directions: Array,
    e1: Array,
    e2: Array,
    pair: tuple[int, int],
    *,
    arithmetic: floats.Arithmetic,
) -> PlaneMap:
    """The gap of two tokens over a grid of the plane, args as of :func:`gap_tile`."""
    values, keys = gap_tile(readout, directions, e1, e2, pair, arithmetic=arithmetic)
    return PlaneMap(**values, distinct_input=first_appearance(keys.reshape(-1, 2)).reshape(keys.shape[:2]))


def gap_tile(
    readout: Readout,
    directions: Array,
    e1: Array,
    e2: Array,
    pair: tuple[int, int],
    *,
    arithmetic: floats.Arithmetic,
) -> tuple[dict[str, Array], npt.NDArray[np.int64]]:
    """The gap of two tokens over a part of a grid; each distinct input is run once, and no cell depends on the others.

    Args:
        readout: The model's choice around the base point.
        directions: [2, d_in] float32, the plane.
        e1: [n1] nominal coordinates along the first direction.
        e2: [n2] along the second.
        pair: The two tokens.
        arithmetic: How the steps are added.

    Returns:
        The fields of :class:`PlaneMap` [n1, n2] but the last, and a digest [n1, n2, 2] of every cell's input.
    """
    base = readout.response.base
    rows, offset = readout.direction(*pair)
    first, second = (grid.ravel() for grid in np.meshgrid(e1, e2, indexing="ij"))
    seen: dict[bytes, int] = {}
    index = np.empty(len(first), dtype=np.int32)
    parts: dict[str, list[Array]] = {}
    block = BATCHES * readout.response.batch_size
    waiting: list[Array] = []

    def run(inputs: list[Array]) -> None:
        points = np.array(inputs)
        found = readout.decide(points, pair)
        logits = found.logits.astype(np.float64)
        a1, a2, off = realised_coordinates(base.x, points, directions)
        moved = floats.bits(points, base.fmt) != floats.bits(base.x, base.fmt)
        values = {
            "gap": logits[:, 0] - logits[:, 1],
            "gap_float64": (found.final.astype(np.float64) * rows).sum(axis=1) + offset,
            "token": found.token.astype(np.int32),
            "leaders": found.leaders.astype(np.int32),
            "realised_1": a1,
            "realised_2": a2,
            "off_plane": off,
            "moved_coordinates": moved.sum(axis=1).astype(np.int32),
        }
        for name, value in values.items():
            parts.setdefault(name, []).append(value)

    for start in range(0, len(first), block):
        cells = slice(start, start + block)
        inputs = plane_inputs(base.x, directions, first[cells], second[cells], arithmetic=arithmetic, fmt=base.fmt)
        for cell, row in enumerate(np.ascontiguousarray(inputs), start=start):
            key = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
            if key not in seen:
                seen[key] = len(seen)
                waiting.append(row)
            index[cell] = seen[key]
        full = len(waiting) - len(waiting) % readout.response.batch_size
        if full:  # whole batches only: a padded one costs as much
            run(waiting[:full])
            waiting = waiting[full:]
    if waiting:
        run(waiting)
    shape = (len(e1), len(e2))
    values = {name: np.concatenate(value)[index].reshape(shape) for name, value in parts.items()}
    digests = np.frombuffer(b"".join(seen), dtype="<i8").reshape(-1, 2)
    return values, digests[index].reshape(*shape, 2)
