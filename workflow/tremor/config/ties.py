"""Config of ties and of what is around them: exp6 (flips of the token) and exp7 (maps over planes)."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tremor.config.base import (
    Arithmetic,
    Block,
    Choices,
    Integer,
    PositiveInteger,
    Real,
    Seed,
    StepLength,
    refuse,
)

TieMethod = Literal["geometric", "probability"]
Rank = PositiveInteger | Literal["last"]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise refuse(f"got {value}; give an odd number, so that the middle one is the tie itself")
    return value


OddInteger = Annotated[Integer, AfterValidator(_odd)]


class Exp6(Block):
    """exp6: an input at which the two leading tokens are tied, and the steps from there that flip the token."""

    methods: Choices[TieMethod] = Field(
        default=("geometric", "probability"),
        description="geometric: h . (v1 - v2) = 0 for the two leading tokens. probability: equal probabilities "
        "of the model's own logits, the second token chosen anew at every evaluation.",
    )
    max_evaluations: Integer = Field(default=30, ge=4, description="Most inputs run to find a tie, gradients included.")
    directions: PositiveInteger = Field(
        default=5, description="Leading right singular vectors at the tie along which the token is asked for."
    )
    epsilon: StepLength = Field(
        default=1e-6, description="Longest step on both sides of the tie, on the grid and in the exact search."
    )
    steps: OddInteger = Field(default=401, ge=3, description="Steps of the grid along each direction, odd.")
    max_distinct_inputs: Integer = Field(
        default=4096,
        ge=2,
        description="Distinct inputs on a ray that are tried one by one for the nearest flip; beyond them the "
        "search leaps, and the flip is not certified.",
    )


class Exp7(Block):
    """exp7: maps of the gap of the tied tokens over planes of two singular vectors, and how random they are."""

    methods: Choices[TieMethod] = Field(
        default=("geometric",), description="Ties around which maps are made; each must be in exp6.methods."
    )
    arithmetic: Choices[Arithmetic] = Field(
        default=("float64",),
        description="float64: x + e1 h1 + e2 h2 rounded once. float32: two sums one after the other, each "
        "rounded, as in the original study.",
    )
    planes: tuple[tuple[Rank, Rank], ...] = Field(
        default=((1, 2), (1, 10), (1, "last")),
        min_length=1,
        description="Ranks of the two right singular vectors of each plane; last: the one of the smallest "
        "singular value (needs spectrum.method: dense).",
    )
    radii: tuple[StepLength, ...] = Field(
        default=(1e-6, 1e-7, 1e-8), min_length=1, description="Zoom levels: half the width of each map."
    )
    points: OddInteger = Field(default=101, ge=5, description="Points of a map along each axis, odd.")
    zoom_method: Literal["recompute", "crop"] = Field(
        default="recompute",
        description="recompute: the zoom window on a grid of its own. crop: cut out of the finest map that "
        "contains it, as the original study did.",
    )
    zoom_window: tuple[tuple[Real, Real], tuple[Real, Real]] = Field(
        default=((-5e-8, 5e-8), (-5e-8, 5e-8)), description="Window of the zoom along the two axes of each plane."
    )
    zoom_points: Integer = Field(default=101, ge=5, description="Points of the zoom along each axis (recompute only).")
    draws: PositiveInteger = Field(
        default=199, description="Maps drawn from each null model of the randomness statistics."
    )
    window: OddInteger = Field(default=5, ge=3, description="Width of the window of the local entropy, in cells, odd.")
    seed: Seed = Field(default=0, description="Seed of the null models.")
    enlarge: PositiveInteger = Field(
        default=1, description="Cells by which boundaries are widened in the enlarged picture, a rendering only."
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        for first, second in self.planes:
            if first == second:
                raise refuse(f"planes names the singular vector {first} twice in one plane; name two ranks")
        if len(set(self.planes)) < len(self.planes):
            raise refuse("planes lists a plane twice; remove one")
        if len(set(self.radii)) < len(self.radii):
            raise refuse("radii lists a radius twice; remove one")
        if self.window > self.points:
            raise refuse(f"window ({self.window}) is wider than the maps ({self.points} points)")
        for low, high in self.zoom_window:
            if low == high:
                raise refuse(f"zoom_window from {low:g} to {high:g} is empty; give two different ends")
        return self
