"""The regimes of a rounded function: where nothing changes, where rounding answers, where the smooth map does.

For steps of length r the answer's change is J * step (smooth part) + rounding noise + curvature. The part that the
smooth map does not explain, n = ||dh - J dx||, is a plateau (the noise floor N) at small r, rises where curvature
outgrows it, and may end on a second plateau where the answer cannot move further away. That shape is fitted to the
data (squares add up); all borders follow from it and from the data, and each has a band from resampling the steps.

arXiv 2604.13206 names three regimes: stable, chaotic, signal-dominated. A real function has a fourth at large steps,
where its derivative at x no longer describes it; it is kept apart here, as ``nonlinear``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
REGIMES = ("stable", "chaotic", "signal", "nonlinear")
_KNOTS = 36  # candidate places of each corner of the fitted shape
_FINE = 21  # places of the first corner that are tried between the knots beside the best one
_POWERS = (1.0, 2.0, 3.0)  # of its rise
_FEWEST = 8  # steps that change the answer, below which there is nothing to fit
_BAND = (0.025, 0.975)


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % band; NaN where the data do not show it."""

    value: float
    low: float
    high: float


NONE = Estimate(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Ramp:
    """Floor, rise, ceiling: n^2 = N^2 (1 + q^2), where q rises from 1 at ``start`` as r^power up to ``end``."""

    level: Float  # [b] natural logarithm of N, one for each sample
    start: Float  # [b] log r where what rises is as large as the floor; inf where nothing rises
    end: Float  # [b] log r where it stops rising
    power: Float  # [b] of the rise: 2 for curvature, 1 for an error of the smooth map itself


def resampling(count: int, draws: int, *, seed: int) -> Float:
    """[1 + draws, count] how often each step is in each sample; the first sample is the data themselves."""
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(count, np.full(count, 1.0 / count), size=draws).astype(np.float64)
    return np.concatenate([np.ones((1, count)), drawn])


def ramp_shape(u: Float, start: Float, end: Float, power: Float) -> Float:
    """log(n / N) of a ramp at log r = u; arguments broadcast."""
    # 1 / q^2 adds up from the rise and from the ceiling, so the corners are round as in real sums of squares.
    never = ~np.isfinite(start) & (power == 0)
    corner = np.where(never, 0.0, start)
    ceiling = np.where(np.isfinite(end), -2 * power * (np.where(np.isfinite(end), end, corner) - corner), -np.inf)
    inverse = np.logaddexp(-2 * power * (u - corner), ceiling)
    shape: Float = np.where(never, 0.0, 0.5 * np.logaddexp(0.0, -inverse))
    return shape


def fit_ramp(r: Float, n: Float, weights: Float) -> Ramp:
    """Least squares of log n over log r for every sample: a grid of corners and powers, then a finer one of corners.

    The floor itself is the mean of log n before the corner: what rises behind it is no evidence of the floor.

    Args:
        r: [k] positive.
        n: [k] positive.
        weights: [b, k] see :func:`resampling`.
    """
    u, v = np.log(r), np.log(n)
    knots = np.linspace(u.min(), u.max(), _KNOTS)
    ends = np.append(knots, np.inf)  # it may rise to the end of the data
    first, last = np.triu_indices(_KNOTS, 1, _KNOTS + 1)
    coarse = np.concatenate([np.column_stack([knots[first], ends[last], np.full(len(first), p)]) for p in _POWERS])
    best = coarse[_best(u, v, weights, coarse)]
    spacing = knots[1] - knots[0]
    near = np.unique(best, axis=0)
    offsets = spacing * np.linspace(-1.0, 1.0, _FINE)
    fine = np.concatenate([near + np.array([offset, 0.0, 0.0]) for offset in offsets])
    fine = np.concatenate([[[np.inf, np.inf, 0.0]], fine[fine[:, 0] < fine[:, 1]]])  # the first one never rises
    start, end, power = fine[_best(u, v, weights, fine)].T
    floor = weights * (u[None] <= start[:, None])
    floor = np.where(floor.sum(axis=1, keepdims=True) > 0, floor, weights)
    rest = v[None] - ramp_shape(u[None], start[:, None], end[:, None], power[:, None])
    return Ramp(level=(floor * rest).sum(axis=1) / floor.sum(axis=1), start=start, end=end, power=power)


def _best(u: Float, v: Float, weights: Float, shapes: Float) -> npt.NDArray[np.int64]:
    """[b] the row of shapes [g, 3] (start, end, power) that fits each sample best, each with its own level."""
    start, end, power = (shapes[:, [k]] for k in range(3))
    rest = v[None] - ramp_shape(u[None], start, end, power)  # [g, k]
    total = weights.sum(axis=1)[:, None]
    level = weights @ rest.T / total
    best: npt.NDArray[np.int64] = np.argmin(weights @ (rest**2).T / total - level**2, axis=1)
    return best


def switch(size: Float, on: npt.NDArray[np.bool_], weights: Float) -> Estimate:
    """The size above which something holds and below which it does not, by fewest exceptions.

    Args:
        size: [k] positive.
        on: [k].
        weights: [b, k] see :func:`resampling`.

    Returns:
        The border, between the two sizes that embrace it (geometric mean); NaN if it never or always holds.
    """
    if on.all() or not on.any():
        return NONE
    order = np.argsort(size, kind="stable")
    u, up, w = np.log(size[order]), on[order], weights[:, order]
    # Exceptions of a border before position i: those on below it, and those off from it on.
    below = np.concatenate([np.zeros((len(w), 1)), np.cumsum(w * up, axis=1)], axis=1)
    above = np.concatenate([np.zeros((len(w), 1)), np.cumsum((w * ~up)[:, ::-1], axis=1)], axis=1)[:, ::-1]
    wrong = below + above
    least = wrong.min(axis=1, keepdims=True)
    places = np.concatenate([u[:1], (u[1:] + u[:-1]) / 2, u[-1:]])
    # Several borders may be equally good: the middle one.
    border = np.array([np.median(places[row == low]) for row, low in zip(wrong, least, strict=True)])
    return _estimate(border)


def _estimate(logs: Float) -> Estimate:
    """Estimate from logarithms: the first is the data's, the others make the band."""
    if not np.isfinite(logs[0]):
        return NONE
    finite = logs[1:][np.isfinite(logs[1:])]
    if not finite.size:
        return Estimate(float(np.exp(logs[0])), float("nan"), float("nan"))
    low, high = np.quantile(finite, _BAND)
    return Estimate(*(float(np.exp(each)) for each in (logs[0], min(low, logs[0]), max(high, logs[0]))))


@dataclass(frozen=True)
class RegimeAccount:
    """What the steps along one direction say; all lengths are realised ones unless they are called nominal."""

    regime: npt.NDArray[np.int64]  # [s] index into REGIMES of each step
    first_change_nominal: Estimate  # border of "the answer changes" in nominal size
    first_change: Estimate  # the same in realised length, over steps that move the input
    last_silent_nominal: float  # nominal size up to which no step changes the answer; NaN if the first one does
    first_changing_nominal: float  # smallest nominal size that does
    largest_unchanged_nominal: float  # largest nominal size that does not
    absorbed: int  # steps that move the input and leave the answer
    noise_floor: Estimate  # N
    noise_slope: float  # d log n / d log r over the chaotic steps: 0 if the noise does not depend on the step
    crossover: Estimate  # N / sigma: where the smooth part is as long as the noise
    crossover_seen: Estimate  # border between the chaotic steps and the signal steps
    curvature: Estimate  # where curvature is as long as the noise
    signal_end: Estimate  # border between the signal steps and the nonlinear ones
    signal_gain: Estimate  # median gain over the signal steps, with its 5 % and 95 % quantiles


def regimes(
    nominal: Float,
    realised: Float,
    output: Float,
    smooth: Float,
    residual: Float,
    *,
    sigma: float,
    draws: int = 400,
    seed: int = 0,
) -> RegimeAccount:
    """Classify steps along one direction and estimate the borders between regimes.

    A step is *stable* if it leaves the answer, bit for bit. Else it is *signal* if what the smooth part leaves over is
    shorter than the smooth part and than the change itself (it tells more than "nothing happens" does), and *chaotic*
    or *nonlinear* if not, by whether noise or curvature is what is left over at that length.

    Args:
        nominal: [s] ascending nominal sizes.
        realised: [s] realised lengths, 0 where the input did not move.
        output: [s] length of the answer's change, 0 where no bit changed.
        smooth: [s] length of the smooth part.
        residual: [s] length of the rest.
        sigma: Gain of the smooth map along the direction.
        draws: Samples for the bands.
        seed: Of the samples.
    """
    changed, moved = output > 0, realised > 0
    regime = np.zeros(len(nominal), dtype=np.int64)
    nothing: dict[str, Any] = {
        "noise_floor": NONE, "noise_slope": float("nan"), "crossover": NONE, "crossover_seen": NONE,
        "curvature": NONE, "signal_end": NONE, "signal_gain": NONE,
    }  # fmt: skip
    told: dict[str, Any] = {
        "first_change_nominal": switch(nominal, changed, resampling(len(nominal), draws, seed=seed)),
        "first_change": _first_change(realised, changed, moved, draws, seed),
        **_brackets(nominal, changed),
        "absorbed": int(np.sum(moved & ~changed)),
    }
    explained = changed & (residual < np.minimum(smooth, output))
    fitted = changed & (residual > 0)
    if fitted.sum() < _FEWEST:
        regime[changed] = np.where(explained, 2, 1)[changed]
        return RegimeAccount(regime=regime, **told, **nothing)
    ramp = fit_ramp(realised[fitted], residual[fitted], resampling(int(fitted.sum()), draws, seed=seed))
    with np.errstate(divide="ignore"):
        beyond = np.log(realised) >= ramp.start[0]
    regime[changed] = np.where(explained, 2, np.where(beyond, 3, 1))[changed]
    chaotic, signal, nonlinear = (regime == number for number in (1, 2, 3))
    gains = output[signal] / realised[signal]
    return RegimeAccount(
        regime=regime,
        **told,
        noise_floor=_estimate(ramp.level),
        noise_slope=_slope(realised[chaotic], residual[chaotic]),
        crossover=_estimate(ramp.level - np.log(sigma)) if sigma > 0 else NONE,
        crossover_seen=_within(realised, signal, chaotic | signal, draws, seed),
        curvature=_estimate(ramp.start),
        signal_end=_within(realised, nonlinear, signal | nonlinear, draws, seed),
        signal_gain=Estimate(*(float(q) for q in np.quantile(gains, (0.5, 0.05, 0.95)))) if gains.size else NONE,
    )


def _within(realised: Float, on: Array, among: Array, draws: int, seed: int) -> Estimate:
    """The border of ``on`` among some of the steps."""
    if not among.any():
        return NONE
    return switch(realised[among], on[among], resampling(int(among.sum()), draws, seed=seed))


def _first_change(realised: Float, changed: Array, moved: Array, draws: int, seed: int) -> Estimate:
    if moved.any() and changed[moved].all():  # no step that moves the input is absorbed: the shortest is the border
        shortest = float(realised[moved].min())
        return Estimate(shortest, shortest, shortest)
    return _within(realised, changed, moved, draws, seed)


def _brackets(nominal: Float, changed: npt.NDArray[np.bool_]) -> dict[str, float]:
    nan = float("nan")
    first = int(np.argmax(changed)) if changed.any() else len(nominal)
    off = np.flatnonzero(~changed)
    return {
        "last_silent_nominal": float(nominal[first - 1]) if first else nan,
        "first_changing_nominal": float(nominal[first]) if first < len(nominal) else nan,
        "largest_unchanged_nominal": float(nominal[off[-1]]) if off.size else nan,
    }


def _slope(r: Float, n: Float) -> float:
    if len(r) < _FEWEST or np.ptp(np.log(r)) == 0:
        return float("nan")
    return float(np.polyfit(np.log(r), np.log(n), 1)[0])


def quantile_bands(
    size: Float, value: Float, *, per_decade: int, least: int = 3
) -> tuple[Float, Float, npt.NDArray[np.int64]]:
    """Quantiles of values in bins of the logarithm of a size.

    Args:
        size: [k] positive.
        value: [k].
        per_decade: Bins of a decade.
        least: Bins with fewer values are left out.

    Returns:
        Geometric middle of each bin [b]; quantiles [b, 3] at 5, 50 and 95 %; number of values [b].
    """
    number = np.floor(np.log10(size) * per_decade + 1e-9).astype(np.int64)
    kept = [k for k in np.unique(number) if np.sum(number == k) >= least]
    middles = np.array([10.0 ** ((k + 0.5) / per_decade) for k in kept])
    bands = np.array([np.quantile(value[number == k], (0.05, 0.5, 0.95)) for k in kept]).reshape(-1, 3)
    return middles, bands, np.array([int(np.sum(number == k)) for k in kept], dtype=np.int64)
