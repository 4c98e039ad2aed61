"""Negative log-likelihood of text, and what a change of the model does to it.

NLL is the mean of -log p(x_t | x_<t) over *predicted* tokens only: a text of T tokens has T - 1 of them, whether or not
the first is a begin-of-text token, which is read and not scored. Padding is masked by the attention mask and never by
its id, which is often that of a real end-of-text token. A value that cannot be computed has a status, never a cap.

Long texts are read in windows, as the rolling log-likelihood of lm-evaluation-harness does: every token is scored
once, and a window's first scored token sees at least `overlap` tokens before it.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tremor.errors import ConfigError, NumericsError, PromptError
from tremor.evaluate.logits import LogitStore
from tremor.models.loader import LoadedModel
from tremor.progress import track

FEW_BATCHES = 8
INTEGER = {2: torch.int16, 4: torch.int32, 8: torch.int64}
BosPolicy = Literal["auto", "always", "never"]
Status = Literal["ok", "nan_logits", "inf_loss"]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """One row of a batch: what the model reads, and which of its predictions count.

    Attributes:
        text: Index of the text.
        ids: int64 [n], the tokens that are read.
        targets: int64 [m], the next token of each of the last m positions; m <= n.
    """

    text: int
    ids: Integers
    targets: Integers


@dataclass(frozen=True)
class Texts:
    """Texts as a model reads them.

    Attributes:
        texts: The texts themselves.
        windows: All windows, text by text.
        tokens: int64 [n], predicted tokens of each text.
        bytes: int64 [n], UTF-8 bytes that these tokens spell; without the first token's if that is not scored.
        digest: sha256 over texts and windows.
    """

    texts: tuple[str, ...]
    windows: tuple[Window, ...]
    tokens: Integers
    bytes: Integers
    digest: str

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Evaluation:
    """Likelihood of texts, text by text; with a clean baseline also how far the predictions moved.

    Attributes:
        nll_sum: float64 [n], nats; NaN or inf where the status says so.
        tokens: int64 [n], predicted tokens.
        bytes: int64 [n], UTF-8 bytes they spell.
        status: Of each text: "ok", "nan_logits" (a logit is NaN) or "inf_loss" (a finite loss cannot be had).
        delta_nll: float64 [n], change of the text's mean NLL, nats per token; None without baseline.
        kl: float64 [n], mean KL(clean || changed), nats per token; None without baseline.
        flips: int64 [n], tokens whose most probable prediction changed (-1 for NaN logits); None without baseline.
        changed: int64 [n], tokens of which any logit changed a bit; None without baseline.
    """

    nll_sum: Floats
    tokens: Integers
    bytes: Integers
    status: tuple[Status, ...]
    delta_nll: Floats | None = None
    kl: Floats | None = None
    flips: Integers | None = None
    changed: Integers | None = None

    @property
    def overall(self) -> Status:
        """The worst status of any text."""
        return next((bad for bad in ("nan_logits", "inf_loss") if bad in self.status), "ok")

    @property
    def nll(self) -> float:
        """Corpus NLL, nats per predicted token; NaN or inf where `overall` says so."""
        return float(self.nll_sum.sum() / self.tokens.sum())

    @property
    def ppl(self) -> float:
        """Perplexity exp(nll); inf beyond float64, NaN for NaN."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.nll))

    @property
    def bits_per_byte(self) -> float:
        """NLL in bits per UTF-8 byte of the predicted text."""
        return float(self.nll_sum.sum() / math.log(2) / self.bytes.sum())

    @property
    def corpus_delta_nll(self) -> float:
        """Change of the corpus NLL, nats per predicted token."""
        return self._mean(self.delta_nll)

    @property
    def corpus_kl(self) -> float:
        """Mean KL(clean || changed), nats per predicted token."""
        return self._mean(self.kl)

    @property
    def flip_rate(self) -> float:
        """Share of predicted tokens whose most probable prediction changed; NaN where logits are NaN."""
        if self.flips is None:
            raise NumericsError("this evaluation has no clean baseline to compare with")
        return float(self.flips.sum() / self.tokens.sum()) if (self.flips >= 0).all() else math.nan

    def _mean(self, per_text: Floats | None) -> float:
        if per_text is None:
            raise NumericsError("this evaluation has no clean baseline to compare with")
        return float((per_text * self.tokens).sum() / self.tokens.sum())


