"""Config of exp4: what is counted where the runs of two platforms part."""

from typing import Annotated

from pydantic import Field

from tremor.config.base import Block, Choices, Integer, PositiveInteger

Power = Annotated[Integer, Field(ge=-300, le=300)]
"""A power of ten that float64 holds."""


class Exp4(Block):
    """exp4: where the runs of two platforms part, and what their states and predictions are there."""

    threshold_powers: Choices[Power] = Field(
        default=tuple(range(-1, -16, -1)),
        description="Thresholds as powers of ten: a coordinate counts if it differs by more than 10 to this power.",
    )
    ulps: Choices[PositiveInteger] = Field(
        default=tuple(4**k for k in range(11)),
        description="The same in steps of the float lattice: it counts if it differs by at least so many.",
    )
    top: PositiveInteger = Field(
        default=5, le=10, description="Best tokens of each run in the tables of logits; a recording holds ten."
    )
    ranks: Choices[PositiveInteger] = Field(
        default=(1, 2, 3, 10, 100),
        description="Ranks of the tokens whose unembedding vectors are compared with the state. Those beyond ten are "
        "computed again from the states.",
    )
    block: PositiveInteger = Field(
        default=8192, description="Rows of the unembedding in memory at a time, in float64. Changes no result."
    )
    bins: PositiveInteger = Field(default=50, description="Bins of the histograms of angles.")
