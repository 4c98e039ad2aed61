"""exp8, parts 4 and 6: how each stage stands to the two competing tokens, and where the bits differ first; no torch.

The tokens are those that the two runs really chose at the row. A projection of an inner stage is no logit and its sign
no vote; what answers the question is the first stage whose bits differ.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.compare import bits
from tremor.compare.stages import FirstDifference, Stage, at_row, first_difference
from tremor.errors import ArtifactError
from tremor.experiments.stage_divergence import MAYBE, Question, questions, read_divergence
from tremor.store.arrays import Bf16
from tremor.store.documents import write_json
from tremor.store.hdf5 import Hdf5Reader
from tremor.store.provenance import collect
from tremor.store.tables import write_csv

Float = npt.NDArray[np.float64]
STREAM = ("embedding", "residual", "final_prenorm")  # parts that are the residual stream itself


def trace(
    a: Sequence[Path],
    b: Sequence[Path],
    *,
    divergence: Path,
    unembedding: Path,
    path: Path,
    first: Path,
    growth: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Follow the decision through the stages.

    Args:
        a: Recordings of the first platform.
        b: Those of the second.
        divergence: Table of part 2.
        unembedding: The unembedding matrix [vocabulary, width].
        path: CSV file, one row for each question, row and stage of the stream's width: projections.
        first: CSV file, one row for each question: the first stage whose bits differ.
        growth: CSV file, one row for each question and stage of the residual stream: how the difference grows.
        statistics: JSON file.
        provenance: Config, code and input digests.
    """
    projected, answers, grown = [], [], []
    with Hdf5Reader(unembedding) as matrix:
        width = matrix.shape("weight")[1]
        for question in questions(a, b):
            read_divergence(divergence, question)
            held = question.distinct
            tokens = (question.parted.token_a, question.parted.token_b)
            vectors = [unembedding_row(matrix, token) for token in tokens]
            for which, row in question.parted.rows.items():
                narrow = [stage for stage in held if stage.width == width]
                projected += [_projection(question, stage, which, row, vectors) for stage in narrow]
            answers.append(_first(question, held))
            grown += _growth(question, held)
    if not grown:
        raise ArtifactError(
            f"{a[0]} and {b[0]} share no state of the residual stream; record both with recorder.taps: stages, or all"
        )
    table, told = pd.DataFrame(projected), pd.DataFrame(answers)
    origin = collect(seeds=None, platform={}, model={}, **provenance)
    write_csv(path, table.astype({"block": MAYBE["block"]}), provenance=origin)
    maybe = {name: "Int64" for name in told.columns if name.endswith("_block") or name == "first_row"}
    write_csv(first, told.astype(maybe), provenance=origin)
    steps = pd.DataFrame(grown)
    write_csv(growth, steps.astype({"block": "Int64"}), provenance=origin)
    write_json(statistics, _told(table, told, steps), provenance=origin)


def unembedding_row(matrix: Hdf5Reader, token: int) -> Float:
    """One row of the unembedding matrix, in float64."""
    if token >= matrix.shape("weight")[0]:
        raise ArtifactError(f"{matrix.path} has no row for token {token}; it is of another model")
    row: Float = numbers(matrix.read("weight", token, token + 1)).reshape(-1)
    return row


def numbers(value: Any) -> Float:
    """A stored array in float64; exact."""
    wide: Float = np.asarray(value.to_float32() if isinstance(value, Bf16) else value, dtype=np.float64)
    return wide


def _projection(question: Question, stage: Stage, which: str, row: int, vectors: Sequence[Float]) -> dict[str, Any]:
    """Dot products of both runs' states with the two tokens' vectors, in float64 from the stored values."""
    states = [run.state(stage.name, row) for run in (question.a, question.b)]
    told = bits.compare_vectors(*states)
    wide = [numbers(state) for state in states]
    dots = [[float(state @ vector) for vector in vectors] for state in wide]
    gaps = [each[0] - each[1] for each in dots]
    lengths = [float(np.linalg.norm(vector)) for vector in vectors]
    found: dict[str, Any] = {
        "question": question.name,
        "which": which,
        "row": row,
        "order": stage.order,
        "stage": stage.name,
        "block": stage.block,
        "part": stage.part,
        "token_a": question.parted.token_a,
        "token_b": question.parted.token_b,
        "decided": question.parted.decided,
    }
    for side, state, pair, gap in zip("ab", wide, dots, gaps, strict=True):
        size = float(np.linalg.norm(state))
        found[f"dot_token_a_{side}"], found[f"dot_token_b_{side}"] = pair
        for token, dot, length in zip("ab", pair, lengths, strict=True):
            found[f"cosine_token_{token}_{side}"] = dot / (size * length) if size * length else float("nan")
        found[f"gap_{side}"] = gap
        found[f"favours_{side}"] = favours(gap)
    found["gap_difference"] = gaps[0] - gaps[1]
    found["sign_differs"] = found["favours_a"] != found["favours_b"]
    found["equal_bits"] = told.equal_bits
    found["ulp_median"], found["ulp_max"] = told.ulp_median, told.ulp_max
    return found


