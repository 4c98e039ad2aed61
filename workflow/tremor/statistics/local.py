"""The chain of local Jacobians: how norms grow along it, and whether its product is the whole map."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
# Error of a local Jacobian, in epsilons of its Frobenius norm. A backward through a block is some ten products, whose
# roundings add up like a random walk; on the 26 families of the tests the whole chain is off by 1 to 5.
ROUNDINGS = 4.0


@dataclass(frozen=True)
class ChainAccount:
    """The product of the stages, stage by stage; S is the number of stages."""

    product: Matrix  # [d_out, d_in]
    cumulative_norm: npt.NDArray[np.float64]  # [S] spectral norm of the product up to and with each stage
    norm_product: npt.NDArray[np.float64]  # [S] product of the stages' own norms: an upper bound of it
    gain: npt.NDArray[np.float64]  # [S] by how much each stage stretches what the stages before make of `vector`
    rounding_bound: float  # spectral norm of the error that rounding of the stages may put into the product


def account(
    stages: Sequence[Matrix],
    norms: Sequence[float],
    vector: Matrix,
    *,
    epsilon: float,
    norm: Callable[[Matrix], float],
) -> ChainAccount:
    """Multiply the stages in float64 and account for growth and rounding.

    A stage that is off by ROUNDINGS * epsilon * ||J_k||_F changes the product by at most that, times the norm of all
    after it, times the norm of all before it (first order). Stages round independently: their squares add up.

    Args:
        stages: Jacobians, first applied first, float64.
        norms: Their spectral norms.
        vector: [d_in] direction that is followed.
        epsilon: Of the format the stages were computed in.
        norm: Spectral norm of a matrix.
    """
    before: Matrix | None = None
    cumulative, gains, befores = [], [], [1.0]
    carried = vector.astype(np.float64)
    for matrix in stages:
        before = matrix if before is None else matrix @ before
        cumulative.append(norm(before))
        befores.append(cumulative[-1])
        length = float(np.linalg.norm(carried))
        carried = matrix @ carried
        gains.append(float(np.linalg.norm(carried)) / length if length > 0 else np.nan)
    assert before is not None
    bound, after, after_norm = 0.0, None, 1.0
    for k in reversed(range(len(stages))):
        bound += (after_norm * ROUNDINGS * epsilon * float(np.linalg.norm(stages[k])) * befores[k]) ** 2
        after = stages[k] if after is None else after @ stages[k]
        after_norm = norm(after) if k else 0.0
    return ChainAccount(
        product=before,
        cumulative_norm=np.array(cumulative),
        norm_product=np.multiply.accumulate(np.array(norms, dtype=np.float64)),
        gain=np.array(gains),
        rounding_bound=float(np.sqrt(bound)),
    )
