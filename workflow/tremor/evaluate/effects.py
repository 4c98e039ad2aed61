"""Effects and their uncertainty: paired bootstrap over texts, matched random controls, dose and response. No torch.

An effect is a change of NLL in nats per predicted token. Two questions are kept apart. *Is it there on other text?* is
answered by resampling texts, paired: each text is its own control. *Is it more than any weights would do?* is answered
by doing the same to random weights of the same tensors, many times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from tremor.errors import ConfigError, NumericsError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval.

    Attributes:
        estimate: The value of the sample itself.
        low: Lower end.
        high: Upper end.
    """

    estimate: float
    low: float
    high: float


class Resampler:
    """Resamples of texts, drawn once, so that all effects of a campaign are judged by the same ones.

    Args:
        tokens: int [n], predicted tokens of each text.
        draws: Resamples.
        seed: Seed of the draws.

    Raises:
        ConfigError: Fewer than two texts: there is nothing to resample.
    """

    def __init__(self, tokens: npt.ArrayLike, *, draws: int = 2000, seed: int = 0) -> None:
        self.tokens = np.asarray(tokens, dtype=np.float64)
        count = len(self.tokens)
        if count < 2:
            raise ConfigError("a bootstrap over texts needs at least two texts")
        self._times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
        self._totals = self._times @ self.tokens

    def interval(self, per_token: npt.ArrayLike, *, confidence: float = 0.95) -> Interval:
        """Interval of a corpus mean per token; texts are the units, tokens their weights.

        Args:
            per_token: float [n], mean of each text (nats per token), clean and changed already paired.
            confidence: Share of the resamples inside.

        Raises:
            NumericsError: A value is not finite; its status is to be reported instead.
        """
        sums = np.asarray(per_token, dtype=np.float64) * self.tokens
        if not np.isfinite(sums).all():
            raise NumericsError("an effect with a text that has no finite value has no interval; report its status")
        means = (self._times @ sums) / self._totals
        low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Interval(float(sums.sum() / self.tokens.sum()), float(low), float(high))


@dataclass(frozen=True)
class Contrast:
    """An effect beside the effects of its controls.

    Attributes:
        effect: The effect.
        draws: Number of controls.
        mean: Mean effect of the controls.
        std: Their standard deviation (n - 1).
        highest: The largest of them.
        z: (effect - mean) / std; None where all controls are equal.
        p: (1 + controls with at least this effect) / (1 + controls), one-sided.
        p_t: The same if controls are normal: upper tail of Student's t for one further draw (n - 1 degrees of freedom);
            not bounded by the number of controls, so that it can be adjusted for many tests. None without z.
    """

    effect: float
    draws: int
    mean: float
    std: float
    highest: float
    z: float | None
    p: float
    p_t: float | None


def contrast(effect: float, controls: npt.ArrayLike) -> Contrast:
    """Compare an effect with those of matched random controls.

    The empirical p counts the effect itself as one of the draws, so that it is never 0: with 20 controls the least
    possible is 1/21. An infinite effect (the model is destroyed) is larger than every finite control, and has no z.

    Raises:
        NumericsError: Fewer than two controls, or one of these values is NaN.
    """
    values = np.asarray(controls, dtype=np.float64)
    if len(values) < 2:
        raise NumericsError(f"{len(values)} control(s) are no distribution; draw at least two")
    if np.isnan(values).any() or np.isnan(effect):
        raise NumericsError("an effect or a control is NaN; report its status instead of a comparison")
    finite = bool(np.isfinite(values).all())
    mean = float(values.mean())
    std = float(values.std(ddof=1)) if finite else np.inf
    z = float((effect - mean) / std) if finite and std > 0 and np.isfinite(effect) else None
    p = float((1 + np.count_nonzero(values >= effect)) / (1 + len(values)))
    tail = None if z is None else float(stats.t.sf(z / np.sqrt(1 + 1 / len(values)), len(values) - 1))
    return Contrast(float(effect), len(values), mean, std, float(values.max()), z, p, tail)


@dataclass(frozen=True)
class Drawn:
    """Positions of a control, in the order of the positions they are matched to.

    Attributes:
        tensors: Name of each position's tensor.
        flat_index: int64 [m].
        disjoint: Whether no position is one of those it is matched to; not possible where these are most of a tensor.
    """

    tensors: tuple[str, ...]
    flat_index: Integers
    disjoint: bool


