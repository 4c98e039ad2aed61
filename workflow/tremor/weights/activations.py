"""Changes of activations at named taps, by hooks that are asserted to have fired and that always come off.

A tap is named as in `Anatomy.taps`; two kinds are added: "block.k.output", the residual stream after block k, and
"block.k.ssm.delta", ".B", ".C", ".gate", the inside of a Mamba scan (`models.ssm`). What is selected at a tap is
ablated at the same tap.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tremor.errors import ModelError, NumericsError
from tremor.models import ssm
from tremor.models.anatomy import Anatomy
from tremor.models.anatomy_trace import hidden_input
from tremor.models.loader import LoadedModel
from tremor.models.taps import TapPoint, resolve

Change = Callable[[Tensor], Tensor]
Mode = Literal["zero", "mean", "resample", "noise", "scale"]
MODES: tuple[Mode, ...] = ("zero", "mean", "resample", "noise", "scale")


@dataclass(frozen=True)
class Reference:
    """What the units of a tap are like on ordinary text.

    Attributes:
        mean: [width] float32.
        std: Over tokens [width] float32.
        sample: Rows of single tokens [tokens, width] float32.
    """

    mean: Tensor
    std: Tensor
    sample: Tensor


def _split(anatomy: Anatomy, name: str) -> tuple[int | None, str]:
    """Block and rest of a tap's name; None where it lies in no block."""
    parts = name.split(".", 2)
    if len(parts) == 3 and parts[0] == "block" and parts[1].isdigit():
        block = int(parts[1])
        if block >= anatomy.n_layers:
            raise ModelError(f"tap '{name}' does not exist: this model has blocks 0 to {anatomy.n_layers - 1}")
        return block, parts[2]
    return None, name


def locate(anatomy: Anatomy, name: str) -> tuple[TapPoint, str | None]:
    """Find a tap.

    Args:
        anatomy: Of the model.
        name: Of the tap.

    Returns:
        Where to hook, and for a value inside a selective scan its name in `ssm.NAMES` (the module is the mixer).

    Raises:
        ModelError: The model has no such tap.
    """
    block, rest = _split(anatomy, name)
    if block is not None and rest == "output":
        return TapPoint(anatomy.blocks[block], "output"), None
    if block is not None and rest.startswith("ssm."):
        inner = rest.removeprefix("ssm.")
        mixer = anatomy.block_parts[block].mixer
        if inner not in ssm.NAMES:
            raise ModelError(f"tap '{name}' does not exist; inside a scan there are {', '.join(ssm.NAMES)}")
        if not ssm.has_scan(mixer):
            raise ModelError(
                f"tap '{name}': this {type(anatomy.model).__name__} has no step size delta; taps delta, B, C and "
                "gate exist in Mamba's state-space mixers only: use another tap for this model"
            )
        return TapPoint(mixer, "output"), inner
    return resolve(anatomy.taps, [name])[name], None


def _in_output(output: Any, change: Change) -> Any:
    if isinstance(output, Tensor):
        return change(output)
    if isinstance(output, (tuple, list)) and output and not hasattr(output, "_fields"):
        return type(output)((_in_output(output[0], change), *output[1:]))
    raise ModelError(f"a tap's module returns a {type(output).__name__}; only tensors and tuples can be changed")


def _in_input(args: tuple[Any, ...], kwargs: dict[str, Any], change: Change) -> tuple[tuple[Any, ...], dict[str, Any]]:
    hidden, keyword = hidden_input(args, kwargs)
    if hidden is None:
        raise ModelError("a tap's module was given no hidden state")
    if keyword is not None:
        return args, {**kwargs, keyword: change(hidden)}
    place = next(i for i, value in enumerate(args) if value is hidden)
    return (*args[:place], change(hidden), *args[place + 1 :]), kwargs


class _Shaped:
    """Gives changes [batch, positions, width] also where a block flattens the first two (OPT)."""

    def __init__(self, first_block: nn.Module, stack: ExitStack) -> None:
        self._shape: tuple[int, ...] | None = None

        def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden, _ = hidden_input(args, kwargs)
            self._shape = None if hidden is None else tuple(hidden.shape[:-1])

        stack.callback(first_block.register_forward_pre_hook(look, with_kwargs=True).remove)

    def wrap(self, name: str, change: Change, fired: Counter[str]) -> Change:
        def apply(tensor: Tensor) -> Tensor:
            fired[name] += 1
            shape = self._shape
            flat = shape is not None and tensor.ndim == 2 and len(shape) == 2
            if flat and shape is not None and tensor.shape[0] == shape[0] * shape[1]:
                return change(tensor.view(*shape, tensor.shape[-1])).view_as(tensor)
            return change(tensor)

        return apply


