"""exp7: maps of the gap of the tied tokens over planes around a tie, at several zoom levels."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor.errors import ConfigError
from tremor.experiments.session import Session
from tremor.experiments.ties import OpenTie, open_tie, tie_directions
from tremor.floats import Arithmetic
from tremor.probe.flips import symmetric_steps
from tremor.probe.plane import gap_map
from tremor.store.hdf5 import read_hdf5, write_hdf5

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
) -> None:
    """exp7 part 1: maps of every plane at every radius.

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
    """
    opened = open_tie(session, prompt, tie, probe)
    axes = [symmetric_steps(float(radius), int(settings["points"])) for radius in settings["radii"]]
    levels = [(axis, axis) for axis in axes]
    _write(session, opened, levels, arithmetic, settings, spectrum, data, provenance, radii=settings["radii"])


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
) -> None:
    """exp7 part 2: one window of every plane, on a grid of its own.

    Args are those of :func:`measure_planes`, with ``planes``, ``zoom_window`` and ``zoom_points`` of the settings.
    """
    opened = open_tie(session, prompt, tie, probe)
    ends = [sorted(float(end) for end in pair) for pair in settings["zoom_window"]]
    count = int(settings["zoom_points"])
    # On the float32 lattice of steps, as all nominal steps are.
    first, second = (np.linspace(low, high, count).astype(np.float32).astype(np.float64) for low, high in ends)
    radius = max(abs(end) for pair in ends for end in pair)
    _write(session, opened, [(first, second)], arithmetic, settings, spectrum, data, provenance, radii=[radius])


def _write(
    session: Session,
    opened: OpenTie,
    levels: Sequence[tuple[Array, Array]],
    arithmetic: Arithmetic,
    settings: Mapping[str, Any],
    spectrum: Path,
    data: Path,
    provenance: Mapping[str, Any],
    *,
    radii: Sequence[float],
) -> None:
    available = len(read_hdf5(spectrum, names=("singular_values",)).array("singular_values"))
    right, sigma, source = tie_directions(session, opened, spectrum, available)
    ranks = plane_ranks(settings["planes"], available, complete=source.attributes["method"] == "dense")
    maps: dict[str, list[Array]] = {}
    for plane in ranks:
        for e1, e2 in levels:
            found = gap_map(opened.readout, right[plane - 1], e1, e2, opened.pair, arithmetic=arithmetic)
            for name, value in {**asdict(found), "e1": e1, "e2": e2}.items():
                maps.setdefault(name, []).append(value)
    shape = (len(ranks), len(levels))
    datasets = {
        **{name: np.array(values).reshape(*shape, *values[0].shape) for name, values in maps.items()},
        "ids": opened.base.ids,
        "x0": opened.base.x,
        "h0": opened.readout.response.h0,
        "ranks": ranks,
        "directions": right[ranks - 1],
        "sigma": sigma[ranks - 1],
        "radii": np.array(radii, dtype=np.float64),
    }
    names = ("first_token", "second_token", "first_text", "second_text", "method", "prompt")
    response = opened.readout.response
    attributes = {
        **{name: opened.artifact.attributes[name] for name in names},
        "tokens": sorted({int(token) for token in np.unique(datasets["token"])}),
        "arithmetic": arithmetic,
        "mode": response.mode,
        "batch_size": response.batch_size,
        "logit_rows": opened.readout.rows,
        "dtype": opened.base.fmt,
        "device": session.fingerprint["applied"]["device"],
    }
    write_hdf5(data, datasets, attributes=attributes, provenance=session.provenance(**provenance))
