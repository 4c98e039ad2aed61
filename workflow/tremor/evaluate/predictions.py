"""Every next-token prediction of a text by itself: its loss, its confidence, whether it came true, its Brier score."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tremor.evaluate.nll import Evaluation, Status, Texts, batches, padded
from tremor.models.loader import LoadedModel

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """Predictions in the order of texts and tokens.

    Attributes:
        text: int64 [n], index of the text.
        nll: float64 [n], -log p of the token that came, nats; NaN for NaN logits, inf where it has no probability.
        confidence: float64 [n], probability of the token put first.
        correct: bool [n], whether the token that came was put first (the lowest id among equal logits).
        brier: float64 [n], sum over the vocabulary of (p - [token came])^2, from 0 to 2 (Brier 1950).
        entropy: float64 [n], entropy of the prediction, nats.
        evaluation: The same likelihoods text by text, as `nll.evaluate` gives them.
    """

    text: npt.NDArray[np.int64]
    nll: Floats
    confidence: Floats
    correct: npt.NDArray[np.bool_]
    brier: Floats
    entropy: Floats
    evaluation: Evaluation


@torch.no_grad()
def predict(loaded: LoadedModel, texts: Texts, *, batch_size: int) -> Predictions:
    """Read texts and look at every prediction.

    Args:
        loaded: The model, in eval mode.
        texts: From `nll.tokenise`; long texts come in windows there, each token scored once.
        batch_size: Windows in one forward pass.
    """
    starts = np.concatenate([[0], np.cumsum(texts.tokens)])
    total = int(starts[-1])
    place = dict(zip((id(window) for window in texts.windows), _places(texts, starts), strict=True))
    table = np.zeros((4, total))
    correct = np.zeros(total, dtype=bool)
    for rows in batches(texts, batch_size):
        ids, mask = padded(loaded, rows)
        logits = loaded.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for number, row in enumerate(rows):
            size, end, first = len(row.targets), len(row.ids), place[id(row)]
            targets = torch.from_numpy(row.targets).to(logits.device)
            values, right = _read(logits[number, end - size : end], targets)
            table[:, first : first + size] = values.cpu().numpy()
            correct[first : first + size] = right.cpu().numpy()
    text = np.repeat(np.arange(len(texts)), texts.tokens)
    loss, confidence, brier, entropy = table
    return Predictions(text, loss, confidence, correct, brier, entropy, _evaluation(texts, text, loss))


def _places(texts: Texts, starts: npt.NDArray[np.int64]) -> list[int]:
    """Where each window's first target stands among all predictions."""
    found, inside = [], dict.fromkeys(range(len(texts)), 0)
    for window in texts.windows:
        found.append(int(starts[window.text]) + inside[window.text])
        inside[window.text] += len(window.targets)
    return found


def _read(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Loss, confidence, Brier score and entropy [4, m], and hits [m], of logits [m, vocabulary]."""
    logp = torch.log_softmax(logits.double(), dim=-1)
    probability = logp.exp()
    own = logp.gather(-1, targets[:, None])[:, 0]
    brier = (probability.square()).sum(-1) - 2 * own.exp() + 1
    # A probability of exactly 0 adds nothing to the entropy, though its logarithm is infinite.
    entropy = -torch.where(probability > 0, probability * logp, 0.0).sum(-1)
    values = torch.stack([-own, probability.max(-1).values, brier, entropy])
    return values, logits.argmax(-1) == targets


def _evaluation(texts: Texts, text: npt.NDArray[np.int64], loss: Floats) -> Evaluation:
    nan = np.bincount(text, weights=np.isnan(loss), minlength=len(texts)) > 0
    sums = np.bincount(text, weights=loss, minlength=len(texts)).astype(np.float64)
    states: list[Status] = [
        "nan_logits" if nan[i] else "ok" if np.isfinite(sums[i]) else "inf_loss" for i in range(len(texts))
    ]
    return Evaluation(sums, texts.tokens, texts.bytes, tuple(states))
