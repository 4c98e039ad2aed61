"""Singular values and vectors of a Jacobian, with their quality: residuals, orthogonality, convergence."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from tremor.errors import NumericsError

Vector = npt.NDArray[np.float64]


class LinearMap(Protocol):
    """A matrix known by its products."""

    shape: tuple[int, int]

    def matvec(self, vector: npt.NDArray[Any]) -> Vector:
        """The product with a column [columns] -> [rows]."""
        ...

    def rmatvec(self, vector: npt.NDArray[Any]) -> Vector:
        """The product of the transpose with a column [rows] -> [columns]."""
        ...


@dataclass(frozen=True)
class Spectrum:
    """Leading singular triplets, largest first: J v_k = sigma_k u_k."""

    singular_values: Vector  # [k]
    left: Vector  # [d_out, k], columns u_k
    right: Vector  # [k, d_in], rows v_k: the input directions
    residuals: Vector  # [k] max of ||J v - sigma u|| and ||J^T u - sigma v||, relative to sigma_1
    orthogonality: float  # largest entry of |V V^T - I|
    iterations: int  # 0 for the dense method
    converged: bool
    method: str


def fix_signs(left: Vector, right: Vector) -> tuple[Vector, Vector]:
    """Make the sign of each triplet unique: the right vector's largest-magnitude entry is positive.

    A solver's signs depend on the library and the device; ties take the first such entry.
    """
    lead = np.argmax(np.abs(right), axis=1)
    sign = np.where(right[np.arange(len(right)), lead] < 0, -1.0, 1.0)
    return left * sign[None, :], right * sign[:, None]


def dense_spectrum(matrix: npt.NDArray[Any], *, device: torch.device | str = "cpu") -> Spectrum:
    """All singular triplets of a dense Jacobian, in float64.

    Args:
        matrix: [d_out, d_in].
        device: Where the decomposition runs.

    Raises:
        NumericsError: the matrix holds NaN or infinity.
    """
    if not np.isfinite(matrix).all():
        raise NumericsError("cannot decompose a Jacobian with NaN or infinite entries")
    wide = torch.as_tensor(matrix, dtype=torch.float64, device=device)
    # cuSOLVER's default driver is the fast Jacobi one; gesvd is the accurate one for a wide range of sigma.
    driver = "gesvd" if wide.is_cuda else None
    u, s, vh = torch.linalg.svd(wide, full_matrices=False, driver=driver)
    left, right = fix_signs(u.cpu().numpy(), vh.cpu().numpy())
    values = s.cpu().numpy()
    top = values[0] if len(values) and values[0] > 0 else 1.0
    full = matrix.astype(np.float64)
    forward = np.linalg.norm(full @ right.T - left * values, axis=0)
    backward = np.linalg.norm(full.T @ left - right.T * values, axis=0)
    return Spectrum(
        singular_values=values,
        left=left,
        right=right,
        residuals=np.maximum(forward, backward) / top,
        orthogonality=_orthogonality(right),
        iterations=0,
        converged=True,
        method="dense",
    )


def _orthogonality(right: Vector) -> float:
    return float(np.abs(right @ right.T - np.eye(len(right))).max()) if len(right) else 0.0


def lanczos_spectrum(
    operator: LinearMap,
    *,
    top_k: int,
    tolerance: float = 1e-5,
    max_iterations: int | None = None,
    seed: int = 0,
) -> Spectrum:
    """Leading singular triplets by Golub-Kahan-Lanczos bidiagonalisation with full reorthogonalisation.

    Full reorthogonalisation is what keeps converged values from coming back as ghosts (Paige 1976). The start vector
    is drawn on the CPU, so it is the same on every device.

    Args:
        operator: Gives products with J and its transpose.
        top_k: Number of triplets asked for.
        tolerance: A triplet counts as converged when its true residual is below ``tolerance * sigma_1``. Products in
            float32 cannot reach much below 1e-6.
        max_iterations: Largest Krylov dimension; None takes min(shape).
        seed: Of the start vector.

    Returns:
        A spectrum whose residuals come from fresh products, not from the recurrence; ``converged`` says whether all
        asked triplets passed.

    Raises:
        NumericsError: a product is NaN or infinite, or the map is zero.
        ValueError: more triplets are asked for than the map has.
    """
    rows, columns = operator.shape
    limit = min(rows, columns) if max_iterations is None else min(max_iterations, rows, columns)
    if not 1 <= top_k <= limit:
        raise ValueError(f"top_k must be between 1 and {limit}, got {top_k}")
    generator = np.random.default_rng(seed)
    right_basis = [_new_direction([], columns, generator)]
    left_basis: list[Vector] = []
    alphas: list[float] = []
    betas: list[float] = []
    while len(left_basis) < limit:
        scale = max(alphas, default=0.0)
        alphas.append(_extend(left_basis, operator.matvec(right_basis[-1]), scale, generator))
        betas.append(_extend(right_basis, operator.rmatvec(left_basis[-1]), max(alphas), generator))
        done = len(left_basis)
        if done >= top_k and (done % 5 == 0 or done == limit or betas[-1] == 0):
            u, s, vt = np.linalg.svd(_bidiagonal(alphas, betas))
            estimate = abs(betas[-1]) * np.abs(u[-1, :top_k])
            if np.all(estimate <= 0.1 * tolerance * s[0]):
                break
    u, s, vt = np.linalg.svd(_bidiagonal(alphas, betas))
    size = len(alphas)
    left = np.array(left_basis[:size]).T @ u[:, :top_k]
    right = vt[:top_k] @ np.array(right_basis[:size])
    left, right = fix_signs(left, right)
    return _measured(operator, s[:top_k], left, right, size, tolerance)


def _bidiagonal(alphas: list[float], betas: list[float]) -> Vector:
    """B with J V = U B: alphas on the diagonal, betas above it."""
    return np.diag(alphas) + np.diag(betas[: len(alphas) - 1], 1)


def _orthogonal(basis: list[Vector], vector: Vector) -> Vector:
    if basis:
        matrix = np.array(basis)
        for _ in range(2):  # twice is enough (Kahan, Parlett): the second pass removes what rounding left
            vector = vector - matrix.T @ (matrix @ vector)
    return vector


def _new_direction(basis: list[Vector], width: int, generator: np.random.Generator) -> Vector:
    """A random unit vector orthogonal to the basis; zero where the basis spans the whole space."""
    if len(basis) >= width:
        return np.zeros(width)
    vector = _orthogonal(basis, generator.normal(size=width))
    unit: Vector = vector / np.linalg.norm(vector)
    return unit


def _extend(basis: list[Vector], product: Vector, scale: float, generator: np.random.Generator) -> float:
    """Append the part of a product that is orthogonal to the basis; return its norm.

    Where nothing is left of it against ``scale``, the subspace is invariant: the norm is 0, and a new direction goes
    on, so that a map of low rank or with repeated values still yields all triplets asked for.
    """
    if not np.isfinite(product).all():
        raise NumericsError("a product with the Jacobian is NaN or infinite; use a wider probe.dtype")
    rest = _orthogonal(basis, product)
    norm = float(np.linalg.norm(rest))
    if not basis and norm == 0:
        raise NumericsError("the Jacobian is zero along the start vector; the tap does not depend on the input")
    if norm <= 1e-14 * scale:
        basis.append(_new_direction(basis, len(rest), generator))
        return 0.0
    basis.append(rest / norm)
    return norm


def _measured(
    operator: LinearMap, values: Vector, left: Vector, right: Vector, iterations: int, tolerance: float
) -> Spectrum:
    residuals = np.empty(len(values))
    for k, sigma in enumerate(values):
        forward = np.linalg.norm(operator.matvec(right[k]) - sigma * left[:, k])
        backward = np.linalg.norm(operator.rmatvec(left[:, k]) - sigma * right[k])
        residuals[k] = max(forward, backward) / values[0]
    return Spectrum(
        singular_values=values,
        left=left,
        right=right,
        residuals=residuals,
        orthogonality=_orthogonality(right),
        iterations=iterations,
        converged=bool(np.all(residuals <= tolerance)),
        method="lanczos",
    )
