"""Selected weights component by component: where they are, and samples of them."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tremor.weights.select import COMPONENTS, Chosen, Selection


def by_component(selection: Selection) -> dict[str, dict[str, Chosen]]:
    """The selected weights of each component, by tensor; components in the order of `COMPONENTS`.

    A projection inside a fused parameter is a component like any other.
    """
    found: dict[str, dict[str, Chosen]] = {}
    for name, entry in selection.chosen.items():
        layout = entry.layout
        wanted = np.ones(len(layout.codes), dtype=bool) if entry.along is None else entry.along
        for component in dict.fromkeys(part.component for part in layout.parts):
            own = [code for code, part in enumerate(layout.parts) if part.component == component]
            along = wanted & np.isin(layout.codes, own)
            if along.any():
                found.setdefault(component, {})[name] = Chosen(layout, None if along.all() else along)
    return {name: found[name] for name in COMPONENTS if name in found}


def draw(entries: Mapping[str, Chosen], count: int, rng: np.random.Generator) -> list[tuple[str, int]]:
    """Draw distinct weights, each as likely as any other.

    Args:
        entries: Weights by tensor.
        count: How many; all if there are fewer.
        rng: Source of randomness.

    Returns:
        Tensor and flat index of each, in the order of tensors.
    """
    names = list(entries)
    sizes = [entries[name].count for name in names]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    total = int(starts[-1])
    picked = np.sort(rng.choice(total, min(count, total), replace=False))
    which = np.searchsorted(starts, picked, side="right") - 1
    return [
        (names[n], _flat(entries[names[n]], int(place - starts[n]))) for n, place in zip(which, picked, strict=True)
    ]


def _flat(entry: Chosen, place: int) -> int:
    """Flat index of the n-th selected weight of a tensor, in row-major order."""
    if entry.along is None:
        return place
    kept = np.flatnonzero(entry.along)
    shape = list(entry.layout.shape)
    shape[entry.layout.axis] = len(kept)
    index = [int(i) for i in np.unravel_index(place, shape)]
    index[entry.layout.axis] = int(kept[index[entry.layout.axis]])
    return int(np.ravel_multi_index(index, entry.layout.shape))


def values(parameter: Tensor, entry: Chosen) -> Tensor:
    """The selected weights of a parameter, as stored, with its number of axes."""
    whole = parameter.detach()
    if entry.along is None:
        return whole
    kept: npt.NDArray[np.int64] = np.flatnonzero(entry.along)
    return whole.index_select(entry.layout.axis, torch.from_numpy(kept).to(whole.device))
