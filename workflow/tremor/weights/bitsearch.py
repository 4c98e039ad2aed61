"""Attacks by flipped bits: a progressive search for the flips that hurt most, and random flips to compare with.

In each step the gradient ranks the bits of the most promising weights by their first-order effect on the loss,
g * (w' - w); the best flip of each tensor is a candidate, and the best candidates are tried with the real loss. The
worst is kept and the search goes on from there. Source of the method: the bit-flip attack of Rakin et al. 2019.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from tremor.errors import ConfigError
from tremor.models.loader import LoadedModel
from tremor.weights import bits, quantise
from tremor.weights.mutate import Edit, Target, mutated, set_to
from tremor.weights.select import Selection, edits_of

Rule = Literal["free", "in_range", "int8"]
CODE_BITS = 8
Gradients = Callable[[], Mapping[str, Tensor]]
Loss = Callable[[], float]


@dataclass(frozen=True)
class Flip:
    """One flipped bit.

    Attributes:
        tensor: Parameter.
        flat_index: Position in it.
        bit: Position of the bit, 0 the least significant; of the integer code with the rule int8.
        old: Value before.
        new: Value after.
        estimate: First-order effect on the loss, nats per token; NaN for a random flip.
    """

    tensor: str
    flat_index: int
    bit: int
    old: float
    new: float
    estimate: float


class Memory(Protocol):
    """How weights are stored, and so what flipping a bit makes of them."""

    width: int

    def after(self, name: str, flat: Tensor, bit: int) -> Tensor:
        """Values [m] with a bit flipped, in the parameter's type; NaN where the rule forbids the flip."""

    def commit(self, name: str, flat: int, bit: int) -> None:
        """A flip was made."""


class FloatMemory:
    """Weights stored as they are: IEEE numbers.

    Args:
        loaded: The model.
        selection: The weights.
        in_range: Whether a flip may not give more than the largest |w| of its tensor, which a range check would see.
    """

    def __init__(self, loaded: LoadedModel, selection: Selection, *, in_range: bool) -> None:
        self._values = dict(selection.parameters())
        self.width = bits.format_for(loaded.dtype).width
        largest = float("inf")
        self._limits = {
            name: float(p.detach().abs().max()) if in_range else largest for name, p in self._values.items()
        }

    def after(self, name: str, flat: Tensor, bit: int) -> Tensor:
        """See :class:`Memory`."""
        new = bits.flipped(self._values[name].detach().reshape(-1)[flat], bit)
        # An infinity or a NaN is found out at once by whoever looks; a number may pass.
        allowed = torch.isfinite(new) & (new.abs() <= self._limits[name])
        return torch.where(allowed, new, torch.nan)

    def commit(self, name: str, flat: int, bit: int) -> None:
        """See :class:`Memory`; the parameter itself is the memory."""


class CodeMemory:
    """Weights stored as two's complement codes with one scale for each output channel, which stay fixed.

    Args:
        loaded: The model, whose weights hold the quantised values already.
        selection: The weights.
    """

    width = CODE_BITS

    def __init__(self, loaded: LoadedModel, selection: Selection) -> None:
        self._codes, self._scales, self._dtypes = {}, {}, {}
        for name, parameter in selection.parameters():
            target = Target(name, parameter.detach(), None, name in loaded.anatomy.transposed)
            codes, scales = quantise.codes_of(target, bits=CODE_BITS, granularity="channel", group=64)
            self._codes[name], self._scales[name], self._dtypes[name] = codes, scales, parameter.dtype

    def _flipped(self, name: str, flat: Tensor | int, bit: int) -> Tensor:
        raw = torch.bitwise_xor(self._codes[name][flat] & (2**CODE_BITS - 1), 1 << bit)
        return torch.where(raw >= 2 ** (CODE_BITS - 1), raw - 2**CODE_BITS, raw)

    def after(self, name: str, flat: Tensor, bit: int) -> Tensor:
        """See :class:`Memory`."""
        return quantise.dequantised(self._flipped(name, flat, bit), self._scales[name][flat], self._dtypes[name])

    def commit(self, name: str, flat: int, bit: int) -> None:
        """See :class:`Memory`."""
        self._codes[name][flat] = self._flipped(name, flat, bit)


@contextmanager
def memory_of(loaded: LoadedModel, selection: Selection, rule: Rule) -> Iterator[Memory]:
    """The memory that a rule speaks of; with int8 the model's weights are quantised inside, and restored after."""
    if rule not in ("free", "in_range", "int8"):
        raise ConfigError(f"there is no rule {rule!r} for bit flips; use free, in_range or int8")
    with ExitStack() as stack:
        if rule == "int8":
            grid = quantise.integer(CODE_BITS)
            stack.enter_context(mutated(loaded, edits_of(selection), grid, allow_unchanged=True))
            yield CodeMemory(loaded, selection)
        else:
            yield FloatMemory(loaded, selection, in_range=rule == "in_range")


