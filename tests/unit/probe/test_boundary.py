"""Stability boundaries: exact against brute force, on real models and on scripted answers."""

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tremor.errors import NumericsError
from tremor.floats import Arithmetic
from tremor.models.loader import LoadedModel
from tremor.probe.base import BasePoint, base_point
from tremor.probe.boundary import Boundaries, find_boundaries
from tremor.probe.response import Mode, Response

Models = Callable[..., LoadedModel]
Array = npt.NDArray[Any]
PROMPT = "The capital of France is"
ARITHMETICS: tuple[Arithmetic, ...] = ("float64", "float32")
INFINITY = np.float32(np.inf)


# --- An independent account of the input along a ray: no function of tremor.floats is used here. ---


def round_half_even(values: Array, fmt: str) -> Array:
    """Round to float32, float16 or bfloat16, ties to even, one rounding."""
    if fmt == "float32":
        return values.astype(np.float32)
    if fmt == "float16":
        return values.astype(np.float16).astype(np.float32)
    # bfloat16: the two neighbours are a float32 cut to its upper half, and the next one outward.
    wide = values.astype(np.float64)
    cut = values.astype(np.float32)
    outward = np.abs(cut.astype(np.float64)) > np.abs(wide)
    cut = np.where(outward, np.nextafter(cut, np.float32(0)), cut)
    inner = (cut.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    outer = (inner.view(np.uint32) + np.uint32(0x10000)).view(np.float32)
    below, above = np.abs(wide - inner), np.abs(outer.astype(np.float64) - wide)
    odd = (inner.view(np.uint32) >> np.uint32(16)) & np.uint32(1)
    return np.where((below < above) | ((below == above) & (odd == 0)), inner, outer).astype(np.float32)


def input_at(x: Array, d: Array, s: Array, arithmetic: str, fmt: str) -> Array:
    """Inputs [m, n] at the float32 steps s [m]."""
    s = np.asarray(s, dtype=np.float32)[:, None]
    if arithmetic == "float64":
        moved = round_half_even(x.astype(np.float64) + s.astype(np.float64) * d.astype(np.float64), fmt)
    else:
        moved = round_half_even((x + (s * d).astype(np.float32)).astype(np.float32), fmt)
    return np.where(s == 0, x, moved)


def neighbour(x: Array, towards: Array, fmt: str) -> Array:
    """The next number of a format in a direction, by torch."""
    kind = getattr(torch, fmt)
    a, b = (torch.from_numpy(np.asarray(v, np.float32)).to(kind) for v in (x, towards))
    return np.asarray(torch.nextafter(a, b).float().numpy())


def ulps_around(s: Array, reach: int) -> Array:
    """All float32 numbers within some steps of each s > 0, sorted, without repeats."""
    near = s.astype(np.float32).view(np.int32)[:, None] + np.arange(-reach, reach + 1)
    return np.asarray(np.unique(near[near > 0]).astype(np.int32).view(np.float32))


def all_inputs(x: Array, d: Array, s_end: np.float32, arithmetic: str, fmt: str) -> tuple[Array, Array]:
    """Every distinct input for 0 <= s <= s_end: the first step of each, and the inputs.

    Where coordinates may cross a midpoint is computed in real arithmetic, and every float32 number nearby is tried.
    That nothing was missed is proved, not hoped: each coordinate is monotone in s, so if the inputs at two looked-at
    steps are equal, they are equal at every step between; and where they differ, the steps must be neighbours.
    """
    crossings = []
    edge = np.copysign(INFINITY, d)
    before, here = x, neighbour(x, edge, fmt)
    last = input_at(x, d, np.array([s_end]), arithmetic, fmt)[0]
    while True:
        middle = (before.astype(np.float64) + here.astype(np.float64)) / 2
        # A sum in float32 reaches the midpoint of a narrower format up to half its own spacing early or late (a
        # quarter from below a power of two).
        early = np.spacing(np.abs(middle).astype(np.float32)) * np.array([[0], [-0.5], [0.5], [-0.25], [0.25]])
        with np.errstate(all="ignore"):
            s = (middle + early - x.astype(np.float64)) / d.astype(np.float64)
        inside = np.isfinite(s) & (s > 0) & (s < 1.01 * float(s_end))
        if not inside.any():
            break
        crossings.append(s[inside])
        before, here = here, np.where(inside.any(axis=0), neighbour(here, edge, fmt), edge)
    # The product s * d rounds too: a few steps of s cover it.
    found = ulps_around(np.concatenate([*crossings, [float(s_end)]]), 16)
    looked = np.concatenate([[np.float32(0)], found[found <= s_end]]).astype(np.float32)
    inputs = input_at(x, d, looked, arithmetic, fmt)
    differ = (inputs[1:].view(np.int32) != inputs[:-1].view(np.int32)).any(axis=1)
    adjacent = looked[1:] == np.nextafter(looked[:-1], INFINITY)
    assert adjacent[differ].all(), "the brute force missed a breakpoint"
    np.testing.assert_array_equal(inputs[-1], last)
    first = np.concatenate([[True], differ])
    return looked[first], inputs[first]


def rays(width: int, count: int, *, seed: int = 0) -> Array:
    directions = np.random.default_rng(seed).normal(size=(count, width))
    return np.asarray((directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32))


def check_exact(
    response: Response,
    directions: Array,
    found: Boundaries,
    arithmetic: Arithmetic,
    *,
    threshold: float = 0.0,
    judge: Iterable[int] | None = None,
) -> None:
    """The claim of a boundary, by brute force: every distinct input up to max_s is unchanged, min_t is not."""
    x, fmt = response.base.x, response.base.fmt
    assert found.certified.all()
    assert not found.censored.any()
    np.testing.assert_array_equal(found.min_t, np.nextafter(found.max_s, INFINITY))
    for ray in range(len(directions)) if judge is None else judge:
        d, max_s = directions[ray], found.max_s[ray]
        steps, inputs = all_inputs(x, d, max_s, arithmetic, fmt)
        crossing = input_at(x, d, found.min_t[ray : ray + 1], arithmetic, fmt)
        assert not response.changed(inputs, threshold=threshold)[0].any()
        flags, answers = response.changed(crossing, threshold=threshold)
        assert flags[0]
        # Each distinct input was asked for once: those after the base, and the one that changed.
        assert found.evaluations[ray] == len(inputs)
        assert found.first_breakpoint[ray] == (steps[1] if len(steps) > 1 else found.min_t[ray])
        assert found.changed_embedding[ray].tobytes() == crossing[0].tobytes()
        assert found.changed_hidden[ray].tobytes() == answers[0].tobytes()
        assert found.moved_coordinates[ray] == np.sum(crossing[0] != x)
        moved = np.linalg.norm(crossing[0].astype(float) - x.astype(float))
        assert found.realised_l2[ray] == pytest.approx(moved, rel=1e-12)


S_MAX = {"float32": 1e-4, "float16": 1.0, "bfloat16": 4.0}


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("mode", ["reference", "batched"])
@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        ("llama", "float32"),
        ("gpt2", "float32"),
        ("mamba", "float32"),
        ("llama", "bfloat16"),
        ("llama", "float16"),
    ],
)
def test_boundaries_are_exact(
    loaded_model: Models, family: str, dtype: str, mode: Mode, arithmetic: Arithmetic
) -> None:
    loaded = loaded_model(family, dtype)
    response = Response(loaded, base_point(loaded, PROMPT), mode=mode, batch_size=16)
    directions = rays(len(response.base.x), 6)
    found = find_boundaries(response, directions, s_max=S_MAX[dtype], arithmetic=arithmetic)
    check_exact(response, directions, found, arithmetic)
    assert np.all(found.first_breakpoint <= found.min_t)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_every_step_just_below_the_boundary(loaded_model: Models, arithmetic: Arithmetic) -> None:
    """The plainest brute force: the last 20 000 float32 steps before max_s, and the 200 after, one by one."""
    loaded = loaded_model("llama")
    response = Response(loaded, base_point(loaded, PROMPT), mode="batched", batch_size=16)
    directions = rays(len(response.base.x), 2, seed=7)
    found = find_boundaries(response, directions, s_max=1e-4, arithmetic=arithmetic)
    for d, max_s in zip(directions, found.max_s, strict=True):
        top = int(max_s.view(np.int32))
        steps = np.arange(top - 20_000, top + 201, dtype=np.int32).view(np.float32)
        inputs = input_at(response.base.x, d, steps, arithmetic, "float32")
        unique, where = np.unique(inputs.view(np.int32), axis=0, return_inverse=True)
        changed = response.changed(unique.view(np.float32))[0][where.ravel()]
        assert not changed[: 20_000 + 1].any()
        assert changed[20_000 + 1]


