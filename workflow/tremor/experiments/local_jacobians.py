"""exp5: local Jacobians of blocks and branches, their chain, and the modules of a layer under two near inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor import floats
from tremor.errors import ConfigError, NumericsError
from tremor.experiments import nudges
from tremor.experiments.session import Session
from tremor.probe import walk as walking
from tremor.probe.base import BasePoint
from tremor.probe.local import Chain, DenseMap, LocalJacobians, Stage
from tremor.probe.modules import block_modules
from tremor.probe.spectrum import Spectrum, dense_spectrum, lanczos_spectrum
from tremor.progress import track
from tremor.statistics.difference import METRICS, paired
from tremor.statistics.local import account
from tremor.store.documents import write_json
from tremor.store.hdf5 import Hdf5Artifact, write_hdf5
from tremor.store.tables import write_csv

Array = npt.NDArray[Any]
# Without the matrices no bound is known; products in float32 and the spectrum's own tolerance stay far below this.
LANCZOS_AGREEMENT = 1e-3


@dataclass(frozen=True)
class Measured:
    """One stage: its spectrum, and its norm if all of it is known."""

    stage: Stage
    shape: tuple[int, int]
    spectrum: Spectrum
    frobenius: float  # NaN if only leading values are known


def measure(
    session: Session,
    prompt: Mapping[str, Any],
    *,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
    spectrum: Path,
    data: Path,
    stages: Path,
    modules: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Measure exp5 at one prompt.

    Args:
        session: The loaded model.
        prompt: ``text`` and ``bos``.
        probe: Config block ``probe``, with ``arithmetic``.
        settings: Config block ``exp5``.
        spectrum: The spectrum artifact of this model, prompt and dtype.
        data: HDF5 file: singular values and leading vectors of every stage.
        stages: CSV file, one row for each stage.
        modules: CSV file, one row for each arithmetic, block, jump and module.
        statistics: JSON file to write.
        provenance: Config, code and input digests.

    Raises:
        NumericsError: the chain does not give the whole Jacobian.
    """
    base, source = nudges.open_base(session, prompt, spectrum)
    local = LocalJacobians(session.loaded, base, branches=bool(settings["branches"]))
    found, chain = _chain(session, base, local, source, settings)
    found += [_measured(session, local, stage, settings)[0] for stage in local.branches]
    table = _stage_table(found, chain.pop("columns"))
    compared, counts = _modules(session, base, source, probe, settings)
    origin = session.provenance(seeds={"lanczos_start": int(settings["seed"])}, **provenance)
    attributes = {"dtype": base.fmt, "prompt": base.text, "method": settings["method"], "mode": probe["mode"]}
    write_hdf5(data, _datasets(base, found), attributes=attributes, provenance=origin)
    write_csv(stages, table, provenance=origin)
    write_csv(modules, compared, provenance=origin)
    document = {**chain, **_largest(table), "modules": counts, **attributes}
    write_json(statistics, document, provenance=origin)
    if not chain["chain_agrees"]:
        raise NumericsError(
            f"the product of the local Jacobians has sigma_1 = {chain['chain_sigma_1']:.8g}, the whole model "
            f"{chain['sigma_1']:.8g}: they differ by {chain['chain_relative_difference']:.2g} of it, more than "
            f"rounding ({chain['chain_bound']:.2g}); some path in this model passes by the residual stream"
        )


def _measured(
    session: Session, local: LocalJacobians, stage: Stage, settings: Mapping[str, Any]
) -> tuple[Measured, npt.NDArray[np.float64] | None]:
    """The spectrum of a stage, and its matrix if it was formed."""
    shape = local.shape(stage)
    if settings["method"] == "dense":
        matrix = local.dense(stage, max_memory=session.max_memory).astype(np.float64)
        norm = float(np.linalg.norm(matrix))
        return Measured(stage, shape, dense_spectrum(matrix, device=session.loaded.device), norm), matrix
    found = lanczos_spectrum(
        local.operator(stage),
        top_k=min(int(settings["top_k"]), *shape),
        tolerance=settings["tolerance"],
        max_iterations=settings["max_iterations"],
        seed=settings["seed"],
    )
    return Measured(stage, shape, found, float("nan")), None


