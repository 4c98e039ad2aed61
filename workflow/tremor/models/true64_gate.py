"""The gate of the true-float64 mode: may this model be called float64? (design.md 5.5)

Two questions, since neither answers for the other. The gate asks the whole model: a step of 1e-12 must move the
output as the derivative predicts. A float32 rounding anywhere on the way swallows such a step or magnifies it, even
inside a kernel; but one in a branch that contributes less than a thousandth would pass, and so does one that does not
depend on the input (GPT-NeoX cast by `.double()` passes, with angles rounded to float32). The audit asks every
operation what type it took and gave; it sees the smallest branch, but into no kernel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tremor.models.loader import LoadedModel
from tremor.models.true64 import narrow, refusal

STEP = 1e-12  # norm of the step over the norm of the embedding
DIRECTIONS = 3  # one alone might lie where the model does not look
_SIZES = (1.0, 0.75, 0.5)  # of the step; each is taken forwards and backwards
_REPEATS = 32  # at most, of all sizes, around points a few ulps apart: their roundings are independent

# Float64 leaves the output off by some 1e-16 of itself, times a small factor for the sums on the way; a step of 1e-12
# moves it by 1e-12 times a gain of order one. So a float64 model errs by some 1e-4 (measured: 1e-4 to 6e-4 on six
# evaluations), and repeats bring that down with their root. One rounding to float32 (6e-8) is 5 orders above the
# step: the output stands still (error 1) or jumps (error >> 1), and no average helps. Any limit in between decides
# alike; this one is design.md's.
LIMIT = 1e-3
_HOPELESS = 10 * LIMIT  # 32 repeats divide an error that is noise by less than 6


class Prompt(Protocol):
    """What the gate needs of a base point."""

    @property
    def embeddings(self) -> Tensor:
        """[T, d_in] as the model takes them."""
        ...


@dataclass(frozen=True)
class Gate:
    """Verdict on one model at one base point; the numbers are of the direction with the largest error."""

    passed: bool  # the error is below the limit, and the audit found nothing
    measured: float  # norm of the output's change per step
    predicted: float  # norm of the derivative times the step
    relative_error: float  # norm of measured - predicted, over predicted; infinite where that is 0
    step: float  # norm of the step
    narrow: tuple[str, ...]  # what the audit found: operation and type


def _answer(loaded: LoadedModel, sequence: Tensor, row: Tensor) -> Tensor:
    """Last hidden state [d_out] with the last embedding replaced; the full sequence, as in reference mode."""
    inputs = torch.cat([sequence[:-1], row[None]])[None]
    hidden: Tensor = loaded.anatomy.base(inputs_embeds=inputs, use_cache=False).last_hidden_state
    return hidden[0, -1]


def _derivative(loaded: LoadedModel, sequence: Tensor, row: Tensor, steps: list[Tensor]) -> Iterator[Tensor]:
    """J h for each step h, by differentiating J^T u by u: unlike forward mode, every family has both derivatives."""
    # Of the attention kernels, only the plain formula can be differentiated twice.
    with torch.enable_grad(), sdpa_kernel([SDPBackend.MATH]):
        start = row.detach().clone().requires_grad_(True)
        output = _answer(loaded, sequence, start)
        dual = torch.zeros_like(output, requires_grad=True)
        (pulled,) = torch.autograd.grad(output, start, dual, create_graph=True)
        for step in steps:
            (product,) = torch.autograd.grad(pulled, dual, step, retain_graph=True)
            yield product.detach()


def _grid(row: Tensor, relative: float) -> tuple[Tensor, float, list[Tensor]]:
    """A base point and steps on so coarse a grid that all sums of both are exact in float64.

    The grid is two ulps of the largest coordinate: the base point moves by some 1e-16 of it, far below the step, which
    matters to no derivative.
    """
    unit = 2 * 2.0 ** (int(np.frexp(float(row.abs().max()))[1]) - 53)
    generator = np.random.default_rng(0)
    steps = []
    for _ in range(DIRECTIONS):
        direction = generator.normal(size=row.shape[0])
        step = torch.from_numpy(direction / np.linalg.norm(direction)).to(row) * (relative * float(row.norm()))
        steps.append((step / (4 * unit)).round() * (4 * unit))  # three quarters of it are on the grid too
    return (row / unit).round() * unit, unit, steps


def _relative(measured: Tensor, predicted: Tensor) -> float:
    size = float(predicted.norm())
    error = float((measured - predicted).norm()) / size if size > 0 else float("inf")
    return error if np.isfinite(error) else float("inf")


@torch.no_grad()
def _slope(loaded: LoadedModel, sequence: Tensor, centre: Tensor, step: Tensor) -> Tensor:
    """The output's change per step, by least squares through f(x + s h) - f(x - s h) = 2 s J h: even orders cancel."""
    total = torch.zeros(())
    for size in _SIZES:
        there, back = (_answer(loaded, sequence, centre + sign * size * step) for sign in (1, -1))
        total = size * (there - back) + total.to(there)
    return total / (2 * sum(size**2 for size in _SIZES))


