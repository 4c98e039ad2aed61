"""Statistics of a spectrum of singular values."""

from typing import Any

import numpy as np
import numpy.typing as npt


def spectrum_statistics(
    singular_values: npt.NDArray[np.float64], residuals: npt.NDArray[np.float64], *, frobenius: float | None
) -> dict[str, Any]:
    """Norms and ranks of a Jacobian from its singular values.

    Args:
        singular_values: [k], largest first.
        residuals: [k], relative to the first.
        frobenius: Norm of the whole matrix; None where only the leading values are known, then what needs it is None.

    Returns:
        The number of values, the first two and the last of them, frobenius_norm, stable_rank (||J||_F^2 / sigma_1^2),
        effective_rank (exp of the entropy of the normalised sigma^2), and the largest residual.
    """
    top = float(singular_values[0])
    share = singular_values**2 / np.sum(singular_values**2)
    positive = share[share > 0]
    whole = frobenius is not None
    return {
        "values": len(singular_values),
        "sigma_1": top,
        "sigma_2": float(singular_values[1]) if len(singular_values) > 1 else None,
        "sigma_last": float(singular_values[-1]),
        "frobenius_norm": frobenius,
        "stable_rank": float(frobenius**2 / top**2) if frobenius is not None else None,
        "effective_rank": float(np.exp(-np.sum(positive * np.log(positive)))) if whole else None,
        "max_residual": float(residuals.max()),
    }
