"""exp12 and exp13: stability boundaries around a prompt, in a plane and along every singular vector."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor import floats
from tremor.errors import ConfigError
from tremor.experiments.boundary_results import WRITERS
from tremor.experiments.nudges import attributes, open_base, respond
from tremor.experiments.session import Session
from tremor.floats import Arithmetic
from tremor.probe.base import BasePoint
from tremor.probe.boundary import Boundaries, find_boundaries
from tremor.probe.response import Response
from tremor.shards import WHOLE, Shard
from tremor.store.shards import Part, with_cost

Array = npt.NDArray[Any]
log = logging.getLogger(__name__)


def plane_directions(right: Array, plane: tuple[int, int], angles: int) -> tuple[Array, Array]:
    """Directions cos(theta) e1 + sin(theta) e2, formed in float64 and rounded once to float32.

    Args:
        right: [k, d] right singular vectors, float32.
        plane: Ranks of e1 and e2, from 1.
        angles: Number of angles, evenly spaced over the circle, the first 0.

    Returns:
        theta [n] float64 radians and directions [n, d] float32.

    Raises:
        ConfigError: the spectrum holds fewer vectors than the plane needs.
    """
    if max(plane) > len(right):
        raise ConfigError(
            f"exp12.plane asks for singular vector {max(plane)}, but the spectrum has {len(right)}; lower it"
        )
    theta = np.linspace(0.0, 2 * np.pi, angles, endpoint=False)
    e1, e2 = (right[rank - 1].astype(np.float64) for rank in plane)
    return theta, (np.cos(theta)[:, None] * e1 + np.sin(theta)[:, None] * e2).astype(np.float32)


def vector_directions(right: Array, singular_values: Array, settings: Mapping[str, Any]) -> dict[str, Array]:
    """The rays of exp13: +v (and -v) of each singular vector, and random unit directions as a control.

    Returns:
        direction [n, d] float32, and for each ray its kind ("singular" or "random"), vector (index from 0, or
        number of the draw), sign (+1 or -1), sigma (NaN for random rays; the caller knows the Jacobian).

    Raises:
        ConfigError: more vectors are asked for than the spectrum has.
    """
    wanted = settings["vectors"]
    if wanted != "all" and int(wanted) > len(right):
        raise ConfigError(f"exp13.vectors is {wanted}, but the spectrum has {len(right)}; lower it or use all")
    count = len(right) if wanted == "all" else int(wanted)
    signs = (1, -1) if settings["signs"] == "both" else (1,)
    draws = settings["random_directions"]
    draws = count if draws == "match" else int(draws)
    # Drawn on the CPU in float64 and rounded once, so that every device has the same directions.
    random = np.random.default_rng(settings["seed"]).normal(size=(draws, right.shape[1]))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    singular = np.concatenate([sign * right[:count] for sign in signs])
    return {
        "direction": np.concatenate([singular, random]).astype(np.float32),
        "kind": np.array(["singular"] * len(singular) + ["random"] * draws),
        "vector": np.concatenate([np.tile(np.arange(count), len(signs)), np.arange(draws)]),
        "sign": np.concatenate([np.repeat(signs, count), np.ones(draws, dtype=int)]),
        "sigma": np.concatenate([np.tile(singular_values[:count], len(signs)), np.full(draws, np.nan)]),
    }


def _search(
    session: Session,
    base: BasePoint,
    directions: Array,
    arithmetic: Arithmetic,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> tuple[Response, Boundaries]:
    response = respond(session.loaded, base, ("final",), probe=probe, max_memory=session.max_memory)
    found = find_boundaries(
        response,
        directions,
        s_max=settings["s_max"],
        arithmetic=arithmetic,
        threshold=settings["threshold"],
        method=settings["method"],
        max_evaluations=settings["max_evaluations"],
        tolerance=settings["tolerance"],
    )
    if found.censored.any():
        log.warning(
            "%d of %d rays changed nothing up to s_max = %g: they are censored, not boundaries; raise s_max "
            "(a typical ulp of this %s input is %.2g)",
            int(found.censored.sum()),
            len(directions),
            settings["s_max"],
            base.fmt,
            float(np.median(floats.ulp(base.x, base.fmt))),
        )
    return response, found


def _part(
    session: Session,
    base: BasePoint,
    rays: Mapping[str, Array],
    arithmetic: Arithmetic,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
    shard: Shard,
    *,
    key: str,
    common: Mapping[str, Array],
    facts: Mapping[str, Any] | None = None,
    seeds: Mapping[str, int] | None = None,
) -> Part:
    """Boundaries along a shard's share of all rays, of which ``direction`` is searched."""
    total = len(rays["direction"])
    rows = shard.rows(total, key=key)
    own = {name: value[rows.start : rows.stop] for name, value in rays.items()}
    response, found = _search(session, base, own["direction"], arithmetic, probe, settings)
    values = asdict(found)
    cost = {"model_rows": int(values.pop("model_rows"))}
    shared = {**common, "ids": base.ids, "x0": base.x, "h0": response.h0}
    measured = {
        **attributes(response, base, arithmetic),
        "s_max": float(settings["s_max"]),
        "threshold": float(settings["threshold"]),
        "method": settings["method"],
        **(facts or {}),
    }
    return Part(rows, total, items={**own, **values}, common=shared, facts=measured, seeds=seeds or {}, cost=cost)


