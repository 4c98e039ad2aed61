"""Stability boundaries: how far along a direction nothing changes, exactly and certified.

The input along a ray is a staircase, so it is enough to run the model once for each distinct input, in order, until
the answer first differs. That needs no assumption that "changed" is monotone in the step, unlike the bisection of the
originals' experiments 12 and 13, which is kept as ``method="bisection"`` (design.md 5.3).
"""

import hashlib
import logging
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from tremor import floats
from tremor.probe.base import BasePoint
from tremor.progress import Progress

Method = Literal["exact", "bisection"]
LOOKAHEAD = 32  # distinct inputs of one ray in one batch at most, once few rays are left

log = logging.getLogger(__name__)


class Answering(Protocol):
    """What the search asks: a response, or anything else whose answers to exact inputs may change."""

    base: BasePoint
    batch_size: int  # inputs that are best asked at a time
    h0: npt.NDArray[Any]  # [width] answer at the base point

    @property
    def rows_evaluated(self) -> int:
        """Rows the model has run."""
        ...

    def evaluate(self, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Answers [m, width] to inputs [m, d_in]."""
        ...

    def changed(
        self, inputs: npt.NDArray[Any], *, threshold: float = 0.0
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[Any]]:
        """Which inputs change the answer, and all answers."""
        ...


@dataclass(frozen=True)
class Boundaries:
    """One boundary for each ray.

    The answer is the same for every float32 step s with 0 <= s <= max_s. At min_t, the next float32, it differs; where
    ``censored``, nothing differed up to s_max, max_s is s_max and min_t is NaN. ``certified`` is False where the
    search had to jump over distinct inputs without running them.
    """

    max_s: npt.NDArray[np.float32]  # [n]
    min_t: npt.NDArray[np.float32]  # [n]
    first_breakpoint: npt.NDArray[np.float32]  # [n] smallest step at which the input moves; NaN if none up to s_max
    moved_coordinates: npt.NDArray[np.int64]  # [n] at min_t (at max_s where censored)
    realised_l2: npt.NDArray[np.float64]  # [n] norm of the realised step there
    evaluations: npt.NDArray[np.int64]  # [n] distinct inputs the search looked at
    certified: npt.NDArray[np.bool_]  # [n]
    censored: npt.NDArray[np.bool_]  # [n]
    changed_embedding: npt.NDArray[Any]  # [n, d_in] input at min_t (at max_s where censored)
    changed_hidden: npt.NDArray[Any]  # [n, d_out] answer there
    model_rows: int  # rows the model really ran, memo hits excluded, padding included


class _Memo:
    """Answers by the input's bytes: neighbouring rays share many first inputs, none is run twice."""

    def __init__(self, response: Answering, threshold: float) -> None:
        self._response = response
        self.threshold = threshold
        self._known: dict[bytes, npt.NDArray[Any] | None] = {}

    def ask(self, inputs: npt.NDArray[Any]) -> list[npt.NDArray[Any] | None]:
        """For each input [m, d_in]: the changed answer [d_out], or None where the answer is the base's."""
        keys = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in np.ascontiguousarray(inputs)]
        fresh = {key: number for number, key in enumerate(keys) if key not in self._known}
        if fresh:
            changed, answers = self._response.changed(inputs[list(fresh.values())], threshold=self.threshold)
            for key, flag, answer in zip(fresh, changed, answers, strict=True):
                self._known[key] = answer.copy() if flag else None
        return [self._known[key] for key in keys]


