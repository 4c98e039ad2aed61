"""exp8, part 3: what the final norm does to the angles between a state and the likeliest tokens' vectors; no torch.

A norm without gain scales a vector (RMSNorm) or takes its mean away too (LayerNorm); the rest of any change of angle is
the gain, which is a property of the weights. So each angle is given three times: before the norm, behind it with the
gain divided out, behind it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.compare.recording import Recording
from tremor.experiments.decision_path import numbers, unembedding_row
from tremor.experiments.stage_divergence import questions, read_divergence
from tremor.store.documents import write_json
from tremor.store.hdf5 import Hdf5Reader
from tremor.store.provenance import collect
from tremor.store.tables import write_csv

Float = npt.NDArray[np.float64]
KINDS = ("before", "gain_free", "after")


def measure(
    a: Sequence[Path],
    b: Sequence[Path],
    *,
    divergence: Path,
    unembedding: Path,
    top_k: int,
    table: Path,
    ranking: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Measure the angles of both runs at the row that decided and the row before.

    Args:
        a: Recordings of the first platform.
        b: Those of the second.
        divergence: Table of part 2.
        unembedding: The unembedding matrix with the final norm's gain and bias.
        top_k: Tokens at each row.
        table: CSV file, one row for each question, row, run and rank.
        ranking: CSV file, one row for each question, row and run: which token is nearest.
        statistics: JSON file.
        provenance: Config, code and input digests.
    """
    rows, ranks = [], []
    with Hdf5Reader(unembedding) as matrix:
        norm = FinalNorm(matrix)
        for question in questions(a, b):
            read_divergence(divergence, question)
            for which, row in question.parted.rows.items():
                for side, run in (("a", question.a), ("b", question.b)):
                    head = {"question": question.name, "which": which, "row": row, "run": side}
                    angles = list(_angles(run, row, matrix, norm, top_k))
                    rows += [{**head, **each} for each in angles]
                    ranks.append({**head, **_ranking(angles)})
    frame, order = pd.DataFrame(rows), pd.DataFrame(ranks)
    origin = collect(seeds=None, platform={}, model={}, **provenance)
    write_csv(table, frame, provenance=origin)
    write_csv(ranking, order, provenance=origin)
    write_json(statistics, _told(frame, order, norm.kind), provenance=origin)


class FinalNorm:
    """Gain and bias of the final norm, as far as there are any.

    Args:
        matrix: The unembedding artifact.
    """

    def __init__(self, matrix: Hdf5Reader) -> None:
        self.kind = str(matrix.attributes["norm"] or "none")
        width = matrix.shape("weight")[1]
        self.gain: Float = numbers(matrix.read("gain")) if "gain" in matrix.names else np.ones(width)
        if matrix.attributes["norm_adds_one"]:  # Gemma's norms multiply by 1 + what is stored
            self.gain = self.gain + 1.0
        self.bias: Float = numbers(matrix.read("norm_bias")) if "norm_bias" in matrix.names else np.zeros(width)

    def gain_free(self, final: Float) -> Float:
        """A normed state with bias and gain taken out again; coordinates whose gain is 0 hold nothing: they give 0."""
        kept = self.gain != 0
        return np.where(kept, (final - self.bias) / np.where(kept, self.gain, 1.0), 0.0)


def _angles(run: Recording, row: int, matrix: Hdf5Reader, norm: FinalNorm, top_k: int) -> Iterator[dict[str, Any]]:
    # A model without a final norm unembeds the stream itself; of any other the state before the norm is needed.
    before = "final" if norm.kind == "none" and "final_prenorm" not in run.taps else "final_prenorm"
    final, prenorm = (numbers(run.state(name, row)) for name in ("final", before))
    states = dict(zip(KINDS, (prenorm, norm.gain_free(final), final), strict=True))
    top = run.top(row)
    for rank in range(min(top_k, len(top.ids))):
        token = int(top.ids[rank])
        vector = unembedding_row(matrix, token)
        found: dict[str, Any] = {
            "rank": rank + 1,
            "token": token,
            "logit": float(top.logits[rank]),
            "unembedding_l2": float(np.linalg.norm(vector)),
        }
        for kind, state in states.items():
            angle = angle_between(state, vector)
            found[f"cosine_{kind}"], found[f"angle_{kind}_degrees"] = float(np.cos(angle)), float(np.degrees(angle))
        found["change_degrees"] = found["angle_after_degrees"] - found["angle_before_degrees"]
        found["change_gain_free_degrees"] = found["angle_gain_free_degrees"] - found["angle_before_degrees"]
        yield found


def angle_between(a: Float, b: Float) -> float:
    """Angle of two vectors in radians, accurate also where they are nearly parallel; NaN where one is zero.

    2 atan2(| a/|a| - b/|b| |, | a/|a| + b/|b| |): Kahan, "How futile are mindless assessments of roundoff", 2006.
    """
    first, second = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if not first * second > 0:
        return float("nan")
    one, other = a / first, b / second
    return 2.0 * float(np.arctan2(np.linalg.norm(one - other), np.linalg.norm(one + other)))


def _ranking(angles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Which of the likeliest tokens is nearest in angle, before and behind the norm; which has the largest logit."""
    best = {kind: max(angles, key=lambda each: each[f"cosine_{kind}"])["token"] for kind in KINDS}
    return {
        **{f"nearest_{kind}": int(token) for kind, token in best.items()},
        "largest_logit": int(angles[0]["token"]),
        "ranking_changed": best["before"] != best["after"],
        "ranking_changed_gain_free": best["before"] != best["gain_free"],
        "nearest_is_largest_logit": best["after"] == angles[0]["token"],
    }


def _told(frame: pd.DataFrame, order: pd.DataFrame, kind: str) -> dict[str, Any]:
    """Means and standard deviations by rank at the row that decided; how often the nearest token changes."""
    at, best = frame[frame["which"] == "decision"], order[order["which"] == "decision"]
    ranks = {
        str(rank): {
            "count": len(own),
            "change_degrees_mean": float(own["change_degrees"].mean()),
            "change_degrees_std": float(own["change_degrees"].std(ddof=0)),
            "change_gain_free_degrees_mean": float(own["change_gain_free_degrees"].mean()),
            **{f"cosine_{name}_mean": float(own[f"cosine_{name}"].mean()) for name in KINDS},
        }
        for rank, own in at.groupby("rank")
    }
    return {
        "norm": kind,
        "rows": len(best),
        "ranking_changed": int(best["ranking_changed"].sum()),
        "ranking_changed_percent": 100.0 * float(best["ranking_changed"].mean()),
        "ranking_changed_gain_free": int(best["ranking_changed_gain_free"].sum()),
        "nearest_is_largest_logit_percent": 100.0 * float(best["nearest_is_largest_logit"].mean()),
        "change_degrees_mean": ranks["1"]["change_degrees_mean"],
        "change_gain_free_degrees_mean": ranks["1"]["change_gain_free_degrees_mean"],
        "by_rank": ranks,
    }