def test_powers_of_two_signs_and_zeros_along_axes(loaded_model: Models) -> None:
    """Along single axes, up and down, from hand-set coordinates where spacings halve or signs differ."""
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT)
    x = base.x.copy()
    x[:4] = [1.0, -1.0, 0.5, -0.75]
    embeddings = base.embeddings.clone()
    embeddings[-1] = torch.from_numpy(x)
    base = replace(base, embeddings=embeddings, x=x)
    response = Response(loaded, base, mode="batched", batch_size=8)
    axes = np.eye(len(x), dtype=np.float32)[:4]
    directions = np.concatenate([axes, -axes, 1e-3 * axes])
    found = find_boundaries(response, directions, s_max=1e-1, arithmetic="float64")
    check_exact(response, directions, found, "float64")
    assert np.all(found.moved_coordinates == 1)
    # The spacing of float32 is 2**-23 above 1 and half of it below; half a spacing moves the coordinate. At the exact
    # midpoint the tie goes to the even neighbour, which here is x itself.
    assert found.first_breakpoint[0] == np.nextafter(np.float32(2.0**-24), INFINITY)
    assert found.first_breakpoint[4] == np.nextafter(np.float32(2.0**-25), INFINITY)
    assert found.first_breakpoint[1] == np.nextafter(np.float32(2.0**-25), INFINITY)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_threshold(loaded_model: Models, arithmetic: Arithmetic) -> None:
    """With a threshold above the noise a ray crosses many distinct inputs, and all are looked at."""
    loaded = loaded_model("gpt2")
    response = Response(loaded, base_point(loaded, PROMPT), mode="batched", batch_size=16)
    directions = rays(len(response.base.x), 3, seed=2)
    options: dict[str, Any] = {"s_max": 1e-4, "arithmetic": arithmetic}
    found = find_boundaries(response, directions, threshold=1e-6, **options)
    check_exact(response, directions, found, arithmetic, threshold=1e-6)
    assert found.evaluations.max() > 20
    exact = find_boundaries(response, directions, **options)
    assert np.all(found.max_s >= exact.max_s)
    assert np.any(found.max_s > exact.max_s)
    moved = np.abs(found.changed_hidden.astype(np.float64) - response.h0).max(axis=1)
    assert np.all(moved > 1e-6)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_censored_rays(loaded_model: Models, threshold: float) -> None:
    """Nothing changes up to s_max: reported as that, never as a boundary."""
    loaded = loaded_model("llama")
    response = Response(loaded, base_point(loaded, PROMPT), mode="batched", batch_size=4)
    directions = rays(len(response.base.x), 3)
    s_max = 1e-12 if threshold == 0 else 1e-6
    for method in ("exact", "bisection"):
        found = find_boundaries(
            response,
            directions,
            s_max=s_max,
            arithmetic="float64",
            threshold=threshold,
            method=method,  # type: ignore[arg-type]
        )
        assert found.censored.all()
        np.testing.assert_array_equal(found.max_s, np.float32(s_max))
        assert np.isnan(found.min_t).all()
        inputs = np.concatenate(
            [input_at(response.base.x, d, np.array([s_max]), "float64", "float32") for d in directions]
        )
        np.testing.assert_array_equal(found.changed_embedding, inputs)
        # The answer there is the true one: within the threshold it may still differ from the base's.
        np.testing.assert_array_equal(found.changed_hidden, response.evaluate(inputs))
        if method == "exact":
            assert found.certified.all()
            if threshold == 0:
                assert np.isnan(found.first_breakpoint).all()
                assert np.all(found.evaluations == 0)
                assert np.all(found.moved_coordinates == 0)
                assert found.model_rows == 0
            else:
                assert np.all(found.moved_coordinates > 0)
                assert (found.changed_hidden != response.h0).any()


