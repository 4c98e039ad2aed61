"""exp10, parts 3 to 5: how a chain of matrices, one real weight and an MLP answer to steps down to nothing.

A step is accounted for by what reached the map: of ``epsilon * d`` much is lost when the sum is rounded to the format
of the input, and below some size nothing is left of it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor import floats
from tremor.errors import ArtifactError, ConfigError, NumericsError
from tremor.experiments.session import Session
from tremor.probe import maps
from tremor.probe.base import BasePoint, base_point, to_array
from tremor.probe.local import DenseMap, StageOperator
from tremor.probe.maps import VectorMap
from tremor.probe.noise import lattice_neighbours
from tremor.probe.spectrum import Spectrum, lanczos_spectrum
from tremor.progress import track
from tremor.statistics.difference import difference
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.tables import read_csv, write_csv

Array = npt.NDArray[Any]
_DIRECTION = 1  # names the stream of random directions


def measure(
    session: Session,
    prompt: Mapping[str, Any],
    *,
    settings: Mapping[str, Any],
    matrices: Path,
    data: Path,
    sweep: Path,
    subjects: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Measure the sweeps at one prompt.

    Args:
        session: The loaded model.
        prompt: ``text`` and ``bos``.
        settings: Config block ``exp10``, its keys of the sweeps.
        matrices: Table matrices.csv of exp9, whose spectral norm of the weight is the reference.
        data: HDF5 file: inputs, directions, leading singular vectors.
        sweep: CSV file, one row for each subject, direction and step.
        subjects: CSV file, one row for each subject: the summary's rows.
        statistics: JSON file to write.
        provenance: Config, code and input digests.

    Raises:
        NumericsError: the same input twice does not give the same bits.
        ArtifactError: exp9 measured another matrix.
        ConfigError: no subject is left.
    """
    base = base_point(session.loaded, prompt["text"], bos=prompt["bos"])
    blocks = session.loaded.anatomy.n_layers
    if settings["block"] >= blocks:
        raise ConfigError(f"exp10.block is {settings['block']}, but the model has blocks 0 to {blocks - 1}; lower it")
    left_out = {}
    known = read_csv(matrices)
    tables, rows = [], []
    datasets: dict[str, Array] = {}
    for name in settings["subjects"]:
        if name == "mlp" and not maps.has_feed_forward(session.loaded, settings["block"]):
            left_out[name] = "the block has no MLP that is one module"
            continue
        subject = _subject(session, base, name, settings)
        found, told, arrays = _sweep(subject, settings)
        told["weight_spectral_norm"] = _weight_norm(subject, known, int(settings["block"]), matrices)
        tables.append(found)
        rows.append(told)
        datasets |= {f"{name}/{key}": value for key, value in arrays.items()}
    if not rows:
        raise ConfigError("no subject of exp10.subjects exists in this model's block; add matrices or weight")
    seeds = {key: int(settings[key]) for key in ("weight_seed", "input_seed", "direction_seed", "noise_seed")}
    origin = session.provenance(seeds=seeds, **provenance)
    attributes = {"dtype": base.fmt, "prompt": base.text, "arithmetic": settings["arithmetic"]}
    rows = [{**row, "arithmetic": settings["arithmetic"]} for row in rows]
    write_hdf5(
        data, datasets, attributes={**attributes, "subjects": [row["subject"] for row in rows]}, provenance=origin
    )
    write_csv(sweep, pd.concat(tables, ignore_index=True), provenance=origin)
    write_csv(subjects, pd.DataFrame(rows), provenance=origin)
    document = {"subjects": rows, "left_out": left_out, **attributes}
    write_json(statistics, document, provenance=origin)


def _subject(session: Session, base: BasePoint, name: str, settings: Mapping[str, Any]) -> VectorMap:
    loaded = session.loaded
    if name == "matrices":
        width = loaded.anatomy.d_model if settings["dim"] == "auto" else int(settings["dim"])
        return maps.random_matrices(
            dim=width,
            count=int(settings["matrices"]),
            scale=_scale(settings["weight_scale"], width),
            weight_seed=int(settings["weight_seed"]),
            input_seed=int(settings["input_seed"]),
            device=loaded.device,
        )
    if name == "weight":
        return maps.projection(loaded, base, int(settings["block"]), settings["weight"])
    return maps.feed_forward(loaded, base, int(settings["block"]))


