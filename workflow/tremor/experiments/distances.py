"""exp15: at each stored boundary, check the claim again and measure how far input and output move."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor import floats
from tremor.errors import NumericsError
from tremor.experiments.ancestors import require_ancestor
from tremor.experiments.nudges import smooth_map
from tremor.experiments.session import Session
from tremor.probe.base import base_point
from tremor.probe.noise import noise_floor
from tremor.probe.response import Response
from tremor.statistics.boundary import distance_summary
from tremor.store.documents import write_json
from tremor.store.hdf5 import Hdf5Artifact, read_hdf5
from tremor.store.tables import write_csv

Array = npt.NDArray[Any]
RAY_COLUMNS = {"angles": ("theta",), "vectors": ("kind", "vector", "sign", "sigma")}
ANCESTOR = {"angles": "exp12", "vectors": "exp13"}


def measure(
    session: Session,
    prompt: Mapping[str, Any],
    *,
    variant: str,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
    boundary: Path,
    spectrum: Path,
    table: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Re-evaluate the model at max_s and min_t of every ray and write the distances.

    Args:
        session: The loaded model, on the platform of the ancestor.
        prompt: ``text`` and ``bos``.
        variant: ``angles`` (boundaries of exp12) or ``vectors`` (of exp13).
        probe: Config block ``probe``; its mode must be the ancestor's.
        settings: Config block ``exp15``.
        boundary: The ancestor with the stored directions.
        spectrum: The spectrum artifact, for the smooth prediction.
        table: CSV file to write.
        statistics: JSON file to write.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: the ancestor was made under other conditions.
        NumericsError: at some max_s the answer changes, or at some min_t it does not.
    """
    base = base_point(session.loaded, prompt["text"], bos=prompt["bos"])
    source = read_hdf5(boundary)
    rule = ANCESTOR[variant]
    require_ancestor(source, boundary, session, base, rule=f"{rule}_measure", mode=probe["mode"], dtype=base.fmt)
    smooth = read_hdf5(spectrum)
    require_ancestor(smooth, spectrum, session, base, rule="spectrum_measure")
    response = Response(
        session.loaded,
        base,
        mode=probe["mode"],
        batch_size=int(source.attributes["batch_size"]),  # the shape is part of the function that was measured
        max_memory=float("inf"),
        repeats=probe["aa_repeats"],
    )
    product = smooth_map(session, base, smooth)
    seed = int(settings["noise_seed"])
    floor = noise_floor(response, product, samples=int(settings["noise_samples"]), seed=seed)
    values = _distances(response, source, product)
    values["noise_floor_l2"] = np.full(len(values["violations"]), floor.median_l2)
    _require_no_violation(values["violations"], boundary)
    names = RAY_COLUMNS[variant]
    frame = pd.DataFrame({**{n: source.array(n) for n in names}, **{n: values[n] for n in _TABLE}})
    origin = session.provenance(seeds={"noise_floor": seed}, **provenance)
    write_csv(table, frame, provenance=origin)
    summary = {
        **distance_summary(values),
        "mode": response.mode,
        "dtype": base.fmt,
        "device": session.fingerprint["applied"]["device"],
        "arithmetic": source.attributes["arithmetic"],
        "noise_floor_low_l2": floor.low_l2,
        "noise_floor_high_l2": floor.high_l2,
        "noise_floor_samples": floor.samples,
        "noise_floor_changed": floor.changed,
    }
    write_json(statistics, summary, provenance=origin)


_TABLE = (
    "max_s", "min_t", "embedding_l2", "hidden_l2", "smooth_prediction_l2", "noise_floor_l2",
    "embedding_ulps", "hidden_ulps_max", "hidden_changed_coordinates", "censored",
)  # fmt: skip


def _distances(response: Response, source: Hdf5Artifact, product: Callable[[Array], Array]) -> dict[str, Array]:
    base, fmt = response.base, response.base.fmt
    arithmetic = source.attributes["arithmetic"]
    direction, max_s, min_t = (source.array(n) for n in ("direction", "max_s", "min_t"))
    censored = source.array("censored")
    threshold = float(source.attributes["threshold"])
    below = floats.nudge(base.x, direction, max_s[:, None], arithmetic=arithmetic, fmt=fmt)
    # A censored ray has no min_t: it is looked at where its search ended.
    crossing = np.where(censored, max_s, min_t)
    above = floats.nudge(base.x, direction, crossing[:, None], arithmetic=arithmetic, fmt=fmt)
    changed_below, _ = response.changed(below, threshold=threshold)
    changed_above, hidden = response.changed(above, threshold=threshold)
    step = above.astype(np.float64) - base.x.astype(np.float64)
    moved = hidden.astype(np.float64) - response.h0.astype(np.float64)
    ulps = floats.ulp_distance(hidden, np.broadcast_to(response.h0, hidden.shape), response.output_format)
    return {
        "max_s": max_s,
        "min_t": min_t,
        "embedding_l2": np.linalg.norm(step, axis=1),
        "hidden_l2": np.linalg.norm(moved, axis=1),
        "smooth_prediction_l2": np.linalg.norm(product(step), axis=1),
        "embedding_ulps": floats.realised_step(base.x, above, direction, fmt).ulps,
        "hidden_ulps_max": ulps.max(axis=1),
        # By their bits, as the boundary is: a zero that changed its sign is a change without length.
        "hidden_changed_coordinates": np.sum(
            floats.bits(hidden, response.output_format) != floats.bits(response.h0, response.output_format), axis=1
        ),
        "censored": censored,
        "certified": source.array("certified"),
        "violations": changed_below | (changed_above == censored),
    }


def _require_no_violation(violations: Array, path: Path) -> None:
    wrong = np.flatnonzero(violations)
    if wrong.size:
        raise NumericsError(
            f"{wrong.size} of {len(violations)} boundaries of {path} do not hold when evaluated again (first rays: "
            f"{', '.join(map(str, wrong[:5]))}): the platform is not the same, or not deterministic; run "
            "`tremor doctor`, then make the boundaries again"
        )