def angles_part(
    session: Session,
    prompt: Mapping[str, Any],
    *,
    arithmetic: Arithmetic,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
    spectrum: Path,
    shard: Shard = WHOLE,
) -> Part:
    """exp12: the boundary in the plane of two right singular vectors, along a shard's share of the angles.

    Args:
        session: The loaded model.
        prompt: ``text`` and ``bos``.
        arithmetic: How the nudge is added.
        probe: Config block ``probe``.
        settings: Config block ``exp12``.
        spectrum: The spectrum artifact of this model, prompt and dtype.
        shard: Which rays; all of them unless told otherwise.
    """
    base, source = open_base(session, prompt, spectrum)
    right = source.array("right")
    plane = (int(settings["plane"][0]), int(settings["plane"][1]))
    theta, directions = plane_directions(right, plane, int(settings["angles"]))
    common = {
        "singular_values": source.array("singular_values"),
        "e1": right[plane[0] - 1],
        "e2": right[plane[1] - 1],
    }
    rays = {"theta": theta, "direction": directions}
    facts = {"plane": list(plane)}
    return _part(
        session, base, rays, arithmetic, probe, settings, shard, key="shards.exp12", common=common, facts=facts
    )


def vectors_part(
    session: Session,
    prompt: Mapping[str, Any],
    *,
    arithmetic: Arithmetic,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
    spectrum: Path,
    shard: Shard = WHOLE,
) -> Part:
    """exp13: the boundary along every right singular vector, both signs, and along random directions.

    Args are those of :func:`angles_part`, with the config block ``exp13``.
    """
    base, source = open_base(session, prompt, spectrum)
    rays = vector_directions(source.array("right"), source.array("singular_values"), settings)
    if "jacobian" in source.datasets:  # a random direction's own gain stands where a vector has its sigma
        gain = np.linalg.norm(rays["direction"].astype(np.float64) @ source.array("jacobian").T, axis=1)
        rays["sigma"] = np.where(np.isnan(rays["sigma"]), gain, rays["sigma"])
    common = {"singular_values": source.array("singular_values")}
    seeds = {"random_directions": int(settings["seed"])}
    return _part(
        session, base, rays, arithmetic, probe, settings, shard, key="shards.exp13", common=common, seeds=seeds
    )


FIND = {"exp12": angles_part, "exp13": vectors_part}


def measure(
    experiment: str,
    session: Session,
    prompt: Mapping[str, Any],
    *,
    arithmetic: Arithmetic,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
    spectrum: Path,
    data: Path,
    table: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """An experiment in one job.

    Args:
        experiment: ``exp12`` (angles in a plane) or ``exp13`` (singular vectors and random directions).
        session: The loaded model.
        prompt: ``text`` and ``bos``.
        arithmetic: How the nudge is added.
        probe: Config block ``probe``.
        settings: Config block of the experiment.
        spectrum: The spectrum artifact of this model, prompt and dtype.
        data: HDF5 file to write.
        table: CSV file to write.
        statistics: JSON file to write.
        provenance: Config, code and input digests.
    """
    found = FIND[experiment](session, prompt, arithmetic=arithmetic, probe=probe, settings=settings, spectrum=spectrum)
    origin = with_cost(session.provenance(seeds=found.seeds, **provenance), found)
    WRITERS[experiment](found, data=data, table=table, statistics=statistics, provenance=origin)
