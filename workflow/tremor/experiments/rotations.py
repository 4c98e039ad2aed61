"""exp11: does it matter for what changes which way the direction is turned? Shifts, rotations, random turns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor import floats
from tremor.experiments import nudges
from tremor.experiments.session import Session
from tremor.floats import Arithmetic
from tremor.probe import walk as walking
from tremor.statistics.difference import difference
from tremor.statistics.walk import count_statistics, describe_direction, expected_changes
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.tables import write_csv

Array = npt.NDArray[Any]
SHIFTS = 64  # of the original: 4096 coordinates in strides of 64
TAPS = ("embedding", "first_block")


def turned(vector: Array, partner: Array, settings: Mapping[str, Any]) -> dict[str, Array]:
    """The directions: cyclic shifts of v, rotations of v in a plane, images of v under random rotations.

    A cyclic shift permutes coordinates; a rotation by theta in the plane of v and w gives cos(theta) v + sin(theta) w.
    Under a Haar-random rotation Q the image Q v is uniform on the sphere, so it is drawn as a normal vector of unit
    length: the d x d matrix is not needed.

    Args:
        vector: [d] float32, v.
        partner: [d] float32, orthogonal to v, w.
        settings: Config block ``exp11``.

    Returns:
        direction [n, d] float32, and for each its kind ("shift", "plane" or "random"), number within the kind, and
        parameter: the shift, the angle in degrees, or NaN.
    """
    width = len(vector)
    stride = settings["shift_stride"]
    stride = max(1, width // SHIFTS) if stride == "auto" else int(stride)
    shifts = np.arange(0, width, stride)
    theta = np.linspace(0.0, 2 * np.pi, int(settings["angles"]), endpoint=False)
    v, w = vector.astype(np.float64), partner.astype(np.float64)
    # Drawn on the CPU in float64 and rounded once, so that every device has the same directions.
    random = np.random.default_rng(settings["seed"]).normal(size=(int(settings["random_rotations"]), width))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    parts = {
        "shift": (np.array([np.roll(vector, n) for n in shifts]), shifts.astype(np.float64)),
        "plane": (np.cos(theta)[:, None] * v + np.sin(theta)[:, None] * w, np.degrees(theta)),
        "random": (random, np.full(len(random), np.nan)),
    }
    return {
        "direction": np.concatenate([rows for rows, _ in parts.values()]).astype(np.float32),
        "kind": np.concatenate([np.full(len(rows), kind) for kind, (rows, _) in parts.items()]),
        "number": np.concatenate([np.arange(len(rows)) for rows, _ in parts.values()]),
        "parameter": np.concatenate([parameter for _, parameter in parts.values()]),
    }


def measure(
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
    """Compare x + e1 d with x + e2 d for every turned direction d and every gap, at the input and behind one block.

    Args:
        session: The loaded model.
        prompt: ``text`` and ``bos``.
        arithmetic: How the nudge is added.
        probe: Config block ``probe``.
        settings: Config block ``exp11``.
        spectrum: The spectrum artifact of this model, prompt and dtype.
        data: HDF5 file: directions, and the indices that changed, flat with offsets.
        table: CSV file, one row for each jump and direction.
        statistics: JSON file to write.
        provenance: Config, code and input digests.
    """
    base, source = nudges.open_base(session, prompt, spectrum)
    right = source.array("right")
    rank = nudges.ranked(source, settings["vector"], key="exp11.vector")
    partner = nudges.ranked(source, settings["partner"], key="exp11.partner")
    rays = turned(right[rank], right[partner], settings)
    jumps = np.array(settings["jumps"])
    sizes = walking.grid(settings["start"], settings["step"], np.array([0, *jumps]))
    # One block is run, not the whole model; the input needs no model at all.
    behind = nudges.first_block(session.loaded.anatomy)
    response = nudges.respond(session.loaded, base, (behind,), probe=probe, max_memory=session.max_memory)
    # [rays, 1 + jumps, d], one ray after another
    inputs = floats.nudge(
        base.x, rays["direction"][:, None, :], sizes[None, :, None], arithmetic=arithmetic, fmt=base.fmt
    )
    walked, answers = walking.resume(response, inputs.reshape(-1, inputs.shape[-1]))
    index = walked.index.reshape(len(inputs), len(sizes))
    states = {"embedding": walked.inputs, "first_block": answers[behind]}
    found = [
        _changes(rays, states, index[:, 0], index[:, 1 + number], float(settings["threshold"]))
        for number in range(len(jumps))
    ]
    spacing = floats.ulp(base.x, base.fmt)
    expected = [expected_changes(spacing, rays["direction"], gap) for gap in sizes[1:] - sizes[0]]
    frame = pd.concat(
        [
            _table(rays, int(jump), sizes[[0, 1 + number]], found[number], expected[number])
            for number, jump in enumerate(jumps)
        ],
        ignore_index=True,
    )
    origin = session.provenance(seeds={"random_rotations": int(settings["seed"])}, **provenance)
    attributes = {
        **nudges.attributes(response, base, arithmetic),
        "first_block": behind,
        "width": max(len(base.x), answers[behind].shape[1]),
        "vector": rank + 1,
        "partner": partner + 1,
        "start": float(settings["start"]),
        "step": float(settings["step"]),
        "threshold": float(settings["threshold"]),
    }
    ragged = {tap: _ragged([each[tap]["which"] for each in found]) for tap in TAPS}
    indices = {f"{tap}/{name}": value for tap in TAPS for name, value in ragged[tap].items()}
    datasets = {"ids": base.ids, "x0": base.x, **rays, "jump": jumps, "epsilon": sizes, **indices}
    write_hdf5(data, datasets, attributes=attributes, provenance=origin)
    write_csv(table, frame, provenance=origin)
    document = {
        "directions": len(inputs),
        "jumps": {str(jump): _statistics(frame[frame["jump"] == jump]) for jump in jumps},
        "largest_jump": {"jump": int(jumps.max()), **_statistics(frame[frame["jump"] == jumps.max()])},
        "evaluated_inputs": len(walked.inputs),
        "model_rows": response.rows_evaluated,
        "direction": describe_direction(right[rank]),
        **attributes,
    }
    write_json(statistics, document, provenance=origin)


def _changes(
    rays: Mapping[str, Array], states: Mapping[str, Array], before: Array, after: Array, threshold: float
) -> dict[str, dict[str, Any]]:
    """For each tap: which coordinates change, as one array of indices for each direction, and how far."""
    found = {}
    for tap, values in states.items():
        a, b = values[before], values[after]
        metrics = difference(a, b, threshold=threshold)
        if threshold == 0:
            mask = walking.bit_patterns(a) != walking.bit_patterns(b)
        else:
            mask = np.abs(b.astype(np.float64) - a.astype(np.float64)) > threshold
        found[tap] = {"metrics": metrics, "which": [np.flatnonzero(row) for row in mask]}
    return found


def _table(
    rays: Mapping[str, Array], jump: int, sizes: Array, found: Mapping[str, Any], expected: Array
) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "jump": jump,
        "e1": float(sizes[0]),
        "e2": float(sizes[1]),
        **{name: rays[name] for name in ("kind", "number", "parameter")},
    }
    for tap in TAPS:
        metrics = found[tap]["metrics"]
        columns[f"{tap}_changed"] = metrics.num_changed
        columns[f"{tap}_l2"] = metrics.l2_distance
        columns[f"{tap}_max_diff"] = metrics.max_absolute_diff
    columns["embedding_expected"] = expected
    return pd.DataFrame(columns)


def _ragged(lists: list[list[Array]]) -> dict[str, Array]:
    """Index lists by jump and direction as one flat array: list [j, r] is flat[offsets[j, r] : offsets[j, r] + n]."""
    flat = [each for row in lists for each in row]
    counts = np.array([len(each) for each in flat], dtype=np.int64).reshape(len(lists), -1)
    offsets = np.concatenate([[0], np.cumsum(counts.ravel())[:-1]]).reshape(counts.shape)
    return {
        "indices": np.concatenate(flat).astype(np.int32) if flat else np.zeros(0, np.int32),
        "offsets": offsets,
        "counts": counts,
    }


def _statistics(rows: pd.DataFrame) -> dict[str, Any]:
    kind = rows["kind"].to_numpy()
    unknown = np.full(len(rows), np.nan)
    inside, behind, expected = (
        rows[name].to_numpy() for name in ("embedding_changed", "first_block_changed", "embedding_expected")
    )
    return {
        "embedding": count_statistics(kind, inside, expected),
        "first_block": count_statistics(kind, behind, unknown),
        "unmoved": int((rows["embedding_changed"] == 0).sum()),
        "moved_unanswered": int(((rows["embedding_changed"] > 0) & (rows["first_block_changed"] == 0)).sum()),
    }
