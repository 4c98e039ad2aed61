"""Config of the spectrum and of the stability boundaries: exp12, exp13 and exp15."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tremor.config.base import (
    Block,
    Choices,
    Integer,
    NaturalNumber,
    PositiveInteger,
    Real,
    Seed,
    StepLength,
    refuse,
)


class Spectrum(Block):
    """Jacobian of the last position and its singular values; computed once, read by many experiments."""

    method: Literal["dense", "lanczos"] = Field(
        default="dense",
        description="dense: the whole Jacobian and all singular vectors. lanczos: the largest top_k only, "
        "for models whose Jacobian is too big.",
    )
    jacobian: Literal["batched", "replicated"] = Field(
        default="batched",
        description="How the dense Jacobian is swept. batched: one forward, many cotangents at once. "
        "replicated: one forward a row, for architectures whose backward pass cannot be batched.",
    )
    top_k: PositiveInteger = Field(default=16, description="Singular triplets to find (lanczos only).")
    max_iterations: PositiveInteger = Field(
        default=256, description="Most steps before giving up, at least top_k (lanczos only)."
    )
    tolerance: Real = Field(
        default=1e-5,
        gt=0.0,
        lt=1.0,
        description="Residual, relative to the largest singular value, that counts as converged (lanczos only).",
    )
    seed: Seed = Field(default=0, description="Seed of the start vector (lanczos only).")

    @model_validator(mode="after")
    def _enough_iterations(self) -> Self:
        if self.max_iterations < self.top_k:
            raise refuse(
                f"max_iterations ({self.max_iterations}) is below top_k ({self.top_k}); "
                f"raise it to {self.top_k} or more"
            )
        return self


class _RaySearch(Block):
    s_max: StepLength = Field(
        default=1e-6,
        description="Longest step tried. Raise it if rays are reported as censored (nothing changed up to it).",
    )
    threshold: Real = Field(
        default=0.0,
        ge=0.0,
        description="The output has changed if any coordinate differs by more than this; 0: if any bit differs.",
    )
    method: Literal["exact", "bisection"] = Field(
        default="exact",
        description="exact: every distinct input in order, a certified boundary. bisection: the search of "
        "the original study, which assumes that a changed output stays changed.",
    )
    max_evaluations: Integer = Field(
        default=512,
        ge=2,
        description="Distinct inputs on a ray that are tried one by one; beyond them the search leaps, and "
        "the ray is marked as not certified (exact only).",
    )
    tolerance: Real = Field(
        default=1e-15, gt=0.0, description="Width of the bracket at which bisection stops (bisection only)."
    )


class Exp12(_RaySearch):
    """exp12: stability boundary around the prompt in the plane of two right singular vectors."""

    angles: PositiveInteger = Field(default=1000, description="Directions, evenly spaced over the full circle.")
    plane: tuple[PositiveInteger, PositiveInteger] = Field(
        default=(1, 2),
        description="Ranks of the two right singular vectors that span the plane, 1 for the largest.",
    )

    @model_validator(mode="after")
    def _plane_is_a_plane(self) -> Self:
        if self.plane[0] == self.plane[1]:
            raise refuse(f"plane names the singular vector {self.plane[0]} twice; name two different ranks")
        return self


class Exp13(_RaySearch):
    """exp13: stability boundary along the right singular vectors, with random directions as control."""

    vectors: Literal["all"] | PositiveInteger = Field(
        default="all",
        description="How many right singular vectors, largest first; all takes every one computed.",
    )
    signs: Literal["both", "positive"] = Field(
        default="both",
        description="both: along +v and -v. positive: along +v only, as the original study did.",
    )
    random_directions: Literal["match"] | NaturalNumber = Field(
        default="match", description="Random unit directions as control; match takes as many as vectors."
    )
    seed: Seed = Field(default=0, description="Seed of the random directions.")


class Exp15(Block):
    """exp15: how far embedding and hidden state move at the boundaries of exp12 and exp13."""

    variants: Choices[Literal["angles", "vectors"]] = Field(
        default=("angles", "vectors"),
        description="angles: at the boundaries of exp12. vectors: at those of exp13.",
    )
    noise_samples: PositiveInteger = Field(
        default=64, description="Inputs a few ulps from the prompt that measure the rounding noise floor."
    )
    noise_seed: Seed = Field(default=0, description="Seed of those inputs.")
