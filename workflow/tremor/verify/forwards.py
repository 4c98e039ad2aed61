"""Checks of forwards: taps, resuming, the two modes, recordings, boundaries."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tremor import floats
from tremor.errors import ModelError
from tremor.models.anatomy import Anatomy
from tremor.models.anatomy_parts import BlockParts
from tremor.neurons.resume import Resume
from tremor.probe.base import to_array
from tremor.probe.boundary import Boundaries, find_boundaries
from tremor.probe.response import Response
from tremor.record.decode import Mode, check_decoder
from tremor.record.questions import Question
from tremor.record.recording import SCHEMA, TapPlan, record
from tremor.record.taps import choose
from tremor.store.hdf5_reader import Hdf5Reader
from tremor.verify.report import Measured
from tremor.verify.subject import Array, Subject, require, same_bits

TOKENS = 4  # recorded
RAYS = 16
_STREAM = ("embedding", "final_prenorm", "final")


def _names(anatomy: Anatomy) -> list[str]:
    """All taps but those inside experts, which only some tokens reach."""
    inside = {id(m) for part in anatomy.block_parts if part.experts is not None for m in part.experts.modules()}
    return [name for name, point in anatomy.taps.items() if id(point.module) not in inside]


@torch.no_grad()
def taps(subject: Subject) -> Measured:
    """All taps fire; summands add up; embeddings, norms and head lead from ids to the model's own logits."""
    anatomy, ids = subject.loaded.anatomy, subject.ids
    plain = anatomy.model(input_ids=ids, use_cache=False).logits
    names = _names(anatomy)
    with anatomy.record(names) as seen:
        hooked = anatomy.model(input_ids=ids, use_cache=False).logits
    require(same_bits(plain, hooked), "the logits are others while taps are recorded")
    from_embeds = anatomy.model(inputs_embeds=anatomy.embed(ids), use_cache=False).logits
    require(same_bits(plain, from_embeds), "the embeddings of the ids give other logits than the ids")
    require(same_bits(anatomy.embed(ids), seen["embedding"]), "the tap 'embedding' is not the embedding")
    end = anatomy.normalise(seen["final_prenorm"])
    require(same_bits(end, seen["final"]), "the modules after the blocks do not lead from 'final_prenorm' to 'final'")
    require(same_bits(anatomy.unembed(seen["final"]), plain), "the head does not lead from 'final' to the logits")
    sums = 0
    for part in anatomy.block_parts:
        sums += _adds_up(part, seen, anatomy.n_layers)
    detail = f"{len(names)} taps; the stream is the sum of its branches in {sums} of {anatomy.n_layers} blocks"
    return Measured(detail, {"taps": len(names), "sums": sums})


def _adds_up(part: BlockParts, seen: Mapping[str, Tensor], layers: int) -> bool:
    """Whether a block's output is the sum of its taps; False where norms or factors stand between (OPT-350m)."""
    k = part.index
    start = seen[f"residual.{k}"]
    end = seen["final_prenorm" if k + 1 == layers else f"residual.{k + 1}"]
    branches = {name: seen.get(f"block.{k}.{name}") for name in ("mixer", "mid", "mlp")}
    mixer, mid, mlp = branches["mixer"], branches["mid"], branches["mlp"]
    assert mixer is not None
    if mid is not None:
        # RWKV's first block norms the stream itself before anything else.
        bases = [start, *(seen[f"block.{k}.{name}"] for name in part.norms)]
        require(any(same_bits(mid, base + mixer) for base in bases), f"block {k}: 'mid' is not stream plus 'mixer'")
        if mlp is None or "residual" in part.roles.values():
            return False
        total = (mid + mlp) * part.scale
        # RWKV's container halves the stream behind some blocks.
        require(same_bits(total, end) or same_bits(total / 2, end), f"block {k}: 'mid' and 'mlp' are not its output")
        return True
    total = start + mixer if mlp is None else start + mixer + mlp
    # Three summands are added in an order that differs by family: two roundings of the largest.
    bound = 4 * torch.finfo(end.dtype).eps * float(max(start.abs().max(), mixer.abs().max(), end.abs().max()))
    require(float((total - end).abs().max()) <= bound, f"block {k}: the branches do not add up to its output")
    return True


def resume(subject: Subject) -> Measured:
    """Resume behind every block, and compare bits."""
    recorded = Resume(subject.loaded.anatomy, subject.ids)
    recorded.check()
    return Measured(f"equal bits behind {len(recorded.states)} blocks")


@torch.no_grad()
def reference(subject: Subject) -> Measured:
    """The A/A control, and the plain forward from ids."""
    response = Response(subject.loaded, subject.base, mode="reference")
    plain = subject.loaded.anatomy.base(input_ids=subject.ids, use_cache=False).last_hidden_state[0, -1]
    require(to_array(plain).tobytes() == response.h0.tobytes(), "the answer has other bits than the plain forward")
    return Measured(f"exact in {response.control.runs} runs")


