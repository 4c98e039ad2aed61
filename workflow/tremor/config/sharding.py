"""Config of the shards: into how many jobs the long ones are cut."""

from pydantic import Field

from tremor.config.base import Block, PositiveInteger


class Shards(Block):
    """Jobs that one measurement is cut into, for clusters; 1 is one job. The results are the same, bit for bit."""

    exp2: PositiveInteger = Field(default=1, description="Jobs for the prompts of exp2, for each model and precision.")
    exp7: PositiveInteger = Field(default=1, description="Jobs for the rows of exp7's maps, for each tie.")
    exp7_zoom: PositiveInteger = Field(
        default=1, description="Jobs for the rows of exp7's zoom, for each tie; only where it is computed anew."
    )
    exp12: PositiveInteger = Field(default=1, description="Jobs for the angles of exp12, for each model and prompt.")
    exp13: PositiveInteger = Field(default=1, description="Jobs for the vectors of exp13, for each model and prompt.")
    recordings: PositiveInteger = Field(
        default=1,
        description="Jobs for the questions of the recorder, for each model and platform; batches of questions stay "
        "together.",
    )
    critical_rankings: PositiveInteger = Field(
        default=1, description="Jobs for the tensors that critical_weights scores, for each model."
    )
    critical_weights: PositiveInteger = Field(
        default=1, description="Jobs for the changed models of critical_weights, random controls included."
    )
    esa_super_weights: PositiveInteger = Field(
        default=1, description="Jobs for the tensors that esa/super-weights scores, for each model."
    )
    esa_compare_sensitivity: PositiveInteger = Field(
        default=1, description="Jobs for the tensors that esa/compare-sensitivity scores, for each model."
    )
    esa_targeted_perturbation: PositiveInteger = Field(
        default=1, description="Jobs for the changed models of esa/targeted-perturbation, random sets included."
    )
    esa_robustness: PositiveInteger = Field(
        default=1, description="Jobs for the draws of noise of esa/robustness, all levels together, for each model."
    )
