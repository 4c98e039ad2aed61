"""The rounding noise floor of a response: how far the answer moves when the input moves by the least there is.

The smooth model predicts J * step, which for steps of a few ulps is far below what is seen: the answer jumps by an
amount set by the rounding inside the model, whatever the size of the step. That amount is the floor, and every output
change is to be read beside it (design.md 5.6).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor import floats
from tremor.probe.response import Response


@dataclass(frozen=True)
class NoiseFloor:
    """Distribution of ||h(p) - h(x) - J (p - x)|| over inputs p a few ulps from x."""

    samples: int
    changed: int  # samples whose answer changed at all; the quantiles are over these
    median_l2: float
    low_l2: float  # 5 % quantile
    high_l2: float  # 95 % quantile


def lattice_neighbours(x: npt.NDArray[Any], samples: int, *, seed: int, fmt: str) -> npt.NDArray[Any]:
    """Inputs [samples, d] one ulp from x in some coordinates, as many of them as a log-uniform draw says."""
    generator = np.random.default_rng(seed)
    width = len(x)
    position = floats.ordered(x, fmt)
    moves = np.zeros((samples, width), dtype=np.int64)
    counts = np.exp(generator.uniform(0, np.log(width + 1), samples)).astype(int).clip(1, width)
    for row, count in zip(moves, counts, strict=True):
        row[generator.choice(width, count, replace=False)] = generator.choice([-1, 1], count)
    return floats.from_ordered(position + moves, fmt)


def noise_floor(
    response: Response,
    product: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
    *,
    samples: int = 64,
    seed: int = 0,
) -> NoiseFloor:
    """Measure the floor around a base point.

    Args:
        response: The model's answer.
        product: J times a step, [m, d_in] -> [m, d_out] in float64.
        samples: Inputs to try.
        seed: Of the draw.
    """
    x = response.base.x
    inputs = lattice_neighbours(x, samples, seed=seed, fmt=response.base.fmt)
    answers = response.evaluate(inputs).astype(np.float64) - response.h0.astype(np.float64)
    changed = np.any(answers != 0, axis=1)
    rest = answers - product(inputs.astype(np.float64) - x.astype(np.float64))
    norms = np.linalg.norm(rest[changed], axis=1)
    if not norms.size:
        return NoiseFloor(samples, 0, 0.0, 0.0, 0.0)
    low, median, high = np.quantile(norms, [0.05, 0.5, 0.95])
    return NoiseFloor(samples, int(changed.sum()), float(median), float(low), float(high))
