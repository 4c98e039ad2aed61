"""Local Jacobians: what each block, and each branch of it, does to a small change at the last position.

The whole map x -> final is a chain: what precedes the blocks, the blocks, what follows them. One forward of the last
position against the frozen prefix records the chain; at the input of every stage a zero is added that autograd
differentiates by, so all stages share one graph and none is cut out of the model.

A branch is what a mixer or an MLP adds to the residual stream, as a function of the stream that the norm before it
reads. So a sequential block is (I + J_mlp) (I + J_mixer), a parallel one I + J_mixer + J_mlp; a block that scales the
stream at its end (`BlockParts.scale`) is that times its factor.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tremor.errors import NumericsError
from tremor.models.anatomy import Anatomy
from tremor.models.anatomy_trace import first_output, hidden_input
from tremor.models.loader import LoadedModel
from tremor.models.taps import TapPoint
from tremor.probe.attention import differentiable
from tremor.probe.base import BasePoint, to_array
from tremor.probe.jacobian import MAX_CHUNK, gradient_bytes
from tremor.probe.prefix import Prefix

Array = npt.NDArray[Any]
Part = Literal["embedding", "block", "mixer", "mlp", "final"]


@dataclass(frozen=True)
class Stage:
    """One map between two named places of the stream, at the last position."""

    part: Part
    block: int | None  # None for what precedes and follows the blocks
    source: str  # tap that is differentiated by
    target: str  # tap that is differentiated

    @property
    def name(self) -> str:
        """``embedding``, ``block.3``, ``block.3.mixer``, ``block.3.mlp`` or ``final``."""
        if self.block is None:
            return self.part
        return f"block.{self.block}" if self.part == "block" else f"block.{self.block}.{self.part}"


def chain_stages(anatomy: Anatomy) -> tuple[Stage, ...]:
    """The stages whose product is the whole map, first to last."""
    last = anatomy.n_layers - 1
    stages = [Stage("embedding", None, "embedding", "residual.0")]
    for k in range(anatomy.n_layers):
        after = "final_prenorm" if k == last else f"residual.{k + 1}"
        stages.append(Stage("block", k, f"residual.{k}", after))
    if anatomy.after_blocks:
        stages.append(Stage("final", None, "final_prenorm", "final"))
    return tuple(stages)


def branch_stages(anatomy: Anatomy) -> tuple[Stage, ...]:
    """The branches of all blocks: what each adds to the stream, by the stream that its norm reads.

    Raises:
        NumericsError: the stream between the two branches of a sequential block was not found.
    """
    stages = []
    for k, parts in enumerate(anatomy.block_parts):
        stages.append(Stage("mixer", k, f"residual.{k}", f"block.{k}.mixer"))
        if not parts.mlp:
            continue
        source = f"residual.{k}" if parts.parallel else f"block.{k}.mid"
        if source not in anatomy.taps:
            raise NumericsError(
                f"the residual stream before the MLP of '{parts.name}' was not found, so its branch has no input; "
                "set exp5.branches: false"
            )
        stages.append(Stage("mlp", k, source, f"block.{k}.mlp"))
    return tuple(stages)


class LocalJacobians:
    """Jacobians of stages at a base point, dense or as products, from one recorded forward.

    Args:
        loaded: The model.
        base: The base point.
        branches: Whether to record the branches of the blocks too.

    Raises:
        NumericsError: a stage is not reached by the forward.
    """

    def __init__(self, loaded: LoadedModel, base: BasePoint, *, branches: bool = True) -> None:
        self._loaded, self._base = loaded, base
        anatomy = loaded.anatomy
        self.chain = chain_stages(anatomy)
        self.branches = branch_stages(anatomy) if branches else ()
        stages = (*self.chain, *self.branches)
        sources = {stage.source for stage in stages} - {"embedding"}
        points = {name: _probe_point(anatomy, name) for name in sources}
        row = base.embeddings[-1:].detach().clone().requires_grad_(True)
        prefix = Prefix(anatomy.base, base.embeddings[:-1], 1)
        wanted = {stage.target for stage in stages}
        # Attention that cannot be switched must at least not be fused: fused kernels are not differentiable twice.
        plain = sdpa_kernel([SDPBackend.MATH])
        with differentiable(loaded), plain, torch.enable_grad(), _zeros_added(points) as zeros:
            with anatomy.record(wanted, detach=False) as record:
                anatomy.base(inputs_embeds=row[:, None], **prefix.arguments())
            self._outputs = {name: record[name].reshape(1, -1) for name in wanted}
        missing = sources - set(zeros)
        if missing:
            raise NumericsError(f"the forward never reached {', '.join(sorted(missing))}; its stages have no input")
        self._inputs: dict[str, Tensor] = {"embedding": row, **zeros}

    def shape(self, stage: Stage) -> tuple[int, int]:
        """Rows and columns of a stage's Jacobian."""
        return self._outputs[stage.target].shape[1], self._inputs[stage.source].numel()

    def dense(self, stage: Stage, *, chunk: int | None = None, max_memory: float = 2 * 2**30) -> Array:
        """The Jacobian [width out, width in] of a stage, a chunk of cotangents at a time.

        Args:
            stage: One of ``chain`` or ``branches``.
            chunk: Cotangents of one backward; None takes what ``max_memory`` bytes allow.
            max_memory: Bytes for one chunk.

        Returns:
            Carrier dtype of the model's type.

        Raises:
            NumericsError: an entry is NaN or infinite.
        """
        output, source = self._outputs[stage.target], self._inputs[stage.source]
        if chunk is None:
            chunk = max(1, min(MAX_CHUNK, int(max_memory / gradient_bytes(self._loaded, self._base))))
        width = output.shape[1]
        parts = []
        for start in range(0, width, chunk):
            rows = min(chunk, width - start)
            cotangents = torch.zeros(rows, 1, width, dtype=output.dtype, device=output.device)
            cotangents[torch.arange(rows), 0, torch.arange(start, start + rows)] = 1
            (part,) = torch.autograd.grad(output, source, cotangents, retain_graph=True, is_grads_batched=True)
            parts.append(to_array(part.reshape(rows, -1)))
        matrix = np.concatenate(parts)
        if not np.isfinite(matrix).all():
            raise NumericsError(f"the Jacobian of stage '{stage.name}' has NaN or infinite entries; use a wider dtype")
        return matrix

    def from_input(self, tap: str) -> "StageOperator":
        """The map from the last input embedding to a tap of the chain, by its products."""
        return StageOperator(self._outputs[tap], self._inputs["embedding"])

    def operator(self, stage: Stage) -> "StageOperator":
        """A stage's Jacobian by its products."""
        return StageOperator(self._outputs[stage.target], self._inputs[stage.source])


