"""Config of exp10: a chain of matrix products on two platforms, and sweeps of steps through small maps."""

from typing import Annotated, Literal

from pydantic import Field

from tremor.config.base import (
    Arithmetic,
    Block,
    Choices,
    FloatType,
    Integer,
    NaturalNumber,
    PositiveInteger,
    PositiveReal,
    Real,
    Seed,
)

SweepPower = Annotated[Integer, Field(ge=-45, le=3)]
"""A power of ten of a step; the smallest float32 is about 1e-45."""


class Exp10(Block):
    """exp10: where two platforms part in a chain of products, and what small maps make of smaller and smaller steps."""

    chain_dim: PositiveInteger = Field(default=256, description="Rows and columns of the matrices of the chain.")
    chain_matrices: PositiveInteger = Field(default=10, description="Number of products, each of them kept.")
    chain_scale: Literal["auto"] | PositiveReal = Field(
        default="auto",
        description="Standard deviation of an entry of the factors; auto: 1/sqrt(chain_dim), which keeps the size of "
        "the entries. With 1 they grow by sqrt(chain_dim) each time and leave the range of float16.",
    )
    chain_seed: Seed = Field(default=42, description="Seed of the matrices, which are drawn on the CPU.")
    chain_repeats: PositiveInteger = Field(
        default=3, description="How often each product is made in one job; the bits of all must be the same."
    )
    chain_dtypes: Choices[FloatType] = Field(
        default=("float32", "bfloat16"), description="Types the chain is run in, whatever the platform's own."
    )
    subjects: Choices[Literal["matrices", "weight", "mlp"]] = Field(
        default=("matrices", "weight", "mlp"),
        description="What the steps go through: a chain of random matrices, one weight of the model, an MLP of it.",
    )
    block: NaturalNumber = Field(default=0, description="Block that the weight and the MLP are taken from, from 0.")
    weight: Literal["auto", "q", "k", "v", "gate", "up"] = Field(
        default="auto",
        description="Projection; auto: the query's, or where there is none the first matrix the mixer reads with.",
    )
    dim: Literal["auto"] | PositiveInteger = Field(
        default="auto", description="Rows and columns of the random matrices; auto: the width of the model."
    )
    matrices: PositiveInteger = Field(default=12, description="Number of random matrices.")
    weight_scale: Literal["auto"] | PositiveReal = Field(
        default="auto", description="Standard deviation of their entries; auto: 1/sqrt(dim), which keeps lengths."
    )
    weight_seed: Seed = Field(default=0, description="Seed of the random matrices.")
    input_seed: Seed = Field(default=42, description="Seed of their input.")
    direction_seed: Seed = Field(default=42, description="Seed of the random direction.")
    arithmetic: Arithmetic = Field(default="float32", description="How x + step * d is computed before it is rounded.")
    powers: Choices[SweepPower] = Field(
        default=(-2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -12), description="Steps, as powers of ten."
    )
    tolerance: Real = Field(
        default=1e-6, gt=0.0, lt=1.0, description="Relative residual of the leading singular vector."
    )
    noise_samples: PositiveInteger = Field(
        default=16, description="Inputs an ulp away, for the rounding noise of a subject."
    )
    noise_seed: Seed = Field(default=0, description="Seed of these.")
