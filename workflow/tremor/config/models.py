"""Config of models: which there are, where they come from, and how the embedded ones are trained."""

from typing import Annotated, Literal

from pydantic import Field

from tremor.config.base import (
    Alias,
    Block,
    FloatType,
    PositiveInteger,
    Real,
    Repository,
    Revision,
    Seed,
    Text,
)

Architecture = Literal["llama", "gpt2", "mamba"]
"""The architectures that the workflow can train by itself."""


class _Model(Block):
    dtype: FloatType | None = Field(default=None, description="Type this model runs in; null takes probe.dtype.")
    attention: Literal["auto", "eager", "sdpa"] = Field(
        default="auto",
        description="Attention kernel; auto lets the workflow choose. Kernels differ in the last bits.",
    )


class EmbeddedModel(_Model):
    """A small model trained by the workflow itself: no network, no GPU needed."""

    source: Literal["embedded"] = Field(description="embedded, trained here in a minute or two.")
    architecture: Architecture = Field(description="Architecture to train.")


class HubModel(_Model):
    """A model of the Hugging Face hub, fetched once; jobs then run offline."""

    source: Literal["hub"] = Field(description="hub, fetched from the Hugging Face hub.")
    repo: Repository = Field(description="Repository on the hub.")
    revision: Revision = Field(
        description="Commit hash or tag to fetch. Give the full commit hash: a branch such as main is "
        "accepted, but it moves, and then the same config names other weights."
    )


class PathModel(_Model):
    """A model in a folder of yours, as Hugging Face's save_pretrained writes it (safetensors, tokenizer)."""

    source: Literal["path"] = Field(description="path, a folder on this machine.")
    path: Text = Field(description="The folder, absolute or relative to where Snakemake runs.")


ModelEntry = Annotated[EmbeddedModel | HubModel | PathModel, Field(discriminator="source")]
"""One model, told apart by its source."""

Models = dict[Alias, ModelEntry]
"""All models, by alias."""

DEFAULT_MODELS: Models = {
    "llama": EmbeddedModel(source="embedded", architecture="llama"),
    "gpt2": EmbeddedModel(source="embedded", architecture="gpt2"),
    "mamba": EmbeddedModel(source="embedded", architecture="mamba"),
}
"""The models that need nothing but this repository."""


class Training(Block):
    """How the embedded models are trained. A change here trains them again."""

    seed: Seed = Field(default=0, description="Seed of the initial weights and of the order of the text.")
    threads: PositiveInteger = Field(
        default=1,
        description="Threads of torch while training. Another number rounds differently and gives other "
        "weights; with models this small, a second one gains nothing.",
    )
    min_recall: Real = Field(
        default=0.8,
        ge=0.0,
        le=1.0,
        description="Fraction of the capitals the model must name after training; below it the job fails.",
    )