def test_some_rays_censored_others_not(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    response = Response(loaded, base_point(loaded, PROMPT), mode="batched", batch_size=4)
    directions = rays(len(response.base.x), 8)
    every = find_boundaries(response, directions, s_max=1e-4, arithmetic="float64")
    s_max = float(np.median(every.min_t))
    found = find_boundaries(response, directions, s_max=s_max, arithmetic="float64")
    np.testing.assert_array_equal(found.censored, every.min_t > np.float32(s_max))
    assert 0 < found.censored.sum() < 8
    for name in ("max_s", "min_t", "evaluations"):
        np.testing.assert_array_equal(getattr(found, name)[~found.censored], getattr(every, name)[~found.censored])


def test_bisection_agrees_or_is_wrong(loaded_model: Models) -> None:
    """Where the originals' search answers otherwise, an earlier change exists: the answer is not monotone there."""
    loaded = loaded_model("llama")
    response = Response(loaded, base_point(loaded, PROMPT), mode="reference")
    directions = rays(len(response.base.x), 12, seed=4)
    options: dict[str, Any] = {"s_max": 1e-4, "arithmetic": "float64"}
    exact = find_boundaries(response, directions, **options)
    halved = find_boundaries(response, directions, method="bisection", **options)
    np.testing.assert_array_equal(halved.min_t, np.nextafter(halved.max_s, INFINITY))
    assert not halved.certified.any()
    assert not halved.censored.any()
    np.testing.assert_array_equal(exact.first_breakpoint, halved.first_breakpoint)
    same = exact.max_s == halved.max_s
    assert np.all(halved.max_s[~same] > exact.max_s[~same])
    at = [
        input_at(response.base.x, d, np.array([s]), "float64", "float32")[0]
        for d, s in zip(directions, halved.max_s, strict=True)
    ]
    assert not response.changed(np.array(at))[0].any()
    assert same.any()
    np.testing.assert_array_equal(exact.changed_hidden[same], halved.changed_hidden[same])


# --- Scripted answers ---


class Scripted:
    """Answers by a rule on the input; has of a Response what the search uses."""

    def __init__(self, x: Any, rule: Callable[[Array], bool], *, batch_size: int = 4, fmt: str = "float32") -> None:
        x = np.asarray(x, dtype=np.float32)
        self.base = SimpleNamespace(x=x, fmt=fmt)
        self.rule, self.batch_size, self.rows_evaluated = rule, batch_size, 0
        self.h0 = np.zeros(2, dtype=np.float32)
        self.asked: list[bytes] = []

    def changed(self, inputs: Array, *, threshold: float = 0.0) -> tuple[Array, Array]:
        self.asked += [row.tobytes() for row in inputs]
        self.rows_evaluated += len(inputs)
        flags = np.array([self.rule(row) for row in inputs])
        return flags, flags[:, None] * np.ones((1, 2), dtype=np.float32)


def search(response: Scripted, directions: Any, **options: Any) -> Boundaries:
    settings: dict[str, Any] = {"s_max": 1e-5, "arithmetic": "float64", **options}
    return find_boundaries(response, np.asarray(directions, dtype=np.float32), **settings)  # type: ignore[arg-type]


def offset(row: Array) -> int:
    """Ulps that the first coordinate lies above 1."""
    return round((float(row[0]) - 1.0) * 2**23)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_not_monotone(batch_size: int) -> None:
    """Changed at 3 ulps, back at 4, changed from 9 on: bisection lands at 9, the boundary is at 3."""
    s_max = 16 * 2.0**-23
    exact, halved = (
        search(
            Scripted([1.0], lambda row: offset(row) == 3 or offset(row) >= 9, batch_size=batch_size),
            [[1.0]],
            s_max=s_max,
            method=method,
        )
        for method in ("exact", "bisection")
    )
    # The input turns from 2 to 3 ulps at 2.5 ulps; that midpoint is a tie, which goes to the even 2.
    assert exact.max_s[0] == 2.5 * 2.0**-23
    assert exact.certified[0]
    assert exact.evaluations[0] == 3
    # From 8 to 9 at 8.5, again a tie to the even 8.
    assert halved.max_s[0] == 8.5 * 2.0**-23
    assert not halved.certified[0]


def test_monotone_scripts_agree_to_the_last_bit() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=5).astype(np.float32)
    directions = rays(5, 20)

    def far(row: Array) -> bool:
        return bool(np.linalg.norm(row.astype(float) - x) > 3e-7)

    for arithmetic in ARITHMETICS:
        exact, halved = (
            search(Scripted(x, far), directions, arithmetic=arithmetic, method=method)
            for method in ("exact", "bisection")
        )
        for name in ("max_s", "min_t", "first_breakpoint", "changed_embedding", "realised_l2"):
            np.testing.assert_array_equal(getattr(exact, name), getattr(halved, name))
        # Halving stops where nothing lies between: float32 has 31 bits of s, and the walk ends in a few steps.
        assert halved.evaluations.max() < 64


