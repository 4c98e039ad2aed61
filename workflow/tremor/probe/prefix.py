"""The frozen prefix: what attention and recurrence remember of the tokens before the nudged one.

Attention is causal, so the keys, values and states of positions 0..T-2 do not depend on the last position. They are
computed once; each evaluation then runs one position a row against them, T times less work than the whole sequence.
"""

import copy
import inspect
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, LinearAttentionCacheLayerMixin

from tremor.errors import ModelError


class FrozenLayer(DynamicLayer):
    """Keys and values of the prefix with one free slot at the end, written in place: no copy per evaluation."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self._length = keys.shape[-2]
        self._key_buffer = self._buffer(keys, rows)
        self._value_buffer = self._buffer(values, rows)
        self.keys = self._key_buffer[..., :-1, :]
        self.values = self._value_buffer[..., :-1, :]

    @staticmethod
    def _buffer(prefix: torch.Tensor, rows: int) -> torch.Tensor:
        _, heads, length, width = prefix.shape
        buffer = torch.zeros(rows, heads, length + 1, width, dtype=prefix.dtype, device=prefix.device)
        buffer[..., :length, :] = prefix
        return buffer

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the prefix and of the new position, for every row."""
        if torch.is_grad_enabled():  # autograd needs the parts unmodified until the backward pass
            return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)
        self._key_buffer[..., self._length :, :] = key_states
        self._value_buffer[..., self._length :, :] = value_states
        return self._key_buffer, self._value_buffer

    def get_seq_length(self) -> int:
        """Positions of the prefix."""
        return int(self._length)


class FrozenState(torch.Tensor):
    """A recurrent state that stays what it was: models write the new state into it, and that is ignored.

    One position is run after the prefix, so nobody reads what was written; and autograd needs the old values.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def copy_(self, src: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        """Ignore the write."""
        return self


def _expanded(layer: Any, rows: int) -> Any:
    """A cache layer of ``rows`` equal rows, made from one of a single row."""
    if type(layer) is DynamicLayer:
        return FrozenLayer(cast(torch.Tensor, layer.keys), cast(torch.Tensor, layer.values), rows)
    wide: Any = copy.copy(layer)
    if isinstance(layer, DynamicLayer):  # sliding windows and the like: their own update concatenates, never writes
        for name in ("keys", "values"):
            state = getattr(layer, name)
            setattr(wide, name, state.expand(rows, *state.shape[1:]))
    if isinstance(layer, LinearAttentionCacheLayerMixin):
        wide.conv_states = {k: _frozen(v, rows) for k, v in layer.conv_states.items()}
        wide.recurrent_states = {k: _frozen(v, rows) for k, v in layer.recurrent_states.items()}
        # The state that a model gets back from an update is the new one, though none is kept.
        wide.update_recurrent_state = lambda recurrent_states, *args, **kwargs: recurrent_states
    return wide


def _frozen(state: torch.Tensor | None, rows: int) -> torch.Tensor | None:
    return None if state is None else state.expand(rows, *state.shape[1:]).as_subclass(FrozenState)


def _fresh(layer: Any) -> Any:
    """A cache layer that one forward may update; the expanded one stays as it is."""
    # A FrozenLayer writes only its free slot, which each forward overwrites; the others assign new tensors.
    return layer if isinstance(layer, FrozenLayer) else copy.copy(layer)


def _remembers(layer: Any) -> bool:
    """Whether a cache layer holds anything of the prefix."""
    if isinstance(layer, LinearAttentionCacheLayerMixin) and any(layer.has_previous_state.values()):
        return True
    return isinstance(layer, DynamicLayer) and layer.get_seq_length() > 0


class Prefix:
    """Everything a model needs to run one more position after a fixed prefix, for a fixed number of rows.

    Args:
        base: The model without its head (``model.base_model``).
        embeddings: [T-1, d_in] of the prefix; T-1 may be 0, then a call has no past.
        rows: Rows of each evaluation.

    Raises:
        ModelError: the architecture offers no cache; use ``probe.mode: reference``.
    """

    def __init__(self, base: nn.Module, embeddings: torch.Tensor, rows: int) -> None:
        self.argument: str | None = None
        self._cache: Cache | None = None
        if embeddings.shape[0] == 0:
            return
        accepted = inspect.signature(base.forward).parameters
        self.argument = next((n for n in ("past_key_values", "cache_params") if n in accepted), None)
        if self.argument is None:
            raise ModelError(
                f"{type(base).__name__} takes neither past_key_values nor cache_params, so it cannot continue a "
                "frozen prefix; set probe.mode: reference"
            )
        cache = DynamicCache(config=cast(PreTrainedConfig, base.config))
        with torch.no_grad():
            base(inputs_embeds=embeddings[None], use_cache=True, **{self.argument: cache})
        # A layer without a past keeps it elsewhere (RecurrentGemma in its modules): rows would share one state.
        if not cache.layers or not all(_remembers(layer) for layer in cache.layers):
            raise ModelError(
                f"{type(base).__name__} ran the prefix without filling its cache; set probe.mode: reference"
            )
        cache.layers = [_expanded(layer, rows) for layer in cache.layers]
        self._cache = cache

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of one forward over ``[rows, 1, d_in]`` that continues the prefix."""
        if self._cache is None or self.argument is None:
            return {"use_cache": False}
        fresh = copy.copy(self._cache)
        fresh.layers = [_fresh(layer) for layer in self._cache.layers]
        return {"use_cache": True, self.argument: fresh}