class _Search:
    """State of one search over many rays; indices are lattice positions of float32 steps."""

    def __init__(
        self,
        response: Answering,
        directions: npt.NDArray[Any],
        s_max: float,
        arithmetic: floats.Arithmetic,
        threshold: float,
    ) -> None:
        self.response = response
        self.directions = np.ascontiguousarray(directions, dtype=np.float32)
        self.stairs = floats.Staircase(
            response.base.x, self.directions, s_max, arithmetic=arithmetic, fmt=response.base.fmt
        )
        self.memo = _Memo(response, threshold)
        count = len(self.directions)
        self.first = self.stairs.peek()
        self.unchanged = np.zeros(count, dtype=np.int64)  # largest index known to be unchanged
        self.changed = np.full(count, -1, dtype=np.int64)  # index of the change, -1 while unknown
        self.censored = np.zeros(count, dtype=bool)
        self.certified = np.zeros(count, dtype=bool)
        self.evaluations = np.zeros(count, dtype=np.int64)
        self.answers: dict[int, npt.NDArray[Any]] = {}

    def ask(self, rays: npt.NDArray[Any], index: npt.NDArray[Any]) -> list[npt.NDArray[Any] | None]:
        self.evaluations[rays] += 1
        return self.memo.ask(self.stairs.inputs(rays, index))

    def open(self) -> npt.NDArray[np.int64]:
        return np.flatnonzero((self.changed < 0) & ~self.censored)

    def scan(self, budget: int, progress: Progress) -> None:
        """Run every distinct input in order until the answer differs, the ray ends, or the budget is spent."""
        while True:
            rays = self.open()
            progress.advance(len(self.directions) - rays.size - progress.done)
            ended = self.stairs.peek()[rays] > self.stairs.end
            self.censored[rays[ended]] = True
            self.certified[rays[ended]] = True
            rays = rays[~ended & (self.evaluations[rays] < budget)]
            if not rays.size:
                return
            depth = max(1, min(LOOKAHEAD, self.response.batch_size // rays.size))
            steps: list[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]] = []
            ahead = rays
            for k in range(depth):
                ahead = ahead[(self.stairs.peek()[ahead] <= self.stairs.end) & (self.evaluations[ahead] + k < budget)]
                if not ahead.size:
                    break
                index, inputs = self.stairs.advance(ahead)
                steps.append((ahead, index, inputs))
            answers = self.memo.ask(np.concatenate([inputs for _, _, inputs in steps]))
            position = 0
            for ahead, index, _ in steps:
                for ray, i, answer in zip(ahead, index, answers[position : position + len(ahead)], strict=True):
                    if self.changed[ray] >= 0:
                        continue  # looked further than needed
                    self.evaluations[ray] += 1
                    if answer is None:
                        self.unchanged[ray] = i
                    else:
                        self.changed[ray], self.certified[ray], self.answers[int(ray)] = i, True, answer
                position += len(ahead)

    def gallop(self) -> None:
        """For rays beyond their budget: double s until the answer differs, then bisect on the lattice of s."""
        rays = self.open()
        if not rays.size:
            return
        log.warning(
            "%d of %d rays have more distinct inputs than max_evaluations; their boundaries are not certified",
            rays.size,
            len(self.directions),
        )
        octave = 2**23  # index distance between s and 2 s
        while rays.size:
            index = np.minimum(self.unchanged[rays] + octave, self.stairs.end)
            for ray, i, answer in zip(rays, index, self.ask(rays, index), strict=True):
                if answer is not None:
                    self.changed[ray], self.answers[int(ray)] = i, answer
                else:
                    self.unchanged[ray] = i
                    self.censored[ray] = i == self.stairs.end
            rays = rays[(self.changed[rays] < 0) & ~self.censored[rays]]
        self.bisect()

    def bisect(self) -> None:
        """Halve [unchanged, changed] on the integer lattice until the two are neighbours."""
        while True:
            rays = np.flatnonzero((self.changed - self.unchanged > 1) & ~self.certified & (self.changed >= 0))
            if not rays.size:
                return
            middle = self.unchanged[rays] + (self.changed[rays] - self.unchanged[rays]) // 2
            for ray, i, answer in zip(rays, middle, self.ask(rays, middle), strict=True):
                if answer is None:
                    self.unchanged[ray] = i
                else:
                    self.changed[ray], self.answers[int(ray)] = i, answer

    def originals(self, tolerance: float, max_iterations: int) -> None:
        """The originals' search: bisection on real s to an absolute tolerance, then one ulp after another.

        Their walk asks for every ulp; here it steps from one distinct input to the next, which visits the same
        answers. Unlike theirs, s_max itself is asked first: a ray that never changes is censored.
        """
        rays = np.arange(len(self.directions))
        end = np.full(len(rays), self.stairs.end, dtype=np.int64)
        for ray, answer in zip(rays, self.ask(rays, end), strict=True):
            self.censored[ray] = answer is None
        low = np.zeros(len(rays))
        high = np.where(self.censored, 0.0, np.float64(floats.step_value(self.stairs.end)))
        for _ in range(max_iterations):
            apart = floats.step_index(high) - floats.step_index(low) > 1  # nothing lies between neighbours
            live = rays[apart & (high - low >= tolerance)]
            if not live.size:
                break
            middle = ((low[live] + high[live]) / 2).astype(np.float32)
            same = np.array([a is None for a in self.ask(live, floats.step_index(middle))])
            low[live] = np.where(same, middle, low[live])
            high[live] = np.where(same, high[live], middle)
        self.unchanged = np.where(self.censored, end, floats.step_index(low.astype(np.float32)))
        open_rays = self.open()
        walkers = floats.Staircase(
            self.response.base.x,
            self.directions[open_rays],
            float(floats.step_value(self.stairs.end)),
            arithmetic=self.stairs.arithmetic,
            fmt=self.stairs.fmt,
            start=self.unchanged[open_rays],
        )
        live = np.arange(len(open_rays))
        while live.size:
            index, inputs = walkers.advance(live)
            self.evaluations[open_rays[live]] += 1
            for local, i, answer in zip(live, index, self.memo.ask(inputs), strict=True):
                if answer is not None:
                    self.changed[open_rays[local]], self.answers[int(open_rays[local])] = i, answer
            live = live[self.changed[open_rays[live]] < 0]

    def result(self, rows_before: int) -> Boundaries:
        count = len(self.directions)
        end = self.stairs.end
        last = np.where(self.censored, end, self.changed - 1)
        crossing = np.where(self.censored, end, self.changed)
        embedding = self.stairs.inputs(np.arange(count), crossing)
        step = floats.realised_step(self.response.base.x, embedding, self.directions, self.response.base.fmt)
        hidden = np.array([self.answers.get(ray, self.response.h0) for ray in range(count)])
        if self.memo.threshold > 0 and self.censored.any():  # within the threshold, but not the base's answer
            hidden[self.censored] = self.response.evaluate(embedding[self.censored])
        nan = np.float32(np.nan)
        return Boundaries(
            max_s=floats.step_value(last),
            min_t=np.where(self.censored, nan, floats.step_value(crossing)),
            first_breakpoint=np.where(self.first > end, nan, floats.step_value(np.minimum(self.first, end))),
            moved_coordinates=step.moved_coordinates,
            realised_l2=step.l2,
            evaluations=self.evaluations,
            certified=self.certified,
            censored=self.censored,
            changed_embedding=embedding,
            changed_hidden=hidden,
            model_rows=self.response.rows_evaluated - rows_before,
        )


def find_boundaries(
    response: Answering,
    directions: npt.NDArray[Any],
    *,
    s_max: float,
    arithmetic: floats.Arithmetic,
    threshold: float = 0.0,
    method: Method = "exact",
    max_evaluations: int = 512,
    tolerance: float = 1e-15,
    max_iterations: int = 100,
) -> Boundaries:
    """The largest step along each direction up to which the answer does not change.

    Args:
        response: The model's answer around a base point, in one mode and batch shape; or what is made of it, such
            as the chosen token.
        directions: [n, d_in] float32, exactly the vectors to use (not normalised here).
        s_max: Largest step looked at; beyond it a ray is censored.
        arithmetic: ``float64`` or ``float32`` (see :func:`tremor.floats.nudge`).
        threshold: 0 for any difference in bits, else the coordinate difference that counts.
        method: ``exact``, or ``bisection`` as the originals searched.
        max_evaluations: Distinct inputs run in order for a ray before the exact search jumps (``certified`` False).
        tolerance: Absolute width at which ``bisection`` turns to single steps.
        max_iterations: Most halvings of ``bisection``.

    Returns:
        One boundary for each direction.

    Raises:
        NumericsError: an answer is NaN or infinite.
        ValueError: s_max or threshold out of range, or directions of another width.
    """
    if directions.ndim != 2 or directions.shape[1] != len(response.base.x):
        raise ValueError(f"directions must be [n, {len(response.base.x)}], got {directions.shape}")
    if not np.isfinite(directions).all():
        raise ValueError("directions hold NaN or infinity")
    if not threshold >= 0:
        raise ValueError(f"threshold must be >= 0, got {threshold}")
    rows_before = response.rows_evaluated
    search = _Search(response, directions, s_max, arithmetic, threshold)
    if method == "exact":
        with Progress(len(directions), "rays") as progress:
            search.scan(max_evaluations, progress)
        search.gallop()
    elif method == "bisection":
        search.originals(tolerance, max_iterations)
    else:
        raise ValueError(f"unknown method '{method}'; one of exact, bisection")
    return search.result(rows_before)
