"""Config of critical_weights: single weights by several metrics, changed exactly, with controls."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tremor.config.base import (
    Block,
    Choices,
    NaturalNumber,
    PositiveInteger,
    PositiveReal,
    Real,
    Seed,
    refuse,
)
from tremor.config.esa import Scores
from tremor.config.esa_methods import Method


class CriticalWeights(Block):
    """critical_weights: which single weights matter, by several metrics, and what changing them costs."""

    metrics: Choices[Method] = Field(
        default=("taylor_signed", "taylor_abs", "grad_squared", "magnitude", "wanda"),
        description="Scores that rank the weights.",
    )
    topk: Choices[PositiveInteger] = Field(default=(10, 50, 100, 500), description="Sizes K of the selected sets.")
    mask_ratios: Choices[Real] = Field(
        default=(0.1, 0.25, 0.5, 0.75, 1.0), description="Shares of the K weights that are changed, best first."
    )
    control_ratios: Choices[Real] = Field(
        default=(1.0,), description="Ratios at which random controls are drawn too; each costs `controls` evaluations."
    )
    controls: PositiveInteger = Field(
        default=20,
        ge=2,
        description="Random sets of as many weights of the same tensors; the least p is 1/(controls+1).",
    )
    control_match: Literal["tensor", "magnitude"] = Field(
        default="tensor", description="tensor: controls match in the tensor; magnitude: in the quantile of |w| too."
    )
    magnitude_bins: PositiveInteger = Field(default=10, description="Quantiles of |w| (control_match: magnitude).")
    control_seed: Seed = Field(default=0, description="Seed of the controls, and of Gaussian noise.")
    operation: Literal["zero", "mean", "sign", "gaussian", "flip"] = Field(
        default="zero", description="What becomes of the weights."
    )
    noise: PositiveReal = Field(default=1.0, description="Noise in units of |w| (operation: gaussian).")
    bit: NaturalNumber = Field(default=30, le=63, description="Bit that is flipped, 0 the lowest (operation: flip).")
    layers: Choices[NaturalNumber] | None = Field(
        default=None, description="Blocks that are scored, from 0; null: all, and what lies outside them."
    )
    components: Choices[str] | None = Field(
        default=None, description="Components that are scored, see docs/critical_weights.md; null: all matrices."
    )
    calibration: PositiveInteger | None = Field(
        default=70, ge=2, description="Passages that scores read, from all domains in turn; null: all."
    )
    texts: PositiveInteger | None = Field(
        default=42,
        ge=2,
        description="Held-out passages that effects are measured on, from all domains in turn; null: all.",
    )
    batch_size: PositiveInteger = Field(default=64, description="Texts in one forward pass.")
    bos: Literal["auto", "always", "never"] = Field(
        default="auto", description="Begin-of-text token: left to the tokenizer, always, or never."
    )
    scores: Scores = Field(default=Scores(), description="Settings of the scores.")
    stability_seeds: Choices[Seed] = Field(
        default=(0, 1), min_length=2, description="Seeds under which rankings are compared."
    )
    persistence: Real = Field(default=0.98, gt=0.0, lt=1.0, description="Persistence p of rank-biased overlap.")
    sample: PositiveInteger = Field(
        default=1_000_000, description="Weights whose scores are kept for correlations, percentiles and tails."
    )
    sample_seed: Seed = Field(default=0, description="Seed of that sample and of synthetic tails.")
    tail_draws: PositiveInteger = Field(default=100, description="Synthetic tails for the test of the power law.")
    bootstrap: PositiveInteger = Field(default=2000, description="Resamples of the texts.")
    bootstrap_seed: Seed = Field(default=0, description="Their seed.")
    confidence: Real = Field(default=0.95, gt=0.0, lt=1.0, description="Level of the intervals.")

    @model_validator(mode="after")
    def _ratios_are_shares(self) -> Self:
        for name in ("mask_ratios", "control_ratios"):
            wrong = [ratio for ratio in getattr(self, name) if not 0 < ratio <= 1]
            if wrong:
                raise refuse(f"{name} has {wrong[0]}, which is no share; choose ratios above 0, up to 1")
        extra = [ratio for ratio in self.control_ratios if ratio not in self.mask_ratios]
        if extra:
            raise refuse(f"control_ratios has {extra[0]}, which is not among mask_ratios; add it there")
        return self
