"""exp8, part 2: where two recordings part, and every stage at the row that decided and the row before; no torch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tremor.compare import bits
from tremor.compare.recording import Recording, open_recording
from tremor.compare.stages import Parted, Stage, parted, stages, unshared
from tremor.errors import ArtifactError
from tremor.progress import track
from tremor.store.documents import write_json
from tremor.store.provenance import collect
from tremor.store.tables import read_csv, write_csv

NUMBERS = (
    "equal_bits", "n_changed_bits", "n_flipped_bits", "max_abs", "mean_abs", "median_abs", "l1", "l2", "relative_l2",
    "cosine", "cosine_distance", "ulp_max", "ulp_mean", "ulp_median", "n_signed_zero", "n_nan_a", "n_nan_b", "n_inf_a",
    "n_inf_b",
)  # fmt: skip
MAYBE = dict.fromkeys(("index", "token_a", "token_b", "block"), "Int64")


@dataclass(frozen=True)
class Question:
    """One question on both platforms, and where it parts."""

    a: Recording
    b: Recording
    parted: Parted

    @property
    def name(self) -> str:
        """Name of the question."""
        return self.a.question

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Its stages, in forward order, with what repeats what."""
        return stages(self.a, self.b, sorted({0, *self.parted.rows.values()}))

    @property
    def distinct(self) -> list[Stage]:
        """Its stages, each tensor once."""
        return [stage for stage in self.stages if not stage.duplicate_of]


def questions(a: Sequence[Path], b: Sequence[Path]) -> Iterator[Question]:
    """The questions that two platforms answered, one open at a time.

    Raises:
        ArtifactError: other questions, models or prompts on one side than on the other.
    """
    if len(a) != len(b):
        raise ArtifactError(f"one platform recorded {len(a)} questions, the other {len(b)}; record both again")
    for first, second in track(list(zip(a, b, strict=True)), "questions"):
        with ExitStack() as opened:
            one, other = (opened.enter_context(open_recording(path)) for path in (first, second))
            yield Question(one, other, parted(one, other))


def compare(
    a: Sequence[Path],
    b: Sequence[Path],
    *,
    divergence: Path,
    table: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Compare all stages of all questions.

    Args:
        a: Recordings of the first platform, one for each question.
        b: Those of the second.
        divergence: CSV file, one row for each question; what the later parts start from.
        table: CSV file, one row for each question, row and stage.
        statistics: JSON file.
        provenance: Config, code and input digests.
    """
    heads, rows = [], []
    alone: set[str] = set()
    for question in questions(a, b):
        heads.append(_head(question))
        alone |= set(unshared(question.a, question.b))
        held = question.stages
        rows += [_row(question, stage, which, row) for which, row in question.parted.rows.items() for stage in held]
    head, frame = pd.DataFrame(heads), pd.DataFrame(rows)
    origin = collect(seeds=None, platform={}, model={}, **provenance)
    write_csv(divergence, _typed(head), provenance=origin)
    write_csv(table, _typed(frame), provenance=origin)
    write_json(statistics, {**_told(head, frame), "unshared_stages": sorted(alone)}, provenance=origin)


def read_divergence(path: Path, question: Question) -> Parted:
    """Where a question parts, checked against the table of part 2.

    Raises:
        ArtifactError: the table is of other recordings.
    """
    found = read_csv(path)
    rows = found[found["question"] == question.name]
    if len(rows) != 1 or int(rows["row"].iloc[0]) != question.parted.row:
        raise ArtifactError(f"{path} is not of these recordings; delete it and run snakemake again")
    return question.parted


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({name: kind for name, kind in MAYBE.items() if name in frame})


def _head(question: Question) -> dict[str, Any]:
    found = question.parted.divergence
    tops = {side: run.top(question.parted.row) for side, run in (("a", question.a), ("b", question.b))}
    pieces = {"a": question.a.pieces, "b": question.b.pieces}
    return {
        "question": question.name,
        "kind": str(question.a.attributes["kind"]),
        "status": found.kind,
        "index": found.index,
        "row": question.parted.row,
        "decided": question.parted.decided,
        "length_a": found.length_a,
        "length_b": found.length_b,
        "token_a": found.token_a,
        "token_b": found.token_b,
        "chosen_a": question.parted.token_a,
        "chosen_b": question.parted.token_b,
        **{
            f"text_{side}": pieces[side][found.index]
            if found.index is not None and found.index < len(pieces[side])
            else ""
            for side in ("a", "b")
        },
        **{f"margin_{side}": float(top.margin) for side, top in tops.items()},
        **{f"ties_{side}": int(top.ties) for side, top in tops.items()},
        "tied": any(top.tied for top in tops.values()),
        "runner_up_wins": question.parted.decided and question.parted.token_b == int(tops["a"].ids[1]),
    }


def _row(question: Question, stage: Stage, which: str, row: int) -> dict[str, Any]:
    told = bits.compare_vectors(question.a.state(stage.name, row), question.b.state(stage.name, row))
    return {
        "question": question.name,
        "which": which,
        "row": row,
        "order": stage.order,
        "stage": stage.name,
        "block": stage.block,
        "part": stage.part,
        "width": stage.width,
        "duplicate_of": stage.duplicate_of,
        **{name: getattr(told, name) for name in NUMBERS},
    }


def _told(head: pd.DataFrame, frame: pd.DataFrame) -> dict[str, Any]:
    """Counts, and the size of the difference where it is compared with itself: stage by stage, not over stages."""
    status = head["status"].value_counts()
    distinct = frame[frame["duplicate_of"] == ""]
    final = distinct[(distinct["which"] == "decision") & (distinct["stage"] == distinct["stage"].iloc[-1])]
    return {
        "questions": len(head),
        **{name: int(status.get(name, 0)) for name in ("token", "length", "none")},
        "tied": int((head["tied"] & head["decided"]).sum()),
        "runner_up_wins": int(head["runner_up_wins"].sum()),
        "first_index": None if head["index"].isna().all() else int(head["index"].min()),
        "stages": int(distinct["stage"].nunique()),
        "duplicates": int(frame["stage"].nunique() - distinct["stage"].nunique()),
        "identical_rows_percent": 100.0 * float(distinct["equal_bits"].mean()),
        "last_stage": str(distinct["stage"].iloc[-1]),
        "last_relative_l2_median": float(final["relative_l2"].median()),
        "last_ulp_median": float(final["ulp_median"].median()),
    }
