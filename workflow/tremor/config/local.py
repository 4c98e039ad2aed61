"""Config of exp5: local Jacobians of blocks and branches, and the modules of a layer under two near inputs."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tremor.config.base import Block, Choices, NaturalNumber, PositiveInteger, PositiveReal, Real, Seed, refuse
from tremor.config.walks import START, STEP


class Exp5(Block):
    """exp5: how much each block and branch stretches a small change, and what two near inputs do inside a block."""

    method: Literal["dense", "lanczos"] = Field(
        default="dense",
        description="dense: whole local Jacobians. lanczos: leading singular values only, for models whose "
        "Jacobians are too large.",
    )
    branches: bool = Field(
        default=True, description="Measure the mixer and the MLP branch of every block too, not blocks only."
    )
    top_k: PositiveInteger = Field(default=4, description="Singular values of each stage (lanczos).")
    max_iterations: PositiveInteger = Field(
        default=256, description="Most steps for each stage (lanczos); at least top_k."
    )
    tolerance: Real = Field(
        default=1e-5, gt=0.0, lt=1.0, description="Relative residual that counts as converged (lanczos)."
    )
    seed: Seed = Field(default=0, description="Seed of the start vectors (lanczos).")
    layers: Choices[NaturalNumber | Literal["last"]] = Field(
        default=("last",),
        description="Blocks whose modules are compared one by one, counted from 0; last: the last one.",
    )
    vector: PositiveInteger = Field(default=1, description="Rank of the right singular vector that both inputs lie on.")
    start: PositiveReal = Field(default=START, description="Distance of the first input from the prompt.")
    step: PositiveReal = Field(default=STEP, description="One step.")
    jumps: Choices[PositiveInteger] = Field(
        default=(1, 100, 10_000, 1_000_000), description="Gaps between the two inputs, in steps."
    )
    threshold: Real = Field(
        default=0.0,
        ge=0.0,
        description="A coordinate has changed if it differs by more than this; 0: if any bit differs.",
    )

    @model_validator(mode="after")
    def _steps_suffice(self) -> Self:
        if self.max_iterations < self.top_k:
            raise refuse(f"max_iterations ({self.max_iterations}) is below top_k ({self.top_k}); raise it")
        return self
