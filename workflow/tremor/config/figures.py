"""Config of figures."""

from typing import Literal

from pydantic import Field

from tremor.config.base import Block, Choices, Integer


class Figures(Block):
    """How figures are saved. A change here redraws figures and computes nothing again."""

    formats: Choices[Literal["png", "pdf"]] = Field(
        default=("png", "pdf"), description="png to look at, pdf for papers."
    )
    dpi: Integer = Field(default=150, ge=30, le=1200, description="Resolution of png files, dots per inch.")
