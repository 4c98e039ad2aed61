"""Config of the delta studies: two or more models compared, neurons and facts, and the gain of every layer."""

from typing import Literal

from pydantic import Field

from tremor.config.base import (
    Alias,
    Block,
    Choices,
    NaturalNumber,
    PositiveInteger,
    PositiveReal,
    Real,
    Seed,
    Text,
)
from tremor.config.neurons import DeltaFacts, DeltaFactual, DeltaNeurons, DeltaPercentage, DeltaTracing


class DeltaJacobian(Block):
    """delta/jacobian: how much a change of a block's output changes the logits and the final state."""

    layers: Literal["all"] | Choices[NaturalNumber | Literal["last"]] = Field(
        default="all",
        description="Blocks whose outputs are changed, counted from 0; last: the last one; all: every block.",
    )
    texts: Text = Field(
        default="prompts",
        description="prompts: facts cut before their answer; statements: facts as whole sentences; passages: "
        "held-out plain text; else a file: one text a line, or the column text of a .tsv.",
    )
    num_texts: PositiveInteger = Field(
        default=30, ge=4, description="Texts of output variance, secants and effective rank: the first so many."
    )
    gain_texts: PositiveInteger = Field(
        default=4, description="Texts at which derivatives are taken, the first so many (at most num_texts)."
    )
    targets: Choices[Literal["logits", "centred_logits", "final"]] = Field(
        default=("logits", "centred_logits", "final"),
        description="What is differentiated, at the last position: the logits, the logits less their mean, "
        "or the final state.",
    )
    method: Literal["lanczos", "dense"] = Field(
        default="lanczos",
        description="lanczos: norms from products with the Jacobian, never formed. dense: from whole matrices of "
        "the final state, quicker where all layers of a model no wider than some thousand are wanted.",
    )
    tolerance: Real = Field(
        default=1e-3, gt=0.0, lt=1.0, description="Relative residual of a spectral norm that counts as converged."
    )
    max_iterations: PositiveInteger = Field(default=64, description="Most Lanczos steps for one spectral norm.")
    probes: PositiveInteger = Field(
        default=64, ge=2, description="Random cotangents of a Frobenius norm (Hutchinson); the error falls as 1/sqrt."
    )
    epsilon: PositiveReal = Field(
        default=0.01,
        description="Noise of the finite differences: its standard deviation (kind absolute), and its length over "
        "that of the state (kinds relative_all, relative_last).",
    )
    draws: PositiveInteger = Field(default=10, description="Draws of the noise for each text and layer.")
    sensitivity_texts: PositiveInteger = Field(
        default=20, description="Texts of the finite differences, the first so many (at most num_texts)."
    )
    pairs: PositiveInteger = Field(
        default=20, description="Pairs of consecutive texts for secants, at most; fewer where texts are fewer."
    )
    skip_first: bool = Field(
        default=True,
        description="Leave the first position of each text out of the token-level effective rank: it is the same "
        "in all texts that begin alike, and often huge.",
    )
    depths: PositiveInteger = Field(
        default=11, ge=2, description="Common relative depths to which the models' layers are interpolated."
    )
    seed: Seed = Field(default=0, description="Seed of start vectors, probes, noise and half-samples.")


class Delta(Block):
    """delta: what models of different architectures do to a small change, a neuron and a fact."""

    models: Choices[Alias] = Field(
        default=("mamba", "gpt2"),
        description="Models that are compared, aliases from `models`; ratios are to the first.",
    )
    facts: DeltaFacts = DeltaFacts()
    neurons: DeltaNeurons = DeltaNeurons()
    percentage: DeltaPercentage = DeltaPercentage()
    factual: DeltaFactual = DeltaFactual()
    tracing: DeltaTracing = DeltaTracing()
    jacobian: DeltaJacobian = DeltaJacobian()
