"""exp4 part 2: where the runs of two platforms part, and how far their states and predictions are from each other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.compare.divergence import Divergence
from tremor.compare.logits import decision
from tremor.compare.recording import Recording, open_recording
from tremor.compare.runs import compare_runs, first_row_differing
from tremor.errors import ArtifactError
from tremor.progress import track
from tremor.statistics.spread import spread
from tremor.store.documents import read_json, write_json
from tremor.store.provenance import collect
from tremor.store.tables import write_parquet

SCHEMA = 1
"""Version of the columns of divergence.parquet."""

STATISTICS = (
    "cosine", "cosine_distance", "l2", "l1", "relative_l2", "ulp_max", "n_changed_bits", "logit_max_abs", "logit_l1",
    "logit_l2", "logit_pearson", "probability_l1", "probability_l2", "probability_pearson", "kl_at_least",
    "top_common", "top_same_rank", "top5_common",
)  # fmt: skip
SHOWN_MISMATCHES = 50

_REMEDY = "delete it and run snakemake again"


def measure(
    recordings_a: Sequence[Path],
    recordings_b: Sequence[Path],
    *,
    pair: Sequence[str],
    table: Path,
    document: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Compare all questions of two platforms.

    Args:
        recordings_a: Recordings of the first platform, one for each question.
        recordings_b: Of the second, in the same order.
        pair: Names of the platforms.
        table: Parquet file to write, a row for each question and step.
        document: JSON file to write, with what each question's runs show, and all together.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: recordings of different models, tokenizers or questions, or damaged ones.
    """
    if len(recordings_a) != len(recordings_b):
        raise ArtifactError(
            f"{pair[0]} has {len(recordings_a)} recordings and {pair[1]} has {len(recordings_b)}; record both again"
        )
    tables, questions, dtypes = [], [], [""]
    origin: dict[str, Any] = {}
    for path_a, path_b in track(list(zip(recordings_a, recordings_b, strict=True)), "questions"):
        with open_recording(path_a) as a, open_recording(path_b) as b:
            parted, rows = compare_runs(a, b)
            tables.append(rows)
            questions.append(_question(a, b, parted, rows))
            origin = origin or origins(a, b, provenance)
            dtypes = [a.dtype, b.dtype]
    write_parquet(table, pd.concat(tables, ignore_index=True), provenance=origin, schema_version=SCHEMA)
    found = {"pair": list(pair), "dtypes": dtypes, "questions": questions, "all": _all(questions)}
    write_json(document, found, provenance=origin)