def favours(gap: float) -> str:
    """Which token a projection leans to: ``a``, ``b``, ``tie`` for exactly neither, ``nan``."""
    if np.isnan(gap):
        return "nan"
    return "tie" if gap == 0 else "a" if gap > 0 else "b"


def _first(question: Question, held: Iterable[Stage]) -> dict[str, Any]:
    """The exact answer: at the row that decided, and over all rows whose context both runs share."""
    listed = list(held)
    decision = at_row(question.a, question.b, listed, question.parted.row)
    stop = question.parted.row + 1
    first = first_difference(question.a, question.b, listed, stop=stop)
    return {
        "question": question.name,
        "status": question.parted.divergence.kind,
        "row": question.parted.row,
        **_described(decision, "decision"),
        "first_row": None if first is None else first.row,
        **_described(first, "first"),
        "rows_searched": stop,
    }


def _described(found: FirstDifference | None, prefix: str) -> dict[str, Any]:
    if found is None:
        empty = {name: float("nan") for name in ("ulp_max", "ulp_median", "relative_l2")}
        head: dict[str, Any] = {"stage": "", "block": None, "changed_coordinates": 0, **empty}
    else:
        told = found.difference
        head = {
            "stage": found.stage.name,
            "block": found.stage.block,
            "changed_coordinates": told.n_changed_bits,
            "ulp_max": told.ulp_max,
            "ulp_median": told.ulp_median,
            "relative_l2": told.relative_l2,
        }
    return {f"{prefix}_{name}": value for name, value in head.items()}


def _growth(question: Question, held: Iterable[Stage]) -> list[dict[str, Any]]:
    """The difference of the residual stream from block to block, at the row that decided."""
    rows: list[dict[str, Any]] = []
    before, passed = float("nan"), 0
    for stage in held:
        if stage.part not in STREAM:
            continue
        row = question.parted.row
        told = bits.compare_vectors(question.a.state(stage.name, row), question.b.state(stage.name, row))
        # Blocks passed so far. A factor over several is none of one: stages between may not have been recorded.
        place = int(question.a.attributes["n_layers"]) if stage.part == "final_prenorm" else stage.block or 0
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = float(np.divide(told.l2, before)) if place - passed <= 1 else float("nan")
        rows.append(
            {
                "question": question.name,
                "row": row,
                "stage": stage.name,
                "block": stage.block,
                "n_changed_bits": told.n_changed_bits,
                "l2": told.l2,
                "relative_l2": told.relative_l2,
                "ulp_max": told.ulp_max,
                "ulp_median": told.ulp_median,
                "growth": factor if np.isfinite(factor) else float("nan"),
            }
        )
        before, passed = told.l2, place
    return rows


def _told(table: pd.DataFrame, first: pd.DataFrame, growth: pd.DataFrame) -> dict[str, Any]:
    """What the summary says."""
    at = table[table["which"] == "decision"]
    # Questions are counted, not stages: hundreds of signs of near-zero projections would vote otherwise.
    flipped = at[at["sign_differs"]].groupby("question")["stage"].nunique()
    differing = first[first["decision_stage"] != ""]
    seen = first[first["first_stage"] != ""]
    return {
        "projected_stages": int(at["stage"].nunique()),
        "questions_with_sign_flips": int((flipped > 0).sum()),
        "questions_with_differing_bits": len(differing),
        "decision_stage": _commonest(differing["decision_stage"]),
        "decision_ulp_max": _median(differing["decision_ulp_max"]),
        "first_row_min": None if not len(seen) else int(seen["first_row"].min()),
        "first_stage": _commonest(seen["first_stage"]),
        "first_ulp_max": _median(seen["first_ulp_max"]),
        "growth_median": _median(growth["growth"]),
        "last_relative_l2_median": _median(growth.groupby("question")["relative_l2"].last()),
    }


def _commonest(names: pd.Series) -> str | None:
    """The most frequent name, the earliest of equally frequent ones; None where there is none."""
    counts = names.value_counts(sort=False)
    return None if counts.empty else str(counts.index[int(np.argmax(counts.to_numpy()))])


def _median(values: pd.Series) -> float:
    present = values.dropna()
    return float(present.median()) if len(present) else float("nan")
