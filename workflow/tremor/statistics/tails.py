"""How heavy a tail is: Hill's estimator and a power law with its Kolmogorov-Smirnov distance. No torch.

A tail index alpha means P(X > x) ~ x^-alpha; the density then falls as x^-(alpha + 1). Below 2 the variance of the
distribution is infinite. Sources: Hill 1975; Clauset, Shalizi and Newman 2009 (choice of x_min, test of fit);
Vuong 1989 (comparison with another distribution).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
LEAST = 25  # fewest values that a tail is fitted to


@dataclass(frozen=True)
class Hill:
    """Hill's estimate from the largest values.

    Attributes:
        share: Share of the values that were used.
        count: Their number k.
        alpha: Tail index; None where all of them are equal.
        error: Its standard error, alpha / sqrt(k).
    """

    share: float
    count: int
    alpha: float | None
    error: float | None


@dataclass(frozen=True)
class PowerLaw:
    """A power law above x_min.

    Attributes:
        alpha: Tail index.
        x_min: Where the tail begins: the threshold of least KS distance.
        count: Values above it.
        ks: Kolmogorov-Smirnov distance between them and the power law.
        p: Share of power-law samples of this size whose own fit is at least as far off (x_min given): below 0.1 the
            power law is implausible.
        against_exponential: Vuong's normalised log-likelihood ratio; positive where the power law fits better.
        against_lognormal: The same against a log-normal that is cut off at x_min.
    """

    alpha: float
    x_min: float
    count: int
    ks: float
    p: float
    against_exponential: float | None
    against_lognormal: float | None


def _positive(values: npt.ArrayLike) -> Floats:
    found = np.asarray(values, dtype=np.float64).ravel()
    if np.isnan(found).any() or np.isinf(found).any():
        raise ValueError("a tail is fitted to finite values only")
    return np.sort(found[found > 0])


def hill(values: npt.ArrayLike, share: float) -> Hill:
    """Hill's estimator over the largest `share` of the positive values.

    Raises:
        ValueError: The share is not in (0, 1), a value is not finite, or too few values are left.
    """
    ordered = _positive(values)
    count = int(share * len(ordered))
    if not 0 < share < 1 or count < 2:
        raise ValueError(f"the largest {share:g} of {len(ordered)} values are too few for a tail")
    mean = float(np.log(ordered[-count:] / ordered[-count - 1]).mean())
    alpha = 1 / mean if mean > 0 else None
    return Hill(share, count, alpha, None if alpha is None else alpha / math.sqrt(count))


def power_law(
    values: npt.ArrayLike, *, candidates: int = 50, largest: float = 1.0, draws: int = 200, seed: int = 0
) -> PowerLaw | None:
    """Fit a power law to the tail of positive values.

    Args:
        values: float [n]; zeros and negative values are no part of a power law and are left out.
        candidates: Thresholds tried, at equal steps of the logarithm of the tail's size.
        largest: Largest share of the positive values that the tail may be.
        draws: Synthetic samples for the test of fit.
        seed: Their seed.

    Returns:
        The fit, None where fewer than 25 distinct values are positive.
    """
    ordered = _positive(values)
    if len(np.unique(ordered)) < LEAST:
        return None
    sizes = np.unique(np.geomspace(LEAST, max(LEAST, largest * len(ordered)), candidates).round().astype(int))
    fits = [(*_fit(ordered[-size:]), size) for size in sizes if ordered[-size] < ordered[-1]]
    ks, alpha, size = min(fits)
    tail = ordered[-size:]
    rng = np.random.default_rng(seed)
    others = [_fit(np.sort(tail[0] * (1 - rng.random(size)) ** (-1 / alpha)))[0] for _ in range(draws)]
    p = (1 + np.count_nonzero(np.array(others) >= ks)) / (1 + draws)
    own = np.log(alpha / tail[0]) - (alpha + 1) * np.log(tail / tail[0])
    return PowerLaw(
        alpha,
        float(tail[0]),
        int(size),
        ks,
        float(p),
        _vuong(own, _exponential(tail)),
        _vuong(own, _lognormal(tail)),
    )


def _fit(tail: Floats) -> tuple[float, float]:
    """KS distance and tail index of sorted values, the first of which is x_min."""
    logs = np.log(tail / tail[0])
    alpha = len(tail) / float(logs.sum())
    model = 1 - np.exp(-alpha * logs)
    steps = np.arange(len(tail) + 1) / len(tail)
    return float(max((steps[1:] - model).max(), (model - steps[:-1]).max())), alpha


def _exponential(tail: Floats) -> Floats:
    scale = float((tail - tail[0]).mean())
    return np.asarray(-math.log(scale) - (tail - tail[0]) / scale)


def _lognormal(tail: Floats) -> Floats | None:
    """Log density of a log-normal conditional on exceeding x_min, by maximum likelihood."""
    from scipy.optimize import minimize

    logs = np.log(tail)

    def density(parameters: Floats) -> Floats:
        mean, sigma = parameters[0], math.exp(parameters[1])
        above = stats.norm.logsf((logs[0] - mean) / sigma)
        return np.asarray(stats.norm.logpdf((logs - mean) / sigma) - math.log(sigma) - logs - above)

    start = np.array([logs.mean(), math.log(logs.std() + 1e-12)])
    found = minimize(lambda x: -float(density(x).mean()), start, method="Nelder-Mead", options={"maxiter": 400})
    fitted = density(found.x)
    return fitted if np.isfinite(fitted).all() else None


def _vuong(own: Floats, other: Floats | None) -> float | None:
    if other is None:
        return None
    difference = own - other
    spread = float(difference.std())
    return float(difference.sum() / (spread * math.sqrt(len(difference)))) if spread > 0 else None
