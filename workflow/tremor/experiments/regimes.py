"""regimes: gain over the size of a step, along several directions, at every tap, in several number formats."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tremor.errors import ConfigError
from tremor.experiments import nudges
from tremor.experiments.session import Session
from tremor.models import loader, true64, true64_gate
from tremor.models.loader import LoadedModel
from tremor.probe.base import BasePoint, base_point
from tremor.probe.jacobian import jacobian
from tremor.probe.local import LocalJacobians
from tremor.probe.regimes import GainMap, gain_map, named_directions, step_sizes
from tremor.statistics.regimes import REGIMES, Estimate, RegimeAccount, quantile_bands, regimes
from tremor.store.documents import write_json
from tremor.store.hdf5 import Hdf5Artifact, write_hdf5
from tremor.store.tables import write_csv, write_parquet

Array = npt.NDArray[Any]
SCHEMA = 1  # of steps.parquet and avalanche.parquet
BINS = 2  # of a decade, in bands.csv


@dataclass(frozen=True)
class Subject:
    """One number format: the model in it, its base point, and how its smooth part is known."""

    precision: str
    loaded: LoadedModel
    base: BasePoint
    gate: Mapping[str, Any] | None


def measure(
    session: Session,
    prompt: Mapping[str, Any],
    *,
    directory: Path,
    attention: str,
    probe: Mapping[str, Any],
    settings: Mapping[str, Any],
    spectrum: Path,
    data: Path,
    steps: Path,
    avalanche: Path,
    bands: Path,
    crossovers: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Measure the regimes at one prompt, one number format after the other.

    Args:
        session: The loaded model.
        prompt: ``text`` and ``bos``.
        directory: The model's folder, from which the other formats are loaded.
        attention: As it was asked for.
        probe: Config block ``probe``.
        settings: Config block ``regimes``.
        spectrum: The spectrum artifact of this model, prompt and dtype; its vectors serve all formats.
        data: HDF5 file: directions, base points, gains of the smooth map at every tap.
        steps: Parquet file, one row for each format, direction and step.
        avalanche: Parquet file, one row for each of these and tap, of steps that move the input.
        bands: CSV file: quantiles by format, direction, tap and bin of the realised step.
        crossovers: CSV file, one row for each format and direction.
        statistics: JSON file to write.
        provenance: Config, code and input digests.
    """
    base, source = nudges.open_base(session, prompt, spectrum)
    for rank in settings["directions"]:
        if isinstance(rank, int):
            nudges.ranked(source, rank, key="regimes.directions")
    labels, directions = named_directions(source.array("right"), settings["directions"], seed=int(settings["seed"]))
    sizes = step_sizes(settings["largest"], decades=settings["decades"], per_decade=settings["per_decade"])
    datasets: dict[str, Any] = {"ids": base.ids, "x0": base.x, "direction": directions, "size": sizes}
    tables: dict[str, list[pd.DataFrame]] = {"steps": [], "avalanche": [], "bands": [], "crossovers": []}
    formats: dict[str, Any] = {}
    for it in _subjects(session, base, prompt, settings, directory, attention):
        taps = nudges.stages(it.loaded.anatomy)
        response = nudges.respond(it.loaded, it.base, taps, probe=probe, max_memory=session.max_memory)
        local = LocalJacobians(it.loaded, it.base, branches=False)
        gains = np.array([[np.linalg.norm(local.from_input(t).matvec(d)) for t in taps] for d in directions])
        product = _product(session, it, local, source, own=it.loaded is session.loaded)
        found = gain_map(response, directions, sizes, product)
        accounts = [_account(found, row, float(gains[row, -1]), settings) for row in range(len(labels))]
        for row, (label, account) in enumerate(zip(labels, accounts, strict=True)):
            names = {"precision": it.precision, "direction": label}
            tables["steps"].append(_step_table(found, row, account, names))
            tables["avalanche"].append(_avalanche(found, row, names))
            tables["bands"].append(_bands(tables["avalanche"][-1]))
            tables["crossovers"].append(_crossovers(account, float(gains[row, -1]), names))
        datasets |= {f"smooth_gain/{it.precision}": gains, f"x/{it.precision}": it.base.x}
        formats[it.precision] = {
            "distinct_inputs": len(found.output),
            "requested_inputs": int(found.index.size),
            "model_rows": response.rows_evaluated,
            "batch_size": response.batch_size,
            "gate": it.gate,
        }
    whole = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    seed = int(settings["seed"])
    origin = session.provenance(seeds={"random_direction": seed, "bootstrap": seed}, **provenance)
    attributes = {
        "taps": list(nudges.stages(session.loaded.anatomy)),
        "directions": labels,
        "dtype": base.fmt,
        "mode": probe["mode"],
        "arithmetic": "float64",
        "prompt": base.text,
    }
    write_hdf5(data, datasets, attributes=attributes, provenance=origin)
    write_parquet(steps, whole["steps"], provenance=origin, schema_version=SCHEMA)
    write_parquet(avalanche, whole["avalanche"], provenance=origin, schema_version=SCHEMA)
    write_csv(bands, whole["bands"], provenance=origin)
    write_csv(crossovers, whole["crossovers"], provenance=origin)
    document = {"formats": formats, "main": _main(whole["crossovers"], base.fmt, labels[0]), **attributes}
    write_json(statistics, document, provenance=origin)


