"""Token flips along rays through a base point: every step of a grid, and exactly where the token first changes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor import floats
from tremor.probe.boundary import Boundaries, find_boundaries
from tremor.probe.readout import Readout, TokenChoice
from tremor.probe.sweep import distinct

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FlipSweep:
    """What the model chooses at x + step * direction, for k directions and n steps; pair is (first, second)."""

    token: npt.NDArray[np.int64]  # [k, n] chosen token
    leaders: npt.NDArray[np.int64]  # [k, n] tokens that share the highest logit
    probability: npt.NDArray[np.float64]  # [k, n] of the chosen token
    first_logit: npt.NDArray[np.float64]  # [k, n]
    second_logit: npt.NDArray[np.float64]  # [k, n]
    gap: npt.NDArray[np.float64]  # [k, n] first_logit - second_logit, the model's own logits
    gap_float64: npt.NDArray[np.float64]  # [k, n] h . (v1 - v2) in float64
    moved_coordinates: npt.NDArray[np.int64]  # [k, n]
    realised_along: npt.NDArray[np.float64]  # [k, n] component of the realised step along the direction
    realised_l2: npt.NDArray[np.float64]  # [k, n] its norm
    distinct_input: npt.NDArray[np.int64]  # [k, n] number of the distinct input of this direction, in order of steps


def symmetric_steps(largest: float, count: int) -> npt.NDArray[np.float64]:
    """An odd number of evenly spaced steps from -largest to largest; the middle one is exactly 0.

    Each is rounded to float32, the lattice of steps (design.md 5.2), and carried in float64.
    """
    if count < 3 or count % 2 == 0:
        raise ValueError(f"the number of steps must be odd and at least 3, got {count}")
    half = count // 2
    steps = np.arange(-half, half + 1) * largest / half
    return steps.astype(np.float32).astype(np.float64)


def sweep_flips(
    readout: Readout, directions: Array, steps: Array, pair: tuple[int, int], *, arithmetic: floats.Arithmetic
) -> FlipSweep:
    """Ask for the token at every step along every direction; each distinct input of a direction is run once.

    Args:
        readout: The model's choice around the base point.
        directions: [k, d_in] float32.
        steps: [n] float64, on the float32 lattice.
        pair: The two tokens whose logits are watched.
        arithmetic: How the nudge is added.
    """
    base = readout.response.base
    rows, offset = readout.direction(*pair)
    columns: dict[str, list[Array]] = {name: [] for name in FlipSweep.__dataclass_fields__}
    for direction in directions:
        inputs = floats.nudge(base.x, direction, steps[:, None], arithmetic=arithmetic, fmt=base.fmt)
        different = distinct(inputs)
        found = readout.decide(different.inputs, pair)
        logits = found.logits.astype(np.float64)
        step = floats.realised_step(base.x, different.inputs, direction, base.fmt)
        values = {
            "token": found.token,
            "leaders": found.leaders,
            "probability": found.probability,
            "first_logit": logits[:, 0],
            "second_logit": logits[:, 1],
            "gap": logits[:, 0] - logits[:, 1],
            "gap_float64": found.final.astype(np.float64) @ rows + offset,
            "moved_coordinates": step.moved_coordinates,
            "realised_along": step.along,
            "realised_l2": step.l2,
            "distinct_input": np.arange(len(different.inputs)),
        }
        for name, value in values.items():
            columns[name].append(value[different.index])
    return FlipSweep(**{name: np.array(parts) for name, parts in columns.items()})


def nearest_flips(
    readout: Readout,
    directions: Array,
    pair: tuple[int, int],
    *,
    s_max: float,
    arithmetic: floats.Arithmetic,
    max_evaluations: int,
) -> tuple[int, Boundaries]:
    """Where the chosen token first changes along +v and -v of each direction, exactly on the lattice of steps.

    Args:
        readout: The model's choice around the base point.
        directions: [k, d_in] float32.
        pair: Tokens whose logits are kept at the flip.
        s_max: Largest step looked at.
        arithmetic: How the nudge is added.
        max_evaluations: Distinct inputs run in order along a ray before the search jumps (not certified then).

    Returns:
        The token chosen at the base point, and boundaries of 2 k rays: those along +v, then those along -v.
        ``changed_hidden`` is [token, logits of the pair] at the flip.
    """
    choice = TokenChoice(readout, pair)
    rays = np.concatenate([directions, -directions])
    found = find_boundaries(choice, rays, s_max=s_max, arithmetic=arithmetic, max_evaluations=max_evaluations)
    return choice.reference, found
