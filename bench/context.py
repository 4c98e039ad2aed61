"""What every instrument is given: the device, the model, and the yardstick."""

from dataclasses import dataclass
from functools import cached_property

import torch

from bench import llama, timing
from tremor.models.loader import LoadedModel


@dataclass
class Context:
    """One run of the bench on one device."""

    device: torch.device
    shape: llama.Shape
    rate: float = 0.0  # the highest float32 GEMM rate met so far, operations a second

    @cached_property
    def loaded(self) -> LoadedModel:
        """The random model."""
        return llama.build(self.shape, str(self.device))

    @property
    def large(self) -> bool:
        """Whether one run of an instrument takes long enough to be timed once."""
        return self.device.type == "cuda"

    def gauge(self) -> float:
        """Measure the matrix rate again and keep the highest: a fraction must not profit from a busy moment."""
        self.rate = max(self.rate, timing.gemm_rate(self.device))
        return self.rate
