"""A model that somebody else loaded: what the loader checks in files, checked in memory."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tremor.errors import ModelError
from tremor.models.anatomy import describe
from tremor.models.loader import DTYPES, LoadedModel, align


def adopt(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    """Understand a model in memory.

    It is put into eval mode, its parameters stop asking for gradients and begin where kernels expect them, and expert
    layers run by the plain kernel, all as the loader has them; nothing else of it is changed.

    Args:
        model: A decoder-only language model of transformers.
        tokenizer: Its tokenizer.

    Raises:
        ModelError: it is quantised, of several types, not finite, of an unknown attention kernel, or not understood.
    """
    name = type(model).__name__
    if not isinstance(model, PreTrainedModel) or not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(f"load a model and a tokenizer of transformers, not {name} and {type(tokenizer).__name__}")
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{name}: tensor '{key}' has NaN or infinite values; load the model again")
    types = {parameter.dtype for parameter in model.parameters()}
    names = [text for text, dtype in DTYPES.items() if types == {dtype}]
    if not names:
        found = ", ".join(sorted(str(dtype) for dtype in types))
        raise ModelError(f"{name} has parameters of {found}; load it in one of {', '.join(DTYPES)}")
    attention = getattr(model.config, "_attn_implementation", None) or "eager"
    if attention not in ("eager", "sdpa"):
        raise ModelError(f"{name} runs attention by {attention!r}; load it with attn_implementation='sdpa' or 'eager'")
    experts = "eager" if model._can_set_experts_implementation() else None
    if experts is not None:
        model.set_experts_implementation(experts)
    align(model)
    model.eval()
    model.requires_grad_(False)
    anatomy = describe(model)
    weight = anatomy.embedding.weight
    assert isinstance(weight, torch.Tensor)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        anatomy=anatomy,
        dtype=DTYPES[names[0]],
        device=weight.device,
        attention=attention,
        experts=experts if any(part.n_experts for part in anatomy.block_parts) else None,
        digest=_digest(model),
    )


def _digest(model: PreTrainedModel) -> str:
    """sha256 over names, shapes, types and bits of all tensors."""
    made = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        made.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\n".encode())
        made.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return made.hexdigest()


def describe_in_memory(loaded: LoadedModel, name: str) -> Mapping[str, Any]:
    """What provenance and recordings say of it; there are no files to make a manifest of."""
    tokenizer = loaded.tokenizer
    words = "\n".join(f"{word}\0{number}" for word, number in sorted(tokenizer.get_vocab().items()))
    return {
        "alias": name,
        "source": "memory",
        "weights_digest": loaded.digest,
        "tokenizer_digest": hashlib.sha256(words.encode("utf-8", errors="backslashreplace")).hexdigest(),
        "config_digest": hashlib.sha256(loaded.model.config.to_json_string().encode()).hexdigest(),
    }
