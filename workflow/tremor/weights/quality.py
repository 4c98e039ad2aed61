"""What scores say about their own quality, from what each tensor adds to it. No torch: shards are gathered without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Terms:
    """What a score found of its quality over some tensors.

    Attributes:
        lists: At most one entry for each tensor, in the order of the tensors: ``signal`` and ``noise`` (squared
            estimates and squared standard errors, summed), ``attribution`` (its sum), ``left_out`` and ``unused``
            (names of tensors without a score).
        common: What is the same for all tensors; ``loss`` and ``loss_at_zero`` go with ``attribution``.
    """

    lists: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    common: Mapping[str, Any] = field(default_factory=dict)

    def notes(self) -> dict[str, Any]:
        """The common values, and ``noise_over_estimate``, ``completeness_error`` or ``tensors_left_out``."""
        found, lists = dict(self.common), self.lists
        if "signal" in lists:
            signal, noise = added(lists["signal"]), added(lists["noise"])
            found["noise_over_estimate"] = (noise / signal) ** 0.5 if signal else None
        if "attribution" in lists:
            total, change = added(lists["attribution"]), found["loss"] - found["loss_at_zero"]
            found["attribution_sum"] = total
            found["completeness_error"] = abs(total - change) / abs(change) if change else None
        if "left_out" in lists:
            found["tensors_left_out"] = [*lists["left_out"], *lists["unused"]]
        return found


def added(values: Sequence[float]) -> float:
    """Sum from left to right; `sum` of newer Pythons carries rounding errors along and would differ between them."""
    total = 0.0
    for value in values:
        total += value
    return total