@contextmanager
def flipped(loaded: LoadedModel, flip: Flip) -> Iterator[None]:
    """The model with one flip made; it is checked, and restored after."""
    edit = Edit(flip.tensor, torch.tensor([flip.flat_index]))
    with mutated(loaded, [edit], set_to(torch.tensor([flip.new], dtype=torch.float64))):
        yield


def candidates(
    loaded: LoadedModel, selection: Selection, memory: Memory, gradients: Mapping[str, Tensor], *, pool: int, count: int
) -> list[Flip]:
    """The flips with the largest first-order effect, at most one in each tensor.

    Args:
        loaded: The model.
        selection: The weights that may be flipped.
        memory: How they are stored.
        gradients: Of the loss, by tensor.
        pool: Weights of each tensor whose bits are looked at: the first by |g| and the first by |g w|.
        count: At most so many flips, the best first.
    """
    found = []
    for name, parameter in selection.parameters():
        gradient, weights = gradients[name].reshape(-1), parameter.detach().reshape(-1)
        mask = selection.chosen[name].mask(weights.device)
        if mask is not None:
            gradient = torch.where(mask.reshape(-1), gradient, 0.0)
        size = min(pool, len(weights))
        flat = torch.cat([gradient.abs().topk(size).indices, (gradient * weights).abs().topk(size).indices]).unique()
        slope, old = gradient[flat].double(), weights[flat]
        new = torch.stack([memory.after(name, flat, bit) for bit in range(memory.width)])
        estimate = slope * (new.double() - old.double())
        estimate = torch.where(torch.isnan(estimate), -torch.inf, estimate)
        best = int(estimate.argmax())
        bit, place = divmod(best, len(flat))
        if float(estimate[bit, place]) > 0:
            values = (float(old[place]), float(new[bit, place]), float(estimate[bit, place]))
            found.append(Flip(name, int(flat[place]), bit, *values))
    return sorted(found, key=lambda flip: -flip.estimate)[:count]


def search(
    loaded: LoadedModel,
    selection: Selection,
    memory: Memory,
    *,
    gradients: Gradients,
    loss: Loss,
    flips: int,
    pool: int,
    count: int,
    collapse: float,
) -> Iterator[tuple[Flip, float]]:
    """Flip one bit after the other, each the worst of the tried candidates; all are undone when the search ends.

    Args:
        loaded: The model.
        selection: The weights that may be flipped.
        memory: How they are stored.
        gradients: Gradients of the attacked loss at the model as it is now, by tensor.
        loss: The attacked loss of the model as it is now; NaN and infinity are worse than any number.
        flips: Most flips.
        pool: See :func:`candidates`.
        count: Flips tried exactly in each step.
        collapse: The search ends when the loss is no smaller than this.

    Yields:
        Each flip and the attacked loss with it and all before; while the caller looks, they are made.
    """
    now = loss()
    with ExitStack() as stack:
        for _ in range(flips):
            tried = candidates(loaded, selection, memory, gradients(), pool=pool, count=count)
            losses = []
            for flip in tried:
                with flipped(loaded, flip):
                    losses.append(loss())
            harm = [np.inf if np.isnan(value) else value for value in losses]
            if not harm or max(harm) <= now:
                return  # no flip that was tried does harm
            best = int(np.argmax(harm))
            stack.enter_context(flipped(loaded, tried[best]))
            memory.commit(tried[best].tensor, tried[best].flat_index, tried[best].bit)
            yield tried[best], losses[best]
            now = harm[best]
            if now >= collapse:
                return


def random_flips(
    selection: Selection,
    memory: Memory,
    count: int,
    rng: np.random.Generator,
    *,
    like: list[Flip] | None = None,
) -> list[Flip]:
    """Random flips that the rule allows, of distinct weights.

    Args:
        selection: The weights that may be flipped, each as likely as any other.
        memory: How they are stored.
        count: How many.
        rng: Source of randomness.
        like: Flips whose bit positions are to be used, one after the other; None for random positions.

    Raises:
        ConfigError: No allowed flip is found.
    """
    names = list(selection.chosen)
    sizes = np.array([selection.chosen[name].count for name in names], dtype=np.float64)
    found: list[Flip] = []
    seen: set[tuple[str, int]] = set()
    for _ in range(1000 * count):
        if len(found) == count:
            return found
        name = names[int(rng.choice(len(names), p=sizes / sizes.sum()))]
        entry = selection.chosen[name]
        mask = entry.mask()
        place = int(rng.integers(entry.count))
        flat = place if mask is None else int(mask.reshape(-1).nonzero().flatten()[place])
        bit = like[len(found)].bit if like else int(rng.integers(memory.width))
        parameter = selection.anatomy.parameter(name).detach().reshape(-1)
        new = memory.after(name, torch.tensor([flat], device=parameter.device), bit)
        if (name, flat) in seen or not bool(torch.isfinite(new).all()) or float(new) == float(parameter[flat]):
            continue
        seen.add((name, flat))
        found.append(Flip(name, flat, bit, float(parameter[flat]), float(new), float("nan")))
    if len(found) == count:
        return found
    raise ConfigError(f"no {count} allowed bit flips were found among the selected weights; select more")
