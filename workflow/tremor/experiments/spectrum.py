"""The Jacobian and its spectrum at one base point: one artifact, shared by all that need directions."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tremor.errors import ConfigError
from tremor.experiments.session import Session
from tremor.probe.base import BasePoint, base_point
from tremor.probe.jacobian import JacobianOperator, jacobian
from tremor.probe.spectrum import dense_spectrum, lanczos_spectrum
from tremor.statistics.spectrum import spectrum_statistics
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5


def measure(
    session: Session,
    prompt: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    data: Path,
    statistics: Path,
    provenance: Mapping[str, Any],
    base: BasePoint | None = None,
) -> None:
    """Write the spectrum of d(final state) / d(last input embedding).

    Datasets: ids [T], x0 [d_in], singular_values [k] float64, left [d_out, k] and right [k, d_in] float32 (the
    vectors as descendants use them), residuals [k]; jacobian [d_out, d_in] for the dense method.

    Args:
        session: The loaded model.
        prompt: ``text`` and ``bos``.
        settings: Config block ``spectrum``.
        data: HDF5 file to write.
        statistics: JSON file to write.
        provenance: Config, code and input digests.
        base: Where to take the derivative; None for the prompt itself.

    Raises:
        ConfigError: ``top_k`` is more than the Jacobian has.
    """
    base = base or base_point(session.loaded, prompt["text"], bos=prompt["bos"])
    datasets: dict[str, Any] = {"ids": base.ids, "x0": base.x}
    seeds: dict[str, int] = {}
    if settings["method"] == "dense":
        matrix = jacobian(session.loaded, base, method=settings["jacobian"], max_memory=session.max_memory)
        found = dense_spectrum(matrix, device=session.loaded.device)
        datasets["jacobian"] = matrix
        frobenius: float | None = float(np.linalg.norm(matrix.astype(np.float64)))
    else:
        seeds = {"lanczos_start": int(settings["seed"])}
        operator = JacobianOperator(session.loaded, base)
        if settings["top_k"] > min(operator.shape):
            raise ConfigError(
                f"spectrum.top_k is {settings['top_k']}, but the Jacobian of {session.manifest['alias']} has "
                f"{min(operator.shape)} singular values; lower it, or set spectrum.method: dense"
            )
        found = lanczos_spectrum(
            operator,
            top_k=settings["top_k"],
            tolerance=settings["tolerance"],
            max_iterations=settings["max_iterations"],
            seed=settings["seed"],
        )
        frobenius = None
    quality = asdict(found)
    datasets["singular_values"] = quality.pop("singular_values")
    datasets["left"] = quality.pop("left").astype(np.float32)
    datasets["right"] = quality.pop("right").astype(np.float32)
    datasets["residuals"] = quality.pop("residuals")
    origin = session.provenance(seeds=seeds, **provenance)
    attributes = {
        **quality,
        "tap": "final",
        "dtype": base.fmt,
        "prompt": base.text,
        "position": base.position,
        "derivative_attention": "eager",
    }
    write_hdf5(data, datasets, attributes=attributes, provenance=origin)
    summary = spectrum_statistics(found.singular_values, found.residuals, frobenius=frobenius)
    write_json(statistics, {**summary, **attributes}, provenance=origin)
