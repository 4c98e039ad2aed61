"""exp9: statistics and spectra of every weight matrix, streamed from the files; the model is not loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tremor.errors import ArtifactError
from tremor.models import manifest as manifests
from tremor.models.components import Components, Part, open_components
from tremor.progress import track
from tremor.statistics import weights
from tremor.store.documents import write_json
from tremor.store.hdf5 import Hdf5Writer
from tremor.store.provenance import collect
from tremor.store.tables import write_csv

_LARGE = ("embedding", "unembedding")
AGGREGATED = ("frobenius_norm", "spectral_norm", "nuclear_norm", "mean", "std", "mean_abs", "skewness", "kurtosis")


def measure(
    manifest: Path,
    components: Path,
    directory: Path,
    settings: Mapping[str, Any],
    *,
    data: Path,
    table: Path,
    by_component: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Measure every part of the component map.

    Args:
        manifest: The model's manifest.
        components: Its component map.
        directory: The folder with its weights.
        settings: Config block ``exp9``.
        data: HDF5 file to write: ``names`` [n], ``offsets`` [n + 1] into ``singular_values``, which holds the spectra
            one after the other; ``histogram_counts`` [n, bins] and ``histogram_edges`` [n, bins + 1].
        table: CSV file to write, one row for each part.
        by_component: CSV file to write, one row for each component.
        statistics: JSON file to write.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: the map or the weights are not of this manifest.
        ModelError: a weight is NaN or infinite; the message names its tensor.
        NumericsError: an SVD did not converge.
    """
    found = manifests.read(manifest)
    manifests.verify(found, directory, quick=True)  # each tensor's own digest is compared when it is read
    opened = open_components(components, directory)
    if opened.weights_digest != found["weights_digest"]:
        raise ArtifactError(f"{components} was made from other weights; delete it and run snakemake again")
    chosen = [part for part in opened.parts if settings["fused"] or not part.fused]
    keys = ("alias", "source", "repo", "revision", "weights_digest", "tokenizer_digest")
    origin = collect(seeds=None, platform={}, model={key: found.get(key) for key in keys}, **provenance)
    rows = []
    offsets = [0]
    with Hdf5Writer(data, attributes={"svd": settings["svd"], "blocks": _blocks(opened)}, provenance=origin) as file:
        file.create("singular_values", (), np.float64)
        file.create("histogram_counts", (settings["bins"],), np.int64)
        file.create("histogram_edges", (settings["bins"] + 1,), np.float64)
        for part in track(chosen, "matrices"):
            row, spectrum, counts, edges = _one(opened, part, settings)
            rows.append(row)
            offsets.append(offsets[-1] + len(spectrum))
            if len(spectrum):
                file.append("singular_values", spectrum)
            file.append("histogram_counts", counts)
            file.append("histogram_edges", edges)
        file.write("offsets", np.array(offsets, dtype=np.int64))
        file.write("names", np.array([part.name for part in chosen], dtype=object))
    frame = _typed(pd.DataFrame(rows))
    grouped = aggregate(frame)
    write_csv(table, frame, provenance=origin)
    write_csv(by_component, grouped, provenance=origin)
    summary = {
        "parts": len(frame),
        "tensors": int(frame["tensor"].nunique()),
        "components": len(grouped),
        "values": sum(int(np.prod(opened.files.shape(name), dtype=np.int64)) for name in opened.files.names),
        "blocks": _blocks(opened),
        "svds": int(frame["spectral_norm"].notna().sum()),
        "largest_svd_relative_error": float(np.nanmax(frame["svd_relative_error"].to_numpy(), initial=0.0)),
        "svd": settings["svd"],
    }
    write_json(statistics, summary, provenance=origin)


def _blocks(opened: Components) -> int:
    return 1 + max((part.block for part in opened.parts if part.block is not None), default=-1)


def _one(opened: Components, part: Part, settings: Mapping[str, Any]) -> tuple[dict[str, Any], Any, Any, Any]:
    values = opened.read(part)
    matrix = values.ndim == 2
    row: dict[str, Any] = {
        "name": part.name,
        "tensor": part.tensor,
        "block": part.block,
        "component": part.component,
        "expert": part.expert,
        "slice": part.axis is not None or part.stacked,
        "fused": part.fused,
        "dtype": opened.files.kind(part.tensor),
        "outputs": values.shape[0] if values.ndim else 1,
        "inputs": values.shape[1] if matrix else None,
        "count": values.size,
    }
    row |= weights.moments(values) | weights.magnitudes(values)
    spectrum = np.zeros(0)
    if matrix and (settings["embeddings"] or part.component not in _LARGE):
        spectrum = weights.singular_values(values, name=part.name, dtype=settings["svd"])
        row |= weights.spectral(spectrum, row["frobenius_norm"])
    return row, spectrum, *weights.histogram(values, settings["bins"])


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    for name in ("block", "expert", "inputs"):
        frame[name] = frame[name].astype("Int64")
    for name in ("spectral_norm", "nuclear_norm", "smallest_singular_value", "condition_number", "stable_rank",
                 "effective_rank", "svd_relative_error", "skewness", "kurtosis"):  # fmt: skip
        frame[name] = frame[name].astype("float64") if name in frame else np.nan
    return frame


def aggregate(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each component: its numbers over blocks and experts, and in which block the extremes are.

    Args:
        frame: Table matrices.csv.

    Returns:
        Columns component, matrices, count, max_abs, zero, the mean, std (population), min, max and blocks of both for
        the columns of :data:`AGGREGATED`, and the means of stable and effective rank.
    """
    rows = []
    for component in dict.fromkeys(frame.loc[~frame["fused"], "component"]):
        own = frame[(frame["component"] == component) & ~frame["fused"]]
        row: dict[str, Any] = {
            "component": component,
            "matrices": len(own),
            "values": int(own["count"].sum()),
            "zeros": int(own["zero"].sum()),
            "max_abs": float(own["max_abs"].max()),
        }
        for name in AGGREGATED:
            numbers = own[name].astype("float64")
            known = numbers.notna().any()
            row[f"{name}_mean"] = float(numbers.mean())
            row[f"{name}_std"] = float(numbers.std(ddof=0))
            row[f"{name}_min"], row[f"{name}_max"] = float(numbers.min()), float(numbers.max())
            row[f"{name}_argmin_block"] = own.loc[numbers.idxmin(), "block"] if known else pd.NA
            row[f"{name}_argmax_block"] = own.loc[numbers.idxmax(), "block"] if known else pd.NA
        row["stable_rank_mean"] = float(own["stable_rank"].mean())
        row["effective_rank_mean"] = float(own["effective_rank"].mean())
        rows.append(row)
    table = pd.DataFrame(rows)
    for name in table.columns:
        if name.endswith("_block"):
            table[name] = table[name].astype("Int64")
    return table