def _norm(matrix: npt.NDArray[np.float64]) -> float:
    return float(lanczos_spectrum(DenseMap(matrix), top_k=1, tolerance=1e-10).singular_values[0])


def _chain(
    session: Session, base: BasePoint, local: LocalJacobians, source: Hdf5Artifact, settings: Mapping[str, Any]
) -> tuple[list[Measured], dict[str, Any]]:
    """The stages of the chain, and what their product says."""
    both = [_measured(session, local, stage, settings) for stage in local.chain]
    found, matrices = [m for m, _ in both], [matrix for _, matrix in both if matrix is not None]
    norms = [float(m.spectrum.singular_values[0]) for m in found]
    sigma, vector = float(source.array("singular_values")[0]), source.array("right")[0].astype(np.float64)
    whole: float | None = None
    if matrices:
        told = account(matrices, norms, vector, epsilon=floats.format_of(base.fmt).epsilon, norm=_norm)
        top, gain, cumulative = _norm(told.product), told.gain, told.cumulative_norm
        bound = told.rounding_bound / sigma
        if "jacobian" in source.datasets:
            matrix = source.array("jacobian").astype(np.float64)
            whole = float(np.linalg.norm(told.product - matrix) / np.linalg.norm(matrix))
    else:
        maps = [local.operator(stage) for stage in local.chain]
        solved = lanczos_spectrum(
            Chain(tuple(maps)), top_k=1, tolerance=settings["tolerance"], max_iterations=settings["max_iterations"],
            seed=settings["seed"],
        )  # fmt: skip
        top, bound = float(solved.singular_values[0]), LANCZOS_AGREEMENT
        lengths = [1.0]
        for each in maps:
            vector = each.matvec(vector)
            lengths.append(float(np.linalg.norm(vector)))
        gain, cumulative = np.divide(lengths[1:], lengths[:-1]), np.full(len(maps), np.nan)
    product = np.cumprod(norms)
    difference = abs(top - sigma) / sigma
    return found, {
        "sigma_1": sigma,
        "chain_sigma_1": top,
        "chain_relative_difference": difference,
        "chain_matrix_difference": whole,
        "chain_bound": bound,
        "chain_agrees": bool(difference <= bound),
        "norm_product": float(product[-1]),
        "norm_product_over_sigma_1": float(product[-1]) / sigma,
        "columns": {"cumulative_norm": cumulative, "norm_product": product, "gain_of_v1": gain},
    }


def _stage_table(found: list[Measured], chain: Mapping[str, Array]) -> pd.DataFrame:
    rows = []
    for number, each in enumerate(found):
        values, stage = each.spectrum.singular_values, each.stage
        top = float(values[0])
        row: dict[str, Any] = {
            "stage": stage.name,
            "part": stage.part,
            "block": -1 if stage.block is None else stage.block,
            "source": stage.source,
            "target": stage.target,
            "rows": each.shape[0],
            "columns": each.shape[1],
            "spectral_norm": top,
            "frobenius_norm": each.frobenius,
            "stable_rank": (each.frobenius / top) ** 2 if top > 0 else float("nan"),
            "max_residual": float(each.spectrum.residuals.max()),
            "orthogonality": each.spectrum.orthogonality,
            "converged": each.spectrum.converged,
        }
        for name, column in chain.items():  # the chain's stages come first
            row[name] = float(column[number]) if number < len(column) else float("nan")
        rows.append(row)
    return pd.DataFrame(rows)


def _largest(table: pd.DataFrame) -> dict[str, Any]:
    """The stage of each part with the largest norm, and the median norm of the part."""
    told: dict[str, Any] = {}
    for part in ("embedding", "block", "mixer", "mlp", "final"):
        rows = table[table["part"] == part]
        top = rows.loc[rows["spectral_norm"].idxmax()] if len(rows) else None
        told[part] = {
            "stages": len(rows),
            "norm_max": None if top is None else float(top["spectral_norm"]),
            "norm_median": None if top is None else float(rows["spectral_norm"].median()),
            "argmax": None if top is None else int(top["block"]),
        }
    told["max_residual"] = float(table["max_residual"].max())
    told["converged"] = bool(table["converged"].all())
    told["stages"] = len(table)
    return told


