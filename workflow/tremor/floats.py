"""The float lattice: ulps, neighbours, bits, ulp distance, rounding, and the staircase of a ray.

A model sees its input only after rounding, so the input that a nudge ``x + s * d`` really makes is a staircase in
``s``: it changes only where one coordinate crosses a rounding midpoint (a *breakpoint*). This module finds those
breakpoints exactly, by bisection on the integer representation of ``s``; no model is run for it.

Values of a narrow format are carried in float32 arrays, which hold every float16 and bfloat16 value exactly. Rounding,
nudging and breakpoints stand in one module, longer than others, because they must agree to the last bit.
Source of the method: design.md 5.2, 5.3 and 5.7; the staircase replaces the search of the originals' experiment 12.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arithmetic = Literal["float64", "float32"]
FormatName = Literal["float64", "float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format and the numpy types that carry it."""

    name: FormatName
    width: int  # bits of the whole number
    precision: int  # significant bits, the hidden one included
    min_exponent: int  # exponent of the smallest normal number, so that its value is 2 ** min_exponent
    carrier: type[np.floating[Any]]
    integer: type[np.signedinteger[Any]]

    @property
    def epsilon(self) -> float:
        """Distance from 1 to the next larger number."""
        return 2.0 ** (1 - self.precision)

    @property
    def smallest(self) -> float:
        """The smallest positive (denormal) number."""
        return 2.0 ** (self.min_exponent - self.precision + 1)


FORMATS: dict[str, FloatFormat] = {
    "float64": FloatFormat("float64", 64, 53, -1022, np.float64, np.int64),
    "float32": FloatFormat("float32", 32, 24, -126, np.float32, np.int32),
    "float16": FloatFormat("float16", 16, 11, -14, np.float32, np.int16),
    "bfloat16": FloatFormat("bfloat16", 16, 8, -126, np.float32, np.int16),
}


def format_of(name: str) -> FloatFormat:
    """Look a format up by its dtype name.

    Raises:
        ValueError: the name is not one of float64, float32, float16, bfloat16.
    """
    try:
        return FORMATS[name]
    except KeyError:
        raise ValueError(f"unknown float format '{name}'; one of {', '.join(FORMATS)}") from None


def round_to(values: Array, fmt: str) -> Array:
    """Round float32 or float64 values once, to nearest with ties to even, onto a format's lattice.

    Args:
        values: Any shape, float32 or float64.
        fmt: Name of the format.

    Returns:
        Same shape, in the format's carrier dtype. Overflow gives infinity, NaN stays NaN.
    """
    form = format_of(fmt)
    with np.errstate(over="ignore", under="ignore"):
        if form.name in ("float64", "float32"):
            return np.asarray(values).astype(form.carrier)
        if form.name == "float16":  # numpy rounds float64 to float16 in one step
            return np.asarray(values).astype(np.float16).astype(np.float32)
        return _round_bfloat16(np.asarray(values))


