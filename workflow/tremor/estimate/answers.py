"""Costs of the probe: spectra, boundaries, walks, quotients, ties, maps, precision, noise, documents."""

import math
import os
from typing import Any

from tremor.estimate import situation
from tremor.estimate.situation import (
    CONTROL_CALLS,
    SET_PROMPTS,
    TAIL_CALLS,
    WALK_DISTINCT,
    Names,
    Situation,
    count,
)
from tremor.estimate.work import Pass, Work
from tremor.shards import Shard


def probing(s: Situation, inputs: float, *, searches: float = 0, **more: Any) -> Work:
    """A job of the probe that answers to many inputs at the last position."""
    if s.graph.config.probe.mode == "reference":
        passes: tuple[Pass, ...] = (Pass(calls=inputs + CONTROL_CALLS, tokens=s.tokens),)
    else:
        calls = CONTROL_CALLS + math.ceil(inputs / s.batch) + TAIL_CALLS * searches
        passes = (Pass(calls=1, tokens=s.tokens), Pass(calls=calls, rows=s.batch, past=s.tokens - 1))
    return Work("model", passes, evaluated=inputs, precision=s.dtype, **more)


def jacobian(s: Situation, *, times: float = 1) -> tuple[tuple[Pass, ...], tuple[tuple[float, float, float], ...]]:
    """Passes and decompositions of whole spectra, or of leading singular values where the config asks for these."""
    own, d = s.block("spectrum"), s.shape.width
    base = Pass(calls=2 * times, tokens=s.tokens)
    if own["method"] != "dense":
        steps = min(int(own["max_iterations"]), 3 * int(own["top_k"]))
        return (base, Pass(calls=2 * steps * times, backwards=steps * times, past=s.tokens - 1)), ()
    chunk = min(512, d)
    sweeps = Pass(
        calls=times, backwards=math.ceil(d / chunk) * times, backward_rows=chunk, past=s.tokens - 1
    )  # fmt: skip
    return (base, sweeps), ((d, d, times),)


def spectrum(s: Situation) -> Work:
    """One spectrum, and the prompt before it."""
    passes, svd = jacobian(s)
    d = s.shape.width
    return Work("model", passes, svd=svd, evaluated=1, precision=s.dtype, disk=4.0 * d * d * 1.1 + 80e3)


def rays(s: Situation, experiment: str) -> float:
    """Rays of exp12 or exp13."""
    own = s.block(experiment)
    if experiment == "exp12":
        return float(own["angles"])
    vectors = s.shape.width if own["vectors"] == "all" else int(own["vectors"])
    draws = vectors if own["random_directions"] == "match" else int(own["random_directions"])
    return vectors * (2 if own["signs"] == "both" else 1) + draws


def boundary(s: Situation, experiment: str, *, share: float = 1.0) -> Work:
    """A search of all rays at once."""
    own, number = s.block(experiment), rays(s, experiment) * share
    evaluations = situation.RAY_INPUTS if own["method"] == "exact" else 60.0
    inputs = number * min(evaluations, float(own["max_evaluations"]))
    return probing(
        s, inputs, searches=1, plain=0.2 + 0.05e-3 * inputs, disk=number * (4.0 * s.shape.width + 300) + 60e3
    )


def share(s: Situation) -> float:
    """Share of an experiment's items that a shard measures; all of them in a job that is no shard."""
    name = s.job.wildcards.get("shard")
    return 1 / Shard.parse(name).count if name else 1.0


def shard(s: Situation) -> Work:
    """A part of the rays of exp12 or exp13."""
    return boundary(s, s.job.wildcards["experiment"], share=share(s))


def distances(s: Situation) -> Work:
    """Both ends of every boundary, and the noise floor (exp15)."""
    own = s.block("exp15")
    number = rays(s, {"angles": "exp12", "vectors": "exp13"}[s.job.wildcards["variant"]])
    return probing(s, 2 * number + own["noise_samples"], plain=0.3, disk=120 * number + 100e3)


def layer_walks(s: Situation) -> Work:
    """Directions at the sizes of a sweep, and a fine walk (exp1)."""
    own = s.block("exp1")
    share = 1.0 if s.dtype == "true_float64" else WALK_DISTINCT
    inputs = len(own["vectors"]) * (len(own["jumps"]) + 1) + own["walk_steps"] * share
    return probing(s, inputs, plain=0.8, disk=8.0 * len(own["jumps"]) * s.shape.layers * s.shape.width * 4 + 300e3)


