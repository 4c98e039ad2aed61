"""Exact and reversible changes of single weights.

Every change goes through :func:`mutated`: it records the old bits, writes the new ones, reads them back, counts how
many positions really differ, and restores the old bits in `finally`. A change that changes nothing is an error unless
it is asked for: the ancestor's masking walked to the wrong object, changed no weight, and reported the effect of 50.

Source of the method: design.md 5.10; equality is on integer views, so that -0 and NaN are changes like others.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tremor.errors import ModelError, NumericsError
from tremor.models.loader import LoadedModel

INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
Relative = Literal["absolute", "weight", "std"]
Unchanged = bool | Literal["zeros"]
"""Whether a mutation may change no weight; "zeros": if all were zero before, as those that a pruned model has lost."""


@dataclass(frozen=True, eq=False)
class Edit:
    """Positions of one parameter.

    Attributes:
        tensor: Name in `model.named_parameters()`; both names of a tied parameter will do.
        flat_index: int64 [m], positions in the parameter laid out flat in C order; None for all of them.
    """

    tensor: str
    flat_index: Tensor | None = None

    def __post_init__(self) -> None:
        if self.flat_index is not None:
            index = torch.as_tensor(self.flat_index)
            if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
                raise ModelError(f"indices into {self.tensor} are {index.dtype}; give whole numbers")
            object.__setattr__(self, "flat_index", index.to(torch.int64).reshape(-1))


@dataclass(frozen=True, eq=False)
class Target:
    """What an operation may look at besides the values it changes.

    Attributes:
        name: The parameter's name.
        tensor: The whole parameter before the change, as stored.
        flat_index: Positions [m] that are changed, None for all.
        transposed: Whether outputs are on the last axis (Conv1D) rather than on the first.
    """

    name: str
    tensor: Tensor
    flat_index: Tensor | None
    transposed: bool = False

    def pick(self, whole: Tensor) -> Tensor:
        """The target's positions of a tensor of the parameter's shape, flat [m]."""
        flat = whole.reshape(-1)
        return flat if self.flat_index is None else flat[self.flat_index]


Operation = Callable[[Tensor, Target], Tensor]
"""(old values [m], target) -> new values [m] in the same dtype; must not write into its arguments."""


@dataclass(frozen=True)
class Changed:
    """What was done to one parameter.

    Attributes:
        tensor: Name of the parameter.
        flat_index: Positions [m], None for all of them.
        old: Values before, [m], on the parameter's device.
        requested: Number of positions asked for, m.
        changed: How many of them now hold other bits, counted after the write.
        no_ops: How many already held the bits that the operation gives.
    """

    tensor: str
    flat_index: Tensor | None
    old: Tensor
    requested: int
    changed: int
    no_ops: int


@dataclass(frozen=True)
class Mutation:
    """The record of one mutation; `requested == changed + no_ops`."""

    parts: tuple[Changed, ...]

    @property
    def requested(self) -> int:
        """Positions asked for."""
        return sum(part.requested for part in self.parts)

    @property
    def changed(self) -> int:
        """Positions whose bits differ from before."""
        return sum(part.changed for part in self.parts)

    @property
    def no_ops(self) -> int:
        """Positions that already were what the operation makes of them."""
        return sum(part.no_ops for part in self.parts)

    @property
    def were_zero(self) -> bool:
        """Whether all positions held zero before."""
        return not any(bool(torch.count_nonzero(part.old)) for part in self.parts)


def edits_at(tensors: Sequence[str], flat_indices: Iterable[int]) -> list[Edit]:
    """Edits from two columns of a ranking: parameter names and flat indices, row by row."""
    grouped: dict[str, list[int]] = {}
    for name, index in zip(tensors, flat_indices, strict=True):
        grouped.setdefault(str(name), []).append(int(index))
    return [Edit(name, torch.tensor(found, dtype=torch.int64)) for name, found in grouped.items()]


def bits_of(values: Tensor) -> Tensor:
    """Integer view of a contiguous tensor, for comparisons that tell -0 from 0 and one NaN from another."""
    return values.view(INTEGER[values.element_size()])


def resolve(loaded: LoadedModel, edits: Sequence[Edit]) -> list[tuple[Edit, nn.Parameter]]:
    """Find the parameters of edits and check their indices.

    Args:
        loaded: The model.
        edits: Positions; a parameter, under either name if tied, may be named once.

    Returns:
        Edits with their parameters; indices are moved to the parameter's device.

    Raises:
        ModelError: No edit, an unknown or repeated parameter, an index that is out of range or repeated, or a
            parameter whose memory is not contiguous.
    """
    if not edits:
        raise ModelError("a mutation without positions was asked for; an empty selection is an error")
    found: list[tuple[Edit, nn.Parameter]] = []
    names: dict[int, str] = {}
    for edit in edits:
        parameter = loaded.anatomy.parameter(edit.tensor)
        if id(parameter) in names:
            same = names[id(parameter)]
            raise ModelError(
                f"{edit.tensor} is edited twice (as {same}): put all positions of a parameter into one edit"
            )
        names[id(parameter)] = edit.tensor
        if not parameter.is_contiguous():
            raise ModelError(f"{edit.tensor} is not contiguous in memory; flat indices would not mean its positions")
        found.append((_checked(edit, parameter), parameter))
    return found


def _checked(edit: Edit, parameter: nn.Parameter) -> Edit:
    index, size = edit.flat_index, parameter.numel()
    if index is None:
        return edit
    if not index.numel():
        raise ModelError(f"no position of {edit.tensor} was named; leave the edit out")
    ordered = index.sort().values
    low, high = int(ordered[0]), int(ordered[-1])
    if low < 0 or high >= size:
        wrong = low if low < 0 else high
        raise ModelError(f"index {wrong} is outside {edit.tensor}, which has {size} scalars")
    if bool((ordered[1:] == ordered[:-1]).any()):
        raise ModelError(f"an index into {edit.tensor} is repeated; each position can be changed once")
    return Edit(edit.tensor, index.to(parameter.device))


@contextmanager
def mutated(
    loaded: LoadedModel,
    edits: Sequence[Edit],
    operation: Operation,
    *,
    allow_unchanged: Unchanged = False,
) -> Iterator[Mutation]:
    """Change weights inside a `with` block and put the old bits back after it, also after an exception.

    Args:
        loaded: The model; changed in place.
        edits: Which positions.
        operation: What becomes of their values.
        allow_unchanged: Whether a mutation that leaves every bit as it was is fine: never, always, or if all weights
            were "zeros" before. It is reported either way.

    Yields:
        The record: how many positions were asked for, changed, and already were as the operation makes them.

    Raises:
        ModelError: An edit does not fit the model.
        NumericsError: The operation gave values of another dtype or shape; what was written is not what stands there;
            nothing changed though it should; or the old bits could not be restored.
    """
    targets = resolve(loaded, edits)
    transposed = loaded.anatomy.transposed
    parts: list[Changed] = []
    try:
        for edit, parameter in targets:
            whole = parameter.detach()
            target = Target(edit.tensor, whole, edit.flat_index, edit.tensor in transposed)
            old = target.pick(whole).clone()
            new = _new_values(operation, old, target)
            # Recorded before the write: an interrupt between the two then restores what never changed.
            parts.append(Changed(edit.tensor, edit.flat_index, old, old.numel(), 0, 0))
            _write(whole, edit.flat_index, new)
            parts[-1] = _counted(edit, whole, old, new)
        record = Mutation(tuple(parts))
        if not record.changed and not (record.were_zero if allow_unchanged == "zeros" else allow_unchanged):
            raise NumericsError(
                f"a mutation of {record.requested} weights changed none of them: all already hold the values it gives"
            )
        yield record
    finally:
        _restore(targets, parts)


def _new_values(operation: Operation, old: Tensor, target: Target) -> Tensor:
    with torch.no_grad():
        new = operation(old.clone(), target)
    if not isinstance(new, Tensor) or new.dtype != old.dtype or new.shape != old.shape:
        what = f"{new.dtype} {tuple(new.shape)}" if isinstance(new, Tensor) else type(new).__name__
        raise NumericsError(f"an operation on {target.name} gave {what}, not {old.dtype} {tuple(old.shape)}")
    return new.to(old.device).contiguous()


def _write(whole: Tensor, index: Tensor | None, values: Tensor) -> None:
    flat = bits_of(whole.view(-1))  # integers: no kernel may quieten a NaN on the way
    if index is None:
        flat.copy_(bits_of(values))
    else:
        flat[index] = bits_of(values)


def _differs(a: Tensor, b: Tensor) -> int:
    return int(torch.count_nonzero(bits_of(a.contiguous()) != bits_of(b.contiguous())))


def _counted(edit: Edit, whole: Tensor, old: Tensor, new: Tensor) -> Changed:
    now = Target(edit.tensor, whole, edit.flat_index).pick(whole)
    if not torch.equal(bits_of(now.contiguous()), bits_of(new)):
        raise NumericsError(f"{edit.tensor} does not hold what was written to it")
    # Counted in what was read back. It holds the new bits, so the positions that did not change had them already.
    changed = _differs(now, old)
    return Changed(edit.tensor, edit.flat_index, old, old.numel(), changed, old.numel() - changed)


def _restore(targets: list[tuple[Edit, nn.Parameter]], parts: list[Changed]) -> None:
    lost = []
    for (edit, parameter), part in zip(targets, parts, strict=False):  # those that were reached
        whole = parameter.detach()
        _write(whole, edit.flat_index, part.old)
        now = Target(edit.tensor, whole, edit.flat_index).pick(whole)
        if not torch.equal(bits_of(now.contiguous()), bits_of(part.old)):
            lost.append(edit.tensor)
    if lost:
        raise NumericsError(f"the old bits of {lost[0]} could not be restored; load the model again")


def zero(values: Tensor, target: Target) -> Tensor:
    """Operation: +0."""
    return torch.zeros_like(values)


def mean(values: Tensor, target: Target) -> Tensor:
    """Operation: the mean of the whole tensor, computed in float64."""
    return torch.full_like(values, float(target.tensor.double().mean()))


def sign(values: Tensor, target: Target) -> Tensor:
    """Operation: the other sign; only the sign bit changes, also of zeros."""
    return -values


def scale(factor: float) -> Operation:
    """Operation: times a factor, rounded once to the weight's dtype."""
    return lambda values, target: (values.double() * factor).to(values.dtype)