def _inputs(subject: Subject, count: int) -> Array:
    """Inputs [count, d] around the base point, a tenth of each coordinate away, on its lattice."""
    noise = np.random.default_rng(0).normal(size=(count, len(subject.base.x)))
    return floats.round_to(subject.base.x.astype(np.float64) * (1 + 0.1 * noise), subject.base.fmt)


def batched(subject: Subject) -> Measured:
    """The A/A control decides the batch; the answers are those of reference mode up to rounding."""
    inputs = _inputs(subject, 3)
    full = Response(subject.loaded, subject.base, mode="reference").evaluate(inputs)
    response = Response(subject.loaded, subject.base, mode="batched", repeats=3)
    distance = subject.close(response.evaluate(inputs), full, "the answers of the two modes")
    detail = f"exact with {response.batch_size} rows; {distance:.1g} from reference mode"
    return Measured(detail, {"batch_size": response.batch_size, "distance": distance})


def _decode_mode(subject: Subject) -> Mode:
    """Cached where the model has a cache that can be continued."""
    try:
        check_decoder(subject.loaded, [subject.base.ids], "cached")
    except ModelError:
        return "uncached"
    return "cached"


def recording(subject: Subject) -> Measured:
    """Record some tokens twice; compare all bits, and the first and last rows with plain forwards."""
    loaded, mode = subject.loaded, _decode_mode(subject)
    plan = TapPlan(choose(loaded, "stages", subject.base.ids, mode), ["final"], None)
    question = Question(1, "verification", "factual", subject.text)
    attributes = {"model": "verification", "decode": mode, "dtype": subject.base.fmt, "schema": SCHEMA}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("a.h5", "b.h5")]
        for path in paths:
            record(
                loaded, [question], [subject.base.ids], [plan],
                paths=[path], mode=mode, tokens=TOKENS, rows=1, attributes=attributes, provenance={},
            )  # fmt: skip
        first, second = (dict(_datasets(path)) for path in paths)
    for name in first:
        require(
            first[name].tobytes() == second[name].tobytes(), f"'{name}' was recorded with other bits the second time"
        )
    ids = first["generated_ids"]
    for step in sorted({0, len(ids) - 1}):
        _compare_row(subject, first, step)
    detail = f"{len(ids)} tokens {mode}, {len(plan.taps)} taps, equal bits twice"
    return Measured(detail, {"tokens": len(ids), "taps": len(plan.taps)})


def _datasets(path: Path) -> Iterator[tuple[str, Array]]:
    with Hdf5Reader(path) as file:
        for name in file.names:
            yield name, np.asarray(file.read(name))


@torch.no_grad()
def _compare_row(subject: Subject, recorded: Mapping[str, Array], step: int) -> None:
    """Hold one row to a forward over the whole sequence without a cache."""
    loaded, ids = subject.loaded, recorded["generated_ids"]
    sequence = np.concatenate([subject.base.ids, ids[:step]])
    with loaded.anatomy.record(["final"]) as seen:
        given = torch.from_numpy(sequence)[None].to(loaded.device)
        logits = to_array(loaded.model(input_ids=given, use_cache=False).logits[0, -1])
    subject.close(recorded["states/final"][step], to_array(seen["final"][0, -1]), f"states of token {step}")
    top = recorded["top_ids"][step]
    subject.close(recorded["top_logits"][step], logits[top], f"logits of token {step}")
    margin = float(logits.max() - logits[ids[step]])
    require(margin <= subject.rounding * float(np.abs(logits).max()), f"token {step} is not the leading one")


def _boundary_response(subject: Subject) -> Response:
    try:
        return Response(subject.loaded, subject.base, mode="batched")
    except ModelError:  # no cache to freeze
        return Response(subject.loaded, subject.base, mode="reference")


def directions(subject: Subject) -> Array:
    """Random unit vectors [RAYS, d] float32."""
    drawn = np.random.default_rng(1).normal(size=(RAYS, len(subject.base.x)))
    unit: Array = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit


def boundaries(subject: Subject) -> tuple[Response, Boundaries]:
    """The boundaries of 16 random rays, looked for up to the length of the embedding."""
    response = _boundary_response(subject)
    reach = float(np.linalg.norm(subject.base.x.astype(np.float64)))
    return response, find_boundaries(response, directions(subject), s_max=reach, arithmetic="float64")


def boundary(subject: Subject) -> Measured:
    """Search, and ask again just before and at each boundary, inputs formed anew."""
    response, found = boundaries(subject)
    rays = directions(subject)

    def at(steps: Any) -> Any:
        x = subject.base.x
        inputs = np.stack(
            [
                floats.nudge(x, d, s, arithmetic="float64", fmt=subject.base.fmt)
                for d, s in zip(rays, steps, strict=True)
            ]
        )
        return response.changed(inputs)[0]

    require(not at(found.max_s).any(), "the answer has changed before a boundary")
    crossed = ~found.censored
    require(
        bool(at(np.where(crossed, found.min_t, found.max_s))[crossed].all()), "the answer is unchanged at a boundary"
    )
    certified, unchanged = int(found.certified.sum()), int(found.censored.sum())
    detail = f"{certified} of {RAYS} certified, {unchanged} without a change ({response.mode} mode)"
    return Measured(detail, {"certified": certified, "censored": unchanged})
