"""Verified reading of HDF5 artifacts, whole or slice by slice; the layout is described in `hdf5`."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from tremor.errors import ArtifactError
from tremor.store.arrays import Bf16, Digest, Encoding, encoding_for
from tremor.store.hdf5_writer import (
    BLOCK_BYTES,
    DAMAGE,
    MAGIC,
    RESERVED,
    SCHEMA_VERSION,
    Value,
    content_digest,
    file_digest,
)

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
REMEDY = "delete it and run snakemake again"


class Hdf5Reader:
    """Reads an HDF5 artifact slice by slice. Opening verifies the names, the digests and the attributes.

    A slice is protected by its chunks' checksums; whole datasets, and those without chunk checksums (text,
    scalars), by their sha256.

    Args:
        path: the artifact.

    Raises:
        ArtifactError: the file is missing, truncated, edited, of another schema, or not Tremor's.
    """

    names: tuple[str, ...]
    attributes: dict[str, Any]
    provenance: dict[str, Any]

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._datasets: dict[str, h5py.Dataset] = {}
        self._whole: set[str] = set()

    def __enter__(self) -> Self:
        if not self.path.is_file():
            raise ArtifactError(f"{self.path} does not exist; run snakemake to make it")
        self._verify_file()
        with self._damage():
            # Artifacts are replaced, never changed in place: no lock is needed (and many disks have none).
            self._file = h5py.File(self.path, "r", locking=False)
        try:
            with self._damage():
                self._verify_root(self._file)
        except ArtifactError:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @contextmanager
    def _damage(self, name: str | None = None) -> Iterator[None]:
        where = f"dataset {name!r} of {self.path}" if name else str(self.path)
        try:
            yield
        except DAMAGE as error:
            raise ArtifactError(f"{where} cannot be read, it is truncated or damaged; {REMEDY}") from error

    def _verify_file(self) -> None:
        try:
            with open(self.path, "rb") as file:
                head = file.read(BLOCK_BYTES)
            size = self.path.stat().st_size
            match = re.fullmatch(rb"%b (\d+)\nsize (\d+)\nsha256 ([0-9a-f]{64})\n\0+" % MAGIC.encode(), head)
            if match is None:
                known = head.startswith((HDF5_SIGNATURE, MAGIC.encode()))
                kind = "was not written by Tremor or is damaged" if known else "is not an HDF5 file"
                raise ArtifactError(f"{self.path} {kind}; {REMEDY}")
            if int(match[1]) != SCHEMA_VERSION:
                raise ArtifactError(
                    f"{self.path} has schema version {int(match[1])}, this Tremor reads {SCHEMA_VERSION}; {REMEDY}"
                )
            if size < int(match[2]):
                raise ArtifactError(f"{self.path} is truncated to {size} of {int(match[2])} bytes; {REMEDY}")
            if size != int(match[2]) or file_digest(self.path).encode() != match[3]:
                raise ArtifactError(f"{self.path} was changed after it was written; {REMEDY}")
        except OSError as error:
            raise ArtifactError(f"{self.path} cannot be read ({error.strerror}); {REMEDY}") from error

    def _verify_root(self, file: h5py.File) -> None:
        root = dict(file.attrs.items())
        found: dict[str, h5py.Dataset] = {}
        file.visititems(lambda name, item: found.__setitem__(name, item) if isinstance(item, h5py.Dataset) else None)
        digests = {}
        for name, dataset in found.items():
            if "sha256" not in dataset.attrs or "dtype" not in dataset.attrs:
                raise ArtifactError(f"dataset {name!r} of {self.path} was written by another tool; {REMEDY}")
            digests[name] = str(dataset.attrs["sha256"])
        stored = {name: value for name, value in root.items() if name not in RESERVED or name == "json_attributes"}
        if content_digest(digests, stored) != root.get("content_sha256"):
            raise ArtifactError(f"the attributes or the list of datasets of {self.path} were edited; {REMEDY}")
        provenance = str(root.get("provenance"))
        if hashlib.sha256(provenance.encode()).hexdigest() != root.get("provenance_sha256"):
            raise ArtifactError(f"the provenance of {self.path} was edited; {REMEDY}")
        by_json = set(json.loads(stored.pop("json_attributes")))
        self._datasets = found
        self.names = tuple(sorted(found))
        self.attributes = {
            name: json.loads(value) if name in by_json else _plain(value) for name, value in stored.items()
        }
        self.provenance = json.loads(provenance)

    def _dataset(self, name: str) -> tuple[h5py.Dataset, Encoding]:
        if name not in self._datasets:
            near = get_close_matches(name, self.names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(self.names) or 'none'}."
            raise ArtifactError(f"{self.path} has no dataset {name!r}: {hint} If it is from an older run, {REMEDY}")
        dataset = self._datasets[name]
        with self._damage(name):
            encoding = encoding_for(str(dataset.attrs["dtype"]))
            text = h5py.check_string_dtype(dataset.dtype) is not None
            if text != encoding.is_text or (not text and dataset.dtype != encoding.stored):
                raise ArtifactError(f"dataset {name!r} of {self.path} was replaced by another tool; {REMEDY}")
        return dataset, encoding

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a dataset, which is not read."""
        return tuple(self._dataset(name)[0].shape)

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> Value:
        """A dataset, or its rows start <= i < stop.

        Args:
            name: dataset name.
            start: first row, from 0.
            stop: row after the last; both None read and verify all.

        Returns:
            ndarray, `Bf16`, or object array of str; bits as written.

        Raises:
            ArtifactError: no such dataset, or its content is not what was written.
        """
        dataset, encoding = self._dataset(name)
        whole = start is None and stop is None
        if not whole and not dataset.fletcher32 and name not in self._whole:
            self.read(name)
            self._whole.add(name)
        with self._damage(name):
            view = dataset.asstr() if encoding.is_text else dataset
            stored = np.asarray(view[()] if whole else view[start:stop], dtype=encoding.stored)
        if whole:
            digest = Digest(encoding)
            with self._damage(name):
                digest.update(stored)
                same = digest.hexdigest(stored.shape) == dataset.attrs["sha256"]
            if not same:
                raise ArtifactError(f"dataset {name!r} of {self.path} was changed after it was written; {REMEDY}")
        return Bf16(stored) if encoding.name == "bfloat16" else stored

    def rows(self, name: str) -> Iterator[Value]:
        """The rows of a dataset one by one; a chunk of rows is in memory at a time.

        Yields:
            Each row as `read` gives it, without the first axis.
        """
        dataset, _ = self._dataset(name)
        step = dataset.chunks[0] if dataset.chunks else max(1, len(dataset))
        for start in range(0, len(dataset), step):
            block = self.read(name, start, start + step)
            if isinstance(block, Bf16):
                yield from (Bf16(row) for row in block.bits)
            else:
                yield from (np.asarray(row, dtype=block.dtype) for row in block)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, (np.bool_, np.int64, np.float64)) else value
