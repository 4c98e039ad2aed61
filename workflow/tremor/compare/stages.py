"""The stages of two recordings at one row: which there are, which repeat another, and where bits differ first.

Stages come in the order of the forward pass, as the recording lists its taps. The row that decided token d is row d:
both runs had the same context there, so whatever differs in it was made by the arithmetic, not by another text.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tremor.compare import bits
from tremor.compare.divergence import Divergence, first_divergence
from tremor.compare.recording import Recording, require_comparable
from tremor.errors import ArtifactError

_NAME = re.compile(r"(block|residual)\.(\d+)(?:\.(.+))?")
_ROWS = 64  # read at a time while rows are searched


@dataclass(frozen=True)
class Stage:
    """One recorded tensor of the forward pass.

    Attributes:
        order: Place in the forward pass, from 0.
        name: Name of the tap.
        block: Number of its block; None before and after the blocks.
        part: Name without the block: ``residual`` for the stream that enters a block.
        width: Length of its vector.
        duplicate_of: Name of the earlier stage that is the same tensor, "" for none.
    """

    order: int
    name: str
    block: int | None
    part: str
    width: int
    duplicate_of: str


@dataclass(frozen=True)
class Parted:
    """One question on two platforms, and the rows at which it is looked at.

    Attributes:
        divergence: Where the two texts part.
        row: The row that decided two different tokens; where none did, the last row whose context both share.
        token_a: Token that the first run chose at `row`.
        token_b: Token that the second chose there; where both chose the same, the runner-up of the first.
        decided: Whether they chose different tokens there.
    """

    divergence: Divergence
    row: int
    token_a: int
    token_b: int
    decided: bool

    @property
    def rows(self) -> dict[str, int]:
        """``decision``: the row; ``before``: the row before it, where there is one."""
        return {"decision": self.row, **({"before": self.row - 1} if self.row else {})}


def parted(a: Recording, b: Recording) -> Parted:
    """Where two recordings of a question part, and the row that shows why.

    Raises:
        ArtifactError: the recordings are of different models or prompts.
    """
    require_comparable(a, b)
    found = first_divergence(a.ids, b.ids)
    row = max(0, found.common_rows - 1)
    first, second = int(a.ids[row]), int(b.ids[row])
    if found.decisive is None:
        second = next(int(each) for each in a.top(row).ids if int(each) != first)
    return Parted(found, row, first, second, found.decisive is not None)


def stage_name(name: str) -> tuple[int | None, str]:
    """Block and part of a tap: ``block.3.mlp`` is part ``mlp`` of block 3, ``residual.3`` part ``residual``."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None, name
    return int(match[2]), match[3] or match[1]


def stages(a: Recording, b: Recording, rows: Iterable[int]) -> tuple[Stage, ...]:
    """The stages that both recordings hold, in forward order.

    A stage is a duplicate if it has the bits of an earlier one of its width at all given rows, in both runs: then both
    names read one tensor (a mixer that is a module and the projection that it ends in), or one that passed unchanged.

    A stage that only one run holds is left out (see :func:`unshared`): attention kernels and ways of decoding do not
    all go through the same modules. So is one that was not recorded as far as the rows asked for.

    Args:
        a: First run, whose order counts.
        b: Second run.
        rows: Where to compare the stages with each other.

    Raises:
        ArtifactError: the runs have no stage in common, or one has two widths.
    """
    chosen, theirs = tuple(rows), set(b.taps)
    shared = [name for name in a.taps if name in theirs and min(a.rows(name), b.rows(name)) > max(chosen)]
    if not shared:
        raise ArtifactError(f"{a.path} and {b.path} have no stage in common; record both with the same recorder.taps")
    seen: dict[tuple[int, bytes], str] = {}
    found = []
    for order, name in enumerate(shared):
        if a.width(name) != b.width(name):
            raise ArtifactError(f"stage '{name}' has another width in {a.path} than in {b.path}; record both again")
        block, part = stage_name(name)
        content = b"".join(_bytes(run, name, row) for run in (a, b) for row in chosen)
        first = seen.setdefault((a.width(name), content), name)
        found.append(Stage(order, name, block, part, a.width(name), "" if first == name else first))
    return tuple(found)


def unshared(a: Recording, b: Recording) -> list[str]:
    """Stages that only one of the runs holds."""
    return sorted(set(a.taps) ^ set(b.taps))


def _bytes(run: Recording, tap: str, row: int) -> bytes:
    state = run.state(tap, row)
    return bytes(state.tobytes() if isinstance(state, np.ndarray) else state.bits.tobytes())


@dataclass(frozen=True)
class FirstDifference:
    """The first stage, in the order the model computes them, whose bits differ."""

    row: int
    stage: Stage
    difference: bits.Difference


def at_row(a: Recording, b: Recording, held: Iterable[Stage], row: int) -> FirstDifference | None:
    """The first stage whose bits differ at one row; None where all are equal."""
    for stage in held:
        told = bits.compare_vectors(a.state(stage.name, row), b.state(stage.name, row))
        if not told.equal_bits:
            return FirstDifference(row, stage, told)
    return None


def first_difference(a: Recording, b: Recording, held: Iterable[Stage], *, stop: int) -> FirstDifference | None:
    """The first row at which any stage's bits differ, and the first such stage there.

    Each stage is searched no further than the first differing row that an earlier one showed, some rows at a time.

    Args:
        a: First run.
        b: Second run.
        held: Stages in forward order.
        stop: Rows 0 ... stop - 1 are searched: those whose context both runs share.

    Returns:
        None where no bit differs.
    """
    best: tuple[int, Stage] | None = None
    end = stop
    for stage in held:
        row = _first_row(a, b, stage.name, end)
        if row is not None:
            best, end = (row, stage), row  # a later stage must differ at an earlier row to come first
        if end == 0:
            break
    if best is None:
        return None
    row, stage = best
    return FirstDifference(row, stage, bits.compare_vectors(a.state(stage.name, row), b.state(stage.name, row)))


def _first_row(a: Recording, b: Recording, tap: str, stop: int) -> int | None:
    for start in range(0, stop, _ROWS):
        end = min(start + _ROWS, stop)
        changed: npt.NDArray[np.bool_] = bits.changed_coordinates(a.states(tap, start, end), b.states(tap, start, end))
        rows = np.flatnonzero(changed.any(axis=1))
        if len(rows):
            return start + int(rows[0])
    return None
