"""Token flips along rays through a base point: every step of a grid, and exactly where the token first changes."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor import floats
from tremor.errors import NumericsError
from tremor.probe.boundary import Answering, Boundaries, find_boundaries
from tremor.probe.readout import Readout, TokenChoice
from tremor.probe.sweep import distinct
from tremor.statistics.flips import nearest_on_grid

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FlipSweep:
    """What the model chooses at x + step * direction, for k directions and n steps; pair is (first, second)."""

    token: npt.NDArray[np.int64]  # [k, n] chosen token
    leaders: npt.NDArray[np.int64]  # [k, n] tokens that share the highest logit
    probability: npt.NDArray[np.float64]  # [k, n] of the chosen token
    first_logit: npt.NDArray[np.float64]  # [k, n]
    second_logit: npt.NDArray[np.float64]  # [k, n]
    gap: npt.NDArray[np.float64]  # [k, n] first_logit - second_logit, the model's own logits
    gap_float64: npt.NDArray[np.float64]  # [k, n] h . (v1 - v2) in float64
    moved_coordinates: npt.NDArray[np.int64]  # [k, n]
    realised_along: npt.NDArray[np.float64]  # [k, n] component of the realised step along the direction
    realised_l2: npt.NDArray[np.float64]  # [k, n] its norm
    distinct_input: npt.NDArray[np.int64]  # [k, n] number of the distinct input of this direction, in order of steps


def symmetric_steps(largest: float, count: int) -> npt.NDArray[np.float64]:
    """An odd number of evenly spaced steps from -largest to largest; the middle one is exactly 0.

    Each is rounded to float32, the lattice of steps (design.md 5.2), and carried in float64.
    """
    if count < 3 or count % 2 == 0:
        raise ValueError(f"the number of steps must be odd and at least 3, got {count}")
    half = count // 2
    steps = np.arange(-half, half + 1) * largest / half
    return steps.astype(np.float32).astype(np.float64)


def sweep_flips(
    readout: Readout, directions: Array, steps: Array, pair: tuple[int, int], *, arithmetic: floats.Arithmetic
) -> FlipSweep:
    """Ask for the token at every step along every direction; each distinct input of a direction is run once.

    Args:
        readout: The model's choice around the base point.
        directions: [k, d_in] float32.
        steps: [n] float64, on the float32 lattice.
        pair: The two tokens whose logits are watched.
        arithmetic: How the nudge is added.
    """
    base = readout.response.base
    rows, offset = readout.direction(*pair)
    columns: dict[str, list[Array]] = {name: [] for name in FlipSweep.__dataclass_fields__}
    for direction in directions:
        inputs = floats.nudge(base.x, direction, steps[:, None], arithmetic=arithmetic, fmt=base.fmt)
        different = distinct(inputs)
        found = readout.decide(different.inputs, pair)
        logits = found.logits.astype(np.float64)
        step = floats.realised_step(base.x, different.inputs, direction, base.fmt)
        values = {
            "token": found.token,
            "leaders": found.leaders,
            "probability": found.probability,
            "first_logit": logits[:, 0],
            "second_logit": logits[:, 1],
            "gap": logits[:, 0] - logits[:, 1],
            "gap_float64": found.final.astype(np.float64) @ rows + offset,
            "moved_coordinates": step.moved_coordinates,
            "realised_along": step.along,
            "realised_l2": step.l2,
            "distinct_input": np.arange(len(different.inputs)),
        }
        for name, value in values.items():
            columns[name].append(value[different.index])
    return FlipSweep(**{name: np.array(parts) for name, parts in columns.items()})


def nearest_flips(
    readout: Readout,
    directions: Array,
    pair: tuple[int, int],
    *,
    s_max: float,
    arithmetic: floats.Arithmetic,
    max_evaluations: int,
    tried: tuple[Array, Array] | None = None,
) -> tuple[int, Boundaries]:
    """Where the chosen token first changes along +v and -v of each direction, exactly on the lattice of steps.

    Args:
        readout: The model's choice around the base point.
        directions: [k, d_in] float32.
        pair: Tokens whose logits are kept at the flip.
        s_max: Largest step looked at.
        arithmetic: How the nudge is added.
        max_evaluations: Distinct inputs run in order along a ray before the search jumps (not certified then).
        tried: Steps [n], ascending with 0 among them, and the tokens [k, n] chosen there: where the search has jumped
            over a flip that these show, the flip is taken from them.

    Returns:
        The token chosen at the base point, and boundaries of 2 k rays: those along +v, then those along -v.
        ``changed_hidden`` is [token, logits of the pair] at the flip.
    """
    choice = TokenChoice(readout, pair)
    rays = np.concatenate([directions, -directions])
    found = find_boundaries(choice, rays, s_max=s_max, arithmetic=arithmetic, max_evaluations=max_evaluations)
    if tried is not None:
        below, at = _met(*tried, choice.reference)
        found = tightened(choice, rays, found, below, at, arithmetic=arithmetic)
    return choice.reference, found


def _met(steps: Array, token: Array, reference: int) -> tuple[Array, Array]:
    """For each ray, those along +v first: sizes of the last step of a grid before its nearest flip, and of the flip."""
    below, at = np.full((2, 2 * len(token)), np.nan)
    for row, tokens in enumerate(token):
        for ray, flip in zip((row, row + len(token)), nearest_on_grid(steps, tokens, reference), strict=True):
            if flip is not None:
                place = int(np.flatnonzero(steps == flip)[0])
                below[ray], at[ray] = abs(float(steps[place - int(np.sign(flip))])), abs(flip)
    return below, at


def tightened(
    answering: Answering, rays: Array, found: Boundaries, below: Array, at: Array, *, arithmetic: floats.Arithmetic
) -> Boundaries:
    """Boundaries that are no further than a change that was met elsewhere.

    A search that leaps may pass a change, and then tells of a later one, or of none. Where a nearer one is known, it
    is closed in by halving the steps between. The rays stay uncertified: there may be others before it.

    Args:
        answering: What was searched.
        rays: [n, d_in] float32.
        found: Its boundaries.
        below: [n] for each ray a step at which the answer is the base's.
        at: [n] a larger step at which it differs; NaN where none is known.
        arithmetic: How the nudge is added.

    Raises:
        NumericsError: the answer is not what it was said to be.
    """
    limit = np.where(found.censored, np.inf, found.min_t.astype(np.float64))
    own = np.flatnonzero(~found.certified & (at < limit))
    if not own.size:
        return found
    base, before, evaluations = answering.base, answering.rows_evaluated, found.evaluations.copy()
    low, high = floats.step_index(below[own]), floats.step_index(at[own])

    def ask(which: Array, index: Array) -> tuple[Array, Array, Array]:
        steps = floats.step_value(index)[:, None]
        inputs = floats.nudge(base.x, rays[own[which]], steps, arithmetic=arithmetic, fmt=base.fmt)
        evaluations[own[which]] += 1
        return inputs, *answering.changed(inputs)

    while (which := np.flatnonzero(high - low > 1)).size:
        middle = low[which] + (high[which] - low[which]) // 2
        _, differs, _ = ask(which, middle)
        low[which], high[which] = np.where(differs, low[which], middle), np.where(differs, middle, high[which])
    inputs, differs, answers = ask(np.arange(len(own)), high)
    if not differs.all():
        raise NumericsError("an input was answered in two ways: the platform is not deterministic; run `tremor doctor`")
    step = floats.realised_step(base.x, inputs, rays[own], base.fmt)
    values = {
        "max_s": floats.step_value(high - 1), "min_t": floats.step_value(high), "censored": np.zeros(len(own), bool),
        "moved_coordinates": step.moved_coordinates, "realised_l2": step.l2, "changed_embedding": inputs,
        "changed_hidden": answers,
    }  # fmt: skip
    columns = {name: getattr(found, name).copy() for name in values}
    for name, value in values.items():
        columns[name][own] = value
    rows = found.model_rows + answering.rows_evaluated - before
    return replace(found, **columns, evaluations=evaluations, model_rows=rows)
