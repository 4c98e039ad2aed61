"""Config of the extreme sensitivity analyses: one block for each, and what they share."""

from typing import Literal

from pydantic import Field

from tremor.config.base import Block, Choices, Integer, PositiveInteger, PositiveReal, Real, Seed
from tremor.config.esa_ablation import Layers, Pruning, SelectivePruning, Sensitivity, TargetedPerturbation
from tremor.config.esa_faults import Adversarial, BitLevel, Grid, Robustness
from tremor.config.esa_methods import COMPONENTS, METHODS, Finder, Method
from tremor.config.esa_models import Attribution, Evaluate, Integrated, Train

SCORED_COMPONENTS = "Components that are scored, see docs/esa.md; null: all matrices of the model."
SCORED_LAYERS = "Blocks that are scored, from 0; null: all (and what lies outside them)."


class EsaTexts(Block):
    """Texts of all analyses: calibration texts for scores, held-out texts for effects, both from resources/text."""

    calibration: PositiveInteger = Field(
        default=8, description="Passages that scores read, taken from all domains in turn."
    )
    heldout: Integer = Field(
        default=8, ge=2, description="Passages that effects are measured on, taken from all domains in turn."
    )
    batch_size: PositiveInteger = Field(default=16, description="Texts in one forward pass when effects are measured.")


class Scores(Block):
    """Settings of the scores that need any."""

    seed: Seed = Field(default=0, description="Seed of sampled labels, Rademacher probes and random orders.")
    fisher_draws: PositiveInteger = Field(default=1, description="Labels drawn for each position (fisher_true).")
    probes: Integer = Field(
        default=32, ge=2, description="Rademacher vectors for each text (hutchinson, obd); the error falls as 1/sqrt."
    )
    dampening: PositiveReal = Field(
        default=0.01, description="Share of the mean of a Gram matrix' diagonal added to it (obs_diag)."
    )
    steps: Integer = Field(default=24, ge=2, description="Points of the path integral (weight_ig).")


class SuperWeights(Block):
    """Single weights that matter most, by every method, and what their removal costs."""

    methods: Choices[Finder] = Field(
        default=(*METHODS, "activation_spike", "spikes", "random"),
        description="Scores, and the procedure spikes, which finds super weights by forward passes alone.",
    )
    components: Choices[str] | None = Field(default=COMPONENTS, description=SCORED_COMPONENTS)
    layers: Layers = Field(default=None, description=SCORED_LAYERS)
    top_k: PositiveInteger = Field(default=10, description="Weights that a method names.")
    controls: Integer = Field(
        default=20,
        ge=2,
        description="Random sets of as many weights of the same tensors; the least p is 1/(controls+1).",
    )
    prompts: PositiveInteger = Field(
        default=4, description="Calibration passages that spikes looks at, each with and without begin token."
    )
    threshold: PositiveReal = Field(default=50.0, description="Activation that counts as a spike.")
    scale: Literal["relative", "absolute"] = Field(
        default="relative",
        description="Whether the threshold counts medians of |activation| of the same tensor, or is a plain number.",
    )
    agreement: Real = Field(
        default=0.5, gt=0.0, le=1.0, description="Share of these prompts in which a super weight must make the spike."
    )
    most: PositiveInteger = Field(default=16, description="Most super weights that spikes removes before it stops.")
    seed: Seed = Field(default=0, description="Seed of the random controls.")
    factors: Choices[Real] = Field(
        default=(0.0, 0.1, 0.2, 0.5, 0.8, 1.2, 1.5, 2.0, 3.0),
        description="What the weights of a method are multiplied by, all together; 1 is the clean model.",
    )
    grids: Choices[Grid] = Field(
        default=("int4",), description="Grids all selected weights are quantised to, with those of a method held out."
    )
    groups: Choices[PositiveInteger] = Field(
        default=(32, 256), description="Inputs of an output channel that share a scale on these grids; more is coarser."
    )


class CompareSensitivity(Block):
    """Run time of the methods, and how much their rankings agree."""

    methods: Choices[Method] = Field(default=(*METHODS, "random"), description="Scores that are compared.")
    components: Choices[str] | None = Field(default=COMPONENTS, description=SCORED_COMPONENTS)
    layers: Layers = Field(default=None, description=SCORED_LAYERS)
    top_k: PositiveInteger = Field(default=100, description="Size of the sets that are compared.")
    persistence: Real = Field(
        default=0.98,
        gt=0.0,
        lt=1.0,
        description="Weight of the next rank in rank-biased overlap; expected depth 1/(1-p).",
    )
    sample: Integer = Field(
        default=20_000,
        ge=2,
        description="Weights, drawn once, whose full scores are correlated; all if there are fewer.",
    )
    seed: Seed = Field(default=0, description="Seed of that sample.")


class Esa(Block):
    """esa: extreme sensitivity analyses of a model's weights."""

    texts: EsaTexts = Field(
        default=EsaTexts(), description="Texts that the analyses share; calibration and held-out texts are disjoint."
    )
    scores: Scores = Field(default=Scores(), description="Settings of the scores, for all analyses that rank weights.")
    super_weights: SuperWeights = Field(
        default=SuperWeights(), description="esa/super-weights: the most important single weights by every method."
    )
    compare_sensitivity: CompareSensitivity = Field(
        default=CompareSensitivity(), description="esa/compare-sensitivity: run time and agreement of the methods."
    )
    sensitivity: Sensitivity = Field(
        default=Sensitivity(), description="esa/sensitivity: every block and every component taken out, exactly."
    )
    targeted_perturbation: TargetedPerturbation = Field(
        default=TargetedPerturbation(),
        description="esa/targeted-perturbation: rising shares of the most important weights beside random ones.",
    )
    selective_weight_pruning: SelectivePruning = Field(
        default=SelectivePruning(),
        description="esa/selective-weight-pruning: named selections of weights replaced, and the text written then.",
    )
    pruning: Pruning = Field(
        default=Pruning(), description="esa/pruning: sparsity against likelihood, and pruned models to keep."
    )
    robustness: Robustness = Field(
        default=Robustness(), description="esa/robustness: noise of growing size on the weights."
    )
    adversarial: Adversarial = Field(
        default=Adversarial(), description="esa/adversarial: changes of the input that are chosen to hurt."
    )
    bit_level: BitLevel = Field(
        default=BitLevel(), description="esa/bit-level: flipped bits, attacks by bit flips, lower precision."
    )
    evaluate: Evaluate = Field(
        default=Evaluate(), description="esa/evaluate: likelihood, calibration and generations of the model as it is."
    )
    train: Train = Field(default=Train(), description="esa/train: fine-tuning on a text file.")
    attribution: Attribution = Field(
        default=Attribution(), description="esa/attribution: a language model ranks the components; experimental."
    )
    integrated: Integrated = Field(
        default=Integrated(),
        description="esa/integrated: one report of all analyses, and super weights after training.",
    )
