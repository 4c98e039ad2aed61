"""Config of the page results/index.html."""

from pydantic import Field

from tremor.config.base import Block, Integer, Real


class Page(Block):
    """How large the page of results may become. A change here writes it anew and computes nothing again."""

    max_mb: Real = Field(
        default=15.0,
        gt=0.0,
        le=1000.0,
        description="Largest size, megabytes (10^6 bytes), 2 of them a program; what does not fit is linked.",
    )
    map_cells: Integer = Field(
        default=201,
        ge=2,
        le=2001,
        description="Most cells along an axis of an interactive map; of a larger one every k-th cell is shown.",
    )
