"""The gain of a block's output: how much a small change of it changes the logits or the final state.

One forward, resumed behind the first block of interest with a zero added to the stream behind every one of them, is
the graph that all layers share. From it come products with the Jacobian of any layer and its transpose: the spectral
norm by Lanczos, the Frobenius norm by random cotangents (one sweep through the model serves all layers). Without the
graph: finite differences.

The answer is always that of the last position. The change is one of the last position's state alone (`last`), or one
of the states at all positions together (`all`): two different Jacobians, never mixed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tremor.errors import NumericsError
from tremor.models.loader import LoadedModel
from tremor.neurons.resume import Resume
from tremor.probe.attention import differentiable
from tremor.probe.base import to_array
from tremor.probe.jacobian import MAX_CHUNK
from tremor.probe.local import DenseMap
from tremor.probe.spectrum import Spectrum, lanczos_spectrum

Source = Literal["last", "all"]
Target = Literal["logits", "centred_logits", "final"]
Noise = Literal["absolute", "relative_all", "relative_last"]
SOURCES: tuple[Source, ...] = ("last", "all")
NOISES: tuple[Noise, ...] = ("absolute", "relative_all", "relative_last")
Float = npt.NDArray[np.float64]
# (layer, target, source) -> spectrum of J J^T and the Frobenius norm of J
Dense = dict[tuple[int, Target, Source], tuple[Spectrum, float]]


@contextmanager
def twice_differentiable(loaded: LoadedModel) -> Iterator[None]:
    """Run attention by formulas that have second derivatives, inside which a forward must be recorded and resumed.

    Masks belong to the formula that reads them, so nothing recorded outside may be resumed inside.
    """
    with differentiable(loaded), sdpa_kernel([SDPBackend.MATH]):
        yield


@dataclass(frozen=True)
class Frobenius:
    """Frobenius norms of some layers, estimated from random cotangents."""

    value: Float  # [layers]
    error: Float  # [layers] standard error of the estimate (first order)
    probes: int


class LayerGraph:
    """The answer at a text's last position as a function of a change behind every block of interest.

    Args:
        loaded: The model.
        ids: Token ids [positions] of one text.
        layers: Blocks whose outputs are changed, ascending.

    Attributes:
        states: Block to its output [positions, d_model], float64.
        answers: Target to its value, float64.

    Raises:
        NumericsError: an answer is NaN or infinite, or a layer was not reached.
        ModelError: the model cannot be resumed.
    """

    def __init__(self, loaded: LoadedModel, ids: npt.NDArray[np.int64], layers: Sequence[int]) -> None:
        self.layers = tuple(layers)
        self._zeros: dict[int, Tensor] = {}
        self._loaded = loaded
        with twice_differentiable(loaded):
            resume = Resume(loaded.anatomy, torch.from_numpy(ids)[None].to(loaded.device))
            # Weights of an in-memory model may ask for gradients; none is wanted here.
            with torch.enable_grad():
                start = resume.states[self.layers[0]].detach()
                final = resume.final(self.layers[0], start, edit=self._plus_zero)
                logits = loaded.anatomy.unembed(final)[0, -1]
        missing = set(self.layers) - set(self._zeros)
        if missing:
            raise NumericsError(f"the forward never reached block(s) {sorted(missing)}; they have no gain")
        self._outputs: dict[Target, Tensor] = {
            "logits": logits,
            "centred_logits": logits - logits.mean(),
            "final": final[0, -1],
        }
        self.answers = {name: to_array(value).astype(np.float64) for name, value in self._outputs.items()}
        if not all(np.isfinite(value).all() for value in self.answers.values()):
            raise NumericsError("the answer is NaN or infinite; use a wider dtype")
        self.states = {k: to_array(resume.states[k][0]).astype(np.float64) for k in self.layers}
        self.recorded = resume

    def _plus_zero(self, block: int, hidden: Tensor) -> Tensor:
        if block not in self.layers:
            return hidden
        self._zeros[block] = torch.zeros_like(hidden, requires_grad=True)
        return hidden + self._zeros[block]

    def operator(self, layer: int, target: Target, source: Source) -> "GainOperator":
        """The Jacobian of a target by a layer's state, as products."""
        return GainOperator(self._outputs[target], self._zeros[layer], source)

    def spectral(
        self, layer: int, target: Target, source: Source, *, tolerance: float, max_iterations: int, seed: int
    ) -> Spectrum:
        """The leading singular triplet of that Jacobian, with its residual and whether it converged."""
        operator = self.operator(layer, target, source)
        return lanczos_spectrum(operator, top_k=1, tolerance=tolerance, max_iterations=max_iterations, seed=seed)

    def frobenius(self, target: Target, *, probes: int, seed: int) -> dict[Source, Frobenius]:
        """Frobenius norms of all layers by Hutchinson's estimator: the mean of ||J^T u||^2 over random signs u.

        One batched sweep back through the model serves every layer and both sources (Hutchinson 1989; the mean is
        unbiased for the squared norm, the root and its error are first order in the error of the mean).

        Args:
            target: What is differentiated.
            probes: Random sign vectors, >= 2.
            seed: Of their draw, on the CPU.
        """
        output = self._outputs[target]
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(probes, output.numel()))
        cotangents = torch.as_tensor(signs, dtype=output.dtype, device=output.device)
        zeros = [self._zeros[k] for k in self.layers]
        parts = torch.autograd.grad(output, zeros, cotangents, retain_graph=True, is_grads_batched=True)
        squares: dict[Source, list[Float]] = {"last": [], "all": []}
        for part in parts:  # [probes, 1, positions, d_model]
            each = to_array((part[:, 0].double() ** 2).sum(dim=-1)).astype(np.float64)
            squares["last"].append(each[:, -1])
            squares["all"].append(each.sum(axis=1))
        return {source: _root(np.array(values), probes) for source, values in squares.items()}

    def dense(self, targets: Sequence[Target], *, max_memory: float, tolerance: float) -> Dense:
        """Both norms of all layers from whole matrices: one backward for each entry of the final state.

        The logits depend on the states through the final state alone, so d logits / d h is the head's derivative A
        times d final / d h = F, and (A F)^T (A F) = (R F)^T (R F) with R^T R = A^T A: nothing has the length of the
        vocabulary but A.

        Args:
            targets: What is differentiated.
            max_memory: Bytes for the gradients of one chunk of cotangents.
            tolerance: Relative residual of the largest eigenvalue.

        Raises:
            NumericsError: an entry is NaN or infinite.
        """
        final = self._outputs["final"]
        zeros = [self._zeros[k] for k in self.layers]
        width = final.numel()
        chunk = max(1, min(MAX_CHUNK, int(max_memory / _cotangent_bytes(self._loaded, zeros[0]))))
        parts: list[list[Tensor]] = [[] for _ in zeros]
        for rows in torch.eye(width, dtype=final.dtype, device=final.device).split(chunk):
            found = torch.autograd.grad(final, zeros, rows, retain_graph=True, is_grads_batched=True)
            for part, new in zip(parts, found, strict=True):
                part.append(new[:, 0])
        roots = {target: self._head_root(target) for target in targets}
        norms: Dense = {}
        for layer, part in zip(self.layers, parts, strict=True):
            whole = torch.cat(part).double()  # [width, positions, d_model]
            for source in SOURCES:
                matrix = whole[:, -1] if source == "last" else whole.flatten(1)
                gram = matrix @ matrix.T
                for target, root in roots.items():
                    square = (root @ gram @ root.T).cpu().numpy()
                    if not np.isfinite(square).all():
                        raise NumericsError(f"the Jacobian behind block {layer} is NaN or infinite; use a wider dtype")
                    solved = lanczos_spectrum(DenseMap(square), top_k=1, tolerance=tolerance)
                    norms[layer, target, source] = (solved, float(np.sqrt(np.trace(square))))
        return norms

    def _head_root(self, target: Target) -> Tensor:
        """R [width, width] float64 with R^T R = A^T A, A the derivative of a target by the final state."""
        final = self._outputs["final"].detach()
        eye = torch.eye(final.numel(), dtype=final.dtype, device=final.device)
        if target == "final":
            return eye.double()
        with torch.enable_grad():
            leaf = final.clone().requires_grad_(True)
            logits = self._loaded.anatomy.unembed(leaf[None, None])[0, 0]
            output = logits - logits.mean() if target == "centred_logits" else logits
            dual = torch.zeros_like(output, requires_grad=True)
            (pulled,) = torch.autograd.grad(output, leaf, dual, create_graph=True)
            (columns,) = torch.autograd.grad(pulled, dual, eye, is_grads_batched=True)  # A^T [width, vocab]
        wide = columns.double()
        values, vectors = torch.linalg.eigh(wide @ wide.T)
        root: Tensor = values.clamp(min=0).sqrt()[:, None] * vectors.T
        return root