def _scale(scale: float | str, width: int) -> float:
    """``auto`` keeps the size of a typical vector: each entry of a product is a sum of `width` terms."""
    return float(width**-0.5) if scale == "auto" else float(scale)


def _weight_norm(subject: VectorMap, known: pd.DataFrame, block: int, source: Path) -> float:
    """The spectral norm of the subject's matrix as exp9 found it in the files; NaN where there are several."""
    if subject.weight is None:
        return float("nan")
    own = known[(known["block"] == block) & ~known["fused"]]
    if subject.component:
        own = own[own["component"] == subject.component]
    else:  # a checkpoint may leave out the first part of a parameter's name
        own = own[[subject.parameter.endswith(name) for name in own["tensor"]]]
    if len(own) != 1 or not np.isfinite(own["spectral_norm"].iloc[0]):
        raise ArtifactError(f"{source} has no spectral norm of {subject.parameter}; delete it and run snakemake again")
    theirs = float(own["spectral_norm"].iloc[0])
    matrix = to_array(subject.weight).astype(np.float64)
    ours = float(lanczos_spectrum(DenseMap(matrix), top_k=1, tolerance=1e-6).singular_values[0])
    # A model that runs in a narrower type than its files rounds each entry: at most eps/2 of the whole matrix's norm.
    room = 1e-5 * theirs + floats.format_of(subject.fmt).epsilon * float(np.linalg.norm(matrix))
    if abs(ours - theirs) > room:
        raise ArtifactError(
            f"{source} gives {subject.parameter} the spectral norm {theirs:.6g}, the loaded weight has {ours:.6g}; "
            "delete the table and run snakemake again"
        )
    return theirs


def _sweep(subject: VectorMap, settings: Mapping[str, Any]) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Array]]:
    operator = subject.jacobian()
    spectrum = lanczos_spectrum(
        operator, top_k=1, tolerance=settings["tolerance"], max_iterations=None, seed=int(settings["direction_seed"])
    )
    directions = {"random": _random(len(subject.x), int(settings["direction_seed"]))}
    directions["top"] = spectrum.right[0].astype(np.float32)
    # From the largest step to the smallest, as the tables are read.
    sizes = 10.0 ** np.sort(np.array(settings["powers"], dtype=np.float64))[::-1]
    answer = subject.evaluate(np.stack([subject.x] * 2))
    if not np.isfinite(answer).all():
        raise NumericsError(f"subject '{subject.name}' of exp10 overflows at its input; lower exp10.weight_scale")
    if answer[0].tobytes() != answer[1].tobytes():
        raise NumericsError(f"subject '{subject.name}' of exp10 gives other bits for the same input; pin its kernels")
    frames = []
    for name, direction in track(directions.items(), f"steps through {subject.name}"):
        frames.append(_along(subject, operator, answer[0], name, direction, sizes, settings["arithmetic"]))
    table = pd.concat(frames, ignore_index=True)
    sigma = float(spectrum.singular_values[0])
    table.insert(3, "spectral_norm", sigma)
    floor = _floor(subject, operator, answer[0], settings)
    table["noise_floor_l2"] = floor
    arrays = {"x": subject.x, "answer": answer[0], "left": spectrum.left[:, 0], **directions}
    return table, _told(subject, operator, spectrum, table, floor, directions), arrays


def _random(width: int, seed: int) -> npt.NDArray[np.float32]:
    """A unit vector, drawn on the CPU: every device has the same.

    The stream is its own: under one seed the direction would otherwise be parallel to the input of `matrices`.
    """
    drawn = np.random.default_rng([_DIRECTION, seed]).standard_normal(width)
    unit: npt.NDArray[np.float32] = (drawn / np.linalg.norm(drawn)).astype(np.float32)
    return unit