def _datasets(base: BasePoint, found: list[Measured]) -> dict[str, Any]:
    width = max(len(each.spectrum.singular_values) for each in found)
    values, residuals = np.full((2, len(found), width), np.nan)
    vectors = {}
    for number, each in enumerate(found):
        count = len(each.spectrum.singular_values)
        values[number, :count], residuals[number, :count] = each.spectrum.singular_values, each.spectrum.residuals
        vectors[f"leading_right/{each.stage.name}"] = each.spectrum.right[0].astype(np.float32)
        vectors[f"leading_left/{each.stage.name}"] = each.spectrum.left[:, 0].astype(np.float32)
    names = np.array([each.stage.name for each in found])
    first = {"ids": base.ids, "x0": base.x, "stage": names, "singular_values": values, "residuals": residuals}
    return {**first, **vectors}


def _modules(
    session: Session, base: BasePoint, source: Hdf5Artifact, probe: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Every module of the chosen blocks at x + e1 v against x + e2 v; an input that was met before is not run again."""
    rank = nudges.ranked(source, settings["vector"], key="exp5.vector")
    direction, sigma = source.array("right")[rank], float(source.array("singular_values")[rank])
    jumps = np.array(settings["jumps"], dtype=np.int64)
    sizes = walking.grid(settings["start"], settings["step"], np.array([0, *jumps]))
    arithmetics = list(probe["arithmetic"])
    inputs = [walking.inputs_at(base.x, direction, sizes, arithmetic=a, fmt=base.fmt) for a in arithmetics]
    frames, left_out, evaluated = [], [], 0
    blocks = list(dict.fromkeys(_block(session, layer) for layer in settings["layers"]))  # last may be named by number
    for block in track(blocks, "blocks"):
        inside = block_modules(session.loaded, base, block)
        left_out += list(inside.left_out)
        response = nudges.respond(
            inside.loaded, base, tuple(inside.taps.values()), probe=probe, max_memory=session.max_memory
        )
        different, answers = walking.resume(response, np.concatenate(inputs))
        evaluated += len(different.inputs)
        for arithmetic, index in zip(arithmetics, different.index.reshape(len(arithmetics), -1), strict=True):
            reference, other = np.full(len(jumps), index[0]), index[1:]
            moved = paired(different.inputs, reference, other)
            for name, tap in inside.taps.items():
                states = answers[tap].reshape(len(different.inputs), -1)
                told = paired(states, reference, other, threshold=float(settings["threshold"]))
                with np.errstate(invalid="ignore", divide="ignore"):
                    gain = np.where(moved.l2_distance > 0, told.l2_distance / moved.l2_distance, np.nan)
                columns = {
                    "arithmetic": arithmetic,
                    "block": block,
                    "module": name,
                    "width": states.shape[1],
                    "vector": rank + 1,
                    "sigma": sigma,
                    "jump": jumps,
                    "e1": sizes[0],
                    "e2": sizes[1:],
                    "inputs_equal": reference == other,
                    "input_changed": moved.num_changed,
                    "input_l2": moved.l2_distance,
                    **{metric: getattr(told, metric) for metric in METRICS},
                    "gain": gain,
                }
                frames.append(pd.DataFrame(columns))
    table = pd.concat(frames, ignore_index=True)
    pairs = table.drop_duplicates(["arithmetic", "jump"])
    return table, {
        "compared": int(table["module"].nunique()),
        "left_out": left_out,
        "pairs": len(pairs),
        "pairs_of_equal_inputs": int(pairs["inputs_equal"].sum()),
        "evaluated_inputs": evaluated,
        "requested_inputs": sum(len(each) for each in inputs) * len(blocks),
    }


def _block(session: Session, layer: int | str) -> int:
    count = session.loaded.anatomy.n_layers
    number = count - 1 if layer == "last" else int(layer)
    if number >= count:
        raise ConfigError(f"exp5.layers asks for block {number}, but the model has blocks 0 to {count - 1}; lower it")
    return number
