"""Config of the PDF study: which documents, and the windows they are read in."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tremor.config.base import Alias, Block, Choices, FloatType, PositiveInteger, Text, refuse

Documents = dict[Alias, Text]
"""PDF files by alias."""

DEFAULT_DOCUMENTS: Documents = {"sample": "resources/pdf/sample.pdf"}


class Pdf(Block):
    """pdf: how well a model foresees every word of a document."""

    documents: Documents = Field(
        default=DEFAULT_DOCUMENTS,
        description="PDF files by alias, relative to where Snakemake runs, then to the workflow; yours are added to "
        "these. The alias names folders of results.",
    )
    select: Choices[Alias] = Field(default=("sample",), description="Aliases from `pdf.documents`.")
    window: PositiveInteger | Literal["auto"] = Field(
        default="auto",
        description="Tokens a forward reads, begin-of-text included. auto: the model's context, but 2048 at most.",
    )
    stride: PositiveInteger | Literal["auto"] = Field(
        default="auto",
        description="Tokens each further window scores, at most half a window; all its other tokens are context. "
        "Smaller: more context for every token, and more work. auto: half a window.",
    )
    bos: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Begin-of-sequence token at the start of every window: auto does as the tokenizer does, always "
        "adds one if it is missing, never leaves it out; then the document's first token has no probability.",
    )
    dtype: FloatType | None = Field(
        default=None, description="Type the model runs in for this study; null takes that of the model."
    )
    batch_size: PositiveInteger = Field(default=8, description="Windows in one forward.")
    checkpoint: PositiveInteger = Field(
        default=4, description="Forwards after which what is scored is saved, for a job that is killed to go on from."
    )

    @model_validator(mode="after")
    def _stride_fits(self) -> Self:
        if self.window == 1:
            raise refuse("window is 1, which leaves no context; give it 2 tokens or more")
        if self.window != "auto" and self.stride != "auto" and 2 * self.stride > self.window:
            raise refuse(f"stride ({self.stride}) is more than half of window ({self.window}); lower it")
        return self