def _along(
    subject: VectorMap,
    operator: StageOperator,
    answer: Array,
    name: str,
    direction: npt.NDArray[np.float32],
    sizes: npt.NDArray[np.float64],
    arithmetic: Any,
) -> pd.DataFrame:
    """One row for each step along a direction."""
    inputs = floats.nudge(subject.x, direction, sizes[:, None], arithmetic=arithmetic, fmt=subject.fmt)
    step = floats.realised_step(subject.x, inputs, direction, subject.fmt)
    answers = subject.evaluate(inputs)
    told = difference(np.broadcast_to(answer, answers.shape).copy(), answers)
    moved = inputs.astype(np.float64) - subject.x.astype(np.float64)
    smooth = np.stack([operator.matvec(row) for row in moved])
    change = answers.astype(np.float64) - answer.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        magnification = np.where(step.l2 > 0, told.l2_distance / step.l2, np.nan)
    return pd.DataFrame(
        {
            "subject": subject.name,
            "direction": name,
            "epsilon": sizes,
            "width_in": len(subject.x),
            "width_out": answers.shape[1],
            "moved_coordinates": step.moved_coordinates,
            "realised_l2": step.l2,
            "realised_along": step.along,
            "off_direction_l2": step.off_direction,
            "changed_outputs": told.num_changed,
            "output_l2": told.l2_distance,
            "magnification_nominal": told.l2_distance / sizes,
            "magnification_realised": magnification,
            "smooth_l2": np.linalg.norm(smooth, axis=1),
            "residual_l2": np.linalg.norm(change - smooth, axis=1),
        }
    )


def _floor(subject: VectorMap, operator: StageOperator, answer: Array, settings: Mapping[str, Any]) -> float:
    """Median of what the smooth map leaves unexplained for inputs an ulp away: rounding inside the map."""
    inputs = lattice_neighbours(
        subject.x, int(settings["noise_samples"]), seed=int(settings["noise_seed"]), fmt=subject.fmt
    )
    moved = inputs.astype(np.float64) - subject.x.astype(np.float64)
    change = subject.evaluate(inputs).astype(np.float64) - answer.astype(np.float64)
    rest = np.linalg.norm(change - np.stack([operator.matvec(row) for row in moved]), axis=1)
    return float(np.median(rest))


def _told(
    subject: VectorMap,
    operator: StageOperator,
    spectrum: Spectrum,
    table: pd.DataFrame,
    floor: float,
    directions: Mapping[str, Array],
) -> dict[str, Any]:
    """What the summary says of a subject."""
    sigma = float(spectrum.singular_values[0])
    gains = {name: float(np.linalg.norm(operator.matvec(d.astype(np.float64)))) for name, d in directions.items()}
    row: dict[str, Any] = {
        "subject": subject.name,
        "dtype": subject.fmt,
        "norm": subject.norm,
        "parameter": subject.parameter,
        "width_in": int(operator.shape[1]),
        "width_out": int(operator.shape[0]),
        "input_l2": float(np.linalg.norm(subject.x.astype(np.float64))),
        "input_mean": float(subject.x.mean(dtype=np.float64)),
        "input_std": float(subject.x.std(dtype=np.float64)),
        "input_min": float(subject.x.min()),
        "input_max": float(subject.x.max()),
        "spectral_norm": sigma,
        "converged": bool(spectrum.converged),
        "max_residual": float(spectrum.residuals.max()),
        "noise_floor_l2": floor,
        "gain_random": gains["random"],
        "gain_top": gains["top"],
    }
    for name in directions:
        rows = table[table["direction"] == name]
        moved = rows[rows["moved_coordinates"] > 0]
        best = moved.loc[(moved["magnification_realised"] - gains[name]).abs().idxmin()] if len(moved) else None
        row[f"{name}_steps"] = len(rows)
        row[f"{name}_steps_moved"] = len(moved)
        row[f"{name}_smallest_moving_epsilon"] = float(moved["epsilon"].min()) if len(moved) else float("nan")
        row[f"{name}_best_epsilon"] = float("nan") if best is None else float(best["epsilon"])
        row[f"{name}_best_magnification"] = float("nan") if best is None else float(best["magnification_realised"])
    return row
