"""Checks of derivatives: the float64 gate, the Jacobian, its spectrum, the gain of layers."""

import numpy as np
import torch
from torch import Tensor

from tremor.errors import NumericsError
from tremor.models import true64_gate
from tremor.models.loader import LoadedModel
from tremor.neurons.gain import LayerGraph, twice_differentiable
from tremor.neurons.resume import Resume
from tremor.probe.jacobian import jacobian as dense_jacobian
from tremor.probe.spectrum import dense_spectrum
from tremor.verify.report import Measured
from tremor.verify.subject import Array, Subject, require

DIRECTIONS = 3
_EPS = float(np.finfo(np.float64).eps)
# A step of eps^(1/3) balances what central differences leave out, h^2 f''' / 6, against rounding, eps f / h.
_STEP = _EPS ** (1 / 3)
# f is rounded by some 10 eps of its size (measured by the gate: 1 to 20); both ends of the difference are.
_ROUNDINGS = 64
_TELLING = 1e-4  # a difference that leaves out more than this of the product says nothing about it


def float64(subject: Subject) -> Measured:
    """The gate of the true-float64 mode."""
    passed = true64_gate.require(subject.wide, subject.wide_base)
    detail = f"relative error {passed.relative_error:.1g} of a step of {passed.step:.1g}"
    return Measured(detail, {"relative_error": passed.relative_error})


def central_difference(subject: Subject, direction: Array) -> tuple[Array, float]:
    """(f(x + h v) - f(x - h v)) / 2h of the full forward in true float64, and how far it may be from J v.

    The difference with 2h leaves out four times as much, so the two differ by three times what the first leaves out:
    that is the bound for truncation. Rounding adds at most `_ROUNDINGS` eps |f| / h.

    Args:
        subject: The model.
        direction: v [d], a unit vector.

    Returns:
        The quotient [d_out] and the bound on the norm of its error.
    """
    x = subject.wide_base.x
    h = _STEP * float(np.linalg.norm(x))
    quotients = []
    for size in (h, 2 * h):
        ends = np.stack([x + size * direction, x - size * direction])
        there, back = subject.wide_answer.evaluate(ends)
        # Divided by what was really added: x + h is rounded too.
        quotients.append((there - back) / float((ends[0] - ends[1]) @ direction))
    truncation = float(np.linalg.norm(quotients[1] - quotients[0]))
    rounding = _ROUNDINGS * _EPS * float(np.linalg.norm(subject.wide_answer.h0)) / h
    return quotients[0], truncation + rounding


def jacobian(subject: Subject) -> Measured:
    """J v against central differences, in some directions."""
    matrix = dense_jacobian(subject.wide, subject.wide_base)
    drawn = np.random.default_rng(2).normal(size=(DIRECTIONS, matrix.shape[1]))
    worst, allowed = 0.0, 0.0
    for direction in drawn / np.linalg.norm(drawn, axis=1, keepdims=True):
        product = matrix @ direction
        quotient, bound = central_difference(subject, direction)
        size = float(np.linalg.norm(product))
        error = float(np.linalg.norm(quotient - product))
        require(
            bound <= _TELLING * size, f"central differences are only good to {bound / size:.1g} here: no comparison"
        )
        require(
            error <= bound, f"J v is {error / size:.2g} from the difference, more than the {bound / size:.2g} it may"
        )
        worst, allowed = max(worst, error / size), max(allowed, bound / size)
    detail = f"relative error {worst:.1g}, at most {allowed:.1g} by step and rounding"
    return Measured(detail, {"relative_error": worst, "bound": allowed})


def spectrum(subject: Subject) -> Measured:
    """Residuals of the decomposition; and sigma_1, from a step along the first direction in true float64."""
    matrix = dense_jacobian(subject.loaded, subject.base)
    found = dense_spectrum(matrix, device=subject.loaded.device)
    residual = float(found.residuals.max())
    require(residual < 1e-10, f"a singular triplet has the residual {residual:.2g}")  # LAPACK: some d eps
    sigma = float(found.singular_values[0])
    step, bound = central_difference(subject, found.right[0])
    # v_1 of the narrower model is off by roundings, and sigma_1 is a maximum: it is off by their square.
    allowed = bound / sigma + subject.rounding
    ratio = float(np.linalg.norm(step)) / sigma
    error = abs(ratio - 1)
    require(error <= allowed, f"a step along v_1 is amplified by {ratio:.6g} times sigma_1, which no rounding explains")
    detail = f"sigma_1 = {sigma:.4g}, relative error {error:.1g}; largest residual {residual:.1g}"
    return Measured(detail, {"sigma_1": sigma, "relative_error": error, "residual": residual})


def gain(subject: Subject) -> Measured:
    """Spectral norms by Lanczos on one shared graph, against whole Jacobians of resumed forwards."""
    try:
        loaded: LoadedModel = subject.wide
    except NumericsError:  # the gain itself needs no float64
        loaded = subject.loaded
    layers = sorted({0, loaded.anatomy.n_layers - 1})
    graph = LayerGraph(loaded, subject.base.ids, layers)
    # The value is off by the square of the residual asked for, and by roundings of the products.
    allowed = 1e-6 if loaded.dtype == torch.float64 else subject.rounding
    norms = {}
    for layer in layers:
        found = graph.spectral(layer, "final", "last", tolerance=1e-4, max_iterations=loaded.anatomy.d_model, seed=0)
        require(found.converged, f"Lanczos did not converge behind block {layer}")
        whole = float(torch.linalg.matrix_norm(_whole(loaded, subject.ids, layer), 2))
        error = abs(float(found.singular_values[0]) / whole - 1)
        require(error <= allowed, f"the gain behind block {layer} is {error:.2g} from the whole matrix's")
        norms[f"block.{layer}"] = float(found.singular_values[0])
    return Measured(", ".join(f"{norm:.4g} behind {place}" for place, norm in norms.items()), norms)


def _whole(loaded: LoadedModel, ids: Tensor, layer: int) -> Tensor:
    """D final / d state behind a block, both at the last position [width, d_model], one backward for each row."""
    with twice_differentiable(loaded):
        recorded = Resume(loaded.anatomy, ids)
        with torch.enable_grad():
            state = recorded.states[layer].detach().requires_grad_(True)
            final = recorded.final(layer, state)[0, -1]
            rows = [torch.autograd.grad(entry, state, retain_graph=True)[0][0, -1] for entry in final]
    return torch.stack(rows).double()
