"""Config of the cross-examination: do critical weights move the spectrum, the noise floor, the boundary?"""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from tremor.config.base import (
    Arithmetic,
    Block,
    Choices,
    Integer,
    NaturalNumber,
    PositiveInteger,
    Seed,
    StepLength,
    refuse,
)
from tremor.config.esa_methods import Finder, Method

AUTO_SCORES: tuple[Method, ...] = ("taylor_abs", "grad_squared")
AUTO_METHODS: tuple[Finder, ...] = ("spikes", "magnitude")


class Cross(Block):
    """cross: change the weights that scores name, and measure spectrum, noise floor and boundary again."""

    scores: Literal["auto"] | tuple[Method, ...] = Field(
        default="auto",
        description="Rankings of critical_weights that are taken up, among critical_weights.metrics; [] for none. "
        "auto: taylor_abs and grad_squared, as far as they are ranked.",
    )
    methods: Literal["auto"] | tuple[Finder, ...] = Field(
        default="auto",
        description="Lists of esa/super-weights that are taken up, among esa.super_weights.methods; [] for none. "
        "auto: spikes (the super weights) and magnitude, as far as they are listed.",
    )
    topk: Choices[PositiveInteger] = Field(
        default=(1, 10, 100), description="Sizes K of the sets; a shorter list is taken whole."
    )
    operations: Choices[Literal["zero", "halve", "double", "sign", "mean"]] = Field(
        default=("zero", "halve", "double", "sign"), description="What becomes of the weights."
    )
    inside: bool = Field(
        default=True,
        description="true: only weights inside blocks count for K, for others cannot move the last hidden state of a "
        "given input. false: the lists as they are.",
    )
    controls: Integer = Field(
        default=20,
        ge=2,
        description="Random sets of as many weights of the same tensors for each set; the least p is 1/(controls+1).",
    )
    deep_controls: NaturalNumber = Field(
        default=5, description="How many of these are also measured for boundaries and likelihood, which cost more."
    )
    control_seed: Seed = Field(default=0, description="Seed of the random sets.")
    recompute_directions: bool = Field(
        default=False,
        description="false: the changed model is probed at the clean model's input, along its directions. true: at and "
        "along its own.",
    )
    angles: PositiveInteger = Field(
        default=8, description="Rays of the boundary, evenly spaced in the plane of v_1 and v_2; the first is v_1."
    )
    s_max: StepLength = Field(default=1e-6, description="Longest step of the boundary; beyond it a ray is censored.")
    max_evaluations: Integer = Field(
        default=512, ge=2, description="Distinct inputs on a ray tried one by one before the search leaps."
    )
    arithmetic: Arithmetic = Field(default="float64", description="How the step is added to the input.")
    batch_size: PositiveInteger = Field(
        default=64, description="Rows of a batch (probe.mode: batched), the same for the clean and all changed models."
    )
    top_k: PositiveInteger = Field(default=8, description="Singular values that are kept of each set.")
    noise_samples: PositiveInteger = Field(
        default=64, description="Inputs a few ulps from the prompt that measure the rounding noise floor."
    )
    noise_seed: Seed = Field(default=0, description="Seed of those inputs.")
    texts: PositiveInteger = Field(default=28, ge=2, description="Held-out passages for the change of the NLL.")
    text_batch_size: PositiveInteger = Field(default=64, description="Texts in one forward pass.")

    @model_validator(mode="after")
    def _lists_are_told_apart(self) -> Self:
        for key, listed in (("scores", self.scores), ("methods", self.methods)):
            if listed != "auto" and len(set(listed)) < len(listed):
                raise refuse(f"{key} lists a name twice; remove one")
        if "auto" not in (self.scores, self.methods):
            both = [name for name in self.methods if name in self.scores]
            if both:
                raise refuse(f"{both[0]!r} is in both scores and methods; remove it from one")
        if not self.scores and not self.methods:
            raise refuse("scores and methods are both empty; name at least one")
        if self.deep_controls > self.controls:
            raise refuse(f"deep_controls ({self.deep_controls}) are some of the {self.controls} controls; lower them")
        if self.deep_controls == 1:
            raise refuse("deep_controls is 1, which is no distribution; use 0, or at least 2")
        return self

    def chosen(self, ranked: Sequence[str], listed: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The scores and the methods that are taken up, `auto` resolved.

        Args:
            ranked: critical_weights.metrics.
            listed: esa.super_weights.methods.
        """
        scores = tuple(name for name in AUTO_SCORES if name in ranked) if self.scores == "auto" else self.scores
        if self.methods != "auto":
            return tuple(name for name in scores if self.scores != "auto" or name not in self.methods), self.methods
        return scores, tuple(name for name in AUTO_METHODS if name in listed and name not in scores)
