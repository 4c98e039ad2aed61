"""Maps over a plane as data: classes of sign, and windows. Used by tables and figures, so without torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
FIRST, EQUAL, SECOND, OTHER = 1, 0, -1, 2  # classes of a cell


def first_appearance(keys: Array) -> npt.NDArray[np.int32]:
    """Number the distinct rows of keys [m, k] from 0, in order of first appearance.

    Returns:
        [m] the number of each row's key.
    """
    _, first, index = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int32)
    number[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    found: npt.NDArray[np.int32] = number[index.reshape(-1)]
    return found


def classes(gap: Array, token: Array, pair: Sequence[int]) -> npt.NDArray[np.int8]:
    """The class of every cell: which token is ahead, and whether another one was chosen.

    Returns:
        int8: 1 where the first token leads, -1 where the second does, 0 where their logits are equal, and 2 where
        the model chooses a token outside the pair.
    """
    inside = np.isin(token, np.asarray(pair))
    found: npt.NDArray[np.int8] = np.where(inside, np.sign(gap), 2).astype(np.int8)
    return found


def windowed(values: Mapping[str, Array], e1: Array, e2: Array, window: Sequence[Sequence[float]]) -> dict[str, Array]:
    """Crop maps [..., n1, n2] to a window of nominal coordinates; no new resolution.

    Args:
        values: Maps whose last axes are e1 and e2.
        e1: [n1] ascending.
        e2: [n2] ascending.
        window: ((from, to), (from, to)) along e1 and e2; the ends may be given in either order.

    Returns:
        The cropped maps, and ``e1`` and ``e2``.

    Raises:
        ValueError: the window reaches out of the map, or holds fewer than 2 points along an axis.
    """
    cuts = []
    for name, axis, ends in (("e1", e1, window[0]), ("e2", e2, window[1])):
        low, high = min(ends), max(ends)
        slack = 1e-6 * float(axis[-1] - axis[0])
        if low < axis[0] - slack or high > axis[-1] + slack:
            raise ValueError(
                f"the window {low:g} to {high:g} along {name} reaches out of the map, {axis[0]:g} to {axis[-1]:g}"
            )
        inside = np.flatnonzero((axis >= low - slack) & (axis <= high + slack))
        if len(inside) < 2:
            raise ValueError(f"the window {low:g} to {high:g} along {name} holds {len(inside)} points of the map")
        cuts.append(slice(int(inside[0]), int(inside[-1]) + 1))
    cropped = {name: value[..., cuts[0], cuts[1]] for name, value in values.items()}
    return {**cropped, "e1": e1[cuts[0]], "e2": e2[cuts[1]]}
