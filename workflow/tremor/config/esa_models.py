"""Config of the analyses of esa that look at a model as a whole: evaluate, train, attribution, integrated."""

from typing import Literal

from pydantic import Field

from tremor.config.base import Block, Choices, Integer, NaturalNumber, PositiveInteger, PositiveReal, Real, Seed
from tremor.config.esa_methods import Finder

Analysis = Literal[
    "sensitivity", "super-weights", "compare-sensitivity", "targeted-perturbation", "selective-weight-pruning",
    "pruning", "robustness", "adversarial", "bit-level", "evaluate", "train", "attribution",
]  # fmt: skip
PROMPTS = (
    "The capital of France is",
    "After the rain the children went",
    "To make a good soup, first",
    "The old man looked at the sea and",
    "Water turns to ice when",
)


class Evaluate(Block):
    """Likelihood, calibration and generations of a model, as it is."""

    file: str | None = Field(
        default=None, description="UTF-8 text file to read, a document each paragraph; null: resources/text/heldout."
    )
    unit: Literal["passage", "document"] = Field(
        default="passage", description="Read every passage by itself, or all of a domain (or the file) as one text."
    )
    texts: Integer | None = Field(default=None, ge=2, description="Passages, from all domains in turn; null: all.")
    window: Integer | None = Field(
        default=None, ge=2, description="Most tokens read at once; null: the model's context, or 1024 without one."
    )
    overlap: PositiveInteger = Field(
        default=32, description="Least tokens that the first scored token of a later window sees, below the window."
    )
    batch_size: PositiveInteger = Field(default=16, description="Windows in one forward pass.")
    bins: PositiveInteger = Field(default=15, description="Bins of the reliability diagram.")
    binning: Literal["width", "mass"] = Field(default="width", description="Bins of equal width, or of equal count.")
    prompts: Choices[str] = Field(default=PROMPTS, description="Prompts of the generations.")
    samples: NaturalNumber = Field(default=2, description="Sampled generations for each prompt, beside the greedy one.")
    temperature: PositiveReal = Field(default=0.7, description="Divides the logits before a token is drawn.")
    top_p: Real = Field(default=0.9, gt=0.0, le=1.0, description="Tokens are drawn from the least set of this mass.")
    tokens: PositiveInteger = Field(default=24, description="Most tokens of a generation.")
    seed: Seed = Field(default=0, description="Seed of the draws and of the bootstrap.")
    tasks: tuple[str, ...] = Field(
        default=(), description="YAML task files of lm-evaluation-harness with local data; needs the package lm_eval."
    )
    task_limit: PositiveInteger | None = Field(default=None, description="Most documents of a task; null: all.")


class Train(Block):
    """Fine-tuning of a model on a text file."""

    file: str = Field(
        default="resources/text/calibration/science.txt",
        min_length=1,
        description="UTF-8 text file to train on, a document each line that is not blank.",
    )
    steps: PositiveInteger = Field(default=40, description="Optimiser steps.")
    learning_rate: PositiveReal = Field(default=1e-4, description="Peak rate of AdamW, after the warm-up.")
    warmup: NaturalNumber = Field(default=5, description="Steps of linear warm-up.")
    batch: PositiveInteger = Field(default=2, description="Rows of a step.")
    length: Integer = Field(default=128, ge=2, description="Tokens of a row, at most the model's context.")
    weight_decay: Real = Field(default=0.01, ge=0.0, description="AdamW's decay, on matrices only.")
    clip: PositiveReal = Field(default=1.0, description="Largest norm of the gradient.")
    checkpoint: PositiveInteger = Field(
        default=20, description="Steps between checkpoints, which a rerun resumes from."
    )
    seed: Seed = Field(default=0, description="Seed of the order of rows and of dropout.")


class Attribution(Block):
    """A language model ranks the components of a model; experimental."""

    judge: str | None = Field(
        default=None, description="Alias of the model that is asked; null: each model ranks its own components."
    )
    level: Literal["branch", "component"] = Field(
        default="branch",
        description="What is ranked: mixer and MLP of every block, or every projection and other module in them.",
    )
    statistics: Choices[Literal["rms", "largest", "kurtosis", "weights"]] = Field(
        default=("rms",), min_length=1, description="Statistics of a component that the prompt shows."
    )
    orders: PositiveInteger = Field(default=8, description="Random orders of the list, over which scores are averaged.")
    top_k: PositiveInteger = Field(default=3, description="Components compared as the most important ones.")
    permutations: PositiveInteger = Field(default=10_000, description="Random rankings of the null distribution.")
    seed: Seed = Field(default=0, description="Seed of orders and permutations.")


class Integrated(Block):
    """One report of all analyses."""

    analyses: Choices[Analysis] = Field(
        default=("sensitivity", "super-weights", "compare-sensitivity", "evaluate", "train", "attribution"),
        min_length=1,
        description="Analyses that are joined; each is made if it is not there.",
    )
    tuned: bool = Field(
        default=True, description="Whether super weights are found again in the fine-tuned model of esa/train."
    )
    tuned_methods: Choices[Finder] | None = Field(
        default=None,
        description="Methods of esa.super_weights compared before and after; null: its cheap ones (magnitude, "
        "taylor_abs, activation_spike, spikes).",
    )
