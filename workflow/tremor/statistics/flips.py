"""Flips of a token along a line of steps: intervals of equal token, and how many changes there are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Intervals:
    """Runs of equal token, in order of the step."""

    token: npt.NDArray[np.int64]  # [r]
    start: Array  # [r] first step of the run
    end: Array  # [r] its last step
    steps: npt.NDArray[np.int64]  # [r] grid points in it

    @property
    def flips(self) -> int:
        """Changes of token from one grid point to the next."""
        return len(self.token) - 1


def token_intervals(steps: Array, token: Array) -> Intervals:
    """Cut a sequence of tokens [n] at steps [n], ascending, into runs."""
    if steps.shape != token.shape or not steps.size or (np.diff(steps) <= 0).any():
        raise ValueError("steps and token must be [n >= 1], steps ascending")
    begin = np.concatenate([[0], np.flatnonzero(np.diff(token) != 0) + 1])
    stop = np.concatenate([begin[1:], [len(token)]])
    return Intervals(token=token[begin], start=steps[begin], end=steps[stop - 1], steps=stop - begin)


def nearest_on_grid(steps: Array, token: Array, reference: int) -> tuple[float | None, float | None]:
    """The smallest positive step, and the negative step smallest in size, at which the token is not the reference.

    Returns:
        Both as they stand on the grid; None where the token never differs on that side.
    """
    other = token != reference
    above, below = steps[other & (steps > 0)], steps[other & (steps < 0)]
    return (float(above.min()) if above.size else None, float(below.max()) if below.size else None)
