"""exp7: maps of the gap of the tied tokens over planes around a tie, at several zoom levels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor.errors import ConfigError
from tremor.experiments.plane_results import KEY, write_planes
from tremor.experiments.session import Session
from tremor.experiments.ties import OpenTie, open_tie, tie_directions
from tremor.floats import Arithmetic
from tremor.probe.flips import symmetric_steps
from tremor.probe.plane import gap_tile
from tremor.progress import track
from tremor.shards import WHOLE, Shard
from tremor.store.hdf5 import read_hdf5
from tremor.store.shards import Part, write_part

Array = npt.NDArray[Any]


def plane_ranks(planes: Sequence[Sequence[Any]], available: int, *, complete: bool) -> npt.NDArray[np.int64]:
    """Ranks [p, 2] from 1 of the vectors of each plane, ``last`` resolved.

    Args:
        planes: As in the config.
        available: Vectors in the spectrum.
        complete: Whether these are all.

    Raises:
        ConfigError: a rank is not there, or one vector stands twice in a plane.
    """
    ranks = np.array([[available if rank == "last" else int(rank) for rank in plane] for plane in planes])
    if ranks.max() > available:
        raise ConfigError(
            f"exp7.planes asks for singular vector {ranks.max()}, but the spectrum has {available}; lower it"
        )
    if not complete and any("last" in plane for plane in planes):
        raise ConfigError("exp7.planes: last is known to a dense spectrum only; set spectrum.method: dense")
    if (ranks[:, 0] == ranks[:, 1]).any():
        raise ConfigError(f"exp7.planes names one singular vector twice in a plane (of {available}); change it")
    return ranks


def measure_planes(
    session: Session,
    prompt: Mapping[str, Any],
    *,
    arithmetic: Arithmetic,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
    tie: Path,
    spectrum: Path,
    data: Path,
    provenance: Mapping[str, Any],
    shard: Shard | None = None,
) -> None:
    """exp7 part 1: maps of every plane at every radius, or a shard's share of their rows.

    Args:
        session: The loaded model, on the platform of the tie.
        prompt: ``text`` and ``bos``.
        arithmetic: How the steps are added.
        probe: Config block ``probe``.
        settings: ``planes``, ``radii`` and ``points`` of the config block ``exp7``.
        tie: The tie artifact.
        spectrum: The spectrum at the tie.
        data: HDF5 file to write.
        provenance: Config, code and input digests.
        shard: Which rows of the maps, for :func:`tremor.store.shards.gather`; all of them, and the maps, by default.
    """
    opened = open_tie(session, prompt, tie, probe)
    axes = np.array([symmetric_steps(float(radius), int(settings["points"])) for radius in settings["radii"]])
    found = _part(session, opened, axes, axes, arithmetic, settings, spectrum, shard or WHOLE, radii=settings["radii"])
    _write(found, shard, data, session.provenance(**provenance))


def measure_zoom(
    session: Session,
    prompt: Mapping[str, Any],
    *,
    arithmetic: Arithmetic,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
    tie: Path,
    spectrum: Path,
    data: Path,
    provenance: Mapping[str, Any],
    shard: Shard | None = None,
) -> None:
    """exp7 part 2: one window of every plane, on a grid of its own, or a shard's share of its rows.

    Args are those of :func:`measure_planes`, with ``planes``, ``zoom_window`` and ``zoom_points`` of the settings.
    """
    opened = open_tie(session, prompt, tie, probe)
    ends = [sorted(float(end) for end in pair) for pair in settings["zoom_window"]]
    count = int(settings["zoom_points"])
    # On the float32 lattice of steps, as all nominal steps are.
    first, second = (np.linspace(low, high, count).astype(np.float32).astype(np.float64) for low, high in ends)
    radius = max(abs(end) for pair in ends for end in pair)
    axes = first[None], second[None]
    found = _part(session, opened, *axes, arithmetic, settings, spectrum, shard or WHOLE, radii=[radius], zoom=True)
    _write(found, shard, data, session.provenance(**provenance))


def _write(found: Part, shard: Shard | None, data: Path, origin: Mapping[str, Any]) -> None:
    if shard is None:
        write_planes(found, data=data, provenance=origin)
    else:
        write_part(data, found, provenance=origin)


def _part(
    session: Session,
    opened: OpenTie,
    first: Array,
    second: Array,
    arithmetic: Arithmetic,
    settings: Mapping[str, Any],
    spectrum: Path,
    shard: Shard,
    *,
    radii: Sequence[float],
    zoom: bool = False,
) -> Part:
    """A shard's share of the rows of all maps, plane by plane, level by level; axes [levels, n1] and [levels, n2]."""
    available = len(read_hdf5(spectrum, names=("singular_values",)).array("singular_values"))
    right, sigma, source = tie_directions(session, opened, spectrum, available)
    ranks = plane_ranks(settings["planes"], available, complete=source.attributes["method"] == "dense")
    levels, height = first.shape
    total = len(ranks) * levels * height
    rows = shard.rows(total, key="shards.exp7_zoom" if zoom else "shards.exp7")
    tiles: dict[str, list[Array]] = {}
    for number in track(range(rows.start // height, -(-rows.stop // height)), "tiles of planes"):
        plane, level = ranks[number // levels], number % levels
        own = slice(max(rows.start - number * height, 0), min(rows.stop - number * height, height))
        values, keys = gap_tile(
            opened.readout, right[plane - 1], first[level, own], second[level], opened.pair, arithmetic=arithmetic
        )
        for name, value in {**values, KEY: keys}.items():
            tiles.setdefault(name, []).append(value)
    common = {
        "ids": opened.base.ids,
        "x0": opened.base.x,
        "h0": opened.readout.response.h0,
        "ranks": ranks,
        "directions": right[ranks - 1],
        "sigma": sigma[ranks - 1],
        "radii": np.array(radii, dtype=np.float64),
        "e1": np.tile(first, (len(ranks), 1, 1)),
        "e2": np.tile(second, (len(ranks), 1, 1)),
    }
    names = ("first_token", "second_token", "first_text", "second_text", "method", "prompt")
    response = opened.readout.response
    facts = {
        **{name: opened.artifact.attributes[name] for name in names},
        "arithmetic": arithmetic,
        "mode": response.mode,
        "batch_size": response.batch_size,
        "logit_rows": opened.readout.rows,
        "dtype": opened.base.fmt,
        "device": session.fingerprint["applied"]["device"],
    }
    items = {name: np.concatenate(values) for name, values in tiles.items()}
    return Part(rows, total, items=items, common=common, facts=facts)
