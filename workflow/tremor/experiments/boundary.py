"""exp12 and exp13: stability boundaries around a prompt, in a plane and along every singular vector."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor import floats
from tremor.errors import ConfigError
from tremor.experiments.nudges import attributes, open_base, respond
from tremor.experiments.session import Session
from tremor.floats import Arithmetic
from tremor.probe.base import BasePoint
from tremor.probe.boundary import Boundaries, find_boundaries
from tremor.probe.response import Response
from tremor.statistics.boundary import angle_statistics, vector_statistics
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.tables import write_csv

Array = npt.NDArray[Any]
log = logging.getLogger(__name__)

# The columns of boundary.csv after the ones that name the ray: a stable interface, documented in docs/exp12.md.
COLUMNS = (
    "max_s", "min_t", "first_breakpoint", "moved_coordinates", "realised_l2", "evaluations", "certified",
)  # fmt: skip


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


def _attributes(
    response: Response, base: BasePoint, found: Boundaries, arithmetic: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        **attributes(response, base, arithmetic),
        "s_max": float(settings["s_max"]),
        "threshold": float(settings["threshold"]),
        "method": settings["method"],
        "model_rows": found.model_rows,
    }


def measure_angles(
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
    """exp12: the boundary in the plane of two right singular vectors, angle by angle.

    Args:
        session: The loaded model.
        prompt: ``text`` and ``bos``.
        arithmetic: How the nudge is added.
        probe: Config block ``probe``.
        settings: Config block ``exp12``.
        spectrum: The spectrum artifact of this model, prompt and dtype.
        data: HDF5 file to write.
        table: CSV file to write.
        statistics: JSON file to write.
        provenance: Config, code and input digests.
    """
    base, source = open_base(session, prompt, spectrum)
    right = source.array("right")
    plane = (int(settings["plane"][0]), int(settings["plane"][1]))
    theta, directions = plane_directions(right, plane, int(settings["angles"]))
    response, found = _search(session, base, directions, arithmetic, probe, settings)
    values = asdict(found)
    del values["model_rows"]
    datasets = {
        "theta": theta,
        "direction": directions,
        **values,
        "ids": base.ids,
        "x0": base.x,
        "h0": response.h0,
        "singular_values": source.array("singular_values"),
        "e1": right[plane[0] - 1],
        "e2": right[plane[1] - 1],
    }
    facts = {**_attributes(response, base, found, arithmetic, settings), "plane": list(plane)}
    origin = session.provenance(**provenance)
    write_hdf5(data, datasets, attributes=facts, provenance=origin)
    frame = pd.DataFrame({"theta": theta, **{name: values[name] for name in COLUMNS}})
    write_csv(table, frame, provenance=origin)
    write_json(statistics, {**angle_statistics(theta, values), **facts}, provenance=origin)


def measure_vectors(
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
    """exp13: the boundary along every right singular vector, both signs, and along random directions.

    Args are those of :func:`measure_angles`, with the config block ``exp13``.
    """
    base, source = open_base(session, prompt, spectrum)
    rays = vector_directions(source.array("right"), source.array("singular_values"), settings)
    if "jacobian" in source.datasets:  # a random direction's own gain stands where a vector has its sigma
        gain = np.linalg.norm(rays["direction"].astype(np.float64) @ source.array("jacobian").T, axis=1)
        rays["sigma"] = np.where(np.isnan(rays["sigma"]), gain, rays["sigma"])
    response, found = _search(session, base, rays["direction"], arithmetic, probe, settings)
    values = asdict(found)
    del values["model_rows"]
    datasets = {
        **rays,
        **values,
        "ids": base.ids,
        "x0": base.x,
        "h0": response.h0,
        "singular_values": source.array("singular_values"),
    }
    facts = _attributes(response, base, found, arithmetic, settings)
    origin = session.provenance(seeds={"random_directions": int(settings["seed"])}, **provenance)
    write_hdf5(data, datasets, attributes=facts, provenance=origin)
    names = ("kind", "vector", "sign", "sigma")
    frame = pd.DataFrame({**{name: rays[name] for name in names}, **{name: values[name] for name in COLUMNS}})
    write_csv(table, frame, provenance=origin)
    write_json(statistics, {**vector_statistics({**rays, **values}), **facts}, provenance=origin)
