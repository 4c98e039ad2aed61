"""Changes of a prompt's tokens that are chosen to hurt: tokens replaced, or exchanged with each other.

Source of the method: HotFlip (Ebrahimi et al. 2018); every edit that is kept has been tried with the real loss.
"""

from typing import Literal

import numpy as np
import torch

from tremor.evaluate.adversary import Ids, Question, Victim
from tremor.models.loader import LoadedModel

Tokens = Literal["hotflip", "token_swap"]


def token_attack(
    victim: Victim, question: Question, kind: Tokens, edits: int, *, candidates: int, allowed: Ids
) -> tuple[Ids, int]:
    """Replace tokens, or exchange pairs of them, one edit after the other.

    In each round the gradient ranks all edits by their first-order effect on the loss; the best `candidates` are tried
    with the real loss, and the worst of these is kept.

    Args:
        victim: The model.
        question: The question.
        kind: "hotflip" replaces a token, "token_swap" exchanges two.
        edits: Rounds.
        candidates: Edits tried in each round.
        allowed: int64, tokens that may be put in.

    Returns:
        The changed ids, and the edits made: fewer than asked for where the prompt has no place left.
    """
    ids, made = question.ids.copy(), 0
    left = list(question.free)
    for _ in range(edits):
        tried = _ranked(victim, question, ids, left, kind, candidates, allowed)
        if not tried:
            break
        losses = victim.nll([row for row, _ in tried], question.reference)
        # NaN is the worst of all.
        ids, places = tried[int(np.argmax(np.where(np.isnan(losses), np.inf, losses)))]
        left = [place for place in left if place not in places]
        made += 1
    return ids, made


def _ranked(
    victim: Victim, question: Question, ids: Ids, left: list[int], kind: Tokens, candidates: int, allowed: Ids
) -> list[tuple[Ids, tuple[int, ...]]]:
    """The most promising edits of one round: changed ids and the places they use up."""
    if len(left) < (1 if kind == "hotflip" else 2):
        return []
    point = victim.embed(ids)
    _, gradient = victim.gradient(point, question.reference)
    if kind == "token_swap":
        pairs = [(i, j) for n, i in enumerate(left) for j in left[n + 1 :] if ids[i] != ids[j]]
        along = (gradient.double() @ point.double().T).cpu().numpy()  # [place, token now at another place]
        gain = [along[i, j] - along[i, i] + along[j, i] - along[j, j] for i, j in pairs]
        best = [pairs[n] for n in np.argsort(-np.array(gain), kind="stable")[:candidates]]
        return [(_exchanged(ids, pair), pair) for pair in best]
    table = victim.embed(allowed).double()
    places = torch.tensor(left)
    toward = gradient[places].double() @ table.T  # [places, tokens]
    gain_of = toward - (gradient[places].double() * point[places].double()).sum(-1, keepdim=True)
    same = torch.from_numpy(ids[left])[:, None] == torch.from_numpy(allowed)[None]
    gain_of[same.to(gain_of.device)] = -torch.inf
    order = torch.argsort(gain_of.reshape(-1), descending=True, stable=True)[:candidates].tolist()
    tried = [(left[n // len(allowed)], int(allowed[n % len(allowed)])) for n in order]
    return [(_replaced(ids, place, token), (place,)) for place, token in tried]


def random_tokens(question: Question, kind: Tokens, edits: int, *, allowed: Ids, rng: np.random.Generator) -> Ids:
    """As many random edits of tokens, each at other places."""
    ids, left = question.ids.copy(), list(question.free)
    for _ in range(edits):
        if kind == "hotflip":
            place = int(rng.choice(left))
            ids = _replaced(ids, place, int(rng.choice(allowed[allowed != ids[place]])))
            left.remove(place)
        else:
            pairs = [(i, j) for n, i in enumerate(left) for j in left[n + 1 :] if ids[i] != ids[j]]
            if not pairs:
                break
            pair = pairs[int(rng.integers(len(pairs)))]
            ids = _exchanged(ids, pair)
            left = [place for place in left if place not in pair]
    return ids


def _replaced(ids: Ids, place: int, token: int) -> Ids:
    new = ids.copy()
    new[place] = token
    return new


def _exchanged(ids: Ids, pair: tuple[int, int]) -> Ids:
    new = ids.copy()
    new[list(pair)] = ids[list(pair[::-1])]
    return new


def usable_tokens(loaded: LoadedModel) -> Ids:
    """Tokens that an attack may put in: all that are text, no special ones, and none beyond the embedding's rows."""
    tokenizer = loaded.tokenizer
    rows = int(getattr(loaded.anatomy.embedding, "num_embeddings", len(tokenizer)))
    special = {int(i) for i in tokenizer.all_special_ids}
    return np.array([i for i in range(min(len(tokenizer), rows)) if i not in special], dtype=np.int64)