def tokenise(
    loaded: LoadedModel,
    texts: Sequence[str],
    *,
    bos: BosPolicy = "auto",
    window: int | None = None,
    overlap: int = 1,
) -> Texts:
    """Turn texts into windows of token ids.

    Args:
        loaded: The model and its tokenizer.
        texts: The texts, each with at least one token to predict.
        bos: "auto" leaves the begin-of-text token to the tokenizer, "always" and "never" overrule it.
        window: Most tokens read at once; None for the model's context, or 1024 where it names none.
        overlap: Least tokens that the first scored token of a later window sees, below `window`.

    Raises:
        PromptError: A text with nothing to predict, or no begin-of-text token where one is asked for.
        ConfigError: No text, or a window that does not fit.
    """
    if not texts:
        raise ConfigError("there is no text to evaluate")
    context = loaded.anatomy.context
    width = window or context or 1024
    if not 1 <= overlap <= width or (context is not None and width > context):
        raise ConfigError(f"a window of {width} tokens with overlap {overlap} does not fit a context of {context}")
    windows: list[Window] = []
    counts, sizes = [], []
    for number, text in enumerate(texts):
        ids, unscored = _ids(loaded, text, bos)
        if len(ids) < 2:
            raise PromptError(
                f"text {number} ({text[:40]!r}) has {len(ids)} token(s): nothing to predict; leave it out"
            )
        windows += [Window(number, i, t) for i, t in _windows(ids, width, overlap)]
        counts.append(len(ids) - 1)
        sizes.append(len(text.encode()) - unscored)
    made = hashlib.sha256("\x1e".join(texts).encode())
    for row in windows:
        made.update(np.array([row.text, len(row.ids), len(row.targets)]).tobytes() + row.ids.tobytes())
        made.update(row.targets.tobytes())
    return Texts(tuple(texts), tuple(windows), np.array(counts), np.array(sizes), made.hexdigest())


def _ids(loaded: LoadedModel, text: str, bos: BosPolicy) -> tuple[Integers, int]:
    """Token ids, and the bytes of `text` that the first, unscored token spells."""
    tokenizer = loaded.tokenizer
    ids = [int(i) for i in tokenizer(text, add_special_tokens=bos == "auto", verbose=False)["input_ids"]]
    start = tokenizer.bos_token_id
    if bos == "always":
        if start is None:
            raise PromptError("bos: always, but this tokenizer has no begin-of-text token; use bos: auto or never")
        ids = [int(start), *ids]
    plain = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    scored_whole = len(ids) > len(plain) and ids[1 : 1 + len(plain)] == [int(i) for i in plain]
    first = str(tokenizer.decode(ids[:1], clean_up_tokenization_spaces=False))
    return np.array(ids, dtype=np.int64), 0 if scored_whole else len(first.encode())


def _windows(ids: Integers, width: int, overlap: int) -> Iterator[tuple[Integers, Integers]]:
    """Inputs of at most `width` tokens and the targets that count; every token but the first is a target once."""
    scored = 1
    while scored < len(ids):
        end = min(len(ids), width + 1 if scored == 1 else scored + width + 1 - overlap)
        begin = max(0, end - 1 - width)
        yield ids[begin : end - 1], ids[scored:end]
        scored = end


@dataclass(frozen=True)
class Baseline:
    """The unchanged model's answers, computed once for a campaign.

    Attributes:
        evaluation: Its likelihoods.
        batch_size: Rows of a batch; a comparison uses the same, since shapes decide rounding.
        texts: Digest of the texts.
        logits: The logits of every scored token, exactly as the model gave them.
    """

    evaluation: Evaluation
    batch_size: int
    texts: str
    logits: LogitStore = field(repr=False)


def baseline(loaded: LoadedModel, texts: Texts, *, batch_size: int, memory: float = 1e9) -> Baseline:
    """Evaluate the unchanged model and keep its logits.

    Args:
        loaded: The model.
        texts: What to evaluate.
        batch_size: Rows of a batch.
        memory: Bytes of logits that may stay in memory; more go to a temporary file.

    Raises:
        NumericsError: The clean model's likelihood is not finite.
    """
    store = LogitStore(int(texts.tokens.sum()), loaded.anatomy.vocab, memory=memory)
    evaluation = _run(loaded, texts, batch_size, None, store)
    if evaluation.overall != "ok":
        raise NumericsError(f"the unchanged model has {evaluation.overall} on the evaluation text; use another dtype")
    return Baseline(evaluation, batch_size, texts.digest, store)


