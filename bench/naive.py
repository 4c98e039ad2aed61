"""What Tremor is measured against: the searches and derivatives of the originals, written plainly."""

from dataclasses import dataclass

import numpy as np
import torch

from tremor.models.loader import LoadedModel
from tremor.probe.base import BasePoint


@dataclass
class PlainSearch:
    """Bisection in s, then one ulp after another; full sequence, batch 1, no cache, no memo."""

    loaded: LoadedModel
    base: BasePoint
    forwards: int = 0

    def _answer(self, x: torch.Tensor) -> torch.Tensor:
        self.forwards += 1
        sequence = self.base.embeddings[None].clone()
        sequence[0, -1] = x
        with torch.no_grad():
            out: torch.Tensor = self.loaded.anatomy.base(inputs_embeds=sequence, use_cache=False).last_hidden_state
        return out[0, -1]

    def boundary(self, direction: np.ndarray, s_max: float, *, tolerance: float = 1e-15, walk: int = 4096) -> float:
        """The first s on the float32 lattice, upwards from the bisection's lower end, at which the answer changes."""
        start = torch.from_numpy(self.base.x.astype(np.float64))
        along = torch.from_numpy(direction.astype(np.float64))

        def changed(s: float) -> bool:
            return not torch.equal(self._answer((start + s * along).float()), reference)

        reference = self._answer(self.base.embeddings[-1])
        low, high = 0.0, s_max
        for _ in range(100):
            if high - low < tolerance:
                break
            middle = float(np.float32((low + high) / 2))
            if changed(middle):
                high = middle
            else:
                low = middle
        step = np.float32(low)
        for _ in range(walk):
            step = np.nextafter(step, np.float32(np.inf))
            if changed(float(step)):
                break
        return float(step)


def full_jacobian(loaded: LoadedModel, base: BasePoint) -> torch.Tensor:
    """The derivative of the last hidden state by every input embedding; only the last block is wanted."""

    def answer(embeddings: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = loaded.anatomy.base(inputs_embeds=embeddings[None], use_cache=False).last_hidden_state
        return out[0, -1]

    matrix = torch.autograd.functional.jacobian(answer, base.embeddings.clone(), vectorize=True)
    assert isinstance(matrix, torch.Tensor)
    return matrix[:, -1]


def adam_tie(loaded: LoadedModel, base: BasePoint, steps: int) -> float:
    """The originals' search for a tie: Adam on all embeddings, the gradient of all rows but the last put to 0.

    Returns:
        The smallest gap met.
    """
    embeddings = base.embeddings.clone()[None].requires_grad_(True)
    weight = loaded.anatomy.unembedding.weight
    assert isinstance(weight, torch.Tensor)
    optimiser = torch.optim.Adam([embeddings], lr=1e-3)
    direction: torch.Tensor | None = None
    best = float("inf")
    for _ in range(steps):
        optimiser.zero_grad()
        final = loaded.anatomy.base(inputs_embeds=embeddings, use_cache=False).last_hidden_state[0, -1]
        if direction is None:
            first, second = torch.topk(final.detach() @ weight.T, 2).indices
            direction = weight[first] - weight[second]
        gap = final @ direction
        best = min(best, abs(float(gap.detach())))
        (gap**2).backward()  # type: ignore[no-untyped-call]
        assert embeddings.grad is not None
        embeddings.grad[:, :-1] = 0
        norm = embeddings.grad.norm()
        if norm > 1:
            embeddings.grad /= norm
        optimiser.step()
    return best


def plain_map(
    loaded: LoadedModel, base: BasePoint, plane: np.ndarray, axis: np.ndarray, pair: tuple[int, int]
) -> np.ndarray:
    """The originals' map: every cell alone, full sequence, two float32 sums, two dots, each fetched by itself."""
    h1, h2 = (torch.from_numpy(row).to(base.embeddings) for row in plane)
    weight = loaded.anatomy.unembedding.weight
    assert isinstance(weight, torch.Tensor)
    grid = np.zeros((len(axis), len(axis)), dtype=np.float32)
    for i, e1 in enumerate(axis):
        for j, e2 in enumerate(axis):
            sequence = base.embeddings[None].clone()
            sequence[0, -1] = (base.embeddings[-1] + float(e1) * h1) + float(e2) * h2
            with torch.no_grad():
                final = loaded.model(inputs_embeds=sequence, use_cache=False, output_hidden_states=True)
            state = final.hidden_states[-1][0, -1]
            grid[i, j] = torch.dot(state, weight[pair[0]]).item() - torch.dot(state, weight[pair[1]]).item()
    return grid
