"""Config of exp8: where inside the model two platforms part, and what becomes of it."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tremor.config.base import Block, Integer, PositiveInteger, refuse

Decade = Annotated[Integer, Field(ge=-45, le=10)]
"""A power of ten of a difference."""


class Exp8(Block):
    """exp8: two recordings stage by stage at the row that decided the token, and the row before it."""

    top_k: Annotated[PositiveInteger, Field(le=10)] = Field(
        default=5, description="Tokens whose unembedding vectors the final states are compared with; 10 are recorded."
    )
    smallest_decade: Decade = Field(
        default=-15, description="Differences below 10 to this power are one class of their own."
    )
    largest_decade: Decade = Field(
        default=-1, description="Differences of 10 to this power and more are one class of their own."
    )

    @model_validator(mode="after")
    def _decades_ascend(self) -> Self:
        if self.smallest_decade >= self.largest_decade:
            raise refuse(
                f"smallest_decade ({self.smallest_decade}) must be below largest_decade ({self.largest_decade})"
            )
        return self