def evaluate(loaded: LoadedModel, texts: Texts, *, batch_size: int, clean: Baseline | None = None) -> Evaluation:
    """Likelihood of texts under the model as it is now.

    Args:
        loaded: The model, in eval mode.
        texts: What to evaluate.
        batch_size: Rows of a batch. It decides shapes, and so the last bits of a float32 result.
        clean: Baseline to compare with.

    Raises:
        ConfigError: The baseline was made of other texts or with another batch size.
    """
    if clean is not None and (clean.texts != texts.digest or clean.batch_size != batch_size):
        raise ConfigError("the clean baseline was made of other texts or with another batch size; make it anew")
    return _run(loaded, texts, batch_size, clean, None)


def batches(texts: Texts, batch_size: int) -> Iterator[list[Window]]:
    """Windows in batches, the longest first, so that little of a batch is padding."""
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; use at least 1")
    order = sorted(range(len(texts.windows)), key=lambda i: (-len(texts.windows[i].ids), i))
    starts = range(0, len(order), batch_size)
    # A campaign evaluates a few batches many times, and tells of its own progress.
    for start in track(starts, "batches of texts") if len(starts) > FEW_BATCHES else starts:
        yield [texts.windows[i] for i in order[start : start + batch_size]]


def padded(loaded: LoadedModel, rows: Sequence[Window]) -> tuple[Tensor, Tensor]:
    """Ids and attention mask [rows, longest], padded on the right, where a causal model cannot see."""
    width = max(len(row.ids) for row in rows)
    pad = loaded.tokenizer.pad_token_id
    ids = np.full((len(rows), width), 0 if pad is None else int(pad), dtype=np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = row.ids
        mask[number, : len(row.ids)] = 1
    return torch.from_numpy(ids).to(loaded.device), torch.from_numpy(mask).to(loaded.device)


@torch.no_grad()
def _run(
    loaded: LoadedModel, texts: Texts, batch_size: int, clean: Baseline | None, store: LogitStore | None
) -> Evaluation:
    count = len(texts)
    nll, kl = np.zeros(count), np.zeros(count)
    flips, changed = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    nan = np.zeros(count, dtype=bool)
    place = 0
    for rows in batches(texts, batch_size):
        ids, mask = padded(loaded, rows)
        logits = loaded.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for number, row in enumerate(rows):
            size, end = len(row.targets), len(row.ids)
            scored = logits[number, end - size : end]
            logp = torch.log_softmax(scored.double(), dim=-1)
            targets = torch.from_numpy(row.targets).to(logp.device)
            nll[row.text] -= float(logp.gather(-1, targets[:, None]).sum())
            nan[row.text] |= bool(torch.isnan(scored).any())
            if store is not None:
                store.put(place, scored)
            if clean is not None:
                before = clean.logits.get(place, size, scored)
                own, moved, turned = _compare(before, scored, logp)
                kl[row.text] += own
                changed[row.text] += moved
                flips[row.text] += turned
            place += size
    nll[nan] = np.nan
    states: list[Status] = [
        "nan_logits" if nan[i] else "ok" if np.isfinite(nll[i]) else "inf_loss" for i in range(count)
    ]
    # An infinite logit makes 0 / 0 of a softmax; the loss it stands for is not finite.
    nll[(~np.isfinite(nll)) & ~nan] = np.inf
    plain = Evaluation(nll, texts.tokens, texts.bytes, tuple(states))
    if clean is None:
        return plain
    kl[~np.isfinite(kl) & ~nan] = np.inf
    kl[nan] = np.nan
    flips[nan] = -1
    return Evaluation(
        nll,
        texts.tokens,
        texts.bytes,
        tuple(states),
        delta_nll=(nll - clean.evaluation.nll_sum) / texts.tokens,
        kl=kl / texts.tokens,
        flips=flips,
        changed=changed,
    )


def _compare(before: Tensor, after: Tensor, logp: Tensor) -> tuple[float, int, int]:
    """Sum of KL(before || after) over tokens [nats], tokens with a changed bit, tokens with another argmax."""
    # Integer views: a NaN or a -0 is a change like any other.
    kind = INTEGER[after.element_size()]
    moved = (before.contiguous().view(kind) != after.contiguous().view(kind)).any(-1)
    if not bool(moved.any()):
        return 0.0, 0, 0
    clean = torch.log_softmax(before[moved].double(), dim=-1)
    # A logit of -inf is a probability of exactly 0, which adds nothing.
    own = torch.where(clean == -math.inf, 0.0, clean.exp() * (clean - logp[moved])).sum()
    turned = (before.argmax(-1) != after.argmax(-1)).sum()
    return float(own), int(moved.sum()), int(turned)
