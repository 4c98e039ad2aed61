"""Anatomy of a decoder-only language model, found by structure rather than by family name.

One traced forward on three tokens shows which modules are called, in what order and with which tensors. From
this record come the blocks, the norms, the flow of the residual stream and the taps. What cannot be
understood is refused.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tremor.errors import ModelError
from tremor.models import taps as tapping
from tremor.models.anatomy_blocks import is_norm, read_block
from tremor.models.anatomy_head import Head, find_head
from tremor.models.anatomy_layout import trace_model
from tremor.models.anatomy_parts import BlockParts, Projections, Slice
from tremor.models.anatomy_trace import same
from tremor.models.taps import TapPoint

__all__ = ["Anatomy", "BlockParts", "Head", "Projections", "Slice", "TapPoint", "describe"]


@dataclass(frozen=True)
class Anatomy:
    """Where everything is in a decoder-only model.

    Attributes:
        model: The model with its head.
        base: `model.base_model`.
        container: The module that owns the blocks and runs them.
        blocks: The decoder blocks.
        n_layers: Number of blocks.
        d_model: Width of the residual stream.
        d_input: Width of `inputs_embeds`; not `d_model` where embeddings are projected (OPT-350m).
        vocab: Number of logits.
        context: Longest sequence the config allows, None where it names no limit (Mamba).
        embedding: Input embedding module.
        before_blocks: Modules applied between embeddings and first block.
        after_blocks: Modules applied after the last block, in order.
        final_norm: The norm among `after_blocks`, None if there is none.
        head: Unembedding with scale and soft-capping.
        tied: Whether input and output embeddings are one parameter.
        transposed: Names of parameters stored as [.., inputs, outputs] (Conv1D, some stacked experts).
        embedding_scale: Factor from embedding rows to `inputs_embeds`, None for 1 or no constant.
        input_scale: Factor from `inputs_embeds` to the residual stream, None for 1 or no constant.
        parallel: Whether in every block the MLP reads the block's input instead of the mixer's sum.
        block_parts: Parts of each block.
        taps: All named taps. "block.k.mixer" and "block.k.mlp" are what the branch adds to the residual
            stream: without the residual where a module adds it itself (BLOOM), after the norm where one
            follows (Gemma 2, OLMo 2). "block.k.mid" is the sum after the mixer, in sequential blocks. All
            other modules in a block are taps under their own names, with ".input" for what they are given.
    """

    model: PreTrainedModel
    base: nn.Module
    container: nn.Module
    blocks: nn.ModuleList
    n_layers: int
    d_model: int
    d_input: int
    vocab: int
    context: int | None
    embedding: nn.Module
    before_blocks: tuple[nn.Module, ...]
    after_blocks: tuple[nn.Module, ...]
    final_norm: nn.Module | None
    head: Head
    tied: bool
    transposed: frozenset[str]
    embedding_scale: float | None
    input_scale: float | None
    parallel: bool
    block_parts: tuple[BlockParts, ...]
    taps: dict[str, TapPoint] = field(repr=False)

    @property
    def unembedding(self) -> nn.Module:
        """Output embedding module."""
        return self.head.unembedding

    @property
    def logit_softcap(self) -> float | None:
        """Soft cap of the logits, None without."""
        return self.head.softcap

    @property
    def logit_scale(self) -> float | None:
        """Factor on the raw logits (a divisor is given as its inverse), None without."""
        if self.head.divisor is not None:
            return (self.head.multiplier or 1.0) / self.head.divisor
        return self.head.multiplier

    @property
    def recurrent(self) -> bool:
        """Whether any block carries a recurrent state instead of keys and values."""
        return any(part.mixer_kind != "attention" for part in self.block_parts)

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings as the model takes them.

        Args:
            ids: Token ids, int64 [batch, positions].

        Returns:
            `inputs_embeds` [batch, positions, d_input].
        """
        result = self.embedding(ids)
        assert isinstance(result, Tensor)
        return result

    def unembed(self, final: Tensor) -> Tensor:
        """Logits of tap "final".

        Args:
            final: Hidden states [..., width of the unembedding].

        Returns:
            Logits [..., vocab], with bias, scale and soft-capping.
        """
        return self.head(final)

    def normalise(self, prenorm: Tensor) -> Tensor:
        """Apply all modules that follow the last block: tap "final_prenorm" to tap "final"."""
        for module in self.after_blocks:
            prenorm = module(prenorm)
        return prenorm

    def record(self, names: Iterable[str], *, detach: bool = True) -> AbstractContextManager[dict[str, Tensor]]:
        """Record taps of the forwards made inside a `with` block.

        Args:
            names: Tap names, see `taps`.
            detach: Whether to cut the copies from the autograd graph.

        Returns:
            Context manager giving a dict, filled with [batch, positions, width] copies by the forward.

        Raises:
            ModelError: If a name is no tap of this model.
        """
        points = tapping.resolve(self.taps, names)
        holders = (self.model, self.base, self.container)
        return tapping.record(points, first_block=self.blocks[0], embeds_at=holders, detach=detach)

    def parameter(self, name: str) -> nn.Parameter:
        """A parameter by its full name.

        Raises:
            ModelError: If the model has no such parameter.
        """
        try:
            return self.model.get_parameter(name)
        except AttributeError as error:
            raise ModelError(f"this {type(self.model).__name__} has no parameter '{name}'") from error

    def select(self, part: Slice) -> Tensor:
        """The weights of one projection, as stored: a view for a slice, a copy for an index tensor."""
        return part.take(self.parameter(part.parameter))


