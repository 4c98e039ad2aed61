"""Text that a model writes, greedily or sampled, with every draw given by a seed.

Sampling uses common random numbers: the n-th token of a prompt is where the n-th uniform number falls in the cumulative
distribution, in the order of token ids. Two models with the same seed differ by their probabilities alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tremor.errors import ConfigError, NumericsError
from tremor.models.loader import LoadedModel
from tremor.record.decode import Decoder, end_tokens, limits, prompt_ids


@dataclass(frozen=True)
class Generated:
    """A continuation.

    Attributes:
        ids: Generated token ids, the end token among them.
        text: What they spell.
        stopped: "eos", "length", "context", or "nan_logits" where the model had no next token.
    """

    ids: tuple[int, ...]
    text: str
    stopped: str


def generate(
    loaded: LoadedModel,
    prompt: str,
    *,
    tokens: int,
    temperature: float | None = None,
    top_p: float = 1.0,
    seed: int = 0,
) -> Generated:
    """Continue a prompt; alone in its batch and without a cache, so that nothing but the weights decides.

    Args:
        loaded: The model.
        prompt: The text before.
        tokens: Most tokens.
        temperature: Divides the logits before a token is drawn; None for the largest logit.
        top_p: Tokens are drawn from the least set of most probable tokens with this probability together.
        seed: Of the uniform numbers.

    Raises:
        PromptError: The prompt has no token or is too long.
        ConfigError: A temperature that is not positive.
    """
    if temperature is not None and not temperature > 0:
        raise ConfigError(f"temperature {temperature} is not positive; leave it out for greedy decoding")
    start = prompt_ids(loaded, prompt)
    ends = end_tokens(loaded)
    most = limits(loaded, [len(start)], tokens)[0]
    uniform = np.random.default_rng(seed).random(tokens)
    decoder = Decoder(loaded, [start], "uncached")
    ids: list[int] = []
    stopped = "length" if most == tokens else "context"
    chosen: npt.NDArray[np.int64] | None = None
    for step in range(most):
        logits = decoder(chosen)[0]
        if not bool(torch.isfinite(logits).all()):
            stopped = "nan_logits"
            break
        number = float(uniform[step])
        token = int(logits.argmax()) if temperature is None else _draw(logits, temperature, top_p, number)
        ids.append(token)
        if token in ends:
            stopped = "eos"
            break
        chosen = np.array([token], dtype=np.int64)
    text = loaded.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Generated(tuple(ids), str(text), stopped)


def _draw(logits: Tensor, temperature: float, top_p: float, uniform: float) -> int:
    """Inverse of the cumulative distribution at a uniform number, in float64."""
    probability = torch.softmax(logits.double() / temperature, dim=-1)
    if top_p < 1:
        ordered, place_of = probability.sort(descending=True, stable=True)
        # A token belongs to the set if those before it do not fill it yet; the first always does.
        left_out = place_of[(ordered.cumsum(-1) - ordered) >= top_p]
        probability[left_out] = 0.0
    cumulative = probability.cumsum(-1)
    if not bool(torch.isfinite(cumulative[-1])):
        raise NumericsError(f"logits over temperature {temperature} have no probabilities; use a larger temperature")
    place = torch.searchsorted(cumulative, cumulative[-1:] * uniform, right=True)
    return min(int(place), len(logits) - 1)


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens that two continuations share before they part."""
    shared = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        shared += 1
    return shared
