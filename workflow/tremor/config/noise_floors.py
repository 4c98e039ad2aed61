"""Config of the noise floors: how far a model's answer is from true float64, in each type, mode and platform."""

from typing import Literal

from pydantic import Field

from tremor.config.base import Alias, Block, Choices, FloatType, PositiveInteger, Text
from tremor.config.quotients import Names


class NoiseFloors(Block):
    """noise_floors: the rounding floor of the answer in each type, mode and platform."""

    prompts: Text = Field(
        default="resources/prompts/lipschitz.tsv", description="File with the prompts, as exp2.prompts."
    )
    names: Names = Field(
        default=("capital", "machine_learning", "solve", "bank", "sum", "harbour"),
        description="Which of them, by name. A floor is a median and a maximum over prompts.",
    )
    bos: Literal["auto", "always", "never"] = Field(
        default="auto", description="Begin-of-sequence token of these prompts, as in `prompts`."
    )
    dtypes: Choices[FloatType] = Field(
        default=("float32", "bfloat16", "float16"),
        description="Types the model runs in; each is compared with true float64 of the weights rounded to it.",
    )
    modes: Choices[Literal["reference", "batched"]] = Field(
        default=("reference", "batched"), description="Ways of execution, as probe.mode."
    )
    batch_size: PositiveInteger = Field(default=32, description="Rows of a batch in mode batched.")
    platforms: Literal["auto"] | Choices[Alias] = Field(
        default="auto",
        description="Names from `platforms`; their dtype, decode and batch play no part. auto: all that this "
        "machine can be, each arithmetic once.",
    )