def _scale(wide: Tensor | None, narrow: Tensor) -> float | None:
    """The constant c with wide == c * narrow, if there is one other than 1."""
    if wide is None or wide.numel() != narrow.numel() or same(wide, narrow):
        return None
    big, small = wide.detach().reshape(-1).double(), narrow.detach().reshape(-1).double().to(wide.device)
    place = int(small.abs().argmax())
    if float(small[place]) == 0:
        return None
    factor = float(big[place] / small[place])
    # The quotient carries the roundings of both; configs name short numbers or square roots.
    short = float(f"{factor:.5g}")
    factor = short if same(wide, (narrow * short).to(wide)) else factor
    # One rounding of the product in the model's dtype, and one of the factor itself.
    tolerance = 4 * torch.finfo(wide.dtype).eps
    return factor if torch.allclose(big, small * factor, rtol=tolerance, atol=0.0) else None


def _transposed(model: nn.Module) -> set[str]:
    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Conv1D)}


def describe(model: PreTrainedModel) -> Anatomy:
    """Find the anatomy of a decoder-only language model.

    Args:
        model: A transformers model with its language-model head, in eval mode. Its parameters are left alone.

    Returns:
        The anatomy.

    Raises:
        ModelError: If it is no decoder-only language model or cannot be understood; the message tells why.
    """
    layout = trace_model(model)
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1
    context = getattr(config, "max_position_embeddings", None)
    known: dict[object, tuple[Any, ...]] = {}
    described = [read_block(c, index, n_heads=heads, known=known) for index, c in enumerate(layout.calls)]
    parts = tuple(part for part, _ in described)
    stacked = {parameter for _, names in described for parameter in names}
    d_model = int(layout.entry.shape[-1])
    after = tuple(call.module for call in layout.after)
    rows = layout.embedding.weight
    assert isinstance(rows, Tensor)
    return Anatomy(
        model=model,
        base=model.base_model,
        container=layout.container,
        blocks=layout.blocks,
        n_layers=len(layout.blocks),
        d_model=d_model,
        d_input=int(layout.embeds.shape[-1]),
        vocab=int(layout.logits.shape[-1]),
        context=context if isinstance(context, int) and context > 0 else None,
        embedding=layout.embedding,
        before_blocks=tuple(call.module for call in layout.before),
        after_blocks=after,
        final_norm=next((call.module for call in layout.after if is_norm(call, d_model)), None),
        head=find_head(layout.unembedding, config, layout.raw, layout.logits),
        tied=layout.unembedding.weight is rows,
        transposed=frozenset(_transposed(model) | stacked),
        embedding_scale=_scale(layout.embeds, rows[layout.ids]),
        input_scale=_scale(layout.entry, layout.embeds),
        parallel=all(part.parallel for part in parts),
        block_parts=parts,
        taps=_all_taps(layout.embedding, layout.blocks, parts, after),
    )


def _all_taps(
    embedding: nn.Module, blocks: nn.ModuleList, parts: tuple[BlockParts, ...], after: tuple[nn.Module, ...]
) -> dict[str, TapPoint]:
    taps = {"embedding": TapPoint(embedding, "output")}
    for index, block in enumerate(blocks):
        taps[f"residual.{index}"] = TapPoint(block, "input")
    last = TapPoint(blocks[-1], "output")
    taps["final_prenorm"] = TapPoint(after[0], "input") if after else last
    taps["final"] = TapPoint(after[-1], "output") if after else last
    for part in parts:
        taps |= {f"block.{part.index}.{name}": point for name, point in part.taps.items()}
    return taps
