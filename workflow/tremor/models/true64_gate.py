"""The gate of the true-float64 mode: may this model be called float64? See design.md 5.5.

Two questions, since neither answers for the other. The gate asks the whole model: a step of 1e-12 must move the
output as the derivative predicts. A float32 rounding anywhere on the way swallows such a step or magnifies it, even
inside a kernel; but one in a branch that contributes less than a thousandth would pass, and so does one that does not
depend on the input (GPT-NeoX cast by `.double()` passes, with angles rounded to float32). The audit asks every
operation what type it took and gave; it sees the smallest branch, but into no kernel.
"""

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
COARSE = 1000  # the second step is so much larger: 1e-9, still far below a rounding to float32 (6e-8)
DIRECTIONS = 3  # one alone might lie where the model does not look
_SIZES = (1.0, 0.75, 0.5)  # of the step; each is taken forwards and backwards
_REPEATS = 8  # at most, of all sizes, around points a few ulps apart: their roundings are independent

# Float64 leaves the output off by some 1e-16 of itself, times a factor that grows with the sums on the way, in random
# directions. A step of 1e-12 moves the output by 1e-12 times a gain of order one. So the whole difference is off by
# 2e-4 (tiny models) to 4e-3 (GPT-2's 12 layers); its part along the prediction, a mean over d coordinates, by a root
# of d less: that part is held to design.md's limit, the whole to a tenth. The coarse step moves the output a thousand
# times as far, so there the whole difference is held to the limit (measured: up to 5e-6). One rounding to float32 on
# the way makes the output stand still (error 1) or jump (error >> 1) under both steps, and no average helps.
LIMIT = 1e-3
NOISE = 0.1
_HOPELESS = 10 * LIMIT  # 8 repeats divide an error that is noise by less than 3


class Prompt(Protocol):
    """What the gate needs of a base point."""

    @property
    def embeddings(self) -> Tensor:
        """[T, d_in] as the model takes them."""
        ...


@dataclass(frozen=True)
class Gate:
    """Verdict on one model at one base point; the numbers are of the worst direction."""

    passed: bool  # all three errors are below their limits, and the audit found nothing
    measured: float  # norm of the output's change per step
    predicted: float  # norm of the derivative times the step
    relative_error: float  # |part of the change along the prediction / prediction - 1|, limit LIMIT
    step: float  # norm of the step
    noise: float  # norm of the whole change - prediction, over prediction; limit NOISE
    coarse_error: float  # the same for a step COARSE times as large, limit LIMIT
    narrow: tuple[str, ...]  # what the audit found: operation and type


def _answer(loaded: LoadedModel, sequence: Tensor, row: Tensor) -> Tensor:
    """Last hidden state [d_out] with the last embedding replaced; the full sequence, as in reference mode."""
    inputs = torch.cat([sequence[:-1], row[None]])[None]
    hidden: Tensor = loaded.anatomy.base(inputs_embeds=inputs, use_cache=False).last_hidden_state
    return hidden[0, -1]


def _derivative(loaded: LoadedModel, sequence: Tensor, row: Tensor, steps: list[Tensor]) -> list[Tensor]:
    """J h for each step h, by differentiating J^T u by u: unlike forward mode, every family has both derivatives."""
    # Of the attention kernels, only the plain formula can be differentiated twice.
    with torch.enable_grad(), sdpa_kernel([SDPBackend.MATH]):
        start = row.detach().clone().requires_grad_(True)
        output = _answer(loaded, sequence, start)
        dual = torch.zeros_like(output, requires_grad=True)
        (pulled,) = torch.autograd.grad(output, start, dual, create_graph=True)
        products = [torch.autograd.grad(pulled, dual, step, retain_graph=True)[0] for step in steps]
    return [product.detach() for product in products]


def _grid(row: Tensor, relative: float) -> tuple[Tensor, float, list[Tensor]]:
    """A base point and steps on so coarse a grid that all sums of both are exact in float64.

    The grid is two ulps of the largest coordinate: the base point moves by some 1e-16 of it, far below the step, which
    matters to no derivative.

    Returns:
        The base point, the grid's spacing, and the steps.
    """
    unit = 2 * 2.0 ** (int(np.frexp(float(row.abs().max()))[1]) - 53)
    generator = np.random.default_rng(0)
    steps = []
    for _ in range(DIRECTIONS):
        direction = generator.normal(size=row.shape[0])
        step = torch.from_numpy(direction / np.linalg.norm(direction)).to(row) * (relative * float(row.norm()))
        steps.append((step / (4 * unit)).round() * (4 * unit))  # three quarters of it are on the grid too
    return (row / unit).round() * unit, unit, steps


def _finite(value: Tensor) -> float:
    number = float(value)
    return number if np.isfinite(number) else float("inf")


def _along(measured: Tensor, predicted: Tensor) -> float:
    return _finite(((measured - predicted) @ predicted).abs() / (predicted @ predicted))


def _whole(measured: Tensor, predicted: Tensor) -> float:
    return _finite((measured - predicted).norm() / predicted.norm())


@torch.no_grad()
def _slope(
    loaded: LoadedModel, sequence: Tensor, centre: Tensor, step: Tensor, sizes: tuple[float, ...] = _SIZES
) -> Tensor:
    """The output's change per step [d_out]: least squares through f(x + s h) - f(x - s h) = 2 s J h, all s."""
    total = torch.zeros(())
    for size in sizes:
        there, back = (_answer(loaded, sequence, centre + sign * size * step) for sign in (1, -1))
        total = size * (there - back) + total.to(there)
    return total / (2 * sum(size**2 for size in sizes))


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
    shifts = np.random.default_rng(1)
    verdicts = []
    for h, predicted in zip(steps, _derivative(loaded, sequence, row, steps), strict=True):
        slopes: list[Tensor] = []
        measured, error = predicted, float("inf")
        for _ in range(_REPEATS):
            shift = torch.from_numpy(shifts.integers(-8, 9, size=row.shape[0])).to(row) * unit
            slopes.append(_slope(loaded, sequence, row + shift, h))
            measured = torch.stack(slopes).mean(0)
            error = _along(measured, predicted)
            if error < LIMIT or not error < _HOPELESS:
                break
        noise = _whole(measured, predicted)
        coarse = _whole(_slope(loaded, sequence, row, COARSE * h, (1.0,)), COARSE * predicted)
        passed = error < LIMIT and noise < NOISE and coarse < LIMIT and not narrow_ops
        sizes = float(measured.norm()), float(predicted.norm())
        verdicts.append(Gate(passed, *sizes, error, float(h.norm()), noise, coarse, narrow_ops))
    return max(verdicts, key=lambda v: (not v.passed, max(v.relative_error, v.coarse_error, v.noise * LIMIT / NOISE)))


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class _Types(TorchDispatchMode):
    """Records the operations that take or give a narrow floating tensor."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
        f"{result.predicted:.3g}: relative error {result.relative_error:.2g} (limit {LIMIT:g}), "
        f"noise {result.noise:.2g} (limit {NOISE:g}), and error {result.coarse_error:.2g} for a step "
        f"{COARSE} times as large (limit {LIMIT:g})"
    )
    if result.narrow:
        shown = ", ".join(result.narrow[:3])
        raise refusal(f"{len(result.narrow)} operation(s) are narrower ({shown}); {moved}; load it with true64.load")
    raise refusal(
        f"{moved}; some kernel rounds inside, or the embedding lies at a kink; set dtype float32, or use another prompt"
    )