def _cotangent_bytes(loaded: LoadedModel, zero: Tensor) -> int:
    """Rough bytes that one cotangent keeps alive: tensors of the widest layer, and the gradients of all streams."""
    config, width, depth = loaded.model.config, loaded.anatomy.d_model, loaded.anatomy.n_layers
    inner = int(getattr(config, "intermediate_size", None) or 4 * width)
    states = int(getattr(config, "state_size", None) or 0)  # a scan has a state for each channel and position
    return int(zero.element_size() * zero.shape[1] * (inner * (6 + 2 * states) + width * (12 + depth)))


def _root(squares: Float, probes: int) -> Frobenius:
    """Norms [layers] from squares [layers, probes]."""
    if not np.isfinite(squares).all():
        raise NumericsError("a product with the Jacobian is NaN or infinite; use a wider dtype")
    mean, error = squares.mean(axis=1), squares.std(axis=1, ddof=1) / np.sqrt(probes)
    value = np.sqrt(mean)
    return Frobenius(value, np.divide(error, 2 * value, out=np.zeros_like(value), where=value > 0), probes)


class GainOperator:
    """The Jacobian of an answer by a layer's state, as products.

    J^T u is one backward. It is linear in u, so its own derivative by u is J, the same for every u: the graph of one
    backward, made once, gives all products J v. No forward-mode derivative is needed, which some families lack.
    """

    def __init__(self, output: Tensor, zero: Tensor, source: Source) -> None:
        self._output, self._zero, self._source = output, zero, source
        columns = zero.shape[-1] if source == "last" else zero.numel()
        self.shape = (output.numel(), columns)
        with torch.enable_grad():
            self._dual = torch.zeros_like(output, requires_grad=True)
            (pulled,) = torch.autograd.grad(output, zero, self._dual, create_graph=True)
            self._pulled = pulled[0, -1] if source == "last" else pulled

    def matvec(self, vector: npt.NDArray[Any]) -> Float:
        """J v; v [columns], result [rows] float64."""
        tangent = torch.as_tensor(vector, dtype=self._pulled.dtype, device=self._pulled.device)
        (product,) = torch.autograd.grad(
            self._pulled, self._dual, tangent.reshape(self._pulled.shape), retain_graph=True
        )
        return to_array(product).astype(np.float64)

    def rmatvec(self, vector: npt.NDArray[Any]) -> Float:
        """J^T u; u [rows], result [columns] float64."""
        cotangent = torch.as_tensor(vector, dtype=self._output.dtype, device=self._output.device)
        (pulled,) = torch.autograd.grad(self._output, self._zero, cotangent, retain_graph=True)
        part = pulled[0, -1] if self._source == "last" else pulled
        return to_array(part.reshape(-1)).astype(np.float64)


