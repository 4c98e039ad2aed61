"""Small maps cut out of a model, or made of random matrices: what they give, and how they stretch a small change.

Each map takes one vector and gives one. It is evaluated as the model's own modules would, in the model's format, and
differentiated in a copy of the same weights in float64, so that a Jacobian is free of the rounding it is compared with.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from tremor import floats
from tremor.errors import ConfigError, NumericsError
from tremor.models.anatomy import BlockParts, Slice
from tremor.models.anatomy_trace import first_output, hidden_input
from tremor.models.loader import LoadedModel
from tremor.probe.base import BasePoint, to_array, to_tensor
from tremor.probe.local import StageOperator

Array = npt.NDArray[Any]
Function = Callable[[Tensor], Tensor]
AGREEMENT = 64
"""How many epsilons of the format a map may be off what the model itself computed there, relative to its norm."""


@dataclass(frozen=True)
class VectorMap:
    """A map of one vector, at one vector.

    Attributes:
        name: ``matrices``, ``weight`` or ``mlp``.
        x: [d_in] the vector it is studied at, in the carrier dtype of ``fmt``.
        fmt: Lattice of the input.
        narrow: [1, 1, d_in] -> [1, 1, d_out] in the model's format.
        wide: The same in float64.
        like: Tells dtype and device of ``narrow``'s input.
        norm: Kind of the norm that is part of it, ``none`` without one.
        parameter: Name of the parameter its matrix lies in, "" where there are several.
        component: What the matrix is (``q``, ``gate``, ...), "" where it has no such part, or there are several.
        weight: The matrix [d_out, d_in], where there is one.
    """

    name: str
    x: Array
    fmt: str
    narrow: Function
    wide: Function
    like: Tensor
    norm: str
    parameter: str = ""
    component: str = ""
    weight: Tensor | None = None

    def evaluate(self, inputs: Array) -> Array:
        """Answers [m, d_out] to inputs [m, d_in], one after the other: no answer depends on its neighbours."""
        answers = []
        with torch.no_grad():
            for row in inputs:
                answers.append(to_array(self.narrow(to_tensor(row[None, None], self.like)).reshape(-1)))
        return np.stack(answers)

    def jacobian(self) -> StageOperator:
        """The Jacobian at ``x``, by its products, in float64."""
        source = torch.from_numpy(self.x.astype(np.float64))[None, None].to(self.like.device).requires_grad_(True)
        with torch.enable_grad():
            return StageOperator(self.wide(source), source)


def random_matrices(
    *, dim: int, count: int, scale: float, weight_seed: int, input_seed: int, device: torch.device
) -> VectorMap:
    """A chain of random float32 matrices, drawn on the CPU so that every device has the same.

    Args:
        dim: Rows and columns of each.
        count: Number of matrices.
        scale: Standard deviation of an entry.
        weight_seed: Of the matrices.
        input_seed: Of the input, whose entries have standard deviation 1.
        device: Where the products are done.
    """
    generator = np.random.default_rng(weight_seed)
    drawn = [(scale * generator.standard_normal((dim, dim))).astype(np.float32) for _ in range(count)]
    narrow = [torch.from_numpy(each).to(device) for each in drawn]
    wide = [each.double() for each in narrow]

    def through(matrices: Sequence[Tensor]) -> Function:
        def apply(vector: Tensor) -> Tensor:
            for matrix in matrices:
                vector = functional.linear(vector, matrix)
            return vector

        return apply

    x = np.random.default_rng(input_seed).standard_normal(dim).astype(np.float32)
    return VectorMap("matrices", x, "float32", through(narrow), through(wide), narrow[0], "none")


def projection(loaded: LoadedModel, base: BasePoint, block: int, part: str) -> VectorMap:
    """One weight matrix of a block's mixer or MLP input, behind the norm that precedes it in the model.

    Args:
        loaded: The model.
        base: The prompt; the map is studied at what its last position gives to the norm.
        block: Number of the block, from 0.
        part: ``q``, ``k``, ``v``, ``gate`` or ``up``; or ``auto``: the query projection, and where there is none, the
            first matrix of the mixer that reads the residual stream.

    Raises:
        ConfigError: the block has no such projection.
    """
    parts = loaded.anatomy.block_parts[block]
    roles = ("mlp_in", "both_in") if part in ("gate", "up") else ("mixer_in", "both_in")
    norm = _norm(parts, roles)
    name, weight, bias = _matrix(loaded, parts, part)
    reader = parts.mlp[0] if part in ("gate", "up") and parts.mlp else parts.mixer
    x = _seen(loaded, base, norm or reader, "input")

    def apply(module: nn.Module | None, matrix: Tensor, offset: Tensor | None) -> Function:
        return lambda vector: functional.linear(module(vector) if module is not None else vector, matrix, offset)

    wide_norm = None if norm is None else deepcopy(norm).double()
    wide = apply(wide_norm, weight.double(), None if bias is None else bias.double())
    narrow, like = apply(norm, weight, bias), loaded.anatomy.parameter(name)
    component = "" if _piece(parts, part) is None else part.replace("auto", "q")
    return VectorMap("weight", x, base.fmt, narrow, wide, like, _kind(norm), name, component, weight)


def feed_forward(loaded: LoadedModel, base: BasePoint, block: int) -> VectorMap:
    """The MLP of a block behind the norm that precedes it, at the residual stream that the prompt really gives it.

    Raises:
        ConfigError: the block has no MLP that is one module.
        NumericsError: the map does not give what the model computed there: something else precedes this MLP.
    """
    parts = loaded.anatomy.block_parts[block]
    if len(parts.mlp) != 1:
        raise ConfigError(f"block {block} has {_spelled(len(parts.mlp))}; take 'mlp' out of exp10.subjects")
    module, norm = parts.mlp[0], _norm(parts, ("mlp_in", "both_in"))

    def apply(before: nn.Module | None, inner: nn.Module) -> Function:
        def run(vector: Tensor) -> Tensor:
            answer = first_output(inner(before(vector) if before is not None else vector))
            assert answer is not None
            return answer

        return run

    x = _seen(loaded, base, norm or module, "input")
    wide = apply(None if norm is None else deepcopy(norm).double(), deepcopy(module).double())
    like = next(module.parameters())
    found = VectorMap("mlp", x, base.fmt, apply(norm, module), wide, like, _kind(norm))
    theirs = _seen(loaded, base, module, "output").astype(np.float64)
    error = np.linalg.norm(found.evaluate(x[None])[0] - theirs) / max(float(np.linalg.norm(theirs)), 1e-300)
    # The model's own pass has other positions beside this one, so its products are summed in another order.
    if not error <= AGREEMENT * floats.format_of(base.fmt).epsilon * np.sqrt(len(x)):
        raise NumericsError(
            f"the MLP of block {block} behind its norm gives another vector than the model has there (relative "
            f"difference {error:.2g}); take 'mlp' out of exp10.subjects"
        )
    return found


def has_feed_forward(loaded: LoadedModel, block: int) -> bool:
    """Whether a block has an MLP that is one module."""
    return len(loaded.anatomy.block_parts[block].mlp) == 1


def _spelled(count: int) -> str:
    return "no MLP" if count == 0 else f"an MLP of {count} separate modules"


def _norm(parts: BlockParts, roles: Sequence[str]) -> nn.Module | None:
    return next((parts.norms[name] for name, role in parts.roles.items() if role in roles), None)


def _kind(norm: nn.Module | None) -> str:
    return "none" if norm is None else type(norm).__name__


def _piece(parts: BlockParts, part: str) -> Slice | None:
    found: Slice | None = getattr(parts.projections, part.replace("auto", "q"))
    return found


def _matrix(loaded: LoadedModel, parts: BlockParts, part: str) -> tuple[str, Tensor, Tensor | None]:
    """Full name, weight [d_out, d_in] and bias of a projection."""
    piece = _piece(parts, part)
    if piece is not None and loaded.anatomy.parameter(piece.parameter).ndim == 2:
        weight = loaded.anatomy.select(piece)
        bias = None if piece.bias is None else piece.take_bias(loaded.anatomy.parameter(piece.bias))
        return piece.parameter, (weight.T if piece.axis == 1 else weight), bias
    if part == "auto":
        names: Mapping[int, str] = {id(p): n for n, p in loaded.model.named_parameters()}
        for module in parts.mixer.modules():
            if isinstance(module, nn.Linear) and module.in_features == loaded.anatomy.d_model:
                return names[id(module.weight)], module.weight, module.bias
    raise ConfigError(f"block {parts.index} has no single matrix '{part}' of its own; choose another exp10.weight")


def _seen(loaded: LoadedModel, base: BasePoint, module: nn.Module, side: str) -> Array:
    """What a module is given, or gives, at the last position of the prompt."""
    found: list[Tensor] = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        value = hidden_input(args, kwargs)[0]
        assert value is not None
        found.append(value.reshape(-1, value.shape[-1])[-1])

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        value = first_output(output)
        assert value is not None
        found.append(value.reshape(-1, value.shape[-1])[-1])

    if side == "input":
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        with torch.no_grad():
            loaded.anatomy.base(inputs_embeds=base.embeddings[None], use_cache=False)
    finally:
        handle.remove()
    return to_array(found[-1])
