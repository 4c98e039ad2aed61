"""The base point: one prompt, one position, one vector that every nudge starts from."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from tremor.errors import NumericsError, PromptError
from tremor.models.loader import LoadedModel

BosPolicy = Literal["auto", "always", "never"]


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.float32`` -> ``float32``: the key of :data:`tremor.floats.FORMATS`."""
    return str(dtype).removeprefix("torch.")


def to_array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """Copy a float tensor to numpy in its carrier dtype: float64 stays, everything narrower becomes float32."""
    wide = tensor.detach() if tensor.dtype == torch.float64 else tensor.detach().float()
    return np.asarray(wide.cpu().numpy())


def to_tensor(array: npt.NDArray[Any], like: torch.Tensor) -> torch.Tensor:
    """Copy carried values to a tensor of another's dtype and device; exact, since they lie on its lattice."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device=like.device, dtype=like.dtype)


@dataclass(frozen=True)
class BasePoint:
    """One prompt as a model reads it, and the last position's input embedding, the vector that is nudged."""

    text: str
    ids: npt.NDArray[np.int64]  # [T]
    embeddings: torch.Tensor  # [T, d_in] as the model takes them, on its device and in its dtype
    x: npt.NDArray[Any]  # [d_in] last row of the embeddings, carrier dtype of `fmt`
    fmt: str  # the lattice x lies on: float32, bfloat16, float16 or float64

    @property
    def position(self) -> int:
        """Index of the nudged position: the last token of the prompt."""
        return int(self.ids.shape[0]) - 1


def token_ids(loaded: LoadedModel, text: str, *, bos: BosPolicy = "auto") -> npt.NDArray[np.int64]:
    """Token ids of a prompt under an explicit policy for the begin-of-text token.

    Args:
        loaded: The model with its tokenizer.
        text: The prompt; any Unicode.
        bos: ``auto`` leaves it to the tokenizer, ``always`` and ``never`` overrule it.

    Returns:
        [T] int64, T >= 1.

    Raises:
        PromptError: nothing remains to be read, the context is too short, or the tokenizer has no such token.
    """
    tokenizer = loaded.tokenizer
    if not text.strip():
        raise PromptError("the prompt is empty; give prompts.<name>.text at least one visible character")
    ids = [int(i) for i in tokenizer(text, add_special_tokens=bos == "auto")["input_ids"]]
    if bos == "always":
        if tokenizer.bos_token_id is None:
            raise PromptError("bos: always, but this tokenizer has no begin-of-text token; use bos: auto or never")
        ids = [int(tokenizer.bos_token_id), *ids]
    if not ids:
        raise PromptError(f"the prompt {text!r} has no tokens under this tokenizer; use another text")
    limit = getattr(loaded.model.config, "max_position_embeddings", None)
    if limit is not None and len(ids) > int(limit):
        raise PromptError(
            f"the prompt has {len(ids)} tokens, more than the model's context of {limit}; shorten prompts.<name>.text"
        )
    return np.array(ids, dtype=np.int64)


def base_point(loaded: LoadedModel, text: str, *, bos: BosPolicy = "auto") -> BasePoint:
    """Tokenise a prompt and look its input embeddings up.

    Raises:
        PromptError: see :func:`token_ids`.
        NumericsError: an embedding is NaN or infinite.
    """
    ids = token_ids(loaded, text, bos=bos)
    with torch.no_grad():
        embeddings = loaded.anatomy.embed(torch.from_numpy(ids)[None].to(loaded.device))[0].detach()
    if not bool(torch.isfinite(embeddings).all()):
        raise NumericsError("an input embedding is NaN or infinite; check the model's weights")
    return BasePoint(
        text=text,
        ids=ids,
        embeddings=embeddings,
        x=to_array(embeddings[-1]),
        fmt=dtype_name(embeddings.dtype),
    )


def moved_to(base: BasePoint, x: npt.NDArray[Any]) -> BasePoint:
    """The same prompt with another vector [d_in] at its last position, on the lattice of the base point."""
    embeddings = base.embeddings.clone()
    embeddings[-1] = to_tensor(x, embeddings)
    if to_array(embeddings[-1]).tobytes() != x.tobytes():
        raise NumericsError(f"the vector is not on the {base.fmt} lattice of the prompt's embeddings; round it first")
    return replace(base, embeddings=embeddings, x=x)