@dataclass(frozen=True)
class Differences:
    """Finite differences behind one block of one text; every array is [draws]."""

    ratio: Float  # ||logits' - logits|| / ||d||, at the last position
    relative: Float  # the same relative to the logits' length, over ||d|| relative to the state's
    relative_step: Float  # ||d|| over the length of the state that d moves


def finite_differences(resume: Resume, layer: int, noise: Noise, *, epsilon: float, seed: int) -> Differences:
    """Change a block's output by Gaussian noise, a draw in each row of the batch, and compare the last logits.

    ``absolute`` adds epsilon times a standard normal vector at all positions, as the original study does;
    ``relative_all`` a random direction of length epsilon * ||h|| over all positions; ``relative_last`` one of length
    epsilon * ||h_last|| at the last position alone. Each row is compared with the recorded forward of the same row.

    Args:
        resume: A recorded forward of the text, repeated in each row.
        layer: The block.
        noise: The kind of noise.
        epsilon: Its size.
        seed: Of the draws, on the CPU; the same for every layer of the same width.

    Raises:
        NumericsError: a logit is NaN or infinite, or the change is lost to rounding.
    """
    state = resume.states[layer]
    rows = state.shape[0]
    drawn = np.random.default_rng(seed).standard_normal(tuple(state.shape))
    if noise == "relative_last":
        drawn[:, :-1] = 0.0
    here = to_array(state).astype(np.float64)
    base = here[:, -1:] if noise == "relative_last" else here
    length = np.linalg.norm(base.reshape(rows, -1), axis=1)
    if noise != "absolute":
        drawn *= (length / np.linalg.norm(drawn.reshape(rows, -1), axis=1))[:, None, None]
    changed = state + torch.as_tensor(epsilon * drawn, dtype=state.dtype, device=state.device)
    # What was added, not what was asked for: narrow formats round the sum.
    step = np.linalg.norm((to_array(changed).astype(np.float64) - here).reshape(rows, -1), axis=1)
    if not (step > 0).all():
        raise NumericsError(f"noise of size {epsilon:g} rounds to no change of block {layer}'s output; raise epsilon")
    with torch.no_grad():
        answer = resume(layer, changed)[:, -1]
    before = to_array(resume.logits[:, -1]).astype(np.float64)
    moved = np.linalg.norm(to_array(answer).astype(np.float64) - before, axis=1)
    if not np.isfinite(moved).all():
        raise NumericsError(f"logits behind a noisy block {layer} are NaN or infinite; lower epsilon")
    ratio = moved / step
    return Differences(ratio, ratio * length / np.linalg.norm(before, axis=1), step / length)
