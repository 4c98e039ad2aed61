"""exp4 parts 5 and 6: the embeddings that the model read up to the decisive row, on each platform, compared.

An embedding is looked up in a table, so two platforms of one type must hold the same bits, and one hash of the matrix
says whether they do. The token in which the runs part is no part of it: it is what the decisive row decided, not what
it had read. (The original included it, and found the difference it had put there.)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.compare.bits import Value, changed_coordinates, common_lattice, compare_rows, on_lattice, values
from tremor.compare.dimensions import powers_of_ten
from tremor.compare.recording import Recording
from tremor.errors import ArtifactError
from tremor.experiments import divergence
from tremor.store.arrays import Bf16, array_digest
from tremor.store.documents import write_json
from tremor.store.hdf5 import Hdf5Reader, write_hdf5
from tremor.store.provenance import collect
from tremor.store.tables import write_csv, write_parquet

TAP = "embedding"
SCHEMA = 1
"""Version of the columns of embedding_rows.parquet."""
LAST = 3  # tokens right before the decision, looked at apart as the original did


def extract(
    recordings_a: Sequence[Path],
    recordings_b: Sequence[Path],
    document: Path,
    *,
    side: str,
    output: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Write what one platform's model read at rows 0 ... d of each question.

    Row i is the embedding of the last token of the context at step i: the prompt's last token, then the generated
    ones before token d. The prompt's earlier tokens are compared by their ids (a recording holds no states of them).

    Args:
        recordings_a: Recordings of the first platform.
        recordings_b: Of the second.
        document: What `tremor.experiments.divergence` wrote about them.
        side: ``a`` or ``b``: whose embeddings.
        output: HDF5 file to write; ``<question>/embeddings`` [rows, width] and ``<question>/ids`` [rows].
        provenance: Config, code and input digests.
    """
    datasets: dict[str, Value] = {}
    digests: dict[str, str] = {}
    questions = []
    origin: dict[str, Any] = {}
    for a, b, found in divergence.opened(recordings_a, recordings_b, document):
        origin = origin or divergence.origins(a, b, provenance)
        run = a if side == "a" else b
        states = run.states(TAP, 0, found.common_rows)
        questions.append(run.question)
        datasets[f"{run.question}/embeddings"] = states
        datasets[f"{run.question}/ids"] = _read_ids(run, found.common_rows)
        datasets[f"{run.question}/prompt_ids"] = run.prompt_ids
        digests[run.question] = array_digest(states)
    attributes = {"side": side, "questions": questions, "sha256": digests, "tap": TAP}
    write_hdf5(output, datasets, attributes=attributes, provenance=origin)


def _read_ids(run: Recording, rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """[rows] the token each step read last."""
    return np.concatenate([run.prompt_ids[-1:], run.ids[: rows - 1]])


def compare(
    embeddings_a: Path,
    embeddings_b: Path,
    settings: Mapping[str, Any],
    *,
    table: Path,
    rows: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> pd.DataFrame:
    """Compare what two platforms read.

    Args:
        embeddings_a: What :func:`extract` wrote for the first.
        embeddings_b: For the second.
        settings: ``threshold_powers`` of the config block exp4.
        table: CSV file to write, a row for each question.
        rows: Parquet file to write, a row for each token.
        statistics: JSON file to write: coordinates above each threshold, for all tokens and for the last ones.
        provenance: Config, code and input digests.

    Returns:
        The rows, for a figure.

    Raises:
        ArtifactError: the two files are of different questions.
    """
    listed, tokens, documents = [], [], []
    thresholds = powers_of_ten(settings["threshold_powers"])
    with Hdf5Reader(embeddings_a) as a, Hdf5Reader(embeddings_b) as b:
        if a.attributes["questions"] != b.attributes["questions"]:
            raise ArtifactError(f"{embeddings_a} and {embeddings_b} are of different questions; delete both")
        for question in a.attributes["questions"]:
            first, second = (file.read(f"{question}/embeddings") for file in (a, b))
            ids = [file.read(f"{question}/ids") for file in (a, b)]
            frame = _tokens(question, first, second, ids[0], ids[1])
            tokens.append(frame)
            digests = [file.attributes["sha256"][question] for file in (a, b)]
            listed.append(_row(question, frame, digests, _same(a, b, f"{question}/prompt_ids")))
            documents.append(_thresholds(question, first, second, thresholds))
    origin = collect(seeds=None, platform={}, model={}, **provenance)
    whole = pd.concat(tokens, ignore_index=True)
    write_csv(table, pd.DataFrame(listed), provenance=origin)
    write_parquet(rows, whole, provenance=origin, schema_version=SCHEMA)
    summary = {"questions": len(listed), "equal": sum(row["equal_bits"] for row in listed), "by_question": documents}
    write_json(statistics, summary, provenance=origin)
    return whole


def _same(a: Hdf5Reader, b: Hdf5Reader, name: str) -> bool:
    first, second = (file.read(name) for file in (a, b))
    return array_digest(first) == array_digest(second)


def _tokens(question: str, first: Value, second: Value, ids_a: Any, ids_b: Any) -> pd.DataFrame:
    found = compare_rows(first, second)
    names = ("equal_bits", "n_changed_bits", "max_abs", "l2", "relative_l2", "cosine", "cosine_distance", "ulp_max")
    columns = {name: found.columns()[name] for name in names}
    count = len(found.equal_bits)
    return pd.DataFrame(
        {
            "question": [question] * count,
            "row": np.arange(count),
            "token_a": ids_a,
            "token_b": ids_b,
            "last": np.arange(count) >= count - LAST,
            **columns,
        }
    )


def _row(question: str, frame: pd.DataFrame, digests: Sequence[str], prompts: bool) -> dict[str, Any]:
    changed = frame.loc[~frame["equal_bits"], "row"]
    return {
        "question": question,
        "tokens": len(frame),
        "prompt_ids_equal": prompts,
        "ids_equal": bool((frame["token_a"] == frame["token_b"]).all()),
        # The hash holds type and shape too: equal numbers in two types are two matrices.
        "equal_bits": digests[0] == digests[1],
        "equal_values": bool(frame["equal_bits"].all()),
        "tokens_changed": len(changed),
        "first_changed": int(changed.iloc[0]) if len(changed) else -1,
        "max_abs": float(frame["max_abs"].max()),
        "relative_l2_max": float(frame["relative_l2"].max()),
        "sha256_a": digests[0],
        "sha256_b": digests[1],
    }


def _thresholds(question: str, first: Value, second: Value, thresholds: Sequence[float]) -> dict[str, Any]:
    """Tokens and coordinates that differ by more than each threshold, of all tokens and of the last ones."""
    size = np.abs(values(first).astype(np.float64) - values(second).astype(np.float64))
    size = np.where(np.isnan(size), np.inf, size)
    lattice = common_lattice(first, second)
    flat = [Bf16(v.bits.ravel()) if isinstance(v, Bf16) else v.ravel() for v in (first, second)]
    return {
        "question": question,
        "coordinates": int(size.size),
        "lattice": lattice,
        "changed_bits": int(changed_coordinates(flat[0], flat[1]).sum()),
        "norm_a": float(np.linalg.norm(on_lattice(first, lattice).astype(np.float64))),
        "norm_b": float(np.linalg.norm(on_lattice(second, lattice).astype(np.float64))),
        "above": [
            {
                "threshold": float(limit),
                "coordinates": int((size > limit).sum()),
                "tokens": int((size > limit).any(axis=1).sum()),
                "tokens_of_the_last": int((size[-LAST:] > limit).any(axis=1).sum()),
            }
            for limit in thresholds
        ],
    }
