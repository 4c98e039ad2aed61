"""exp4 part 7: the best tokens of both runs at the decisive row and the row before it, side by side by id."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from tremor.compare.logits import compare_tops, decision
from tremor.compare.recording import Recording, Top
from tremor.experiments import divergence
from tremor.experiments.dimensions import roles
from tremor.store.tables import write_csv

TOKENIZER = "tokenizer.json"


def measure(
    recordings_a: Sequence[Path],
    recordings_b: Sequence[Path],
    document: Path,
    settings: Mapping[str, Any],
    *,
    tokenizer: Path,
    table: Path,
    rows: Path,
    provenance: Mapping[str, Any],
) -> pd.DataFrame:
    """Write the tables of the best tokens.

    Args:
        recordings_a: Recordings of the first platform.
        recordings_b: Of the second.
        document: What `tremor.experiments.divergence` wrote about them.
        settings: ``top`` of the config block exp4.
        tokenizer: Folder with the model's tokenizer.json; without one, only tokens that a run generated have a text.
        table: CSV file to write, a row for each question, looked-at row and token.
        rows: CSV file to write, a row for each question and looked-at row.
        provenance: Config, code and input digests.

    Returns:
        The table of tokens.
    """
    tokens, listed = [], []
    origin: dict[str, Any] = {}
    path = tokenizer / TOKENIZER
    decoder = Tokenizer.from_file(str(path)) if path.is_file() else None
    for a, b, found in divergence.opened(recordings_a, recordings_b, document):
        origin = origin or divergence.origins(a, b, provenance)
        pieces = {int(token): piece for run in (a, b) for token, piece in zip(run.ids, run.pieces, strict=True)}
        for role, row in roles(found).items():
            names = {"question": a.question, "role": role, "row": row}
            tops = (a.top(row), b.top(row))
            frame = _tokens(*tops, int(settings["top"]))
            frame["piece"] = [_piece(int(token), pieces, decoder) for token in frame["token"]]
            tokens.append(pd.DataFrame([names] * len(frame)).join(frame))
            listed.append({**names, **_comparison(a, b, *tops)})
    whole = pd.concat(tokens, ignore_index=True)
    write_csv(table, whole, provenance=origin)
    write_csv(rows, pd.DataFrame(listed), provenance=origin)
    return whole


def _piece(token: int, known: Mapping[int, str], decoder: Tokenizer | None) -> str:
    if token in known:
        return known[token]
    return str(decoder.decode([token], skip_special_tokens=False)) if decoder is not None else ""


def _tokens(a: Top, b: Top, top: int) -> pd.DataFrame:
    """The tokens that are among the best ``top`` of either run, in the order of the first run, then of the second.

    A rank or logit is missing where the token is not among the ten best that the run's recording holds.
    """
    ids = list(dict.fromkeys([*a.ids[:top].tolist(), *b.ids[:top].tolist()]))
    frame = pd.DataFrame({"token": np.array(ids, dtype=np.int64)})
    for side, best in (("a", a), ("b", b)):
        places = {int(token): place for place, token in enumerate(best.ids)}
        found = [places.get(token) for token in ids]
        frame[f"rank_{side}"] = pd.array([None if p is None else p + 1 for p in found], dtype="Int64")
        frame[f"logit_{side}"] = [np.nan if p is None else float(best.logits[p]) for p in found]
        frame[f"probability_{side}"] = [np.nan if p is None else float(best.probabilities[p]) for p in found]
    frame["logit_diff"] = frame["logit_b"] - frame["logit_a"]
    frame["probability_diff"] = frame["probability_b"] - frame["probability_a"]
    return frame


def _comparison(a: Recording, b: Recording, top_a: Top, top_b: Top) -> dict[str, Any]:
    found = compare_tops(
        *(values[None] for top in (top_a, top_b) for values in (top.ids, top.logits, top.probabilities))
    )
    choices = {
        f"{name}_{side}": value
        for side, run, top in (("a", a, top_a), ("b", b, top_b))
        for name, value in vars(decision(top, run.dtype)).items()
    }
    return {**choices, **{name: value[0].item() for name, value in found.columns().items()}}