def test_bisection_walks_where_the_tolerance_stops_it() -> None:
    response = Scripted([1.0], lambda row: offset(row) >= 9)
    found = search(response, [[1.0]], method="bisection", s_max=64 * 2.0**-23, tolerance=4 * 2.0**-23)
    assert found.max_s[0] == 8.5 * 2.0**-23


def test_lookahead_never_runs_past_the_first_change() -> None:
    """With one ray left, many of its inputs share a batch; a change at 5 must hide the ones after it."""
    response = Scripted([1.0], lambda row: offset(row) in (5, 6, 8, 20), batch_size=64)
    found = search(response, [[1.0]], s_max=100 * 2.0**-23)
    assert found.max_s[0] == 4.5 * 2.0**-23
    assert found.evaluations[0] == 5


def test_memo_runs_no_input_twice() -> None:
    # The last two meet at inputs that are the first of one and the second of the other: another batch, the same bytes.
    directions = np.array([[1, 0], [1, 1e-9], [1, 1e-9], [0.5, 0], [-1, 0], [1, 1], [1, 0.9]], dtype=np.float32)
    response = Scripted([1.0, 1.0], lambda row: offset(row) >= 6 or offset(row) <= -3, batch_size=2)
    found = search(response, directions)
    assert found.certified.all()
    assert len(response.asked) == len(set(response.asked)) == found.model_rows
    # Up to six inputs above 1 and some below serve five rays.
    assert found.model_rows < found.evaluations.sum()
    assert found.max_s[3] == np.float32(2 * found.max_s[0])


