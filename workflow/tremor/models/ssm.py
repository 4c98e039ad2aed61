"""The inside of Mamba's selective scan: step sizes, input and output maps, gate; read and changed for real.

transformers computes these between modules, where no hook reaches. The seam is the scan function that every mixer
calls by name: inside `scanned` it is wrapped for the mixers asked for, and works on delta = softplus(dt_proj(.) + bias)
itself (Gu and Dao 2023, algorithm 2). Unchanged values give the bits of the plain model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tremor.errors import ModelError, NumericsError

NAMES = ("delta", "B", "C", "gate")
_SCAN = "mamba_selective_scan"


@dataclass(frozen=True)
class ScanValues:
    """What one selective scan works on.

    Attributes:
        delta: Step sizes after softplus [batch, positions, channels].
        B: Input maps [batch, positions, states].
        C: Output maps [batch, positions, states].
        gate: Gate before its SiLU [batch, positions, channels].
    """

    delta: Tensor
    B: Tensor
    C: Tensor
    gate: Tensor

    def changed(self, name: str, value: Tensor) -> ScanValues:
        """The same values with one of `NAMES` replaced."""
        return replace(self, **{name: value})


Change = Callable[[ScanValues], ScanValues]


def decay(mixer: nn.Module, delta: Tensor) -> Tensor:
    """Mean over a channel's states of exp(delta A): 1 keeps the whole state from token to token, 0 forgets it.

    Args:
        mixer: A mixer with a selective scan.
        delta: Its step sizes [batch, positions, channels].

    Returns:
        [batch, positions, channels] float32.
    """
    rates = -torch.exp(mixer.get_parameter("A_log").float())  # [channels, states], as in the mixer's own forward
    return (delta.float()[..., None] * rates).exp().mean(-1)


def has_scan(mixer: nn.Module) -> bool:
    """Whether a mixer runs the selective scan of the first Mamba, whose inside is known here."""
    home = sys.modules.get(type(mixer).__module__)
    return hasattr(home, _SCAN) and hasattr(mixer, "A_log") and hasattr(mixer, "dt_proj")


class _Wrapper:
    """Stands in for the scan function of one module of transformers."""

    def __init__(self, reference: Callable[..., Any]) -> None:
        self.reference = reference
        self.change: Change | None = None  # that of the mixer which is running

    def __call__(
        self,
        hidden_states: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None = None,
        z: Tensor | None = None,
        delta_bias: Tensor | None = None,
        delta_softplus: bool = False,
        **rest: Any,
    ) -> Any:
        if self.change is None:
            return self.reference(
                hidden_states, dt, A, B, C, D=D, z=z, delta_bias=delta_bias, delta_softplus=delta_softplus, **rest
            )
        if z is None or not delta_softplus:
            raise ModelError("this mixer's scan has no gate or no softplus; its values are not known here")
        # The same two operations in the same order as in the reference: the same bits.
        steps = dt if delta_bias is None else dt + delta_bias.to(dt.dtype)[..., None]
        found = ScanValues(
            delta=F.softplus(steps).transpose(1, 2),
            B=B.transpose(1, 2),
            C=C.transpose(1, 2),
            gate=z.transpose(1, 2),
        )
        new = self.change(found)
        return self.reference(
            hidden_states,
            new.delta.transpose(1, 2),
            A,
            new.B.transpose(1, 2),
            new.C.transpose(1, 2),
            D=D,
            z=new.gate.transpose(1, 2),
            delta_bias=None,
            delta_softplus=False,
            **rest,
        )


@contextmanager
def scanned(changes: Mapping[nn.Module, Change]) -> Iterator[None]:
    """Hand the scan values of some mixers to functions, which may change them, during the forwards made inside.

    Args:
        changes: Mixer to a function from its values to those that the scan shall use.

    Raises:
        ModelError: A mixer has no selective scan of this kind.
        NumericsError: On leaving normally, if a scan was never reached.
    """
    reached: set[int] = set()
    wrappers: dict[str, _Wrapper] = {}
    handles: list[Any] = []
    for mixer in changes:
        if not has_scan(mixer):
            raise ModelError(
                f"a {type(mixer).__name__} has no step size delta; taps delta, B, C and gate exist in Mamba's "
                "state-space mixers only: use another tap for this model"
            )
    try:
        for mixer, change in changes.items():
            home = type(mixer).__module__
            if home not in wrappers:
                wrappers[home] = _Wrapper(getattr(sys.modules[home], _SCAN))
                setattr(sys.modules[home], _SCAN, wrappers[home])
            handles += _watch(mixer, change, wrappers[home], reached)
        yield
    finally:
        for handle in handles:
            handle.remove()
        for home, wrapper in wrappers.items():
            setattr(sys.modules[home], _SCAN, wrapper.reference)
    if len(reached) < len(changes):
        raise NumericsError(
            "a selective scan was not reached by any forward; a fused kernel bypasses it: run on the CPU "
            "or without the package that provides the kernel"
        )


def _watch(mixer: nn.Module, change: Change, wrapper: _Wrapper, reached: set[int]) -> list[Any]:
    """Tell the wrapper which mixer is running: the function itself is not told."""

    def seen(values: ScanValues) -> ScanValues:
        reached.add(id(mixer))
        return change(values)

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        wrapper.change = seen

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        wrapper.change = None

    # After an exception too, or the next mixer would be taken for this one.
    return [mixer.register_forward_pre_hook(enter), mixer.register_forward_hook(leave, always_call=True)]
