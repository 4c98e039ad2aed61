"""A Mamba scan that trains quickly on a CPU.

transformers' reference scan indexes the time axis in a loop, and the backward pass of every index fills a
tensor of the whole sequence: quadratic work. Here the recurrence of section 3.2 of Gu and Dao (2023),
h_t = a_t h_(t-1) + b_t, is one autograd function with a loop forward and a loop backward. The sums are those
of the reference, so outputs agree to rounding. Only training uses it; a trained model runs on transformers'
own code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional as F
from transformers.models.mamba import modeling_mamba

from tremor.errors import PlatformError


class LinearRecurrence(torch.autograd.Function):
    """All states of h_t = a_t h_(t-1) + b_t with h_(-1) = 0, time first."""

    @staticmethod
    def forward(ctx: Any, decay: torch.Tensor, drive: torch.Tensor) -> torch.Tensor:
        """Return the states [T, ...] for decay [T, ...] and drive [T, ...]."""
        states = torch.empty_like(drive)
        states[0] = drive[0]
        for step in range(1, len(drive)):
            torch.addcmul(drive[step], decay[step], states[step - 1], out=states[step])
        ctx.save_for_backward(decay, states)
        return states

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradients of decay and drive."""
        decay, states = ctx.saved_tensors
        drive = gradients[0].clone()
        for step in range(len(drive) - 2, -1, -1):
            drive[step].addcmul_(decay[step + 1], drive[step + 1])
        of_decay = torch.zeros_like(drive)
        torch.mul(drive[1:], states[:-1], out=of_decay[1:])
        return of_decay, drive


def selective_scan(
    hidden_states: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    z: torch.Tensor,
    delta_bias: torch.Tensor,
    delta_softplus: bool = True,
    return_last_state: bool = False,
    **_unused: Any,
) -> torch.Tensor:
    """Stand in for `modeling_mamba.mamba_selective_scan` in training.

    Args:
        hidden_states: [batch, channels, T].
        dt: Time steps before bias and softplus [batch, channels, T].
        A: Negative decay rates [channels, states].
        B: Input maps [batch, states, T].
        C: Output maps [batch, states, T].
        D: Skip gains [channels].
        z: Gate [batch, channels, T].
        delta_bias: [channels].
        delta_softplus: Must be True, as Mamba's mixer has it.
        return_last_state: Must be False: training keeps no cache.

    Returns:
        [batch, channels, T].

    Raises:
        PlatformError: The mixer asks for something else than a training pass.
    """
    if return_last_state or not delta_softplus:
        raise PlatformError("the training scan keeps no state; run the model outside `training_scan` instead")
    steps = F.softplus(dt + delta_bias[:, None]).permute(2, 0, 1)  # [T, batch, channels]
    inputs = hidden_states.permute(2, 0, 1)
    decay = torch.exp(steps[..., None] * A)
    drive = (steps * inputs)[..., None] * B.permute(2, 0, 1)[:, :, None, :]
    states = LinearRecurrence.apply(decay, drive)  # type: ignore[no-untyped-call]
    outputs = torch.matmul(states, C.permute(2, 0, 1)[..., None]).squeeze(-1).permute(1, 2, 0)
    gated: torch.Tensor = (outputs + hidden_states * D[:, None]) * F.silu(z)
    return gated


@contextmanager
def training_scan() -> Iterator[None]:
    """Let every Mamba model in this process train with `selective_scan`; the reference comes back at the end.

    Raises:
        PlatformError: This version of transformers has no such function.
    """
    name = "mamba_selective_scan"
    if not hasattr(modeling_mamba, name):
        raise PlatformError(f"transformers' Mamba has no {name}; install the version that the lock file names")
    reference = getattr(modeling_mamba, name)
    setattr(modeling_mamba, name, selective_scan)
    try:
        yield
    finally:
        setattr(modeling_mamba, name, reference)