def gate(loaded: LoadedModel, base: Prompt, *, step: float = STEP) -> Gate:
    """Compare a small step's effect with the derivative, and audit the operations.

    Args:
        loaded: A model whose parameters are float64.
        base: Base point of that model, float64; the last position is nudged.
        step: Norm of the step over the norm of the embedding.

    Returns:
        The verdict.

    Raises:
        NumericsError: If the model or the base point is of a narrower type, or a step does not move the embedding.
    """
    sequence = base.embeddings.detach()
    for name, dtype in (("its parameters are", loaded.dtype), ("the base point is", sequence.dtype)):
        if dtype != torch.float64:
            raise refusal(f"{name} {_short(dtype)}; use true64.load or true64.convert")
    row, unit, steps = _grid(sequence[-1], step)
    if not all(bool(h.any()) for h in steps):
        raise refusal(f"a step of {step:g} does not move the embedding of the last token, or that is zero")
    narrow_ops = tuple(f"{name} in {_short(dtype)}" for name, dtype in audit(loaded, base))
    generator = np.random.default_rng(1)
    worst: Gate | None = None
    for h, predicted in zip(steps, _derivative(loaded, sequence, row, steps), strict=True):
        slopes: list[Tensor] = []
        measured, error = predicted, float("inf")
        for _ in range(_REPEATS):
            shift = torch.from_numpy(generator.integers(-8, 9, size=row.shape[0])).to(row) * unit
            slopes.append(_slope(loaded, sequence, row + shift, h))
            measured = torch.stack(slopes).mean(0)
            error = _relative(measured, predicted)
            if error < LIMIT or not error < _HOPELESS:
                break
        if worst is None or error > worst.relative_error:
            passed = error < LIMIT and not narrow_ops
            norms = (float(v.norm()) for v in (measured, predicted))
            worst = Gate(passed, *norms, relative_error=error, step=float(h.norm()), narrow=narrow_ops)
    assert worst is not None
    return worst


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class _Types(TorchDispatchMode):
    """Records the operations that take or give a narrow floating tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[tuple[str, torch.dtype], None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for suffix, values in (("", result), (" (input)", (args, kwargs or {}))):
            for value in tree_leaves(values):
                if isinstance(value, Tensor) and narrow(value.dtype):
                    self.found[f"{func}{suffix}", value.dtype] = None
        return result


def audit(loaded: LoadedModel, base: Prompt) -> list[tuple[str, torch.dtype]]:
    """Operations of one forward, to the logits, and of one backward, that are not float64.

    Args:
        loaded: The model.
        base: A base point of it.

    Returns:
        Name and type of each distinct operation that gives a floating tensor narrower than float64, or (the name ends
        in " (input)") takes one, in order of appearance. Empty for a true float64 model.
    """
    sequence = base.embeddings.detach()
    with torch.enable_grad(), _Types() as types:
        start = sequence[-1].clone().requires_grad_(True)
        final = _answer(loaded, sequence, start)
        logits = loaded.anatomy.unembed(final[None, None])
        torch.autograd.grad(logits.sum(), start)
    return list(types.found)


def require(loaded: LoadedModel, base: Prompt) -> Gate:
    """Let a model pass that may be called float64.

    Args:
        loaded: The model.
        base: A float64 base point of it.

    Returns:
        The passed gate.

    Raises:
        NumericsError: If the gate does not pass; the message has the numbers.
    """
    result = gate(loaded, base)
    if result.passed:
        return result
    moved = (
        f"a step of {result.step:.2g} moved the output by {result.measured:.3g} where the Jacobian predicts "
        f"{result.predicted:.3g}, a relative error of {result.relative_error:.2g} (limit {LIMIT:g})"
    )
    if result.narrow:
        shown = ", ".join(result.narrow[:3])
        raise refusal(f"{len(result.narrow)} operation(s) are narrower ({shown}); {moved}; load it with true64.load")
    raise refusal(
        f"{moved}: some kernel rounds inside, or the embedding lies at a kink; set dtype float32, or use another prompt"
    )
