"""The table of a document by word, and the numbers that describe it (no torch)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.documents.text import Document

COSINES = (
    "cosine_state_first",
    "cosine_state_second",
    "cosine_state_target",
    "cosine_first_target",
    "cosine_second_target",
)


def word_table(
    document: Document,
    ids: npt.NDArray[np.int64],
    owner: npt.NDArray[np.int64],
    shared: npt.NDArray[np.bool_],
    arrays: Mapping[str, npt.NDArray[Any]],
    pieces: Sequence[str],
    decoded: Mapping[int, str],
) -> pd.DataFrame:
    """One row for each word.

    A word's log-probability is the sum over its tokens (the probability of the word as it is cut here); the columns
    of the first token are those of the original study. What was not scored is NaN or missing.

    Args:
        document: The document.
        ids: Its tokens [tokens].
        owner: Word of each token [tokens].
        shared: Whether a token of a word covers another word too [words].
        arrays: What the model says of the scored tokens, see `scoring.score`.
        pieces: Text of each token.
        decoded: Text of each token that was predicted, by id.
    """
    count = len(document.words)
    log_probability = np.full(len(ids), np.nan)
    log_probability[arrays["position"]] = arrays["log_probability"]
    leads = np.zeros(len(ids), dtype=bool)
    leads[arrays["position"]] = arrays["top_ids"][:, 0] == ids[arrays["position"]]
    tokens = np.bincount(owner, minlength=count)
    first = np.searchsorted(owner, np.arange(count))  # of a word without a token: that of the next
    summed = np.bincount(owner, weights=log_probability, minlength=count)  # NaN if a token was not scored
    summed[tokens == 0] = np.nan
    hits = np.bincount(owner, weights=leads, minlength=count)
    words = [word.text for word in document.words]
    table = pd.DataFrame(
        {
            "word": np.arange(count, dtype=np.int64),
            "text": pd.Series(words, dtype="str"),
            "page": np.array([word.page for word in document.words], dtype=np.int64),
            "previous_word": pd.Series(["", *words[:-1]], dtype="str"),
            "tokens": tokens.astype(np.int64),
            "shares_token": shared,
            "log_probability": summed,
            "probability": np.exp(summed),
            "all_tokens_lead": (hits == tokens) & (tokens > 0),
        }
    )
    place = np.full(len(ids) + 1, -1, dtype=np.int64)  # row of each token in the arrays
    place[arrays["position"]] = np.arange(len(arrays["position"]))
    rows = np.where(tokens > 0, place[np.minimum(first, len(ids))], -1)
    return pd.concat([table, _first_tokens(rows, ids, arrays, pieces, decoded)], axis=1)


def _first_tokens(
    rows: npt.NDArray[np.int64],
    ids: npt.NDArray[np.int64],
    arrays: Mapping[str, npt.NDArray[Any]],
    pieces: Sequence[str],
    decoded: Mapping[int, str],
) -> pd.DataFrame:
    """What is known of the first token of each word; rows of -1 were not scored."""
    there = rows >= 0
    at = rows[there]

    def real(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        column = np.full(len(rows), np.nan, dtype=values.dtype)
        column[there] = values[at]
        return column

    def whole(values: npt.NDArray[np.int64]) -> Any:
        column = pd.array([pd.NA] * len(rows), dtype="Int64")
        column[there] = values[at]
        return column

    def text(values: Sequence[str]) -> "pd.Series[Any]":
        found: list[str | None] = [None] * len(rows)
        for row, value in zip(np.flatnonzero(there), values, strict=True):
            found[row] = value or "\N{REPLACEMENT CHARACTER}"  # an empty cell means that there is none
        return pd.Series(found, dtype="str")

    position = arrays["position"]
    columns: dict[str, Any] = {
        "first_token": text([pieces[int(i)] for i in position[at]]),
        "first_token_id": whole(ids[position]),
        "first_token_logit": real(arrays["logit"]),
        "first_token_log_probability": real(arrays["log_probability"]),
        "first_token_probability": real(np.exp(arrays["log_probability"])),
        "first_token_rank": whole(arrays["rank"]),
        "first_token_ties": whole(arrays["ties"]),
        "entropy": real(arrays["entropy"]),
        "context_tokens": whole(arrays["context"]),
    }
    for number, name in enumerate(("first", "second")):
        chosen = arrays["top_ids"][:, number]
        columns |= {
            f"{name}_prediction": text([decoded[int(i)] for i in chosen[at]]),
            f"{name}_prediction_id": whole(chosen),
            f"{name}_prediction_logit": real(arrays["top_logits"][:, number]),
            f"{name}_prediction_probability": real(np.exp(arrays["top_log_probabilities"][:, number])),
        }
    match = pd.array([pd.NA] * len(rows), dtype="boolean")
    match[there] = (arrays["top_ids"][:, 0] == ids[position])[at]
    columns["prediction_match"] = match
    cosines = np.concatenate([arrays["cosine_state"], arrays["cosine_rows"]], axis=1)
    columns |= {name: real(cosines[:, number]) for number, name in enumerate(COSINES)}
    return pd.DataFrame(columns)


def document_statistics(
    document: Document, ids: npt.NDArray[np.int64], arrays: Mapping[str, npt.NDArray[Any]], words: pd.DataFrame
) -> dict[str, Any]:
    """Accuracy, perplexity and means over a document.

    Args:
        document: The document.
        ids: Its tokens [tokens].
        arrays: What the model says of the scored tokens.
        words: Table of :func:`word_table`.
    """
    logs = arrays["log_probability"]
    scored = words[words["log_probability"].notna()]
    first = words[words["first_token_rank"].notna()]
    probability = first["first_token_probability"].to_numpy(dtype=np.float64)
    nll = -float(logs.mean())
    means = {f"{name}_mean": float(first[name].mean()) for name in COSINES}
    return {
        "words": len(words),
        "scored_words": len(scored),
        "words_sharing_a_token": int(words["shares_token"].sum()),
        "characters": len(document.text),
        "empty_pages": list(document.empty_pages),
        "scored_tokens": len(logs),
        "tokens_per_word": float(words["tokens"].mean()),
        "least_context_after_first_window": _least_context(arrays["context"]),
        "nll_per_token": nll,
        "perplexity_per_token": float(np.exp(nll)),
        "nll_per_word": -float(scored["log_probability"].mean()) if len(scored) else None,
        "token_accuracy": float((arrays["top_ids"][:, 0] == ids[arrays["position"]]).mean()),
        "word_accuracy": float(scored["all_tokens_lead"].mean()) if len(scored) else None,
        "first_token": {
            "accuracy": float(first["prediction_match"].astype(bool).mean()) if len(first) else None,
            "probability_mean": float(probability.mean()) if len(first) else None,
            "probability_median": float(np.median(probability)) if len(first) else None,
            "probability_min": float(probability.min()) if len(first) else None,
            "probability_max": float(probability.max()) if len(first) else None,
            "rank_median": float(first["first_token_rank"].astype("float64").median()) if len(first) else None,
        },
        "tied_tokens": int((arrays["ties"] > 1).sum()),
        **means,
    }


def _least_context(context: npt.NDArray[np.int64]) -> int | None:
    """Least context behind the first window, whose contexts grow one by one; None where it is the only one."""
    falls = np.flatnonzero(np.diff(context) != 1)
    return int(context[falls[0] + 1 :].min()) if falls.size else None