def _subjects(
    session: Session,
    base: BasePoint,
    prompt: Mapping[str, Any],
    settings: Mapping[str, Any],
    directory: Path,
    attention: str,
) -> Iterator[Subject]:
    """The model's own format first, then the others; each is let go before the next is made."""
    if base.fmt not in ("float32", "bfloat16", "float16"):
        raise ConfigError(f"regimes starts from a model in a narrow format, not {base.fmt}")
    yield Subject(base.fmt, session.loaded, base, None)
    for precision in settings["precisions"]:
        if precision == base.fmt:
            continue
        if precision == "float64":
            other = true64.convert(session.loaded)
        else:
            digest = str(session.manifest["weights_digest"])
            device = str(session.loaded.device)
            other = loader.load(directory, dtype=precision, device=device, attention=attention, digest=digest)
        point = base_point(other, prompt["text"], bos=prompt["bos"])
        gate = asdict(true64_gate.require(other, point)) if precision == "float64" else None
        yield Subject(precision, other, point, gate)


def _product(
    session: Session, it: Subject, local: LocalJacobians, source: Hdf5Artifact, *, own: bool
) -> Callable[[Array], Array]:
    """J times steps [n, d] in this format: by its matrix where the spectrum is dense, else product by product."""
    if "jacobian" in source.datasets:
        stored = source.array("jacobian") if own else jacobian(it.loaded, it.base, max_memory=session.max_memory)
        matrix = stored.astype(np.float64)
        return lambda steps: steps @ matrix.T
    operator = local.from_input("final")
    return lambda steps: np.array([operator.matvec(step) for step in steps]).reshape(len(steps), -1)


def _account(found: GainMap, row: int, sigma: float, settings: Mapping[str, Any]) -> RegimeAccount:
    index = found.index[row]
    return regimes(
        found.sizes,
        found.realised[row],
        # A change of bits without length (-0 for +0) is a change too: the least length there is stands for it.
        np.where(found.changed[index, -1] > 0, np.maximum(found.output[index, -1], np.finfo(np.float64).tiny), 0.0),
        found.smooth[index],
        found.residual[index],
        sigma=sigma,
        draws=int(settings["bootstrap"]),
        seed=int(settings["seed"]),
    )


def _step_table(found: GainMap, row: int, account: RegimeAccount, names: Mapping[str, str]) -> pd.DataFrame:
    index, realised = found.index[row], found.realised[row]
    output = found.output[index, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.where(realised > 0, output / realised, np.nan)
    columns = {
        **names,
        "nominal": found.sizes,
        "realised": realised,
        "along": found.along[row],
        "off_direction": found.off_direction[row],
        "moved_coordinates": found.moved_coordinates[row],
        "distinct_input": index,
        "output_l2": output,
        "output_changed_share": found.changed[index, -1],
        "smooth_l2": found.smooth[index],
        "residual_l2": found.residual[index],
        "gain_realised": gain,
        "gain_nominal": output / found.sizes,
        "regime": np.array(REGIMES)[account.regime],
    }
    return pd.DataFrame(columns)


def _avalanche(found: GainMap, row: int, names: Mapping[str, str]) -> pd.DataFrame:
    """One row for each tap and step that moves the input."""
    moved = np.flatnonzero(found.index[row] > 0)
    index, realised = found.index[row][moved], found.realised[row][moved]
    frames = []
    for column, tap in enumerate(found.taps):
        output = found.output[index, column]
        columns = {
            **names,
            "nominal": found.sizes[moved],
            "realised": realised,
            "tap": tap,
            "layer": column,
            "changed_share": found.changed[index, column],
            "output_l2": output,
            "gain_realised": output / realised,
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _bands(avalanche: pd.DataFrame) -> pd.DataFrame:
    frames = []
    for (precision, direction, tap, layer), rows in avalanche.groupby(
        ["precision", "direction", "tap", "layer"], sort=False
    ):
        realised = rows["realised"].to_numpy()
        columns: dict[str, Any] = {"precision": precision, "direction": direction, "tap": tap, "layer": layer}
        for value in ("gain_realised", "output_l2", "changed_share"):
            middle, band, count = quantile_bands(realised, rows[value].to_numpy(), per_decade=BINS)
            columns |= {"realised": middle, "steps": count}
            columns |= {f"{value}_{name}": band[:, k] for k, name in enumerate(("q05", "q50", "q95"))}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _crossovers(account: RegimeAccount, sigma: float, names: Mapping[str, str]) -> pd.DataFrame:
    columns: dict[str, Any] = {**names, "sigma": sigma}
    for name, value in vars(account).items():
        if isinstance(value, Estimate):
            columns |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        elif name != "regime":
            columns[name] = value
    for number, regime in enumerate(REGIMES):
        columns[f"{regime}_steps"] = int(np.sum(account.regime == number))
    # Where curvature outgrows the noise before the smooth part does, no step is long enough to show the derivative.
    columns["has_signal_regime"] = bool(columns["signal_steps"] > 0)
    return pd.DataFrame([columns])


def _main(crossovers: pd.DataFrame, precision: str, direction: str) -> dict[str, Any]:
    """The row of the model's own format and the first direction."""
    chosen = crossovers[(crossovers["precision"] == precision) & (crossovers["direction"] == direction)].iloc[0]
    return {name: None if isinstance(v, float) and not np.isfinite(v) else v for name, v in chosen.to_dict().items()}
