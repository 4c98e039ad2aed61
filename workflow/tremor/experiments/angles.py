"""exp4 part 7: angles of final states to the unembedding vectors of the tokens at chosen ranks, on one platform."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.compare.angles import Ranked, Unembedding, rank_angles
from tremor.compare.recording import Recording, open_recording
from tremor.errors import ArtifactError
from tremor.progress import track
from tremor.statistics.spread import spread
from tremor.store.documents import write_json
from tremor.store.provenance import collect
from tremor.store.tables import write_csv, write_parquet

SCHEMA = 1
"""Version of the columns of angles.parquet."""
PERCENTILES = (25, 75, 95, 99)
_ROWS = 256  # states looked at together: logits of a block of the vocabulary are so many times its rows


def measure(
    recordings: Sequence[Path],
    unembedding: Path,
    settings: Mapping[str, Any],
    *,
    data: Path,
    table: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> pd.DataFrame:
    """Measure the angles of every step of every question.

    Args:
        recordings: Recordings of one platform.
        unembedding: The unembedding in the platform's type.
        settings: ``ranks`` and ``block`` of the config block exp4.
        data: Parquet file to write, a row for each question, step and rank.
        table: CSV file to write, a row for each rank over all questions.
        statistics: JSON file to write: by rank, for each question and for all.
        provenance: Config, code and input digests.

    Returns:
        The rows of ``data``, for figures.

    Raises:
        ArtifactError: recordings, or the unembedding, of another model than the first recording.
        NumericsError: stored logits that are not those of the stored states.
    """
    tables, checks = [], []
    origin: dict[str, Any] = {}
    with Unembedding(unembedding, block=settings["block"]) as matrix:
        for path in track(recordings, "recordings"):
            with open_recording(path) as run:
                origin = origin or _origin(run, provenance)
                for name, other in ((path, run.attributes), (unembedding, matrix.attributes)):
                    if other["weights_digest"] != origin["model"]["weights_digest"]:
                        raise ArtifactError(f"{name} is of another model than {recordings[0]}; make both again")
                for start in range(0, len(run), _ROWS):
                    stop = min(start + _ROWS, len(run))
                    ids, logits = (run.column(name, start, stop) for name in ("top_ids", "top_logits"))
                    states = run.states("final", start, stop)
                    found = rank_angles(states, ids, logits, matrix, settings["ranks"], run.unit_roundoff)
                    tables.append(_table(run.question, start, found))
                    checks.append(found)
    whole = pd.concat(tables, ignore_index=True)
    write_parquet(data, whole, provenance=origin, schema_version=SCHEMA)
    document = {
        "rows": sum(len(found.state_norm) for found in checks),
        "largest_logit_error": max(float(found.logit_error.max()) for found in checks),
        "same_first": float(np.mean(np.concatenate([found.same_first for found in checks]))),
        "all": _by_rank(whole),
        "by_question": {str(name): _by_rank(part) for name, part in whole.groupby("question", sort=False)},
    }
    write_csv(table, _ranks(whole), provenance=origin)
    write_json(statistics, document, provenance=origin)
    return whole


def _origin(run: Recording, provenance: Mapping[str, Any]) -> dict[str, Any]:
    names = {"alias": "model", "weights_digest": "weights_digest", "tokenizer_digest": "tokenizer_digest"}
    model = {ours: run.attributes[theirs] for ours, theirs in names.items()}
    return collect(seeds=None, platform=run.provenance.get("platform", {}), model=model, **provenance)


def _table(question: str, start: int, found: Ranked) -> pd.DataFrame:
    rows, ranks = found.ids.shape
    return pd.DataFrame(
        {
            "question": [question] * (rows * ranks),
            "row": np.repeat(np.arange(start, start + rows), ranks),
            "rank": np.tile(np.array(found.ranks), rows),
            "recomputed": np.tile(found.recomputed, rows),
            "token": found.ids.ravel(),
            "angle_degrees": found.degrees.ravel(),
            "cosine": found.cosine.ravel(),
            "dot": found.dot.ravel(),
            "vector_norm": found.vector_norm.ravel(),
            "state_norm": np.repeat(found.state_norm, ranks),
        }
    )


def _by_rank(rows: pd.DataFrame) -> dict[str, Any]:
    return {
        str(rank): spread(part["angle_degrees"].to_numpy(dtype=np.float64), PERCENTILES)
        for rank, part in rows.groupby("rank", sort=True)
    }


def _ranks(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each rank: statistics of the angles, and whether its tokens were found anew."""
    listed = [
        {
            "rank": rank,
            "recomputed": bool(part["recomputed"].iloc[0]),
            **spread(part["angle_degrees"].to_numpy(dtype=np.float64), PERCENTILES),
            "cosine_mean": float(part["cosine"].mean()),
            "vector_norm_mean": float(part["vector_norm"].mean()),
        }
        for rank, part in rows.groupby("rank", sort=True)
    ]
    return pd.DataFrame(listed)