def _round_bfloat16(values: Array) -> Array:
    single = values.astype(np.float32)
    raw = single.view(np.uint32)
    if values.dtype == np.float64:
        # Two roundings in a row (64 -> 32 -> 16 bits) may differ from one. Rounding to odd first cannot:
        # the sticky last bit remembers on which side of a bfloat16 midpoint the float64 value was.
        wide = single.astype(np.float64)
        inexact = np.isfinite(single) & (wide != values)
        outward = inexact & (np.abs(wide) > np.abs(values))
        # An overflow to infinity must come back to the largest float32 before it is marked odd.
        overflow = np.isinf(single) & np.isfinite(values)
        raw = raw - outward.astype(np.uint32) - overflow.astype(np.uint32)
        raw = raw | (inexact | overflow).astype(np.uint32)
    rounded = (raw + np.uint32(0x7FFF) + ((raw >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    quiet = (raw & np.uint32(0xFFFF0000)) | np.uint32(0x00400000)
    return np.where(np.isnan(single), quiet, rounded).astype(np.uint32).view(np.float32)


def bits(values: Array, fmt: str) -> Array:
    """The bit patterns of lattice values, as signed integers of the format's width.

    Args:
        values: Any shape, on the lattice of ``fmt`` (in its carrier dtype, or native float16 for float16).
        fmt: Name of the format.

    Returns:
        Same shape; int16, int32 or int64. Equality of these is equality of bits: -0 differs from +0.

    Raises:
        ValueError: a value is not on the lattice of ``fmt``.
    """
    form = format_of(fmt)
    values = np.ascontiguousarray(values)
    if form.name == "float16":
        half = values.astype(np.float16)
        _require_on_lattice(half.astype(values.dtype), values, fmt)
        return half.view(np.int16)
    if values.dtype != form.carrier:
        _require_on_lattice(values.astype(form.carrier).astype(values.dtype), values, fmt)
        values = values.astype(form.carrier)
    if form.name == "bfloat16":
        raw = values.view(np.uint32)
        if np.any(raw & np.uint32(0xFFFF)):
            raise ValueError("values are not on the bfloat16 lattice; round them with round_to first")
        return (raw >> np.uint32(16)).astype(np.uint16).view(np.int16)
    return values.view(form.integer)


def from_bits(patterns: Array, fmt: str) -> Array:
    """Inverse of :func:`bits`: integer patterns of the format's width back to carried values."""
    form = format_of(fmt)
    patterns = np.ascontiguousarray(patterns, dtype=form.integer)
    if form.name == "float16":
        return patterns.view(np.float16).astype(np.float32)
    if form.name == "bfloat16":
        return (patterns.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return patterns.view(form.carrier)


def _require_on_lattice(rounded: Array, values: Array, fmt: str) -> None:
    if not np.array_equal(rounded, values, equal_nan=True):
        raise ValueError(f"values are not on the {fmt} lattice; round them with round_to first")


def ordered(values: Array, fmt: str) -> Array:
    """Lattice position: an int64 that rises by one from each number to the next larger one; both zeros are 0.

    Raises:
        ValueError: a value is NaN, which has no place in the order, or is not on the lattice.
    """
    values = np.asarray(values)
    if np.isnan(values).any():
        raise ValueError("NaN has no place on the float lattice")
    pattern = bits(values, fmt).astype(np.int64)
    sign_mask = np.int64(2 ** (format_of(fmt).width - 1) - 1)
    return np.where(pattern < 0, -(pattern & sign_mask), pattern)


def from_ordered(positions: Array, fmt: str) -> Array:
    """Inverse of :func:`ordered`; position 0 gives +0."""
    form = format_of(fmt)
    positions = np.asarray(positions, dtype=np.int64)
    sign_bit = np.int64(-(2 ** (form.width - 1)))
    # Two's complement addition of the sign bit; for 64 bits the sum stays within int64 because |position| < 2**63.
    pattern = np.where(positions < 0, sign_bit + (-positions), positions)
    return from_bits(pattern.astype(form.integer), fmt)


def ulp_distance(a: Array, b: Array, fmt: str) -> npt.NDArray[np.uint64]:
    """Number of lattice steps between values, elementwise.

    Returns:
        uint64. -0 and +0 are at distance 0; compare :func:`bits` where that difference matters.

    Raises:
        ValueError: NaN on either side, or a value off the lattice.
    """
    first, second = ordered(a, fmt), ordered(b, fmt)
    low, high = np.minimum(first, second), np.maximum(first, second)
    # Unsigned subtraction wraps to the true distance even where int64 would overflow.
    return high.astype(np.uint64) - low.astype(np.uint64)


def next_up(values: Array, fmt: str) -> Array:
    """The next larger number of the format; from both zeros the smallest positive one."""
    return from_ordered(ordered(values, fmt) + 1, fmt)


def next_down(values: Array, fmt: str) -> Array:
    """The next smaller number of the format; from both zeros the smallest negative one."""
    return from_ordered(ordered(values, fmt) - 1, fmt)


def ulp(values: Array, fmt: str) -> npt.NDArray[np.float64]:
    """Spacing from |value| to the next larger magnitude, in the value's own units, float64.

    Below a power of two the spacing toward zero is half of this.
    """
    form = format_of(fmt)
    magnitude = np.abs(np.asarray(values, dtype=np.float64))
    _, exponent = np.frexp(magnitude)
    exponent = np.maximum(np.where(magnitude == 0, form.min_exponent, exponent - 1), form.min_exponent)
    spacing: npt.NDArray[np.float64] = np.ldexp(np.ones_like(magnitude), exponent - form.precision + 1)
    return spacing


def nudge(x: Array, direction: Array, s: Array | float, *, arithmetic: Arithmetic, fmt: str = "float32") -> Array:
    """The input a model really gets when ``s * direction`` is added to ``x``.

    ``float64``: round(fl64(x + fl64(s * d))) onto the lattice, rounded once. ``float32``: round(fl32(x +
    fl32(fl32(s) * d))), what a tensor library does (design.md 5.2). With s = 0 the input is x itself, bit for bit.

    Args:
        x: [..., n] on the lattice of ``fmt``, in its carrier dtype.
        direction: [..., n] float32.
        s: Scalar or [..., 1]; any real step (callers of boundary searches pass float32 values).
        arithmetic: Where the sum is done.
        fmt: The lattice of x.

    Returns:
        [..., n] in the carrier dtype of ``fmt``.
    """
    if arithmetic == "float64":
        steps: Array = np.asarray(s, dtype=np.float64)
        moved = round_to(x.astype(np.float64) + steps * direction.astype(np.float64), fmt)
    elif arithmetic == "float32":
        with np.errstate(under="ignore"):
            steps32 = np.asarray(s).astype(np.float32)
            moved = round_to(x.astype(np.float32) + steps32 * direction.astype(np.float32), fmt)
        steps = steps32
    else:
        raise ValueError(f"unknown arithmetic '{arithmetic}'; one of float64, float32")
    return np.where(steps == 0, x, moved)


@dataclass(frozen=True)
class RealisedStep:
    """What a nudge did to the input after rounding, per row; norms in the input's units, float64."""

    moved_coordinates: npt.NDArray[np.int64]  # [m] coordinates whose bits changed
    l2: npt.NDArray[np.float64]  # [m] ||p - x||
    along: npt.NDArray[np.float64]  # [m] (p - x) . d / ||d||
    off_direction: npt.NDArray[np.float64]  # [m] norm of the rest
    ulps: npt.NDArray[np.uint64]  # [m] lattice steps summed over coordinates


def realised_step(x: Array, moved: Array, direction: Array, fmt: str = "float32") -> RealisedStep:
    """Account for a nudge: how far the input really went (design.md 5.2).

    Args:
        x: [n] base input.
        moved: [m, n] inputs as given to the model.
        direction: [n] or [m, n] float32.
        fmt: The lattice of both.
    """
    step = moved.astype(np.float64) - x.astype(np.float64)
    unit = direction.astype(np.float64)
    norm = np.linalg.norm(unit, axis=-1, keepdims=True)
    unit = unit / np.where(norm == 0, 1.0, norm)
    along = np.sum(step * unit, axis=-1)
    rest = step - along[..., None] * unit
    base = np.broadcast_to(x, moved.shape)
    return RealisedStep(
        moved_coordinates=np.sum(bits(moved, fmt) != bits(base, fmt), axis=-1),
        l2=np.linalg.norm(step, axis=-1),
        along=along,
        off_direction=np.linalg.norm(rest, axis=-1),
        ulps=np.sum(ulp_distance(moved, base, fmt), axis=-1),
    )


def step_index(s: Array | float) -> npt.NDArray[np.int64]:
    """Lattice position of non-negative float32 steps: 0 for 0, 1 for the smallest denormal, and so on."""
    values = np.asarray(s, dtype=np.float32)
    if np.any(~(values >= 0)):
        raise ValueError("a step must be a number >= 0")
    return np.abs(values).view(np.int32).astype(np.int64)


def step_value(index: Array | int) -> npt.NDArray[np.float32]:
    """Inverse of :func:`step_index`."""
    return np.asarray(index, dtype=np.int64).astype(np.int32).view(np.float32)


class Staircase:
    """The distinct inputs along many rays, in order of the step, found exactly and lazily.

    Each coordinate of ``nudge(x, d, s)`` is monotone in s, so the next s at which its bits change is found by
    bisection on the integer representation of s (at most 31 halvings). A ray's next distinct input is at the
    smallest of those. Nothing is assumed about the model.

    Args:
        x: [n] base input on the lattice of ``fmt``.
        directions: [rays, n] float32.
        s_max: Largest step looked at, > 0; rounded to float32.
        arithmetic: ``float64`` or ``float32``, as in :func:`nudge`.
        fmt: Lattice of the input.
        start: [rays] step index each ray begins at; None for 0.
    """

    def __init__(
        self,
        x: Array,
        directions: Array,
        s_max: float,
        *,
        arithmetic: Arithmetic,
        fmt: str = "float32",
        start: Array | None = None,
    ) -> None:
        if not np.float32(s_max) > 0:
            raise ValueError(f"s_max must be > 0 as a float32, got {s_max}")
        self.x = x
        self.directions = np.ascontiguousarray(directions, dtype=np.float32)
        self.arithmetic: Arithmetic = arithmetic
        self.fmt = fmt
        self.end = int(step_index(s_max))  # index of the last step looked at
        rays, n = self.directions.shape
        begin = np.zeros(rays, dtype=np.int64) if start is None else np.asarray(start, dtype=np.int64)
        columns = np.broadcast_to(np.arange(n), (rays, n))
        rows = np.broadcast_to(np.arange(rays)[:, None], (rays, n))
        self._next = self._breakpoints(rows, columns, np.broadcast_to(begin[:, None], (rays, n)))

    def _coordinate(self, rows: Array, columns: Array, index: Array) -> Array:
        """Bits of single coordinates at single steps; all arguments of one shape."""
        moved = nudge(
            self.x[columns],
            self.directions[rows, columns],
            step_value(index),
            arithmetic=self.arithmetic,
            fmt=self.fmt,
        )
        return bits(moved, self.fmt)

    def _breakpoints(self, rows: Array, columns: Array, start: Array) -> npt.NDArray[np.int64]:
        """The smallest index > start at which the coordinate's bits differ from those at start; end + 1 if none."""
        shape = start.shape
        rows, columns, low = rows.ravel(), columns.ravel(), start.ravel().copy()
        before = self._coordinate(rows, columns, low)
        result = np.full(low.shape, self.end + 1, dtype=np.int64)
        at_end = self._coordinate(rows, columns, np.full_like(low, self.end))
        live = np.flatnonzero((at_end != before) & (low < self.end))
        low, high = low[live], np.full(live.shape, self.end, dtype=np.int64)
        rows, columns, before = rows[live], columns[live], before[live]
        guess = self._guess(rows, columns, low)
        stride, first = _GALLOP, None
        while True:
            open_ = high - low > 1
            if not open_.any():
                break
            middle = np.where((guess > low) & (guess < high), guess, low + (high - low) // 2)
            same = self._coordinate(rows, columns, middle) == before
            low = np.where(open_ & same, middle, low)
            high = np.where(open_ & ~same, middle, high)
            # The true breakpoint is near the guess: gallop away from it in growing strides until the answer turns,
            # then halve what is left.
            first = same if first is None else first
            guess = np.where((guess < 0) | (same != first), -1, guess + np.where(same, stride, -stride))
            stride *= 2
        result[live] = high
        return result.reshape(shape)

    def _guess(self, rows: Array, columns: Array, low: Array) -> npt.NDArray[np.int64]:
        """Index near the next breakpoint, from real arithmetic; only a first look, correctness does not rest on it."""
        value = nudge(
            self.x[columns],
            self.directions[rows, columns],
            step_value(low),
            arithmetic=self.arithmetic,
            fmt=self.fmt,
        )
        slope = self.directions[rows, columns].astype(np.float64)
        with np.errstate(all="ignore"):
            neighbour = np.where(slope > 0, next_up(value, self.fmt), next_down(value, self.fmt))
            middle = (value.astype(np.float64) + neighbour.astype(np.float64)) / 2
            s = (middle - self.x[columns].astype(np.float64)) / slope
            s = np.where(np.isfinite(s) & (s > 0), s, 0.0)
            return step_index(np.minimum(s, np.float64(np.finfo(np.float32).max)))

    def peek(self) -> npt.NDArray[np.int64]:
        """[rays] index of each ray's next distinct input; ``end + 1`` where there is none up to s_max."""
        upcoming: npt.NDArray[np.int64] = self._next.min(axis=1)
        return upcoming

    def inputs(self, rays: Array, index: Array) -> Array:
        """[len(rays), n] the inputs of the given rays at the given step indices."""
        steps = step_value(index)[:, None]
        return nudge(self.x, self.directions[rays], steps, arithmetic=self.arithmetic, fmt=self.fmt)

    def advance(self, rays: Array) -> tuple[npt.NDArray[np.int64], Array]:
        """Move the given rays to their next distinct input.

        Args:
            rays: [k] distinct ray numbers; none may be at its end.

        Returns:
            Step indices [k] and inputs [k, n].
        """
        upcoming = self._next[rays]
        index = upcoming.min(axis=1)
        if np.any(index > self.end):
            raise ValueError("a ray has no further distinct input up to s_max")
        local, columns = np.nonzero(upcoming == index[:, None])
        rows = np.asarray(rays)[local]
        self._next[rows, columns] = self._breakpoints(rows, columns, index[local])
        return index, self.inputs(rays, index)

    def walk(self, ray: int) -> Iterator[tuple[np.float32, Array]]:
        """All distinct inputs of one ray from its present position: pairs of the first step and the input [n]."""
        while self._next[ray].min() <= self.end:
            index, inputs = self.advance(np.array([ray]))
            yield step_value(index)[0], inputs[0]


_GALLOP = 8  # steps looked away from the guessed breakpoint; double rounding and s's own rounding stay within it
