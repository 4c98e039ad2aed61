"""What ablations do to sentences: effects in nats with intervals, percentages of perplexity, controls. No torch.

A percentage of perplexity is an effect in nats in other clothes: PPL = exp(NLL), so the change is exp(delta NLL) - 1
whatever the baseline. Only the *absolute* change of perplexity carries the baseline as a factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from tremor.evaluate.effects import Resampler, contrast

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """Scores of some sentences.

    Attributes:
        nll: Nats of each sentence, clean [n].
        changed: The same under the ablation [n].
        controls: The same under each random ablation [draws, n].
        tokens: Predicted tokens [n].
    """

    nll: Floats
    changed: Floats
    controls: Floats
    tokens: Floats

    @property
    def baseline(self) -> float:
        """NLL in nats per token, clean."""
        return float(self.nll.sum() / self.tokens.sum())

    @property
    def perturbed(self) -> float:
        """NLL in nats per token, under the ablation."""
        return float(self.changed.sum() / self.tokens.sum())

    @property
    def delta(self) -> float:
        """Their difference."""
        return float((self.changed - self.nll).sum() / self.tokens.sum())

    @property
    def percentage(self) -> float:
        """Change of perplexity in percent: 100 (exp(delta) - 1)."""
        return float(100 * np.expm1(self.delta))

    @property
    def control_deltas(self) -> Floats:
        """Effect of each random ablation, nats per token."""
        return np.asarray((self.controls - self.nll).sum(axis=1) / self.tokens.sum())


def likelihood(part: Part, *, draws: int, seed: int, confidence: float) -> dict[str, float]:
    """Effect on the likelihood of whole sentences, the sentences being the units that are resampled.

    Returns:
        NLL and perplexity before and after, their change with interval, and spreads over sentences (n - 1).
    """
    per_text, before, after = (part.changed - part.nll), part.nll / part.tokens, part.changed / part.tokens
    interval = Resampler(part.tokens, draws=draws, seed=seed).interval(per_text / part.tokens, confidence=confidence)
    return {
        "sentences": len(part.nll),
        "tokens": int(part.tokens.sum()),
        "baseline_nll": part.baseline,
        "perturbed_nll": part.perturbed,
        "delta_nll": part.delta,
        "delta_nll_low": interval.low,
        "delta_nll_high": interval.high,
        "baseline_ppl": float(np.exp(part.baseline)),
        "perturbed_ppl": float(np.exp(part.perturbed)),
        "absolute_change": float(np.exp(part.perturbed) - np.exp(part.baseline)),
        "percentage_change": part.percentage,
        "percentage_low": float(100 * np.expm1(interval.low)),
        "percentage_high": float(100 * np.expm1(interval.high)),
        "baseline_nll_std": float(before.std(ddof=1)),
        "perturbed_nll_std": float(after.std(ddof=1)),
        "delta_nll_std": float((after - before).std(ddof=1)),
        "baseline_std": float(np.exp(before).std(ddof=1)),
        "perturbed_std": float(np.exp(after).std(ddof=1)),
    }


def against_controls(effect: float, controls: npt.ArrayLike, prefix: str) -> dict[str, float]:
    """An effect beside those of random units: mean, std, percentile, z and one-sided p."""
    found = contrast(effect, controls)
    below = np.asarray(controls, dtype=np.float64) < effect
    return {
        f"{prefix}_mean": found.mean,
        f"{prefix}_std": found.std,
        f"{prefix}_percentile": float(100 * below.mean()),
        f"{prefix}_z": float("nan") if found.z is None else found.z,
        f"{prefix}_p": found.p,
    }


def answers(
    clean: Floats, changed: Floats, controls: Floats, *, draws: int, seed: int, confidence: float
) -> dict[str, float]:
    """Effect on the answers' log-probabilities, each fact counting once.

    Args:
        clean: Log-probability of each answer [n].
        changed: The same under the ablation [n].
        controls: The same under each random ablation [draws, n].
        draws: Resamples.
        seed: Their seed.
        confidence: Share of them inside the interval.
    """
    change = changed - clean
    interval = Resampler(np.ones(len(clean)), draws=draws, seed=seed).interval(change, confidence=confidence)
    return {
        "answer_logprob": float(clean.mean()),
        "answer_logprob_change": float(change.mean()),
        "answer_logprob_change_low": interval.low,
        "answer_logprob_change_high": interval.high,
        "answer_logprob_change_std": float(change.std(ddof=1)),
        "answer_probability": float(np.exp(clean).mean()),
        "answer_probability_after": float(np.exp(changed).mean()),
        # An answer that is lost is a large effect: the sign is turned for the comparison.
        **against_controls(-float(change.mean()), -(controls - clean).mean(axis=1), "answer_control"),
    }


def selectivity(erased: float, other: float) -> float:
    """The original's selectivity of two percentages: |erased| / (|other| + 1e-6)."""
    return abs(erased) / (abs(other) + 1e-6)


def regression(x: npt.ArrayLike, y: npt.ArrayLike) -> Mapping[str, Any]:
    """Least squares of y on x with correlation and two-sided p; NaN where x is constant or points are fewer than 3."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(a) < 3 or np.ptp(a) == 0:
        return {"points": len(a), **dict.fromkeys(("slope", "intercept", "correlation", "p"), float("nan"))}
    fit = stats.linregress(a, b)
    return {
        "points": len(a),
        "slope": float(fit.slope),
        "intercept": float(fit.intercept),
        "correlation": float(fit.rvalue),
        "p": float(fit.pvalue),
    }
