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
