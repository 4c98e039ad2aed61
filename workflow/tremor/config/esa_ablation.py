"""Config of the extreme sensitivity analyses that remove: components, shares of weights, selections, pruning."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tremor.config.base import (
    Alias,
    Block,
    Choices,
    Integer,
    NaturalNumber,
    PositiveInteger,
    PositiveReal,
    Real,
    Seed,
    Text,
    refuse,
)  # fmt: skip
from tremor.config.esa_methods import COMPONENTS, Method
from tremor.weights.variants import variants

Pattern = Literal["1:2", "2:4", "4:8", "8:16"]
Layers = Choices[NaturalNumber] | None
LAYERS = "Blocks that are meant, from 0; null: all."
COMPONENTS_TEXT = "Components that are meant, see docs/esa.md; null: all linear layers of the model."


class Sensitivity(Block):
    """Every block and component taken out by itself."""

    modes: Choices[Literal["zero", "mean"]] = Field(
        default=("zero", "mean"),
        description="zero: its weights, or what it adds, are 0. mean: its output is the mean over calibration tokens.",
    )
    heads: bool = Field(default=True, description="Whether attention heads are taken out too, one by one.")
    layers: Layers = Field(default=None, description=LAYERS)


class TargetedPerturbation(Block):
    """Rising shares of the most important weights changed, beside matched random ones and the least important."""

    scores: Choices[Method] = Field(
        default=("taylor_abs", "wanda", "magnitude"), description="Scores that order the weights."
    )
    fractions: Choices[Real] = Field(
        default=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0), description="Shares of the weights, in (0, 1]."
    )
    operations: Choices[Literal["zero", "mean", "sign", "noise"]] = Field(
        default=("zero",),
        description="What becomes of them: 0, the tensor's mean, the other sign, or `noise` standard deviations added.",
    )
    noise: PositiveReal = Field(default=1.0, description="Size of the noise, in standard deviations of the tensor.")
    components: Choices[str] | None = Field(default=COMPONENTS, description=COMPONENTS_TEXT)
    layers: Layers = Field(default=None, description=LAYERS)
    controls: Integer = Field(
        default=20, ge=2, description="Random sets of as many weights of the same tensors, for shares up to `large`."
    )
    large: Real = Field(
        default=0.1, ge=0.0, le=1.0, description="Above this share random sets hardly differ, and fewer are drawn."
    )
    controls_large: Integer = Field(default=6, ge=2, description="Random sets for shares above `large` and below 1.")
    seed: Seed = Field(default=0, description="Seed of the random sets and of the noise.")

    @model_validator(mode="after")
    def _shares(self) -> Self:
        _check_shares("fractions", self.fractions)
        return self


class WeightSelection(Block):
    """One selection of weights: by score, component, layer, threshold and percentile, or from a file."""

    file: Text | None = Field(
        default=None,
        description="JSON file with the weights themselves, see docs/esa.md; all other keys are then not used.",
    )
    score: Method = Field(default="taylor_abs", description="Score that orders the weights.")
    which: Literal["most", "least"] = Field(default="most", description="The most or the least important.")
    components: Choices[str] | None = Field(default=COMPONENTS, description=COMPONENTS_TEXT)
    layers: Layers = Field(default=None, description=LAYERS)
    threshold: Real | None = Field(
        default=None,
        description="Share of the largest score: `most` takes scores from there on, `least` up to it; null: all.",
    )
    percentile: Real = Field(default=1.0, gt=0.0, le=100.0, description="Percent taken of what passes the threshold.")
    most_per_block: PositiveInteger | None = Field(
        default=None, description="At most so many in each block, the most extreme; null: no limit."
    )


class SelectivePruning(Block):
    """Named selections of weights replaced; likelihood and generated text before and after."""

    selections: dict[Alias, WeightSelection] = Field(
        default={
            "most": WeightSelection(),
            "mixer_most": WeightSelection(components=("mixer",)),
            "least": WeightSelection(which="least", percentile=20.0),
        },
        min_length=1,
        description="Selections by name; names given here are added to these.",
    )
    select: Choices[Alias] | None = Field(default=None, description="Names of the selections to use; null: all.")
    fills: Choices[Literal["zero", "mean", "noise"]] = Field(
        default=("zero", "mean", "noise"),
        description="What stands in their place: 0, the tensor's mean, or noise of `noise` standard deviations.",
    )
    noise: PositiveReal = Field(default=0.01, description="Size of that noise, in standard deviations of the tensor.")
    controls: Integer = Field(default=20, ge=2, description="Random sets of as many weights of the same tensors.")
    prompts: Choices[Text] = Field(
        default=("The capital of France is", "A neural network learns", "The river"),
        description="Prompts that are continued before and after.",
    )
    tokens: PositiveInteger = Field(default=24, description="Most tokens of a continuation.")
    temperature: PositiveReal = Field(default=0.7, description="Of the sampled continuation.")
    seed: Seed = Field(default=0, description="Seed of the sampled text, the noise and the random sets.")

    @model_validator(mode="after")
    def _defined(self) -> Self:
        for name in self.select or ():
            if name not in self.selections:
                raise refuse(f"select names {name!r}, which is not among selections: {', '.join(self.selections)}")
        return self


class Pruning(Block):
    """Weights set to zero by score, in several patterns."""

    scores: Choices[Method] = Field(
        default=("magnitude", "wanda", "taylor_abs", "random"), description="Scores that order the weights."
    )
    groups: Choices[Literal["global", "per_tensor", "per_row"]] = Field(
        default=("global", "per_tensor", "per_row"),
        description="What loses the same share: all weights together, every tensor, or every row (output feature).",
    )
    sparsities: Choices[Real] = Field(
        default=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), description="Shares that are pruned, in (0, 1)."
    )
    patterns: tuple[Pattern, ...] = Field(
        default=("2:4", "4:8"), description="n:m patterns: of every m inputs of a row exactly n are pruned."
    )
    which: Literal["least", "most"] = Field(default="least", description="The least or the most important go.")
    components: Choices[str] | None = Field(default=COMPONENTS, description=COMPONENTS_TEXT)
    layers: Layers = Field(default=None, description=LAYERS)
    checkpoints: tuple[Text, ...] = Field(
        default=("wanda-2of4",),
        description="Pruned models to save: <score>-<group>-<sparsity>, or <score>-<n>of<m>; [] for none.",
    )

    @model_validator(mode="after")
    def _names(self) -> Self:
        _check_shares("sparsities", self.sparsities, whole=False)
        if len(set(self.patterns)) < len(self.patterns):
            raise refuse("a pattern is listed twice; remove one")
        known = variants(self.model_dump(mode="json"))
        for name in self.checkpoints:
            if name not in known:
                raise refuse(f"checkpoint {name!r} is not pruned here; choose among {', '.join(list(known)[:4])} ...")
        if len(set(self.checkpoints)) < len(self.checkpoints):
            raise refuse("a checkpoint is listed twice; remove one")
        return self


def _check_shares(name: str, shares: tuple[float, ...], *, whole: bool = True) -> None:
    wrong = [share for share in shares if not (0 < share <= 1 if whole else 0 < share < 1)]
    if wrong:
        raise refuse(f"{name} has {wrong[0]}; shares lie in (0, 1{']' if whole else ')'}")
