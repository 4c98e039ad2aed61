"""Forms of a model for derivatives at one new position: only the new key and value carry a gradient.

The plain formula that transformers runs as "eager" also forms the gradients of all prefix keys and values, for every
cotangent, only to throw them away: a third of the time of a Jacobian. The prefix is frozen, so they are left out here.
The function is the same, and so are its values up to rounding.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.activations import SiLUActivation
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from tremor.models.loader import LoadedModel

NAME = "tremor_last_position"


def last_position_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention of one query over a frozen past and itself; anything else goes to the model's own eager formula.

    Args:
        module: The attention module.
        query: [rows, heads, queries, width].
        key: [rows, key heads, positions, width], the last of them new.
        value: Like key.
        attention_mask: Added to the scores, [rows or 1, heads or 1, queries, >= positions], or None.
        scaling: Factor on the scores; None for 1 / sqrt(width).
        dropout: Ignored; models run in eval mode.
        options: What a family adds, such as soft-capping or sinks; where present the family's own formula runs.

    Returns:
        [rows, queries, heads, width], and no weights.
    """
    special = any(options.get(name) is not None for name in ("softcap", "s_aux", "position_bias"))
    if query.shape[-2] != 1 or special:
        own = sys.modules[type(module).__module__].eager_attention_forward
        result: tuple[torch.Tensor, torch.Tensor | None] = own(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **options
        )
        return result
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    past_key, past_value = key[..., :-1, :].detach(), value[..., :-1, :].detach()
    scores = torch.cat(
        [query @ past_key.transpose(-1, -2), (query * key[..., -1:, :]).sum(dim=-1, keepdim=True)], dim=-1
    )
    scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores + attention_mask[..., : scores.shape[-1]]
    # As the families do: at least float32 within the softmax. Written out, because the backward pass of the fused one
    # has no batching rule and would run once for each cotangent.
    scores = scores.to(torch.promote_types(query.dtype, torch.float32))
    exponentials = torch.exp(scores - scores.amax(dim=-1, keepdim=True).detach())
    weights = (exponentials / exponentials.sum(dim=-1, keepdim=True)).to(query.dtype)
    output = weights[..., :-1] @ past_value + weights[..., -1:] * value[..., -1:, :]
    return output.transpose(1, 2).contiguous(), None


class _Silu(torch.autograd.Function):
    """SiLU that keeps its derivative: one product for a whole batch of cotangents, where the fused one has a loop."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(x)
        derivative = gate * (1 + x * (1 - gate))
        ctx.save_for_backward(derivative)
        ctx.save_for_forward(derivative)
        return x * gate

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> torch.Tensor:
        (derivative,) = ctx.saved_tensors
        product: torch.Tensor = cotangents[0] * derivative
        return product

    @staticmethod
    def jvp(ctx: Any, *tangents: torch.Tensor) -> torch.Tensor:
        (derivative,) = ctx.saved_tensors
        product: torch.Tensor = tangents[0] * derivative
        return product


def _silu(module: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    """Forward hook: SiLU in the form above."""
    result: torch.Tensor = _Silu.apply(arguments[0])  # type: ignore[no-untyped-call]
    return result


@contextmanager
def differentiable(loaded: LoadedModel) -> Iterator[None]:
    """Run attention and SiLU by formulas with forward mode and batching rules inside the block.

    The model's own choice returns afterwards. Some classes (Falcon, BLOOM) choose their attention modules when they
    are built; they keep what they have.
    """
    hooks = [
        module.register_forward_hook(_silu)
        for module in loaded.model.modules()
        if isinstance(module, nn.SiLU | SiLUActivation)
    ]
    before = loaded.model.config._attn_implementation
    switchable = bool(loaded.model._supports_attention_backend)
    try:
        if switchable:
            AttentionInterface.register(NAME, last_position_attention)
            AttentionMaskInterface.register(NAME, eager_mask)
            loaded.model.set_attn_implementation(NAME)
        yield
    finally:
        if switchable:
            loaded.model.set_attn_implementation(before)
        for hook in hooks:
            hook.remove()
