"""What the experiments along given directions share: the base point with its spectrum, responses, the smooth map."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor.errors import ConfigError
from tremor.experiments.ancestors import require_ancestor
from tremor.experiments.session import Session
from tremor.models.anatomy import Anatomy
from tremor.models.loader import LoadedModel
from tremor.probe.base import BasePoint, base_point
from tremor.probe.jacobian import JacobianOperator
from tremor.probe.response import Response
from tremor.store.hdf5 import Hdf5Artifact, read_hdf5

Array = npt.NDArray[Any]


def open_base(session: Session, prompt: Mapping[str, Any], spectrum: Path) -> tuple[BasePoint, Hdf5Artifact]:
    """The base point, and the spectrum there, made from the same weights on the same platform.

    Raises:
        ArtifactError: the spectrum was made under other conditions.
    """
    base = base_point(session.loaded, prompt["text"], bos=prompt["bos"])
    artifact = read_hdf5(spectrum)
    require_ancestor(artifact, spectrum, session, base, rule="spectrum_measure")
    return base, artifact


def ranked(source: Hdf5Artifact, rank: int | str, *, key: str) -> int:
    """Index of a singular vector by its rank from 1, or ``last``.

    Raises:
        ConfigError: the spectrum holds fewer vectors.
    """
    count = len(source.array("singular_values"))
    number = count if rank == "last" else int(rank)
    if number > count:
        raise ConfigError(f"{key} asks for singular vector {number}, but the spectrum has {count}; lower it")
    return number - 1


def respond(
    loaded: LoadedModel, base: BasePoint, taps: Sequence[str], *, probe: Mapping[str, Any], max_memory: float
) -> Response:
    """A response with the settings of the config block ``probe``."""
    return Response(
        loaded,
        base,
        mode=probe["mode"],
        batch_size=probe["batch_size"],
        taps=taps,
        max_memory=max_memory,
        repeats=probe["aa_repeats"],
    )


def first_block(anatomy: Anatomy) -> str:
    """Name of the tap behind the first block."""
    return "residual.1" if anatomy.n_layers > 1 else "final_prenorm"


def stages(anatomy: Anatomy) -> tuple[str, ...]:
    """The residual stream from the first block's input to what is unembedded: raw up to ``final_prenorm``."""
    return (*(f"residual.{k}" for k in range(anatomy.n_layers)), "final_prenorm", "final")


def smooth_map(session: Session, base: BasePoint, source: Hdf5Artifact) -> Callable[[Array], Array]:
    """J times steps [m, d_in] -> [m, d_out], from the stored Jacobian or by differentiation."""
    if "jacobian" in source.datasets:
        matrix = source.array("jacobian").astype(np.float64)
        return lambda steps: steps @ matrix.T
    operator = JacobianOperator(session.loaded, base)
    return lambda steps: np.array([operator.matvec(step) for step in steps]).reshape(len(steps), -1)


def attributes(response: Response, base: BasePoint, arithmetic: str) -> dict[str, Any]:
    """How an artifact's numbers were measured."""
    return {
        "mode": response.mode,
        "batch_size": response.batch_size,
        "arithmetic": arithmetic,
        "dtype": base.fmt,
        "output_dtype": response.output_format,
        "prompt": base.text,
        "control_runs": response.control.runs,
    }