def matched_control(
    tensors: Sequence[str],
    flat_index: npt.ArrayLike,
    sizes: Mapping[str, int],
    rng: np.random.Generator,
    *,
    magnitudes: Mapping[str, npt.NDArray[Any]] | None = None,
    bins: int = 10,
    allowed: Mapping[str, Integers] | None = None,
) -> Drawn:
    """Draw as many random positions of each tensor as are selected there, without replacement.

    Args:
        tensors: Tensor of each selected position, [m].
        flat_index: Selected positions, [m], distinct within a tensor.
        sizes: Scalars in each tensor.
        rng: Source of randomness.
        magnitudes: |w| of each tensor, flat; given, a control also lies in the same quantile of |w| as its weight.
        bins: Number of equally full quantiles of |w|.
        allowed: Of tensors of which a part alone may be drawn (the values in a fused projection): these positions,
            ascending; the selected ones are among them.

    Returns:
        The control. Position i is matched to selected position i, so that a control of the first k is its first k.
        Memory is O(m), not O(size), without `magnitudes`.

    Raises:
        NumericsError: A selected position is not among the allowed ones.
    """
    names, chosen = np.asarray(tensors), np.asarray(flat_index, dtype=np.int64)
    drawn = np.empty_like(chosen)
    disjoint = True
    for name in dict.fromkeys(tensors):
        rows = np.flatnonzero(names == name)
        picked, inside = chosen[rows], (allowed or {}).get(name)
        if inside is not None:
            if not np.isin(picked, inside).all():
                raise NumericsError(f"a selected position of {name} lies outside the part that controls are drawn from")
            picked = np.searchsorted(inside, picked)
        if magnitudes is None:
            values, apart = _without(picked, sizes[name] if inside is None else len(inside), rng)
        else:
            own = magnitudes[name]
            values, apart = _same_quantile(picked, own if inside is None else own[inside], bins, rng)
        drawn[rows] = values if inside is None else inside[values]
        disjoint &= apart
    return Drawn(tuple(tensors), drawn, disjoint)


def _without(picked: Integers, size: int, rng: np.random.Generator) -> tuple[Integers, bool]:
    """Distinct positions below `size` that are not picked, in random order; any if fewer than that are left."""
    count, left = len(picked), size - len(picked)
    if left < count:
        return rng.choice(size, count, replace=False), False
    rank = rng.choice(left, count, replace=False)
    ordered = np.sort(picked)
    # The j-th picked position has ordered[j] - j free positions before it: ranks from there on move up by one more.
    return rank + np.searchsorted(ordered - np.arange(count), rank, side="right"), True


def _same_quantile(
    picked: Integers, magnitude: npt.NDArray[Any], bins: int, rng: np.random.Generator
) -> tuple[Integers, bool]:
    order = np.argsort(magnitude, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    edges = np.linspace(0, len(order), min(bins, len(order)) + 1).round().astype(np.int64)
    which = np.searchsorted(edges, place[picked], side="right") - 1
    drawn, apart = np.empty_like(picked), True
    for number in np.unique(which):
        rows = np.flatnonzero(which == number)
        inside, clear = _without(place[picked[rows]] - edges[number], int(edges[number + 1] - edges[number]), rng)
        drawn[rows] = order[inside + edges[number]]
        apart &= clear
    return drawn, apart


def doses(count: int, ratios: Sequence[float]) -> dict[float, int]:
    """Number of weights for each ratio of `count`: at least one, rounded to the nearest.

    The ancestor cut off: 0.7 * 10 was 6 in binary arithmetic.
    """
    return {ratio: max(1, int(np.floor(ratio * count + 0.5 + 1e-9))) for ratio in ratios}


def dose_response(dose: npt.ArrayLike, effect: npt.ArrayLike) -> dict[str, float | bool | None]:
    """Summary of effects at rising doses.

    Returns:
        `monotonic` (no effect below an earlier one), `slope` (least squares of effect against log10 dose; None with
        one dose), `half_dose` (least dose with half of the effect of the largest dose; None if that is not positive).
    """
    order = np.argsort(np.asarray(dose, dtype=np.float64), kind="stable")
    x, y = np.asarray(dose, dtype=np.float64)[order], np.asarray(effect, dtype=np.float64)[order]
    if not np.isfinite(y).all():
        return {"monotonic": None, "slope": None, "half_dose": None}
    slope = float(np.polyfit(np.log10(x), y, 1)[0]) if len(np.unique(x)) > 1 else None
    half = float(x[np.flatnonzero(y >= y[-1] / 2)[0]]) if y[-1] > 0 else None
    return {"monotonic": bool((np.diff(y) >= 0).all()), "slope": slope, "half_dose": half}


def holm(p_values: npt.ArrayLike) -> Floats:
    """Holm's step-down adjustment of p values for their number (Holm 1979).

    Args:
        p_values: float [n].

    Returns:
        float64 [n], in the same order.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