@contextmanager
def intervened(anatomy: Anatomy, changes: Mapping[str, Change]) -> Iterator[Counter[str]]:
    """Pass the tensors of some taps through functions during the forwards made inside.

    Args:
        anatomy: Of the model.
        changes: Tap to a function from its tensor [batch, positions, width] to the one that the model shall go on
            with; it must not change its argument in place.

    Yields:
        How often each tap was passed, counted while the context runs.

    Raises:
        ModelError: The model has no such tap, or it cannot be changed.
        NumericsError: On leaving normally, if a tap was never passed.
    """
    fired: Counter[str] = Counter()
    with ExitStack() as stack:
        shaped = _Shaped(anatomy.blocks[0], stack)
        inside: dict[nn.Module, list[tuple[str, Change]]] = defaultdict(list)
        for name, change in changes.items():
            point, inner = locate(anatomy, name)
            apply = shaped.wrap(name, change, fired)
            if inner is not None:
                inside[point.module].append((inner, apply))
            elif point.side == "input":
                stack.callback(_before(point.module, apply).remove)
            else:
                stack.callback(_after(point.module, apply).remove)
        if inside:
            stack.enter_context(ssm.scanned({mixer: _in_scan(edits) for mixer, edits in inside.items()}))
        yield fired
    silent = [name for name in changes if not fired[name]]
    if silent:
        raise NumericsError(
            f"tap(s) not reached by the forward: {', '.join(silent)}; a fused kernel may bypass the module, "
            "or no forward was run inside the context"
        )


def _before(module: nn.Module, apply: Change) -> Any:
    return module.register_forward_pre_hook(lambda _, args, kwargs: _in_input(args, kwargs, apply), with_kwargs=True)


def _after(module: nn.Module, apply: Change) -> Any:
    return module.register_forward_hook(lambda _, args, output: _in_output(output, apply))


def _in_scan(edits: Sequence[tuple[str, Change]]) -> ssm.Change:
    def change(values: ssm.ScanValues) -> ssm.ScanValues:
        for inner, apply in edits:
            values = values.changed(inner, apply(getattr(values, inner)))
        return values

    return change


def _places(units: Sequence[int], width: int, tap: str) -> Tensor:
    if max(units) >= width:
        raise NumericsError(f"unit {max(units)} does not exist at tap '{tap}', which has units 0 to {width - 1}")
    return torch.tensor(list(units))


def ablation(
    tap: str,
    units: Sequence[int],
    *,
    mode: Mode = "zero",
    strength: float = 1.0,
    reference: Reference | None = None,
    seed: int = 0,
) -> Change:
    """The change that an ablation makes, for `intervened`.

    Args:
        tap: Name of the tap, for messages.
        units: Coordinates of its last axis, all positions.
        mode: `zero`: 0. `mean`: the reference's mean. `resample`: values of a random token of the reference, all
            units from the same token. `noise`: normal noise added, of `strength` standard deviations of the
            reference, or of standard deviation `strength` itself without a reference. `scale`: times `strength`.
        strength: See `mode`.
        reference: Needed by `mean` and `resample`.
        seed: Of `resample` and `noise`; drawn on the CPU, in the order of the batches.

    Raises:
        NumericsError: No unit, one twice or out of range, or no reference where one is needed.
    """
    if not units or len(set(units)) < len(units) or min(units) < 0:
        raise NumericsError(f"ablation at tap '{tap}' needs distinct units from 0 on, got {list(units)[:8]}")
    if mode not in MODES:
        raise NumericsError(f"ablation mode {mode!r} is unknown; use one of {', '.join(MODES)}")
    if mode in ("mean", "resample") and reference is None:
        raise NumericsError(f"ablation mode {mode} at tap '{tap}' needs a reference")
    generator = torch.Generator().manual_seed(seed)

    def change(tensor: Tensor) -> Tensor:
        where = _places(units, tensor.shape[-1], tap)
        old = tensor[..., where]
        value: Tensor
        if mode == "zero":
            value = torch.zeros_like(old)
        elif mode == "scale":
            value = old * strength
        elif mode == "noise":
            noise = torch.randn(old.shape, generator=generator) * strength
            noise = noise if reference is None else noise * reference.std[where]
            value = old + noise.to(old)
        elif mode == "mean" and reference is not None:
            value = reference.mean[where].to(old).expand_as(old)
        else:
            assert reference is not None
            rows = torch.randint(len(reference.sample), old.shape[:-1], generator=generator)
            value = reference.sample[rows][..., where].to(old)
        new = tensor.clone()
        new[..., where.to(new.device)] = value
        return new

    return change


@contextmanager
def ablated(
    loaded: LoadedModel,
    tap: str,
    units: Sequence[int],
    *,
    mode: Mode = "zero",
    strength: float = 1.0,
    reference: Reference | None = None,
    seed: int = 0,
) -> Iterator[Counter[str]]:
    """Ablate units of one tap during the forwards made inside; see `ablation` and `intervened`."""
    change = ablation(tap, units, mode=mode, strength=strength, reference=reference, seed=seed)
    with intervened(loaded.anatomy, {tap: change}) as fired:
        yield fired
