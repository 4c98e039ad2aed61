"""Difference quotients: how far the answer moves for a nudge, by the step asked for and by the step that was made.

A quotient ||h(p) - h(x)|| / step is a gain only where three things hold: the input really moved by that step
(rounding makes a staircase of it), the answer moved by more than the rounding noise floor, and the step is short
against the curvature. So each is stored with the realised step, the smooth prediction ||J (p - x)||, and the tokens
on both sides; nominal and realised quotient are two columns. Serves exp2 and the Lipschitz studies (spec: exp2 v1-v3,
archive, part 2, gpt_oss).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor import floats
from tremor.errors import NumericsError
from tremor.probe.base import to_array
from tremor.probe.readout import Readout
from tremor.probe.response import Response
from tremor.probe.routing import Routing
from tremor.probe.sweep import distinct

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]
Product = Callable[[Array], Array]  # J times steps: [m, d_in] -> [m, d_out]


@dataclass(frozen=True)
class Observations:
    """What is kept of the answers to m inputs, each beside the answer to x; norms in float64."""

    output_changed: npt.NDArray[np.int64]  # [m] coordinates of h whose bits differ
    output_l2: Float  # [m] ||h(p) - h(x)||
    logit_l2: Float  # [m] ||logits(p) - logits(x)|| over the whole vocabulary
    token: npt.NDArray[np.int64]  # [m] token with the highest logit (the lowest id of several)
    probability: Float  # [m] its probability, softmax in float64
    logit: Float  # [m] its logit
    base_token: int  # the same three of x itself
    base_probability: float
    base_logit: float
    flips: npt.NDArray[np.int64] | None  # [m, layers] experts chosen other than at x; None for a dense model
    evaluated: int  # distinct inputs that were run, x included


def observe(response: Response, readout: Readout, inputs: Array, *, routing: Routing | None = None) -> Observations:
    """Run inputs [m, d], each distinct one once and x once, and compare every answer with that to x.

    Args:
        response: Answers with tap ``final`` first.
        readout: Its logits.
        inputs: On the lattice of the base point.
        routing: Records the experts that are chosen; needs a response with one row a batch.

    Raises:
        NumericsError: an answer is NaN or infinite.
        ValueError: routing is asked of a response with several rows a batch.
    """
    if routing is not None and response.batch_size != 1:
        raise ValueError(f"routing is recorded one row at a time, but the batch has {response.batch_size} rows")
    different = distinct(np.concatenate([response.base.x[None], inputs]))
    count = len(different.inputs)
    changed, tokens = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    length, logit_length, probability, logit = (np.zeros(count) for _ in range(4))
    flips = np.zeros((count, len(routing.layers)), dtype=np.int64) if routing else None
    origin: Any = None
    chosen: Any = None
    for rows, answer in response.batches(different.inputs):
        final = answer["final"]
        if routing is not None and flips is not None:
            now = routing.take()
            chosen = now if chosen is None else chosen
            flips[rows.start] = routing.flips(chosen, now)
        values = to_array(final)
        changed[rows] = np.sum(_bits(values) != _bits(response.h0), axis=1)
        length[rows] = np.linalg.norm(values.astype(np.float64) - response.h0.astype(np.float64), axis=1)
        for part, found in readout.logits(final):
            wide = found.double()
            origin = wide[0].clone() if origin is None else origin  # the first distinct input is x
            here = slice(rows.start + part.start, rows.start + part.stop)
            logit_length[here] = (wide - origin).norm(dim=1).cpu().numpy()
            top, token = wide.max(dim=1).values, wide.argmax(dim=1)
            tokens[here] = token.cpu().numpy()
            logit[here] = top.cpu().numpy()
            probability[here] = (top - wide.logsumexp(dim=1)).exp().cpu().numpy()
    index = different.index[1:]
    return Observations(
        output_changed=changed[index],
        output_l2=length[index],
        logit_l2=logit_length[index],
        token=tokens[index],
        probability=probability[index],
        logit=logit[index],
        base_token=int(tokens[0]),
        base_probability=float(probability[0]),
        base_logit=float(logit[0]),
        flips=None if flips is None else flips[index],
        evaluated=count,
    )


def _digest(row: Array) -> bytes:
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def _bits(values: Array) -> Array:
    # A float32 carrier is one to one with the narrow format it carries.
    return np.ascontiguousarray(values).view({4: np.int32, 8: np.int64}[values.dtype.itemsize])


@dataclass(frozen=True)
class Quotients:
    """Difference quotients along directions; every array is [directions, steps], direction by direction."""

    epsilon: Float  # the step asked for
    moved_coordinates: npt.NDArray[np.int64]
    realised_l2: Float  # ||p - x||, the step that was made
    realised_along: Float  # its component along the direction
    off_direction_l2: Float  # norm of the rest
    smooth_l2: Float  # ||J (p - x)||
    observed: Observations  # flat, [directions * steps]

    @property
    def nominal(self) -> Float:
        """||h(p) - h(x)|| over the step asked for, as the original study divides."""
        result: Float = self.observed.output_l2.reshape(self.epsilon.shape) / self.epsilon
        return result

    @property
    def realised(self) -> Float:
        """||h(p) - h(x)|| over the step that was made; NaN where the input did not move."""
        change = self.observed.output_l2.reshape(self.epsilon.shape)
        result = np.full(change.shape, np.nan)
        np.divide(change, self.realised_l2, out=result, where=self.realised_l2 > 0)
        return result


def quotients(
    response: Response,
    readout: Readout,
    directions: Array,
    epsilons: Sequence[float],
    product: Product,
    *,
    arithmetic: floats.Arithmetic,
    routing: Routing | None = None,
) -> Quotients:
    """Difference quotients along directions [k, d] at steps [e].

    Args:
        response: The model's answer, tap ``final`` first.
        readout: Its logits.
        directions: Unit vectors.
        epsilons: Steps asked for, > 0.
        product: J times a step, in float64.
        arithmetic: How the nudge is added.
        routing: See :func:`observe`.
    """
    base = response.base
    sizes = np.asarray(epsilons, dtype=np.float64)
    rows = [floats.nudge(base.x, v, sizes[:, None], arithmetic=arithmetic, fmt=base.fmt) for v in directions]
    inputs = np.concatenate(rows)
    along = np.repeat(np.asarray(directions), len(sizes), axis=0)
    step = floats.realised_step(base.x, inputs, along, base.fmt)
    shape = (len(directions), len(sizes))
    smooth = np.linalg.norm(product(inputs.astype(np.float64) - base.x.astype(np.float64)), axis=1)
    return Quotients(
        epsilon=np.broadcast_to(sizes, shape).copy(),
        moved_coordinates=step.moved_coordinates.reshape(shape),
        realised_l2=step.l2.reshape(shape),
        realised_along=step.along.reshape(shape),
        off_direction_l2=step.off_direction.reshape(shape),
        smooth_l2=smooth.reshape(shape),
        observed=observe(response, readout, inputs, routing=routing),
    )


DRAWS = 64  # of one chunk; part of what a seed means, so a constant


@dataclass(frozen=True)
class Averages:
    """Answers averaged over noisy copies of m inputs, for nested numbers of copies; running sums in float64."""

    samples: tuple[int, ...]  # [s] copies averaged over; the first n draws of one sequence for every n
    hidden: Float  # [m, s, d_out]
    logits: Float  # [m, s, vocab]
    evaluated: int  # distinct inputs that were run


def averages(
    response: Response,
    readout: Readout,
    shifts: Float,
    noise: Callable[[np.random.Generator, int], Float],
    samples: Sequence[int],
    *,
    seed: int,
) -> Averages:
    """Mean answers to round(x + shift + r_i), i < n, for every shift and every n; all shifts have the same r_i.

    The inputs are made twice: once to find which are distinct, once to run each of those; neither inputs nor answers
    are kept beyond a chunk. Many copies are equal where the noise is below the spacing of the lattice.

    Args:
        response: The model's answer, tap ``final`` first.
        readout: Its logits.
        shifts: [m, d] added to x before the noise; sums are formed in float64 and rounded once.
        noise: Draws [count, d] from a generator.
        samples: Numbers of copies, ascending.
        seed: Of the noise.
    """
    most, members = samples[-1], len(shifts)
    x = response.base.x.astype(np.float64)

    def chunk(start: int) -> Array:
        """Inputs [members * draws, d] of the draws from start on, draw by draw."""
        count = min(DRAWS, most - start)
        drawn = noise(np.random.default_rng([seed, start // DRAWS]), DRAWS)[:count]
        sums = x + (shifts[None] + drawn[:, None])
        if not np.isfinite(sums).all():
            raise NumericsError("a noisy input is NaN or infinite; lower the step or the noise")
        return floats.round_to(sums.reshape(count * members, -1), response.base.fmt)

    index = np.empty((most, members), dtype=np.int64)
    seen: dict[bytes, int] = {}
    for start in range(0, most, DRAWS):
        found = distinct(chunk(start))
        keys = [seen.setdefault(_digest(row), len(seen)) for row in found.inputs]
        index[start : start + DRAWS] = np.array(keys)[found.index].reshape(-1, members)
    weights = np.zeros((len(seen), members, len(samples)))
    for number, n in enumerate(samples):
        for member in range(members):
            np.add.at(weights[:, member, number], index[:n, member], 1.0 / n)
    hidden = np.zeros((members, len(samples), len(response.h0)))
    logits = np.zeros((members, len(samples), readout.response.loaded.anatomy.vocab))
    done = 0
    for start in range(0, most, DRAWS):
        numbers, first = np.unique(index[start : start + DRAWS].ravel(), return_index=True)
        new = numbers >= done  # numbers rise in order of first appearance
        done += int(new.sum())
        for rows, answer in response.batches(chunk(start)[first[new]]):
            own = weights[numbers[new][rows]]
            hidden += np.einsum("ums,ud->msd", own, to_array(answer["final"]).astype(np.float64))
            for part, found_logits in readout.logits(answer["final"]):
                wide = to_array(found_logits).astype(np.float64)
                logits += np.einsum("ums,uv->msv", own[part], wide)
    return Averages(samples=tuple(samples), hidden=hidden, logits=logits, evaluated=len(seen))
