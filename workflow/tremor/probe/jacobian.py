"""The Jacobian of the response at the base point: d(tap at the last position) / d(last input embedding).

Only the last position moves, so the whole matrix needs one position a row against the frozen prefix. Attention runs
by its plain formula: it is the same function, and unlike the fused kernels it has forward mode and batching rules.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.autograd import forward_ad

from tremor.errors import NumericsError
from tremor.models.loader import LoadedModel
from tremor.probe.attention import differentiable
from tremor.probe.base import BasePoint, to_array
from tremor.probe.prefix import Prefix
from tremor.progress import track

Method = Literal["batched", "replicated"]


@dataclass(frozen=True)
class LastPositionMap:
    """The smooth map from the last input embedding to a tap at the last position, for derivatives."""

    loaded: LoadedModel
    base: BasePoint
    tap: str = "final"

    def forward(self, rows: torch.Tensor, prefix: Prefix) -> torch.Tensor:
        """[n, d_in] -> [n, width], differentiable in the rows."""
        model = self.loaded.anatomy.base
        arguments: dict[str, Any] = {"inputs_embeds": rows[:, None], **prefix.arguments()}
        if self.tap == "final":
            final: torch.Tensor = model(**arguments).last_hidden_state[:, -1]
            return final
        with self.loaded.anatomy.record((self.tap,), detach=False) as record:
            model(**arguments)
        return record[self.tap][:, -1]

    def prefix(self, rows: int) -> Prefix:
        """The frozen past of the base point for this many rows."""
        return Prefix(self.loaded.anatomy.base, self.base.embeddings[:-1], rows)


def jacobian(
    loaded: LoadedModel,
    base: BasePoint,
    *,
    tap: str = "final",
    method: Method = "batched",
    chunk: int | None = None,
    max_memory: float = 2 * 2**30,
) -> npt.NDArray[Any]:
    """The dense Jacobian at the base point, in chunks of rows bounded by memory.

    ``batched`` runs the base point forward once and pulls a chunk of unit cotangents back in one batched sweep;
    ``replicated`` repeats the base point in the rows of a batch and runs one forward and one backward a chunk
    (design.md 5.4). Both give the same matrix up to rounding; ``batched`` needs about half the arithmetic.

    Args:
        loaded: The model.
        base: The base point.
        tap: Output whose derivative is taken, ``final`` by default.
        method: ``batched`` or ``replicated``.
        chunk: Rows of one sweep; None takes what ``max_memory`` allows.
        max_memory: Bytes that the live gradients of one chunk may take.

    Returns:
        [d_out, d_in] in the carrier dtype of the model (float32, or float64 for a float64 model).

    Raises:
        NumericsError: the derivative is NaN or infinite.
    """
    target = LastPositionMap(loaded, base, tap)
    like = base.embeddings
    if chunk is None:
        chunk = max(1, min(MAX_CHUNK, int(max_memory / gradient_bytes(loaded, base))))
    with differentiable(loaded), torch.enable_grad():
        sweep = _batched(target, chunk) if method == "batched" else _replicated(target, chunk)
        parts = [part.to("cpu") for part in sweep]
    matrix = to_array(torch.cat(parts))
    if not np.isfinite(matrix).all():
        raise NumericsError(
            f"the Jacobian of '{tap}' for a {like.dtype} model has NaN or infinite entries; use a wider probe.dtype"
        )
    return matrix


MAX_CHUNK = 512  # more rows do not raise the matrix rate any further, and only cost memory


def _batched(target: LastPositionMap, chunk: int) -> Iterator[torch.Tensor]:
    row = target.base.embeddings[-1:].detach().clone().requires_grad_(True)
    output = target.forward(row, target.prefix(1))
    width = output.shape[1]
    for start in track(range(0, width, chunk), "chunks of the Jacobian"):
        stop = min(start + chunk, width)
        cotangents = torch.zeros(stop - start, 1, width, dtype=output.dtype, device=output.device)
        cotangents[torch.arange(stop - start), 0, torch.arange(start, stop)] = 1
        (part,) = torch.autograd.grad(output, row, cotangents, retain_graph=stop < width, is_grads_batched=True)
        yield part[:, 0]


def _replicated(target: LastPositionMap, chunk: int) -> Iterator[torch.Tensor]:
    prefixes: dict[int, Prefix] = {}
    start, width = 0, -1
    while width < 0 or start < width:
        rows = chunk if width < 0 else min(chunk, width - start)
        if rows not in prefixes:
            prefixes[rows] = target.prefix(rows)
        inputs = target.base.embeddings[-1:].detach().repeat(rows, 1).requires_grad_(True)
        output = target.forward(inputs, prefixes[rows])
        width = output.shape[1]
        used = min(rows, width - start)
        cotangents = torch.zeros_like(output)
        cotangents[torch.arange(used), torch.arange(start, start + used)] = 1
        (part,) = torch.autograd.grad(output, inputs, cotangents)
        yield part[:used]
        start += used


def gradient_bytes(loaded: LoadedModel, base: BasePoint) -> int:
    """Rough bytes that one cotangent row keeps alive: a few tensors of the widest layer, and the prefix gradients."""
    config = loaded.model.config
    inner = getattr(config, "intermediate_size", None) or 4 * loaded.anatomy.d_model
    return int(base.embeddings.element_size() * (6 * int(inner) + 12 * loaded.anatomy.d_model * (1 + len(base.ids))))


class JacobianOperator:
    """The Jacobian as a linear map, never formed: products by forward and reverse mode (anchors.md habit 6)."""

    def __init__(self, loaded: LoadedModel, base: BasePoint, *, tap: str = "final") -> None:
        self._target = LastPositionMap(loaded, base, tap)
        self._loaded = loaded
        self._prefix = self._target.prefix(1)
        self._row = base.embeddings[-1:].detach()
        with differentiable(loaded), torch.no_grad():
            width = int(self._target.forward(self._row, self._prefix).shape[1])
        self.shape = (width, int(self._row.shape[1]))
        self.products = 0

    def matvec(self, vector: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """J v by forward-mode differentiation; v [d_in], result [d_out] float64."""
        self.products += 1
        tangent = torch.as_tensor(vector, dtype=self._row.dtype, device=self._row.device)[None]
        with differentiable(self._loaded), torch.enable_grad(), forward_ad.dual_level():
            try:
                output = self._target.forward(forward_ad.make_dual(self._row, tangent), self._prefix)
            except NotImplementedError as error:  # BLOOM's GELU, and attention kernels that cannot be switched
                raise NumericsError(
                    f"{type(self._loaded.model).__name__} has a part without forward-mode derivative "
                    f"({str(error).splitlines()[0]}); use spectrum.method: dense"
                ) from error
            change = forward_ad.unpack_dual(output).tangent
            if change is None:
                raise NumericsError("forward-mode differentiation lost the tangent; use spectrum.method: dense")
            return to_array(change[0]).astype(np.float64)

    def rmatvec(self, vector: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """J^T u by reverse mode; u [d_out], result [d_in] float64."""
        self.products += 1
        with differentiable(self._loaded), torch.enable_grad():
            row = self._row.clone().requires_grad_(True)
            output = self._target.forward(row, self._prefix)
            cotangent = torch.as_tensor(vector, dtype=output.dtype, device=output.device)[None]
            (gradient,) = torch.autograd.grad(output, row, cotangent)
        return to_array(gradient[0]).astype(np.float64)
