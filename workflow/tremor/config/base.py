"""The strict base of every config block, and the kinds of value that blocks are made of."""

import re
from collections.abc import Callable, Hashable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

Item = TypeVar("Item", bound=Hashable)

# Files that stand beside the folders named after an alias, e.g. results/exp12/summary.csv.
_FILE_ENDING = re.compile(r"\.(csv|json|h5|parquet|png|pdf|svg|ya?ml|tsv|txt|log)$", re.IGNORECASE)


class Block(BaseModel):
    """A block of the configuration: unknown keys, NaN and infinity are refused; it cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


def refuse(message: str) -> PydanticCustomError:
    """Build the error that a validator raises, so that its text reaches the user unchanged.

    Args:
        message: what is wrong and what to do about it.

    Returns:
        The exception to raise.
    """
    # The message is passed as a value because braces in a template would be read as place holders.
    return PydanticCustomError("tremor", "{message}", {"message": message})


def _number(value: Any) -> Any:
    # Python counts True as 1; a user who writes `angles: yes` has made a mistake.
    if isinstance(value, bool):
        raise refuse(f"got {str(value).lower()}, which is not a number")
    return value


def _whole_number(value: Any) -> Any:
    value = _number(value)
    if isinstance(value, str):
        # PyYAML reads 1e3 as text, because YAML 1.1 asks for a dot and a sign in an exponent.
        try:
            number = float(value)
        except ValueError:
            return value
        return int(number) if number.is_integer() and abs(number) < 2**53 and "e" in value.lower() else value
    return value


def _distinct(values: tuple[Item, ...]) -> tuple[Item, ...]:
    repeated = [value for index, value in enumerate(values) if value in values[:index]]
    if repeated:
        raise refuse(f"{repeated[0]!r} is listed twice; remove one")
    return values


def _folder_name(alias: str) -> str:
    if _FILE_ENDING.search(alias):
        raise refuse(f"the name {alias!r} ends like a file, but folders are named after it; choose another")
    return alias


def _not_blank(text: str) -> str:
    if not text.strip():
        raise refuse("is empty or blank; write some text")
    return text


def _has_no_parent_step(text: str) -> str:
    if ".." in text:
        raise refuse(f"{text!r} contains '..', which could lead out of its folder")
    return text


def _fits_float32(value: float) -> float:
    # Steps live on the float32 lattice; half the smallest denormal rounds to 0, which moves nothing.
    smallest, largest = 2.0**-149, (2.0 - 2.0**-23) * 2.0**127
    if not smallest <= value <= largest:
        raise refuse(f"got {value!r}, which float32 cannot hold; choose a value from 1.5e-45 to 3.4e38")
    return value


def _as_schema(**keywords: Any) -> Callable[[dict[str, Any]], None]:
    def update(schema: dict[str, Any]) -> None:
        schema.update(keywords)

    return update


Integer = Annotated[int, BeforeValidator(_whole_number)]
"""A whole number; text such as "1e3" counts, true and false do not."""

Real = Annotated[float, BeforeValidator(_number)]
"""A finite number; text such as "1e-5" (how PyYAML reads 1e-5) counts, true and false do not."""

PositiveInteger = Annotated[int, Field(ge=1), BeforeValidator(_whole_number)]
"""A whole number of at least 1."""

NaturalNumber = Annotated[int, Field(ge=0), BeforeValidator(_whole_number)]
"""A whole number of at least 0."""

PositiveReal = Annotated[float, Field(gt=0.0), BeforeValidator(_number)]
"""A finite number above 0."""

StepLength = Annotated[
    float,
    Field(gt=0.0),
    AfterValidator(_fits_float32),
    BeforeValidator(_number),
]
"""A step length that float32 can hold as a number above 0."""

Seed = Annotated[int, Field(ge=0, lt=2**32), BeforeValidator(_whole_number)]
"""The seed of a random generator: 32 bits, the range that numpy and torch share."""

Choices = Annotated[
    tuple[Item, ...],
    Field(min_length=1, json_schema_extra=_as_schema(uniqueItems=True)),
    AfterValidator(_distinct),
]
"""A list of at least one item, none of them twice."""

Alias = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        json_schema_extra=_as_schema(**{"x-allowed": "letters, digits, '.', '_' and '-', a letter or digit first"}),
    ),
    AfterValidator(_folder_name),
    AfterValidator(_has_no_parent_step),
]
"""A name of the user's for a model or a prompt: it becomes a wildcard of Snakemake and a folder."""

Text = Annotated[str, AfterValidator(_not_blank)]
"""Text that is not blank."""

Repository = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
        json_schema_extra=_as_schema(**{"x-allowed": "owner/name, such as openai-community/gpt2"}),
    ),
    AfterValidator(_has_no_parent_step),
]
"""A repository of the Hugging Face hub."""

Revision = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        json_schema_extra=_as_schema(**{"x-allowed": "a commit hash or a tag, in quotes if it is all digits"}),
    ),
    AfterValidator(_has_no_parent_step),
]
"""A commit, tag or branch of a repository."""

DeviceName = Annotated[
    str,
    Field(
        pattern=r"^(auto|cpu|cuda|cuda:[0-9]{1,4})$",
        json_schema_extra=_as_schema(**{"x-allowed": "auto, cpu, cuda or cuda:N (N = 0, 1, ...)"}),
    ),
]
"""A device as torch names it, or auto."""

FloatType = Literal["float32", "bfloat16", "float16"]
"""A floating-point type that a model runs in."""

Arithmetic = Literal["float64", "float32"]
"""How x + s*d is computed before it is rounded to the model's type."""
