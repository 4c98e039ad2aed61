"""The model under verification, at one base point, and its copy in true float64."""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tremor.errors import PromptError
from tremor.models import true64
from tremor.models.loader import LoadedModel
from tremor.probe.base import BasePoint, base_point
from tremor.probe.response import Response, as_bits

Array = npt.NDArray[Any]


class Wrong(Exception):
    """An instrument gave an answer, and it is not the right one."""


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape have equal bits: -0 is not 0, NaN is itself."""
    return a.shape == b.shape and torch.equal(as_bits(a), as_bits(b))


def require(condition: bool, message: str) -> None:
    """Raise `Wrong` with a message unless a condition holds."""
    if not condition:
        raise Wrong(message)


class Subject:
    """What every check looks at.

    Args:
        loaded: The model.
        text: The prompt.

    Raises:
        PromptError: It gives fewer than two tokens.
    """

    def __init__(self, loaded: LoadedModel, text: str) -> None:
        self.loaded, self.text = loaded, text
        self.base = base_point(loaded, text)
        if len(self.base.ids) < 2:
            raise PromptError("a verification needs a prompt of two tokens or more, so that there is a past")
        self.ids = torch.from_numpy(self.base.ids)[None].to(loaded.device)

    @cached_property
    def wide(self) -> LoadedModel:
        """The model in true float64.

        Raises:
            NumericsError: It may not be called float64.
        """
        return true64.convert(self.loaded)

    @cached_property
    def wide_base(self) -> BasePoint:
        """The same prompt for it."""
        return base_point(self.wide, self.text)

    @cached_property
    def wide_answer(self) -> Response:
        """Its answer by the full sequence without a cache."""
        return Response(self.wide, self.wide_base, mode="reference")

    @property
    def rounding(self) -> float:
        """How far two orders of the same sums may lie apart, relative to the largest entry.

        A thousand roundings: sums of d terms err like sqrt(d) eps, a few of them in every block (measured on the
        families of the tests: at most 20 eps). A wrong mask, position or state changes an answer by its own size.
        """
        return 1000 * float(torch.finfo(self.loaded.dtype).eps)

    def close(self, found: Array, expected: Array, what: str) -> float:
        """Require agreement up to rounding; give the distance relative to the largest entry."""
        scale = float(np.abs(expected).max())
        distance = float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()) / scale
        require(distance <= self.rounding, f"{what} differ by {distance:.2g} of the largest entry")
        return distance
