"""Effective rank of a set of states: how many directions they spread over, and what the sample size does to it.

The effective rank is exp of the Shannon entropy of a normalised spectrum (Roy and Vetterli 2007). Whether the states
are centred, and whether sigma or sigma^2 (the variance) is normalised, makes four numbers; each has a name here.
n states span at most n directions (n - 1 when centred), so the number of a small sample is one of the sample: beside
it stand that limit, what an isotropic Gaussian cloud of the same n and d would give, a value extrapolated from
half-samples, and a participation ratio whose two moments are estimated without bias.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tremor.errors import NumericsError

Power = Literal[1, 2]
Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EffectiveRank:
    """The effective rank of n states of width d."""

    value: float  # exp of the entropy
    samples: int
    width: int
    limit: int  # no spectrum of this many samples has more: min(n, d), or min(n - 1, d) when centred
    gaussian: float  # what isotropic Gaussian states of the same n and d give on average
    corrected: float  # first-order extrapolation to infinitely many states; NaN for fewer than 8

    @property
    def saturation(self) -> float:
        """Value over limit; near 1 the sample, not the layer, decides."""
        return self.value / self.limit


def _spectrum(states: Float, *, centred: bool) -> Float:
    values = np.linalg.svd(states - states.mean(axis=0) if centred else states, compute_uv=False)
    return np.asarray(values, dtype=np.float64)


def _entropy(singular_values: Float, power: Power) -> float:
    weights = (singular_values / singular_values[0]) ** power
    share = weights / weights.sum()
    share = share[share > 0]
    return float(-np.sum(share * np.log(share)))


def effective_rank(states: Float, *, centred: bool, power: Power, halves: int = 8, seed: int = 0) -> EffectiveRank:
    """Effective rank of the rows of a matrix.

    The entropy of a sample of n is too low by about c/n, so twice the entropy of the sample less the mean entropy of
    random halves has no such term; its exp is ``corrected``. It is a first-order correction: good where ``value`` is
    well below ``limit``, and still too low where it is not.

    Args:
        states: [n, d], n >= 2.
        centred: Whether the mean state is taken away first.
        power: 1 normalises sigma (the original study), 2 normalises sigma^2, the variance.
        halves: Pairs of complementary random halves that are averaged.
        seed: Of their draw.

    Raises:
        NumericsError: a value is NaN or infinite, there are fewer than two states, or all (centred) are zero.
    """
    count, width = states.shape
    if count < 2:
        raise NumericsError(f"an effective rank needs at least two states, not {count}; raise num_texts")
    if not np.isfinite(states).all():
        raise NumericsError("a state is NaN or infinite; its effective rank is not defined")
    values = _spectrum(states, centred=centred)
    # Of equal states rounding leaves specks: no spread at all.
    if values[0] <= np.finfo(np.float64).eps * max(states.shape) * float(np.abs(states).max()):
        raise NumericsError("all states are equal; they have no effective rank")
    entropy = _entropy(values, power)
    corrected = float("nan")
    if count >= 8:
        generator = np.random.default_rng(seed)
        parts = []
        for _ in range(halves):
            order = generator.permutation(count)
            parts += [order[: count // 2], order[count // 2 : 2 * (count // 2)]]
        half = np.mean([_entropy(_spectrum(states[part], centred=centred), power) for part in parts])
        # H(n) = H - c/n and H(m) = H - c/m give H = (n H(n) - m H(m)) / (n - m), less one degree of freedom if centred.
        n, m = count - centred, count // 2 - centred
        corrected = float(np.exp((n * entropy - m * half) / (n - m)))
    limit = min(count - centred, width)
    gaussian = gaussian_rank(count - centred, width, power)
    return EffectiveRank(float(np.exp(entropy)), count, width, limit, gaussian, corrected)


def gaussian_rank(count: int, width: int, power: Power) -> float:
    """Effective rank of iid Gaussian states [count, width] for large sizes.

    For sigma^2 the mean entropy is log m - m / (2 M) with m the smaller and M the larger of the two (Page 1993, whose
    leading terms hold for real matrices too); for sigma it is the integral over the Marchenko-Pastur density.
    """
    small, large = min(count, width), max(count, width)
    ratio = small / large
    if power == 2:
        return float(small * np.exp(-ratio / 2))
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2
    # lambda = mid + half * sin(t) takes the square roots at both edges out of the integral.
    t = (np.arange(4096) + 0.5) / 4096 * np.pi - np.pi / 2
    half = (high - low) / 2
    eigenvalue = (high + low) / 2 + half * np.sin(t)
    density = half**2 * np.cos(t) ** 2 / (2 * np.pi * ratio * eigenvalue)
    density /= density.sum()
    sigma = np.sqrt(eigenvalue)
    mean = float(np.sum(density * sigma))
    return float(small * np.exp(np.log(mean) - np.sum(density * sigma * np.log(sigma)) / mean))


def participation_ratio(states: Float) -> float:
    """(tr C)^2 / tr C^2 of the covariance C of the states, both moments estimated without bias.

    U-statistics over pairs, triples and quadruples of different states (Chen, Zhang and Zhong 2010), so that neither
    sample size nor mean enters the expectation of either; the ratio is consistent, and no number of samples limits it.

    Args:
        states: [n, d], n >= 4.

    Returns:
        The ratio, NaN where the estimate of tr C^2 is not positive.

    Raises:
        NumericsError: fewer than four states, or a value is NaN or infinite.
    """
    n = len(states)
    if not np.isfinite(states).all():
        raise NumericsError("a state is NaN or infinite; its participation ratio is not defined")
    if n < 4:
        raise NumericsError(f"a participation ratio without bias needs at least four states, not {n}; raise num_texts")
    shifted = states - states.mean(axis=0)  # leaves the statistics as they are, and less to cancel
    gram = shifted @ shifted.T
    diagonal = np.diag(gram)
    rows = gram.sum(axis=1) - diagonal  # sum over the others
    pairs = float(rows.sum())
    squares = float((gram**2).sum() - (diagonal**2).sum())
    triples = float((rows**2).sum()) - squares
    fours = pairs**2 - 2 * squares - 4 * triples

    def falling(k: int) -> float:
        return float(np.prod([n - i for i in range(k)]))

    trace_of_square = squares / falling(2) - 2 * triples / falling(3) + fours / falling(4)
    # E of (tr C)^2 without bias: products of |x_i - x_j|^2 / 2 over pairs that share no state.
    distance = diagonal[:, None] + diagonal[None, :] - 2 * gram
    total, own = float(distance.sum()), distance.sum(axis=1)
    disjoint = total**2 - 4 * float((own**2).sum()) + 2 * float((distance**2).sum())
    trace_squared = disjoint / falling(4) / 4
    return trace_squared / trace_of_square if trace_of_square > 0 else float("nan")