class StageOperator:
    """The Jacobian between two tensors of a recorded graph, as products.

    J v comes from differentiating J^T u by u, which needs no forward mode: every family has both derivatives.
    """

    def __init__(self, output: Tensor, source: Tensor) -> None:
        self._output, self._source = output, source
        self.shape = (output.numel(), source.numel())

    def matvec(self, vector: Array) -> npt.NDArray[np.float64]:
        """J v; v [columns], result [rows] float64."""
        tangent = torch.as_tensor(vector, dtype=self._source.dtype, device=self._source.device)
        with torch.enable_grad():
            dual = torch.zeros_like(self._output, requires_grad=True)
            (pulled,) = torch.autograd.grad(self._output, self._source, dual, create_graph=True)
            (product,) = torch.autograd.grad(pulled, dual, tangent.reshape(pulled.shape))
        return to_array(product.reshape(-1)).astype(np.float64)

    def rmatvec(self, vector: Array) -> npt.NDArray[np.float64]:
        """J^T u; u [rows], result [columns] float64."""
        cotangent = torch.as_tensor(vector, dtype=self._output.dtype, device=self._output.device)
        (pulled,) = torch.autograd.grad(
            self._output, self._source, cotangent.reshape(self._output.shape), retain_graph=True
        )
        return to_array(pulled.reshape(-1)).astype(np.float64)


class DenseMap:
    """A matrix as products."""

    def __init__(self, matrix: npt.NDArray[np.float64]) -> None:
        self._matrix = matrix
        self.shape = (int(matrix.shape[0]), int(matrix.shape[1]))

    def matvec(self, vector: Array) -> npt.NDArray[np.float64]:
        """The product with a column."""
        product: npt.NDArray[np.float64] = self._matrix @ vector
        return product

    def rmatvec(self, vector: Array) -> npt.NDArray[np.float64]:
        """The product of the transpose with a column."""
        product: npt.NDArray[np.float64] = self._matrix.T @ vector
        return product


class Chain:
    """The product of maps, applied one after the other; the first is applied first."""

    def __init__(self, maps: tuple[Any, ...]) -> None:
        self._maps = maps
        self.shape = (int(maps[-1].shape[0]), int(maps[0].shape[1]))

    def matvec(self, vector: Array) -> npt.NDArray[np.float64]:
        """The product with a vector, in float64 between the maps."""
        for each in self._maps:
            vector = each.matvec(vector)
        return vector.astype(np.float64)

    def rmatvec(self, vector: Array) -> npt.NDArray[np.float64]:
        """The product of the transpose with a vector."""
        for each in reversed(self._maps):
            vector = each.rmatvec(vector)
        return vector.astype(np.float64)


def _probe_point(anatomy: Anatomy, name: str) -> TapPoint:
    if name == "final_prenorm":
        return TapPoint(anatomy.after_blocks[0], "input")
    return anatomy.taps[name]


@contextmanager
def _zeros_added(points: Mapping[str, TapPoint]) -> Iterator[dict[str, Tensor]]:
    """Add a zero that requires a gradient to named tensors of the forwards inside; values stay what they are."""
    zeros: dict[str, Tensor] = {}

    def plus_zero(name: str, tensor: Tensor) -> Tensor:
        zeros[name] = torch.zeros_like(tensor, requires_grad=True)
        return tensor + zeros[name]

    def watch(name: str, point: TapPoint) -> Any:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            hidden, key = hidden_input(args, kwargs)
            if hidden is None:
                return None
            new = plus_zero(name, hidden)
            if key is not None:
                return args, {**kwargs, key: new}
            return tuple(new if value is hidden else value for value in args), kwargs

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            if isinstance(output, Tensor):
                return plus_zero(name, output)
            first = first_output(output)
            if first is None or not isinstance(output, tuple) or output[0] is not first:
                return None
            return (plus_zero(name, first), *output[1:])

        if point.side == "input":
            return point.module.register_forward_pre_hook(before, with_kwargs=True)
        return point.module.register_forward_hook(after)

    with ExitStack() as handles:
        for name, point in points.items():
            handles.callback(watch(name, point).remove)
        yield zeros
