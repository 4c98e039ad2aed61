"""HDF5 artifacts: chunked, compressed, checksummed, byte-identical for equal content, never half written.

The file begins with a block of 512 bytes that HDF5 leaves to its users: our layout's version, the file's
length and its sha256. A reader checks it before the HDF5 library sees the file, because the library can crash
on a damaged one.

Inside, every dataset carries the attributes `dtype` (our encoding name) and `sha256` (over bits, dtype and
shape). The root carries the caller's attributes and `tremor_schema`, `content_sha256` (over names, dataset
digests and attributes), `json_attributes` (names of attributes HDF5 cannot hold natively), `provenance`
(JSON) and `provenance_sha256`. Provenance has a digest of its own because it holds times: equal results have
an equal `content_sha256`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tremor.errors import ArtifactError
from tremor.store.arrays import Array, Bf16
from tremor.store.hdf5_reader import Hdf5Reader
from tremor.store.hdf5_writer import SCHEMA_VERSION, Hdf5Writer, Value

__all__ = [
    "SCHEMA_VERSION",
    "Bf16",
    "Hdf5Artifact",
    "Hdf5Reader",
    "Hdf5Writer",
    "read_hdf5",
    "write_hdf5",
]


@dataclass(frozen=True, eq=False)
class Hdf5Artifact:
    """A verified HDF5 artifact in memory.

    Attributes:
        datasets: name to array (bits as written), `Bf16`, or object array of str.
        attributes: plain Python values; arrays stay arrays; what needed JSON comes back as JSON gives it.
        provenance: as written.
    """

    datasets: dict[str, Value]
    attributes: dict[str, Any]
    provenance: dict[str, Any]

    def array(self, name: str) -> Array:
        """One dataset as an ndarray.

        Raises:
            ArtifactError: no such dataset was read, or it holds bfloat16 bits.
        """
        value = self.datasets.get(name)
        if not isinstance(value, np.ndarray):
            raise ArtifactError(f"dataset {name!r} is {'bfloat16' if value is not None else 'not among those read'}")
        return value


def write_hdf5(
    path: Path | str,
    datasets: Mapping[str, Value],
    *,
    attributes: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Write an artifact in one go; datasets in the order of their names: equal content has equal bytes.

    Args:
        path: the artifact.
        datasets: name to array (bool, integers, float16/32/64, str; any shape) or `Bf16`.
        attributes: values that describe the content: numbers, text, arrays, or anything JSON can hold.
        provenance: from `provenance.collect`.

    Raises:
        TypeError: a dtype cannot be stored.
        ArtifactError: the disk is full or read-only; the old artifact is intact.
    """
    with Hdf5Writer(path, attributes=attributes, provenance=provenance) as file:
        for name in sorted(datasets):
            file.write(name, datasets[name])


def read_hdf5(path: Path | str, *, names: Iterable[str] | None = None) -> Hdf5Artifact:
    """Read and verify an artifact.

    Args:
        path: the artifact.
        names: datasets wanted; None reads all. Only those are read from disk and verified bit for bit.

    Returns:
        The datasets, attributes and provenance.

    Raises:
        ArtifactError: missing, truncated, edited, of another schema or tool, or without a dataset asked for.
    """
    with Hdf5Reader(path) as file:
        datasets = {name: file.read(name) for name in (file.names if names is None else names)}
        return Hdf5Artifact(datasets, file.attributes, file.provenance)