def set_to(value: float | Sequence[float] | Tensor) -> Operation:
    """Operation: a given value, or one for each position in the order of its edit (edits of one tensor only)."""

    def operation(values: Tensor, target: Target) -> Tensor:
        if isinstance(value, (int, float)):
            return torch.full_like(values, float(value))
        return torch.as_tensor(value, device=values.device).to(values.dtype).reshape(values.shape)

    return operation


def gaussian(size: float, *, relative_to: Relative = "absolute", seed: int) -> Operation:
    """Operation: w + size * N(0, 1), in units of 1, of |w|, or of the tensor's standard deviation.

    Args:
        size: Standard deviation of the noise in these units.
        relative_to: "absolute", "weight" (|w|) or "std" (of the whole tensor).
        seed: The noise depends on this, the tensor's name and the position within the edit, on no device or order.
    """
    return _noise(
        lambda shape, generator: torch.randn(shape, generator=generator, dtype=torch.float64), size, relative_to, seed
    )


def uniform(size: float, *, relative_to: Relative = "absolute", seed: int) -> Operation:
    """Operation: w + size * U(-1, 1), in the units of :func:`gaussian`."""

    def draw(shape: torch.Size, generator: torch.Generator) -> Tensor:
        return 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1

    return _noise(draw, size, relative_to, seed)


def _noise(draw: Callable[[Any, torch.Generator], Tensor], size: float, relative_to: Relative, seed: int) -> Operation:
    def operation(values: Tensor, target: Target) -> Tensor:
        # Drawn on the CPU in float64, so that every device and dtype adds the same noise. Torch's CPU generator uses
        # 32 bits of its seed, so seed and name are hashed into these rather than put side by side.
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {target.name}".encode()))
        noise = draw(values.shape, generator).to(values.device)
        wide = values.double()
        units: Tensor | float = 1.0
        if relative_to == "weight":
            units = wide.abs()
        elif relative_to == "std":
            units = target.tensor.double().std(correction=0)
        return (wide + size * noise * units).to(values.dtype)

    return operation
