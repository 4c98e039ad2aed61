"""Config of facts and neurons: what is asked, which units are chosen and ablated, and causal tracing."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tremor.config.base import (
    Block,
    Choices,
    NaturalNumber,
    PositiveInteger,
    PositiveReal,
    Real,
    Seed,
    Text,
    refuse,
)

Tap = Literal["output", "mixer", "mlp", "mixer_inner", "mlp_inner"]
"""A place that models of any architecture have (mlp and mlp_inner: where they have an MLP)."""

StateSpaceTap = Literal["delta", "B", "C", "gate"]
"""A place inside a Mamba scan."""

Selector = Literal["variance", "decay", "gradient", "integrated", "effect"]
"""A way to choose units."""

Layers = Literal["all"] | Choices[NaturalNumber | Literal["middle", "last"]]
"""Blocks by number, by place, or all of them."""


class DeltaFacts(Block):
    """delta: the facts that are asked, and the text that has nothing to do with them."""

    source: Text = Field(
        default="tables",
        description="tables: the workflow's fact tables. Else a file with sentences, subjects and answers, such as "
        "resources/relations/factual.tsv (the originals'); neurons are then chosen on the very sentences that are "
        "evaluated, as the originals did.",
    )
    relations: Choices[Text] = Field(
        default=("P36", "P413", "P495", "P127", "P136", "P30"),
        description="Relations, by their Wikidata property.",
    )
    facts: PositiveInteger = Field(default=20, description="Facts of each relation, spread over its table (tables).")
    other: PositiveInteger = Field(
        default=50, ge=2, description="Held-out passages that state none of the facts: the text that should not change."
    )
    bos: Literal["auto", "always", "never"] = Field(
        default="always", description="Begin-of-text token; with always, the first word of a sentence is scored too."
    )
    batch_tokens: PositiveInteger = Field(
        default=512,
        description="Most tokens in a batch, padding included. Small batches stay in a CPU's cache; a GPU wants more.",
    )


class DeltaNeurons(Block):
    """delta: which units are chosen for each relation, and where."""

    layers: Layers = Field(
        default=(1, "middle"),
        description="Blocks, counted from 0; middle: block n // 2 of n; last: the last one; all: every block.",
    )
    taps: Choices[Tap] = Field(
        default=("output",),
        description="Places where units are chosen and ablated, the same in all models. output: residual stream after "
        "the block; mixer, mlp: what a branch adds; mixer_inner, mlp_inner: what its output projection reads.",
    )
    state_space_taps: tuple[StateSpaceTap, ...] = Field(
        default=("delta",),
        description="More places, for models with a Mamba scan only. delta: step size of each channel; B, C: input and "
        "output maps of each state; gate.",
    )
    selectors: Choices[Selector] = Field(
        default=("variance", "gradient"),
        description="How units are chosen. variance: over texts (the original); decay: variance of the state decay "
        "exp(delta A), at tap delta only; gradient: activation times gradient of the answer; integrated: integrated "
        "gradients; effect: exact ablations, one for each candidate.",
    )
    top_k: PositiveInteger = Field(default=10, description="Units of each choice.")
    integration_steps: PositiveInteger = Field(default=16, description="Points of the path (integrated).")
    candidates: PositiveInteger | None = Field(
        default=32, description="Units that effect tries, those of largest |gradient x activation|; null: all."
    )
    reference_tokens: PositiveInteger = Field(
        default=512, description="Tokens whose activations are kept for the ablation mode resample, about."
    )
    seed: Seed = Field(default=0, description="Seed of the choice of these tokens.")

    @model_validator(mode="after")
    def _somebody_has_decay(self) -> Self:
        if "decay" in self.selectors and "delta" not in self.state_space_taps:
            raise refuse("selector decay reads the tap delta; add delta to state_space_taps, or leave decay out")
        return self


class DeltaPercentage(Block):
    """delta/percentage and delta/factual: what an ablation of the chosen units does to facts and to other text."""

    mode: Literal["zero", "mean", "resample", "noise", "scale"] = Field(
        default="zero",
        description="zero; mean: mean over the selection texts; resample: values of a random token of them; noise: "
        "normal noise added; scale: times strength.",
    )
    strength: Real = Field(
        default=1.0, ge=0.0, description="Factor of scale; standard deviations, of each unit's own, of noise."
    )
    controls: PositiveInteger = Field(
        default=20, ge=2, description="Random sets of as many units of the same tap and layer."
    )
    seed: Seed = Field(default=0, description="Seed of the random sets and of resample and noise.")
    bootstrap: PositiveInteger = Field(default=2000, description="Resamples of the sentences, for intervals.")
    confidence: PositiveReal = Field(default=0.95, lt=1.0, description="Share of the resamples inside an interval.")


class DeltaFactual(Block):
    """delta/factual: every relation's units against every relation's facts."""

    wording: Literal["train", "heldout"] = Field(
        default="train",
        description="Wording that the matrix and the patterns are drawn for: one that the embedded models were "
        "trained on, or one that they never saw. A file's sentences have one wording.",
    )


class DeltaTracing(Block):
    """delta/tracing: which state, put back after the subject was made unreadable, brings the answer back."""

    relations: Choices[Text] = Field(default=("P36",), description="Relations, by their Wikidata property.")
    facts: PositiveInteger = Field(default=12, description="Facts of each model, the first that it knows.")
    recalled_only: bool = Field(
        default=True, description="Leave facts out that the model does not know: there is no answer to bring back."
    )
    kinds: Choices[Literal["output", "mixer", "mlp"]] = Field(
        default=("output", "mixer", "mlp"), description="States that are put back; mlp where a model has one."
    )
    layers: Layers = Field(default="all", description="Blocks, as delta.neurons.layers.")
    draws: PositiveInteger = Field(default=4, description="Draws of the noise for each fact.")
    noise: PositiveReal = Field(
        default=3.0, description="Standard deviation of the noise, in standard deviations of the embedding matrix."
    )
    window: PositiveInteger = Field(
        default=1, description="Blocks around a layer put back together, for the branches mixer and mlp."
    )
    seed: Seed = Field(default=0, description="Seed of the noise.")
