"""Config of prompts, and of which models and prompts to run."""

from typing import Literal

from pydantic import Field

from tremor.config.base import Alias, Block, Choices, Text
from tremor.config.platforms import PairSelection


class Prompt(Block):
    """A text whose last position is nudged."""

    text: Text = Field(description="The text, any Unicode. Quote it. It must fit into the model's context.")
    bos: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Begin-of-sequence token: auto does as the tokenizer does, always adds one if it is "
        "missing, never leaves it out.",
    )


Prompts = dict[Alias, Prompt]
"""All prompts, by alias."""

DEFAULT_PROMPTS: Prompts = {
    "capital": Prompt(text="The capital of France is"),
    "continent": Prompt(text="Japan is a country in"),
    "language": Prompt(text="The language spoken in Brazil is"),
    "currency": Prompt(text="The currency of India is the"),
}
"""Prompts on the facts that the embedded models learn; the first is the one of the original study."""


class Select(Block):
    """Which models and prompts to run: every selected model meets every selected prompt."""

    models: Choices[Alias] = Field(default=("llama",), description="Aliases from `models`.")
    prompts: Choices[Alias] = Field(default=("capital",), description="Aliases from `prompts`.")
    pairs: PairSelection = Field(
        default="auto",
        description="Names from `pairs`: which platforms are recorded and compared. auto: those that this "
        "machine can offer; it says which it leaves out.",
    )
