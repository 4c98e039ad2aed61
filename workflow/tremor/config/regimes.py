"""Config of the regimes: gain over the size of a step, in several number formats."""

from typing import Literal

from pydantic import Field

from tremor.config.base import Block, Choices, Integer, PositiveInteger, PositiveReal, Seed


class Regimes(Block):
    """regimes: where nothing changes, where rounding answers, and where the derivative does."""

    directions: Choices[PositiveInteger | Literal["middle", "last", "random"]] = Field(
        default=(1, "middle", "last", "random"),
        description="Directions: ranks of right singular vectors (1 for the largest), the middle one and the last "
        "one computed, and a random one. The first is the one of the main figure.",
    )
    largest: PositiveReal = Field(default=10.0, description="Largest step.")
    decades: Integer = Field(
        default=24,
        ge=14,
        le=300,
        description="Decades below it. Steps that move nothing cost nothing; true float64 moves from some 1e-18.",
    )
    per_decade: Integer = Field(
        default=16, ge=4, le=1000, description="Steps in each decade; near ones serve as repetitions."
    )
    precisions: Choices[Literal["float32", "bfloat16", "float16", "float64"]] = Field(
        default=("float32", "bfloat16", "float64"),
        description="Formats to map beside the model's own type; float64 is true float64 of the same weights "
        "(a gate decides whether the model may be called that; eight bytes a weight), the others load the "
        "weights rounded to them.",
    )
    bootstrap: PositiveInteger = Field(default=400, description="Resamplings of the steps for the bands.")
    seed: Seed = Field(default=0, description="Seed of the random direction and of the resamplings.")
