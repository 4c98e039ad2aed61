"""Config of the experiments that go a given way: exp1 (through the layers), exp11 (turned), exp14 (small steps)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tremor.config.base import Block, Choices, PositiveInteger, PositiveReal, Real, Seed, refuse

START = 1e-6
STEP = 1e-11  # moves an input of the embedded models in one step of twenty; 6e-14 that of the original, in one of seven


class Exp1(Block):
    """exp1: how the difference between two near inputs travels through the layers, and a walk in equal steps."""

    vectors: Choices[PositiveInteger | Literal["last"]] = Field(
        default=(1, "last"),
        description="Ranks of the right singular vectors to go along, 1 for the largest; last: the smallest "
        "computed. The walk goes along the first of them.",
    )
    start: PositiveReal = Field(default=START, description="Distance from the prompt at which to begin.")
    step: PositiveReal = Field(default=STEP, description="One step; input k of the walk is at start + k * step.")
    jumps: Choices[PositiveInteger] = Field(
        default=tuple(10**k for k in range(10)),
        description="Gaps of the two inputs that are compared layer by layer, in steps.",
    )
    walk_steps: PositiveInteger = Field(default=1000, description="Steps of the walk.")
    threshold: Real = Field(
        default=0.0,
        ge=0.0,
        description="A coordinate has changed if it differs by more than this; 0: if any bit differs.",
    )
    true_float64: bool = Field(
        default=True,
        description="Do it again in true float64 (a gate decides whether the model may be called that). "
        "Takes eight more bytes a weight.",
    )


class Exp11(Block):
    """exp11: does it matter for what changes which way the direction is turned? Shifts, rotations, random turns."""

    vector: PositiveInteger = Field(default=1, description="Rank of the right singular vector that is turned.")
    partner: PositiveInteger = Field(default=2, description="Rank of the one that spans the plane of rotation with it.")
    start: PositiveReal = Field(default=START, description="Distance of the first input from the prompt.")
    step: PositiveReal = Field(default=STEP, description="One step.")
    jumps: Choices[PositiveInteger] = Field(
        default=(1, 10, 20, 50, 100), description="Gaps between the two inputs that are compared, in steps."
    )
    shift_stride: Literal["auto"] | PositiveInteger = Field(
        default="auto",
        description="Cyclic shifts 0, stride, 2 stride, ... of the direction's coordinates; auto: such that "
        "there are 64.",
    )
    angles: PositiveInteger = Field(
        default=64, description="Rotations in the plane, evenly spaced over the circle, the first 0."
    )
    random_rotations: PositiveInteger = Field(
        default=64, description="Rotations drawn uniformly from all (Haar measure)."
    )
    seed: Seed = Field(default=0, description="Seed of those.")
    threshold: Real = Field(
        default=0.0,
        ge=0.0,
        description="A coordinate has changed if it differs by more than this; 0: if any bit differs.",
    )

    @model_validator(mode="after")
    def _plane_is_a_plane(self) -> Self:
        if self.vector == self.partner:
            raise refuse(f"vector and partner are both {self.vector}; name two different ranks")
        return self


class Exp14(Block):
    """exp14: equal small steps along a singular vector: which of them change the input, which the answer?"""

    vector: PositiveInteger = Field(default=1, description="Rank of the right singular vector to walk along.")
    start: PositiveReal = Field(default=START, description="Distance from the prompt at which to begin.")
    steps: Choices[PositiveReal] = Field(
        default=(STEP, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6),
        description="Sizes of a step, one walk each; the first is the one that most figures show.",
    )
    count: PositiveInteger = Field(default=500, description="Steps of each walk.")
    noise_samples: PositiveInteger = Field(
        default=64, description="Inputs a few ulps from the prompt that measure the rounding noise floor."
    )
    noise_seed: Seed = Field(default=0, description="Seed of those inputs.")
