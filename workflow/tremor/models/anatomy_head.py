"""The way from the last hidden state to the logits: projection, scale, soft-capping."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tremor.errors import ModelError

# Keys under which transformers' configs keep what is done to the logits after the projection.
_MULTIPLIERS = ("logit_scale", "output_multiplier_scale", "logits_multiplier")
_DIVISORS = ("logits_scaling",)
_CAPS = ("final_logit_softcapping", "logits_soft_cap")


@dataclass(frozen=True)
class Head:
    """The unembedding and what follows it.

    Attributes:
        unembedding: Module from hidden state to raw logits, bias included.
        multiplier: Factor on the raw logits, None without.
        divisor: Divisor of the raw logits, None without.
        softcap: Logits are softcap * tanh(raw / softcap), None without.
        dtype: Type of the logits as the model returns them.
    """

    unembedding: nn.Module
    multiplier: float | None
    divisor: float | None
    softcap: float | None
    dtype: torch.dtype

    def finish(self, raw: Tensor) -> Tensor:
        """Apply scale, soft-capping and cast in the order transformers does."""
        if self.multiplier is not None:
            raw = raw * self.multiplier
        if self.divisor is not None:
            raw = raw / self.divisor
        if self.softcap is not None:
            raw = torch.tanh(raw / self.softcap) * self.softcap
        return raw.to(self.dtype)

    def __call__(self, final: Tensor) -> Tensor:
        """Logits of hidden states.

        Args:
            final: Hidden states [..., width of the unembedding].

        Returns:
            Logits [..., vocab], bit for bit the model's when the shape is the model's.
        """
        weight = self.unembedding.weight
        assert isinstance(weight, Tensor)
        raw = self.unembedding(final.to(weight.dtype))
        assert isinstance(raw, Tensor)
        return self.finish(raw)


def _values(config: Any, names: tuple[str, ...]) -> list[float | None]:
    found = [getattr(config, name, None) for name in names]
    return [None, *[float(v) for v in found if isinstance(v, (int, float)) and v]]


def find_head(unembedding: nn.Module, config: Any, raw: Tensor, logits: Tensor) -> Head:
    """Find what a model does to its raw logits.

    Args:
        unembedding: The output embedding module.
        config: The model's config, searched for scale and soft-capping.
        raw: What the module returned in a traced forward [..., vocab].
        logits: What the model returned in that forward.

    Returns:
        The head that reproduces `logits` from `raw` bit for bit.

    Raises:
        ModelError: If none does.
    """
    for cap in _values(config, _CAPS):
        for multiplier in _values(config, _MULTIPLIERS):
            for divisor in _values(config, _DIVISORS):
                head = Head(unembedding, multiplier, divisor, cap, logits.dtype)
                if torch.equal(head.finish(raw), logits.to(raw.device)):
                    return head
    raise ModelError(
        f"{type(config).__name__}: the logits are not the unembedding's output, scaled or soft-capped as the "
        "config says; this head is not understood"
    )
