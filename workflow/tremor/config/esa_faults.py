"""Config of the extreme sensitivity analyses that disturb a model: noise, adversarial input, flipped bits."""

from typing import Annotated, Literal

from pydantic import Field

from tremor.config.base import Block, Choices, Integer, NaturalNumber, PositiveInteger, PositiveReal, Real, Seed

Targeting = Literal["magnitude", "z_score", "taylor_signed", "taylor_abs", "grad_squared", "wanda", "random"]
Noise = Literal["gaussian", "uniform", "targeted"]
Attack = Literal[
    "fgsm", "pgd", "hotflip", "token_swap", "char_swap", "char_insert", "char_delete", "char_case",
]  # fmt: skip
ATTACKS: tuple[Attack, ...] = (
    "fgsm", "pgd", "hotflip", "token_swap", "char_swap", "char_insert", "char_delete", "char_case",
)  # fmt: skip
StoredAs = Literal["float32", "float16", "bfloat16"]
Grid = Literal["int8", "int4", "nf4"]
Rule = Literal["free", "in_range", "int8"]
MantissaBits = Annotated[NaturalNumber, Field(le=52)]


class Robustness(Block):
    """Noise on weights: how much of it, and where, before the predictions suffer?"""

    kinds: Choices[Noise] = Field(
        default=("gaussian", "uniform", "targeted"),
        description="gaussian: N(0, 1); uniform: U(-1, 1), both on all selected weights; targeted: gaussian on the "
        "most important ones, and on as many random ones of the same tensors.",
    )
    levels: Choices[PositiveReal] = Field(
        default=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
        description="Size of the noise in units of `scale`.",
    )
    scale: Literal["std", "weight", "absolute"] = Field(
        default="std",
        description="Unit of a level: the tensor's standard deviation, |w| of each weight, or 1 (the originals' way).",
    )
    draws: Integer = Field(default=5, ge=2, description="Independent draws of the noise at every level.")
    score: Targeting = Field(default="taylor_abs", description="Score that names the most important weights.")
    fraction: Real = Field(default=0.01, gt=0.0, le=0.5, description="Share of the selected weights that is targeted.")
    components: Choices[str] | None = Field(
        default=None, description="Components that get noise, see docs/esa.md; null: all matrices of the model."
    )
    layers: Choices[NaturalNumber] | None = Field(
        default=None, description="Blocks that get noise, from 0; null: all (and what lies outside them)."
    )
    bootstrap: PositiveInteger = Field(default=1000, description="Resamples of draws and texts for the intervals.")
    seed: Seed = Field(default=0, description="Seed of all draws; that of draw d at level number l follows from it.")


class Adversarial(Block):
    """Small changes of the input that are chosen to hurt, beside random ones of the same size."""

    attacks: Choices[Attack] = Field(
        default=ATTACKS,
        description="On embeddings: fgsm, pgd; on tokens: hotflip (replaced), token_swap (exchanged); on characters.",
    )
    facts: NaturalNumber = Field(default=8, description="Fact prompts, from all relations in turn.")
    openers: Choices[str] | None = Field(
        default=None, description="Openings of texts to attack too; the reference is the model's own continuation."
    )
    protect_subject: bool = Field(
        default=True, description="Whether token and character attacks leave a fact's subject alone: no other question."
    )
    answer_tokens: PositiveInteger = Field(default=4, description="Tokens of a greedy answer that are compared.")
    epsilons: Choices[PositiveReal] = Field(
        default=(0.01, 0.05, 0.1, 0.5), description="Largest change of an embedding's coordinate, in units of `scale`."
    )
    scale: Literal["rms", "absolute"] = Field(
        default="rms", description="Unit of epsilons: root mean square of the prompt's embeddings, or 1."
    )
    steps: PositiveInteger = Field(default=10, description="Steps of pgd.")
    step_size: Real = Field(default=0.25, gt=0.0, le=2.0, description="Length of a step of pgd as a share of epsilon.")
    edits: Choices[PositiveInteger] = Field(
        default=(1, 2), description="Tokens replaced, pairs of tokens exchanged, or characters edited."
    )
    candidates: PositiveInteger = Field(
        default=16, description="Edits that an attack tries in each round with the real loss; it keeps the worst."
    )
    draws: PositiveInteger = Field(default=5, description="Random changes of the same size beside every attack.")
    success_nll: PositiveReal = Field(
        default=1.0, description="Rise of the reference's NLL (nats per token) that counts as success."
    )
    seed: Seed = Field(default=0, description="Seed of random starts, edits and baselines.")


class BitLevel(Block):
    """Flipped bits of weights, attacks by bit flips, and lower precision."""

    texts: Integer = Field(default=3, ge=2, description="Held-out passages that effects are measured on.")
    formats: Choices[StoredAs] = Field(
        default=("float32", "float16", "bfloat16"),
        description="Formats the flipped weight is stored in; the model computes in its own type.",
    )
    weights: PositiveInteger = Field(default=2, description="Weights sampled in each component, each flipped alone.")
    components: Choices[str] | None = Field(
        default=None, description="Components that are looked at, see docs/esa.md; null: all matrices of the model."
    )
    layers: Choices[NaturalNumber] | None = Field(
        default=None, description="Blocks that are looked at, from 0; null: all (and what lies outside them)."
    )
    attacks: Choices[Rule] = Field(
        default=("free", "in_range", "int8"),
        description="What flips may give: any number, none beyond the tensor's largest |w|, or another INT8 code.",
    )
    attack_texts: PositiveInteger = Field(default=6, description="Calibration passages that the attack reads.")
    max_flips: PositiveInteger = Field(default=10, description="Most bits an attack flips.")
    pool: PositiveInteger = Field(
        default=500, description="Weights of each tensor, by gradient and by gradient x weight, whose bits are ranked."
    )
    candidates: PositiveInteger = Field(default=10, description="Flips tried exactly in each step; the worst is kept.")
    draws: Integer = Field(default=5, ge=2, description="Random attacks of as many flips beside each attack.")
    mantissa: Choices[MantissaBits] = Field(
        default=(2, 4, 6, 8, 10, 12, 16, 20, 23),
        description="Mantissa bits weights are rounded to; those beyond the model's own type are left out.",
    )
    grids: Choices[Grid] = Field(default=("int8", "int4", "nf4"), description="Grids weights are quantised to.")
    group: PositiveInteger = Field(default=64, description="Weights that share a scale (int4, nf4).")
    seed: Seed = Field(default=0, description="Seed of sampled weights and random attacks.")
