"""Config of the shards: into how many jobs the long ones are cut."""

from pydantic import Field

from tremor.config.base import Block, PositiveInteger


class Shards(Block):
    """Jobs that one measurement is cut into, for clusters; 1 is one job. The results are the same, bit for bit."""

    exp2: PositiveInteger = Field(default=1, description="Jobs for the prompts of exp2, for each model and precision.")
    exp7: PositiveInteger = Field(
        default=1, description="Jobs for the rows of exp7's maps, for each tie; the zoom is one job."
    )
    exp12: PositiveInteger = Field(default=1, description="Jobs for the angles of exp12, for each model and prompt.")
    exp13: PositiveInteger = Field(default=1, description="Jobs for the vectors of exp13, for each model and prompt.")
    recordings: PositiveInteger = Field(
        default=1,
        description="Jobs for the questions of the recorder, for each model and platform; batches of questions stay "
        "together.",
    )