def origins(a: Recording, b: Recording, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance of what was made of two recordings: both platforms, and the model they share."""
    platforms = {side: run.provenance.get("platform", {}) for side, run in (("a", a), ("b", b))}
    model = {
        "alias": a.attributes["model"],
        "weights_digest": a.attributes["weights_digest"],
        "tokenizer_digest": a.attributes["tokenizer_digest"],
    }
    return collect(seeds=None, platform=platforms, model=model, **provenance)


def divergences(document: Path) -> dict[str, Divergence]:
    """Where the runs of each question part, from the document that :func:`measure` wrote.

    Raises:
        ArtifactError: it is no such document.
    """
    try:
        listed = read_json(document)["questions"]
        return {entry["question"]: Divergence(**entry["divergence"]) for entry in listed}
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{document} holds no divergences; {_REMEDY}") from error


def opened(
    recordings_a: Sequence[Path], recordings_b: Sequence[Path], document: Path
) -> Iterator[tuple[Recording, Recording, Divergence]]:
    """Open the two recordings of one question after the other, with where they part.

    Args:
        recordings_a: Recordings of the first platform.
        recordings_b: Of the second, in the same order.
        document: What :func:`measure` wrote about them.

    Raises:
        ArtifactError: the document is of other recordings.
    """
    known = divergences(document)
    if not len(recordings_a) == len(recordings_b) == len(known):
        raise ArtifactError(f"{document} is not of these recordings; {_REMEDY}")
    for path_a, path_b, (question, found) in zip(recordings_a, recordings_b, known.items(), strict=True):
        with open_recording(path_a) as a, open_recording(path_b) as b:
            if (a.question, b.question, len(a), len(b)) != (question, question, found.length_a, found.length_b):
                raise ArtifactError(f"{document} is not of {path_a} and {path_b}; {_REMEDY}")
            yield a, b, found


def _question(a: Recording, b: Recording, found: Divergence, rows: pd.DataFrame) -> dict[str, Any]:
    common, after = rows[rows["context"] == "common"], rows[rows["context"] == "after"]
    decisive = found.decisive
    before = None if decisive in (None, 0) else decisive - 1
    return {
        "question": a.question,
        "kind": a.attributes["kind"],
        "text": a.attributes["text"],
        "tokens_a": len(a),
        "tokens_b": len(b),
        "stopped_a": a.stopped,
        "stopped_b": b.stopped,
        "generated_a": a.attributes["generated_text"],
        "generated_b": b.attributes["generated_text"],
        "divergence": asdict(found),
        "piece_a": _piece(a, found.index),
        "piece_b": _piece(b, found.index),
        "first_row_differing": first_row_differing(rows),
        "rows_differing": int((~common["equal_bits"]).sum()),
        "rows_common": len(common),
        "tied_rows": int((common["tied_a"] | common["tied_b"]).sum()),
        "decisive": None if decisive is None else _row(a, b, rows, decisive),
        "before": None if before is None else _row(a, b, rows, before),
        "common": _statistics(common),
        "after": _statistics(after),
        "tokens": _tokens(rows, found),
    }


def _piece(run: Recording, index: int | None) -> str | None:
    return run.pieces[index] if index is not None and index < len(run) else None


def _row(a: Recording, b: Recording, rows: pd.DataFrame, row: int) -> dict[str, Any]:
    """Everything about one step: the comparison of the states and of the predictions, and how clear each choice was."""
    numbers = {name: rows[name].iloc[row].item() for name in rows.columns if rows[name].dtype.kind in "biuf"}
    choices = {side: asdict(decision(run.top(row), run.dtype)) for side, run in (("a", a), ("b", b))}
    # At a tie the order in which equal logits are sorted decides, which is no property of the model.
    return {**numbers, **choices, "tied": any(choice["tied"] for choice in choices.values())}


def _statistics(rows: pd.DataFrame) -> dict[str, Any]:
    return {name: spread(rows[name].to_numpy(dtype=np.float64)) for name in STATISTICS}


def _tokens(rows: pd.DataFrame, found: Divergence) -> dict[str, Any]:
    """How many tokens agree, by position: after the divergence that is by chance, for the texts have shifted."""
    differ = rows.loc[~rows["same_token"], "row"].to_numpy()
    return {
        "positions": len(rows),
        "equal": int(rows["same_token"].sum()),
        "equal_fraction": float(rows["same_token"].mean()),
        "surplus": abs(found.length_a - found.length_b),
        "first_mismatches": differ[:SHOWN_MISMATCHES].tolist(),
    }


def _all(questions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All questions together. Divergence indices are of the questions that diverged."""
    parted = [q for q in questions if q["divergence"]["kind"] != "none"]
    decided = [q["decisive"] for q in questions if q["decisive"] is not None]
    first = [q["first_row_differing"] for q in questions if q["first_row_differing"] is not None]
    means = {
        name: spread(np.array([q["common"][name]["mean"] for q in questions], dtype=np.float64)) for name in STATISTICS
    }
    return {
        "questions": len(questions),
        "diverged": len(parted),
        "diverged_by_token": len(decided),
        "diverged_by_length": len(parted) - len(decided),
        "divergence_index": spread(np.array([q["divergence"]["index"] for q in parted])),
        "questions_differing_in_bits": len(first),
        "first_row_differing": spread(np.array(first)),
        "rows_common": sum(q["rows_common"] for q in questions),
        "rows_differing": sum(q["rows_differing"] for q in questions),
        "tied_rows": sum(q["tied_rows"] for q in questions),
        "ties_at_divergence": sum(d["tied"] for d in decided),
        "margin_ulps_at_divergence": spread(np.array([_least(d, "margin_ulps") for d in decided])),
        "decisive": {name: spread(np.array([d[name] for d in decided], dtype=np.float64)) for name in STATISTICS},
        "common": means,
    }


def _least(row: Mapping[str, Any], name: str) -> float:
    return min(float(row["a"][name]), float(row["b"][name]))
