"""Config of the probe: how the model is asked, shared by all experiments."""

from typing import Literal

from pydantic import Field

from tremor.config.base import (
    Arithmetic,
    Block,
    Choices,
    DeviceName,
    FloatType,
    Integer,
    PositiveInteger,
    PositiveReal,
)


class Probe(Block):
    """How a model is asked what it answers to a nudge. Part of every result: a change here reruns all."""

    mode: Literal["reference", "batched"] = Field(
        default="batched",
        description="reference: full sequence, one input at a time, no cache; what the original study "
        "measured, slow. batched: many inputs at once, each on the frozen prefix; 10 to 100 "
        "times faster, rounds differently, so boundaries differ too.",
    )
    batch_size: Literal["auto"] | PositiveInteger = Field(
        default="auto",
        description="Rows of a batch in batched mode; every batch is padded to it, for its shape is part of "
        "the rounding. auto takes it from max_memory.",
    )
    dtype: FloatType = Field(default="float32", description="Type that models run in, unless a model says otherwise.")
    arithmetic: Choices[Arithmetic] = Field(
        default=("float64", "float32"),
        description="How x + s*d is computed before rounding to the model's type; each gives its own "
        "results. float64: rounded once at the end. float32: product and sum rounded each.",
    )
    device: DeviceName = Field(default="auto", description="Where models run. auto: a GPU if there is one.")
    max_memory: Literal["auto"] | PositiveReal = Field(
        default=2.0,
        description="Most memory for temporary tensors, GiB, beside the weights; lower it when memory runs "
        "out. auto takes a share of what is free (results then may depend on the machine's "
        "load).",
    )
    threads: PositiveInteger = Field(
        default=2,
        description="Threads of torch in each job. Not taken from --cores: the number of threads changes "
        "rounding, so it is a part of the platform.",
    )
    aa_repeats: Integer = Field(
        default=2,
        ge=2,
        description="Runs of the A/A control: the same input in every row, this often; all answers must be "
        "equal bit for bit before anything is measured.",
    )
