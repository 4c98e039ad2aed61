"""Config of the perturbation tests: noise at all positions."""

from typing import Annotated, Literal

from pydantic import Field

from tremor.config.base import Block, Choices, Integer, Seed
from tremor.config.quotients import Power, Precision

Binary = Annotated[Integer, Field(ge=-60, le=60)]
"""A power of two of a magnitude."""


class Perturbation(Block):
    """Noise at all positions of a prompt: the Llama and GPT perturbation tests."""

    precisions: Choices[Precision] = Field(
        default=("bfloat16", "float32"), description="Types the model runs in, one job each."
    )
    lattice_powers: Choices[Binary] = Field(
        default=tuple(range(-10, 6)),
        description="Constants c = 2^k of the cancellation test fl(fl(E + c) - c).",
    )
    kinds: Choices[Literal["gaussian", "uniform", "sign", "single_dimension"]] = Field(
        default=("gaussian", "uniform", "sign", "single_dimension"),
        description="Kinds of additive noise; every position gets a unit vector of its own.",
    )
    relative_powers: Choices[Power] = Field(
        default=tuple(range(-8, 1)),
        description="Lengths of the noise over that of each position's embedding, as powers of ten.",
    )
    absolute_powers: Choices[Binary] = Field(
        default=tuple(range(-10, 6)), description="Lengths of the noise, 2^k embedding units."
    )
    seed: Seed = Field(default=0, description="Seed of the noise; a kind has one draw for all its lengths.")
