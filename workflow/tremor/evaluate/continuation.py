"""Log-probability of a continuation, and of a whole text, as lm-evaluation-harness defines them: one at a time."""

import torch
from torch.nn import functional as F

from tremor.errors import PromptError
from tremor.evaluate import nll
from tremor.models.loader import LoadedModel


def prefix_token(loaded: LoadedModel) -> int:
    """The token read before the first one: begin of text, or else end of text, as the harness does.

    Raises:
        PromptError: The tokenizer has neither.
    """
    for token in (loaded.tokenizer.bos_token_id, loaded.tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise PromptError("this tokenizer has neither a begin nor an end token to read before a text")


def encode(loaded: LoadedModel, text: str) -> list[int]:
    """Token ids of a text without anything added."""
    return [int(i) for i in loaded.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]]


@torch.no_grad()
def continuation(loaded: LoadedModel, context: str, following: str) -> tuple[float, bool]:
    """Log-probability of a continuation and whether greedy decoding writes it.

    Blanks at the end of the context count to the continuation, as tokenizers join them with what follows. Too long
    contexts are cut at their beginning.

    Args:
        loaded: The model.
        context: What comes before; may be empty.
        following: The continuation.

    Raises:
        PromptError: The continuation has no token, or does not fit into the context of the model.
    """
    kept = context.rstrip()
    before = encode(loaded, kept) if kept else []
    whole = encode(loaded, context + following)
    target = whole[len(before) :]
    if not target:
        raise PromptError(f"the continuation {following[:40]!r} has no token of its own")
    ids = [prefix_token(loaded), *whole]
    most = loaded.anatomy.context
    if most is not None and len(ids) - 1 > most:
        if len(target) > most:
            raise PromptError(f"a continuation of {len(target)} tokens does not fit into a context of {most}")
        ids = ids[-(most + 1) :]
    given = torch.tensor([ids[:-1]], device=loaded.device)
    logits = loaded.model(input_ids=given, use_cache=False).logits[0, -len(target) :]
    wanted = torch.tensor(target, device=logits.device)
    loss = F.cross_entropy(logits.double(), wanted, reduction="sum")
    return -float(loss), bool((logits.argmax(-1) == wanted).all())


def rolling(loaded: LoadedModel, text: str) -> float:
    """Log-likelihood of a whole text, every token scored once, the first given the begin token.

    Raises:
        PromptError: The text has no token.
    """
    texts = nll.tokenise(loaded, [text], bos="always", overlap=1)
    return -float(nll.evaluate(loaded, texts, batch_size=1).nll_sum[0])