def rotations(s: Situation) -> Work:
    """Shifted, turned and random directions (exp11)."""
    own = s.block("exp11")
    stride = own["shift_stride"]
    shifts = s.shape.width / (max(1, s.shape.width // 128) if stride == "auto" else int(stride))
    inputs = (own["angles"] + own["random_rotations"] + shifts) * len(own["jumps"]) * 0.6
    return probing(s, inputs, plain=0.6, disk=inputs * 250 + 50e3)


def small_steps(s: Situation) -> Work:
    """Walks in steps of several sizes (exp14)."""
    own = s.block("exp14")
    inputs = 0.7 * own["count"] * len(own["steps"]) + own["noise_samples"]
    return probing(s, inputs, plain=0.5, disk=1000 * inputs * 0.5 + 50e3)


def regimes(s: Situation) -> Work:
    """Rays over many decades, in several formats."""
    own, precisions = s.block("regimes"), s.block("regimes")["precisions"]
    asked = len(own["directions"]) * own["decades"] * own["per_decade"]
    found = probing(s, 0.5 * asked)
    each = tuple(
        Pass(p.calls * len(precisions), p.rows, p.tokens, past=p.past) for p in found.passes
    )  # fmt: skip
    held = s.shape.weights("float32") * max(0, len(precisions) - 1)
    return Work(
        "model", each, evaluated=0.5 * asked * len(precisions), plain=0.5 + 0.9e-3 * own["bootstrap"],
        disk=250 * asked * len(precisions), extra_bytes=held,
    )  # fmt: skip


def floors(s: Situation) -> Work:
    """The unperturbed answer to some prompts: in each type, mode, and in true float64 of each type's weights."""
    own = s.block("noise_floors")
    prompts, types = count(own["names"], SET_PROMPTS), len(own["dtypes"])
    alone = Pass(calls=prompts * (3 * types * ("reference" in own["modes"]) + 2 * (types + 1)), tokens=s.tokens)
    rows = Pass(
        calls=prompts * types * CONTROL_CALLS * ("batched" in own["modes"]), rows=own["batch_size"], past=s.tokens
    )
    gate = Pass(calls=50.0 * (types + 1), tokens=s.tokens, backwards=4.0 * (types + 1))
    return Work(
        "model", (alone, rows, gate), evaluated=prompts * types * len(own["modes"]), plain=0.3 * types,
        disk=400.0 * prompts * types + 5e3, extra_bytes=s.shape.weights("float32") * 2,
    )  # fmt: skip


def quotients(s: Situation, prompts: int, ranks: int, powers: int, *, noise: float = 0.0) -> Work:
    """Spectra and quotient grids of several prompts: exp2 and the Lipschitz studies."""
    passes, svd = jacobian(s, times=prompts)
    inputs = prompts * ranks * powers * (1.0 if s.dtype == "true_float64" else 0.5)
    calls = prompts * (CONTROL_CALLS + 2 + math.ceil(ranks * powers / s.batch)) + noise / s.batch
    sweep = Pass(calls=calls, rows=s.batch, past=2 * s.tokens)
    return Work(
        "model", (*passes, sweep), svd=svd, evaluated=inputs + noise, precision=s.dtype, plain=0.02 * prompts,
        disk=prompts * (30e3 + 4.0 * s.shape.width * s.shape.width / 20 + ranks * powers * 200),
    )  # fmt: skip


def exp2(s: Situation) -> Work:
    """The set of prompts, in one precision."""
    own = s.block("exp2")
    prompts = math.ceil(count(own["names"], SET_PROMPTS) * share(s))
    ranks = own["top_k"] + sum(1 for r in own["ranks"] if r == "last" or r <= s.shape.width)
    samples = max(own["noise_samples"]) * len(own["noise_ranks"]) * len(own["noise_powers"]) * 2
    return quotients(s, prompts, ranks, len(own["powers"]), noise=samples * count(own["noise_prompts"], prompts))


def lipschitz(s: Situation) -> Work:
    """One of the un-numbered studies."""
    own, study = s.block("lipschitz"), s.job.wildcards["study"]
    ranks = own["top_k"] + sum(1 for r in own[f"{study}_ranks"] if r == "last" or r <= s.shape.width)
    return quotients(s, count(own["names"], SET_PROMPTS), ranks, len(own[f"{study}_powers"]))


def local_jacobians(s: Situation) -> Work:
    """Each block, and each of its branches, has a Jacobian of its own."""
    own, d = s.block("exp5"), s.shape.width
    stages = s.shape.layers * (3 if own["branches"] else 1) + 2
    chunk = min(512, d)
    sweep = Pass(
        calls=stages, backwards=stages * math.ceil(d / chunk), backward_rows=chunk, depth=1 / s.shape.layers,
        past=s.tokens - 1,
    )  # fmt: skip
    whole, _ = jacobian(s)
    return Work("model", (*whole, sweep), svd=((d, d, stages),), evaluated=stages, plain=0.3, disk=40 * d * stages)


def tie(s: Situation) -> Work:
    """Steps of the root finder, each with a gradient (exp6)."""
    calls = 0.6 * s.block("exp6")["max_evaluations"]
    steps = Pass(calls=calls, backwards=calls, tokens=s.tokens, past=0)
    return Work("model", (steps, Pass(calls=CONTROL_CALLS, rows=s.batch, past=s.tokens)), evaluated=calls, plain=0.2)


def flips(s: Situation) -> Work:
    """A grid of steps along some directions from the tie (exp6)."""
    own = s.block("exp6")
    grid = own["directions"] * own["steps"]
    found = probing(s, grid * 1.0, searches=own["directions"])
    # The border of each direction is narrowed down input by input, in float32 arithmetic as in float64.
    return Work(
        found.start, found.passes, evaluated=grid, precision=s.dtype, plain=1.0, disk=grid * 60 + 100e3
    )  # fmt: skip


def maps(s: Situation) -> Work:
    """Cells of all planes at all radii (exp7)."""
    own = s.block("exp7")
    cells = len(own["planes"]) * len(own["radii"]) * own["points"] ** 2 * share(s)
    return probing(s, 0.9 * cells, plain=8e-6 * cells, disk=24.0 * cells + 100e3)


def zoomed(s: Situation) -> Work:
    """Cells of one window of all planes, or a shard's share of them (exp7)."""
    own = s.block("exp7")
    cells = len(own["planes"]) * own["zoom_points"] ** 2 * share(s)
    return probing(s, 0.9 * cells, plain=8e-6 * cells, disk=24.0 * cells + 50e3)


def randomness(s: Situation) -> Work:
    """Null models of every map (exp7)."""
    own = s.block("exp7")
    cells = len(own["planes"]) * len(own["radii"]) * own["points"] ** 2
    return Work("arrays", plain=4.0 * cells / 91809 * own["draws"] / 199, read=24.0 * cells, disk=50e3)


def states(s: Situation) -> Work:
    """One spectrum in one precision (exp3)."""
    passes, svd = jacobian(s)
    return Work("model", passes, svd=svd, evaluated=len(s.block("exp3")["powers"]), precision=s.dtype, disk=20e3)


def noise_everywhere(s: Situation) -> Work:
    """A forward for each kind and size of noise."""
    own = s.block("perturbation")
    scales = len(own["relative_powers"]) + len(own["absolute_powers"])
    forwards = len(s.graph.prompts) * (1 + len(own["lattice_powers"]) + len(own["kinds"]) * scales)
    return Work("model", (Pass(calls=forwards, tokens=s.tokens, logits=True),), evaluated=forwards,
                precision=s.dtype, plain=0.2, disk=200 * forwards)  # fmt: skip


def document(s: Situation) -> Work:
    """Windows of a document, in batches."""
    own = s.block("pdf")
    window = s.shape.context if own["window"] == "auto" else int(own["window"])
    window = min(window, 2048)
    size = s.graph.document(Names(s.job.wildcards))
    words = 0.3 * _size(size)  # tokens a byte of a small PDF
    stride = window / 2 if own["stride"] == "auto" else float(own["stride"])
    windows = max(1, math.ceil(words / stride))
    calls = math.ceil(windows / own["batch_size"])
    return Work("model", (Pass(calls=calls, rows=own["batch_size"], tokens=window, logits=True),), evaluated=words,
                precision=s.dtype, plain=0.5, disk=4 * words * s.shape.width / 4 + 100e3)  # fmt: skip


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.isfile(path) else 10_000