def test_memo_on_a_model(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    response = Response(loaded, base_point(loaded, PROMPT), mode="reference")
    one = rays(len(response.base.x), 1)[0]
    found = find_boundaries(response, np.stack([one, one, one]), s_max=1e-4, arithmetic="float64")
    assert found.model_rows == found.evaluations[0]
    assert found.evaluations.sum() == 3 * found.model_rows
    assert len(set(found.max_s.tolist())) == 1


@pytest.mark.parametrize("budget", [2, 16, 100])
def test_budget(budget: int) -> None:
    """A zero coordinate has a breakpoint at every denormal and every float: no walk can pass them all."""

    def rule(row: Array) -> bool:
        return bool(row[0] > 1e-7)

    response = Scripted([0.0, 1.0], rule)
    found = search(response, [[1, 0], [0, 1], [-1, 0]], max_evaluations=budget)
    assert not found.certified[0]
    assert not found.censored[0]
    assert found.min_t[0] == np.nextafter(found.max_s[0], INFINITY)
    step = np.array([found.max_s[0], found.min_t[0]])
    below, above = input_at(response.base.x, np.array([1, 0], np.float32), step, "float64", "float32")
    assert not rule(below)
    assert rule(above)
    assert found.evaluations[0] >= budget
    assert found.first_breakpoint[0] > 0
    # The rays that never change: looked at as far as s_max, censored, and certified only if every input was run.
    assert found.censored[1:].all()
    np.testing.assert_array_equal(found.max_s[1:], np.float32(1e-5))
    assert not found.certified[2]
    assert found.certified[1] == (found.evaluations[1] < budget)


def test_budget_is_enough_to_the_last_evaluation() -> None:
    """The change is at the fifth distinct input: five evaluations find it, four do not certify it."""
    for budget, certified in ((5, True), (4, False)):
        found = search(Scripted([1.0], lambda row: offset(row) >= 5), [[1.0]], max_evaluations=budget)
        assert found.certified[0] == certified
        assert found.max_s[0] == 4.5 * 2.0**-23


def test_budget_on_a_model(loaded_model: Models) -> None:
    loaded = loaded_model("llama")
    base: BasePoint = base_point(loaded, PROMPT)
    embeddings = base.embeddings.clone()
    embeddings[-1, 3] = 0
    base = replace(base, embeddings=embeddings, x=embeddings[-1].numpy())
    response = Response(loaded, base, mode="batched", batch_size=8)
    directions = rays(len(base.x), 3)
    found = find_boundaries(response, directions, s_max=1e-5, arithmetic="float64", max_evaluations=20)
    assert not found.certified.any()
    np.testing.assert_array_equal(found.min_t, np.nextafter(found.max_s, INFINITY))
    for s, expected in ((found.max_s, False), (found.min_t, True)):
        inputs = [
            input_at(base.x, d, np.array([v]), "float64", "float32")[0] for d, v in zip(directions, s, strict=True)
        ]
        assert np.all(response.changed(np.array(inputs))[0] == expected)


def test_zero_direction_is_censored() -> None:
    found = search(Scripted([1.0, 2.0], lambda row: True), [[0, 0], [1, 0]])
    assert found.censored.tolist() == [True, False]
    assert found.certified.all()
    assert np.isnan(found.first_breakpoint[0])
    assert np.all(found.changed_hidden[0] == 0)


@pytest.mark.parametrize("method", ["exact", "bisection"])
def test_no_rays(method: str) -> None:
    response = Scripted([1.0], lambda row: True)
    found = search(response, np.zeros((0, 1)), method=method)
    assert all(len(getattr(found, f.name)) == 0 for f in fields(found) if f.name != "model_rows")
    assert found.model_rows == 0


def test_nan_in_the_model_stops_the_search(loaded_model: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = loaded_model("llama")
    response = Response(loaded, base_point(loaded, PROMPT), mode="batched", batch_size=4)
    forward = response._forward
    x = torch.from_numpy(response.base.x)

    def breaks(rows: torch.Tensor) -> dict[str, torch.Tensor]:
        answer = forward(rows)["final"]
        answer[(rows != x).any(dim=1)] = torch.nan
        return {"final": answer}

    monkeypatch.setattr(response, "_forward", breaks)
    for method in ("exact", "bisection"):
        with pytest.raises(NumericsError, match="became NaN or infinite under a nudge"):
            find_boundaries(
                response,
                rays(len(x), 2),
                s_max=1e-5,
                arithmetic="float64",
                method=method,  # type: ignore[arg-type]
            )


@pytest.mark.parametrize(
    ("directions", "options", "said"),
    [
        ([[np.nan, 1]], {}, "directions hold NaN or infinity"),
        ([[np.inf, 1]], {}, "directions hold NaN or infinity"),
        ([[1.0, 0, 0]], {}, r"directions must be \[n, 2\], got \(1, 3\)"),
        ([1.0, 0], {}, r"directions must be \[n, 2\], got \(2,\)"),
        ([[1.0, 0]], {"threshold": -1e-9}, "threshold must be >= 0"),
        ([[1.0, 0]], {"threshold": np.nan}, "threshold must be >= 0"),
        ([[1.0, 0]], {"s_max": 0.0}, "s_max must be > 0"),
        ([[1.0, 0]], {"s_max": -1.0}, "s_max must be > 0"),
        ([[1.0, 0]], {"s_max": np.nan}, "s_max must be > 0"),
        ([[1.0, 0]], {"s_max": 1e-60}, "s_max must be > 0 as a float32"),
        ([[1.0, 0]], {"method": "guess"}, "unknown method 'guess'; one of exact, bisection"),
        ([[1.0, 0]], {"arithmetic": "float16"}, "unknown arithmetic 'float16'"),
    ],
)
def test_bad_questions(directions: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        search(Scripted([1.0, 2.0], lambda row: False), directions, **options)
