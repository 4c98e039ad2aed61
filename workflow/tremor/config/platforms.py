"""Config of platforms, of the pairs that are compared, and of what is recorded on each."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tremor.config.base import Alias, Block, Choices, FloatType, PositiveInteger, Text, refuse

EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
"""Name of an environment variable."""


class Platform(Block):
    """One way of doing arithmetic: a device and everything that changes its rounding. Each key is part of results."""

    device: Annotated[
        str,
        Field(
            pattern=r"^(cpu|cuda|cuda:[0-9]{1,4})$",
            json_schema_extra={"x-allowed": "cpu, cuda or cuda:N (N = 0, 1, ...)"},
        ),
    ] = Field(default="cpu", description="Where the model runs; never chosen by itself, for it is what is compared.")
    dtype: FloatType = Field(default="float32", description="Type the model runs in, whatever the model says.")
    attention: Literal["auto", "eager", "sdpa"] = Field(
        default="auto", description="Attention kernel; auto takes the one of the model."
    )
    threads: PositiveInteger = Field(default=2, description="Threads of torch within an operation.")
    tf32: bool = Field(default=False, description="Allow TensorFloat-32 in matrix products (CUDA only).")
    environment: dict[EnvironmentName, Text] = Field(
        default={},
        description="Environment variables set before torch is loaded: ATEN_CPU_CAPABILITY, MKL_CBWR, "
        "ONEDNN_MAX_CPU_ISA, ...; values in quotes.",
    )
    decode: Literal["cached", "uncached"] = Field(
        default="cached",
        description="cached: one position a step on stored keys and values. uncached: the whole sequence again "
        "for every token, as the original study did; far slower.",
    )
    batch: PositiveInteger = Field(
        default=1,
        description="Questions in one batch, padded on the left; the shape of the batch is part of the rounding.",
    )
    slurm_partition: Text | None = Field(default=None, description="SLURM partition whose machines are this platform.")
    constraint: Text | None = Field(default=None, description="SLURM constraint of those machines, such as a100.")
    imported: bool = Field(
        default=False,
        description="Its recordings came from another machine (tremor bundle unpack); no job makes them here.",
    )

    @model_validator(mode="after")
    def _can_be_had(self) -> Self:
        if self.tf32 and self.device == "cpu":
            raise refuse("tf32 is a format of CUDA devices; set device: cuda, or leave tf32 out")
        return self


Platforms = dict[Alias, Platform]
"""All platforms, by name."""

DEFAULT_PLATFORMS: Platforms = {
    "native": Platform(),
    "again": Platform(),
    "avx2": Platform(environment={"ATEN_CPU_CAPABILITY": "avx2"}),
    "baseline": Platform(environment={"ATEN_CPU_CAPABILITY": "default"}),
    "mkl_compatible": Platform(environment={"MKL_CBWR": "COMPATIBLE"}),
    "eager": Platform(attention="eager"),
    "one_thread": Platform(threads=1),
    "uncached": Platform(decode="uncached"),
    "bfloat16": Platform(dtype="bfloat16"),
    "cuda": Platform(device="cuda"),
}
"""Platforms of one machine. `again` asks for the same as `native`: the control."""

Pair = Annotated[tuple[Alias, Alias], Field(description="Two names from `platforms`.")]

Pairs = dict[Alias, Pair]
"""Pairs of platforms, by name."""

DEFAULT_PAIRS: Pairs = {
    "repeat": ("native", "again"),
    "isa": ("native", "avx2"),
    "kernel": ("native", "eager"),
    "precision": ("native", "bfloat16"),
    "device": ("native", "cuda"),
}
"""What is compared by default: a control, two instruction sets, two attention kernels, two types, CPU and GPU."""

PairSelection = Literal["auto"] | Choices[Alias]
"""`select.pairs`."""


class Recorder(Block):
    """What is recorded while a platform answers the questions: tokens always, states of the model by choice."""

    questions: Text = Field(
        default="resources/questions/default.tsv",
        description="File of questions (columns name, kind, text); a file of yours beside the results comes first.",
    )
    names: Literal["all"] | Choices[Text] = Field(
        default="all", description="Questions to ask, by name, in this order; all takes the file's."
    )
    tokens: PositiveInteger = Field(
        default=64, description="Tokens to generate at most; an end-of-sequence token or the context may stop earlier."
    )
    taps: Literal["final", "stages", "all"] = Field(
        default="all",
        description="States recorded at every token. final: the state the unembedding reads. stages: the five "
        "of exp8 part 1 (embedding, the norms of the first block, before and after the final norm). all: every "
        "stage of every layer.",
    )
    tap_questions: Literal["all"] | Choices[Text] = Field(
        default="all",
        description="Questions recorded with taps: all, by name; the others record stages. Saves disk.",
    )
    tap_steps: Literal["all"] | PositiveInteger = Field(
        default="all",
        description="First tokens recorded with taps: all; later ones record stages. Saves disk.",
    )
