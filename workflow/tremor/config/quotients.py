"""Config of the difference quotients: exp2 (over a prompt set) and exp3 (precision)."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tremor.config.base import (
    Alias,
    Arithmetic,
    Block,
    Choices,
    Integer,
    PositiveInteger,
    Real,
    Seed,
    StepLength,
    Text,
    refuse,
)

Precision = Literal["bfloat16", "float16", "float32", "true_float64"]
"""A type that a model runs in; true_float64 rounds nothing to less than float64."""

Names = Literal["all"] | Choices[Alias]
"""Prompts of a set, or all of them."""

Rank = PositiveInteger | Literal["last"]
"""Rank of a singular vector, 1 for the largest."""

Power = Annotated[Integer, Field(ge=-30, le=3)]
"""A power of ten of a step."""


def _ascending(values: tuple[int, ...]) -> tuple[int, ...]:
    if list(values) != sorted(values):
        raise refuse(f"{list(values)} is not ascending; sort it")
    return values


class Exp2(Block):
    """exp2: sigma_1 over a set of prompts, and what difference quotients and their noisy averages make of it."""

    prompts: Text = Field(
        default="resources/prompts/lipschitz.tsv",
        description="File with the prompts: tab separated, columns name, kind, source, text. Looked for where "
        "Snakemake runs, then in the workflow.",
    )
    names: Names = Field(default="all", description="Which of them, by name.")
    bos: Literal["auto", "always", "never"] = Field(
        default="auto", description="Begin-of-sequence token of these prompts, as in `prompts`."
    )
    precisions: Choices[Precision] = Field(
        default=("bfloat16", "float32", "true_float64"),
        description="Types the model runs in, one job each. true_float64 takes eight bytes a weight, twice "
        "while it is made.",
    )
    arithmetic: Arithmetic = Field(
        default="float32",
        description="How x + step * v is computed before rounding (true_float64 always takes float64).",
    )
    top_k: PositiveInteger = Field(default=5, description="Leading singular values and directions.")
    ranks: Choices[Rank] = Field(
        default=(50, 100, 200, 500, 1000, 2000, "last"),
        description="More directions for the quotients, by rank; those beyond the spectrum are left out.",
    )
    powers: Choices[Power] = Field(
        default=tuple(range(-1, -19, -1)), description="Steps of the quotients, as powers of ten."
    )
    quotient_prompts: Names = Field(default="all", description="Prompts whose quotients are measured.")
    noise_prompts: Names = Field(default=("capital",), description="Prompts with noisy averages.")
    noise_ranks: Choices[Rank] = Field(default=(1, "last"), description="Directions of those, by rank.")
    noise_powers: Choices[Power] = Field(
        default=(-3, -4, -5, -6, -7, -8), description="Steps of those, as powers of ten."
    )
    noise_samples: Annotated[Choices[PositiveInteger], AfterValidator(_ascending)] = Field(
        default=(1, 2, 5, 10, 100, 1000),
        description="Noisy copies averaged over, ascending; smaller numbers take the first of the same draws.",
    )
    noise_isotropic: Real = Field(
        default=1e-2,
        ge=0.0,
        description="Half width of uniform noise in every coordinate, as a share of the step; 0: none.",
    )
    noise_along: Real = Field(
        default=1e-9,
        ge=0.0,
        description="Half width of uniform noise along the direction, embedding units; 0: none.",
    )
    noise_seed: Seed = Field(default=0, description="Seed of the noise and of the noise floor's inputs.")
    floor_samples: PositiveInteger = Field(
        default=32, description="Inputs a few ulps from a prompt that measure its rounding noise floor."
    )

    @model_validator(mode="after")
    def _some_noise(self) -> Self:
        if not self.noise_isotropic and not self.noise_along:
            raise refuse("noise_isotropic and noise_along are both 0; give one of them a width")
        return self


class Exp3(Block):
    """exp3: which coordinates a step survives in, at which precision; and one prompt in four precisions."""

    vector: PositiveInteger = Field(default=1, description="Rank of the right singular vector to step along.")
    powers: Choices[Power] = Field(
        default=tuple(range(-1, -13, -1)), description="Steps as powers of ten, along v and along sigma * v."
    )
    significant_bits: Integer = Field(
        default=24, ge=1, le=53, description="Precision levels: so many significant bits, down to 1."
    )
    precisions: Choices[Precision] = Field(
        default=("true_float64", "float32", "bfloat16", "float16"),
        description="Types the model answers in, one job each; the widest is the reference. Leave float16 out "
        "where a model overflows in it.",
    )
    top_tokens: PositiveInteger = Field(default=10, description="Most likely tokens to name.")


class Lipschitz(Block):
    """Difference quotients as in the originals' un-numbered scripts: two studies over prompts, and a report."""

    studies: Choices[Literal["archive", "gpt_oss"]] = Field(
        default=("archive", "gpt_oss"),
        description="archive: 18 decades. gpt_oss: 10 decades, other directions. Both record the experts that "
        "a mixture-of-experts model chooses.",
    )
    prompts: Text = Field(
        default="resources/prompts/lipschitz.tsv", description="File with the prompts, as exp2.prompts."
    )
    names: Names = Field(default=("neither", "capital"), description="Which of them, by name.")
    bos: Literal["auto", "always", "never"] = Field(
        default="auto", description="Begin-of-sequence token of these prompts, as in `prompts`."
    )
    arithmetic: Arithmetic = Field(default="float32", description="How x + step * v is computed before rounding.")
    top_k: PositiveInteger = Field(default=5, description="Leading singular values and directions.")
    archive_powers: Choices[Power] = Field(
        default=tuple(range(-1, -19, -1)), description="Steps of archive, as powers of ten."
    )
    archive_ranks: Choices[Rank] = Field(
        default=(50, 100, 200, 500, 1000, 2000, "last"), description="More directions of archive, by rank."
    )
    gpt_oss_powers: Choices[Power] = Field(
        default=tuple(range(-1, -11, -1)), description="Steps of gpt_oss, as powers of ten."
    )
    gpt_oss_ranks: Choices[Rank] = Field(
        default=(10, 50, 100, 200, 500, 1000, 2000, "last"), description="More directions of gpt_oss, by rank."
    )
    routing: bool = Field(
        default=True,
        description="Record the experts chosen, for models with routers; their inputs then run one at a time.",
    )
    report_step: StepLength = Field(default=1e-7, description="Step of the report, embedding units.")
    report_vector: PositiveInteger = Field(default=1, description="Rank of the report's direction.")
    floor_samples: PositiveInteger = Field(
        default=32, description="Inputs a few ulps from a prompt that measure its rounding noise floor."
    )
    noise_seed: Seed = Field(default=0, description="Seed of those inputs.")
