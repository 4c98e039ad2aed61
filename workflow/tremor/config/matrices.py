"""Config of exp9: statistics of all weight matrices."""

from typing import Literal

from pydantic import Field

from tremor.config.base import Block, PositiveInteger


class Exp9(Block):
    """exp9: statistics, norms and singular values of every weight matrix, from the files."""

    svd: Literal["float64", "float32"] = Field(
        default="float64",
        description="Type of the singular value decompositions; float32 takes half the time, and its small singular "
        "values are off by 1e-7 of the largest.",
    )
    embeddings: bool = Field(
        default=True,
        description="Singular values of embedding and unembedding too, a model's largest matrices; their other "
        "statistics come in any case.",
    )
    fused: bool = Field(
        default=True,
        description="Measure fused tensors (queries, keys and values in one) as a whole too, not only their parts.",
    )
    bins: PositiveInteger = Field(default=100, description="Bins of the histograms.")
