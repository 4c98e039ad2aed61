"""Writing of HDF5 artifacts, whole or row by row; the layout is described in `hdf5`."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import DTypeLike

from tremor.store import scratch
from tremor.store.arrays import (
    CHUNK_BYTES,
    Array,
    Bf16,
    Digest,
    Encoding,
    attribute_digest_input,
    chunk_shape,
    encode,
    encoding_for,
    native_attribute,
)
from tremor.store.atomic import replacing
from tremor.store.documents import json_safe

SCHEMA_VERSION = 1
"""Version of the layout above."""

MAGIC = "TREMOR-HDF5"
BLOCK_BYTES = 512
"""The smallest block HDF5 leaves to its users at the start of a file."""

RESERVED = ("tremor_schema", "content_sha256", "json_attributes", "provenance", "provenance_sha256")
# What h5py raises on damaged files; MemoryError is left out, because it may be a real shortage.
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError)
# Filters cannot act on variable-length text, which lies outside the chunks; its sha256 protects it.
_FILTERS: dict[str, Any] = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
_TEXT_ITEM_BYTES = 16

Value = Array | Bf16


class _Sink:
    """The file that HDF5 writes to, as h5py wants a Python file; errors of the disk wait here until `check`.

    The HDF5 library does not survive a full disk: a failed write surfaces in a destructor, where it is lost
    (and the damaged file would replace a good one), or makes the process crash when it ends.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR)
        self._position = 0
        self._end = 0
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error of the disk, if there was one."""
        if self._error is not None:
            raise self._error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset from the start, or from the end for SEEK_END."""
        self._position = offset + (self._end if whence == os.SEEK_END else 0)
        return self._position

    def write(self, data: Any) -> int:
        """Write all bytes; after an error they are dropped."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self._error is None:
            try:
                done += os.pwrite(self._descriptor, view[done:], self._position + done)
            except OSError as error:
                self._error = error
        self._position += len(view)
        self._end = max(self._end, self._position)
        return len(view)

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._position

    def read(self, size: int) -> bytes:
        """As `readinto`; h5py takes an object with this method for a file."""
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def readinto(self, buffer: Any) -> int:
        """Read back; what could not be written reads as zeros."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            piece = os.pread(self._descriptor, len(view) - done, self._position + done)
            if not piece:
                view[done:] = bytes(len(view) - done)
                break
            view[done : done + len(piece)] = piece
            done += len(piece)
        self._position += len(view)
        return len(view)

    def truncate(self, size: int) -> int:
        """Set the length of the file."""
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            self._error = self._error or error
        self._end = size
        return size

    def flush(self) -> None:
        """Nothing is buffered here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def file_digest(path: Path) -> str:
    """sha256 of a file behind its first block."""
    with open(path, "rb") as file:
        file.seek(BLOCK_BYTES)
        digest = hashlib.sha256()
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _block(path: Path) -> bytes:
    text = f"{MAGIC} {SCHEMA_VERSION}\nsize {path.stat().st_size}\nsha256 {file_digest(path)}\n"
    return text.encode().ljust(BLOCK_BYTES, b"\0")


class _Stream:
    """A dataset that grows: rows are collected to whole chunks, so that each chunk is compressed once."""

    def __init__(self, dataset: h5py.Dataset, encoding: Encoding, tail: tuple[int, ...]) -> None:
        self.dataset, self.encoding, self.tail = dataset, encoding, tail
        self.digest = Digest(encoding)
        self.length = 0
        self._buffer = np.empty((dataset.chunks[0], *tail), dtype=encoding.stored)
        self._held = 0

    def append(self, rows: Array) -> None:
        self.digest.update(rows)
        start = 0
        while start < len(rows):
            count = min(len(rows) - start, len(self._buffer) - self._held)
            self._buffer[self._held : self._held + count] = rows[start : start + count]
            self._held += count
            start += count
            if self._held == len(self._buffer):
                self.flush()

    def flush(self) -> None:
        if not self._held:
            return
        self.dataset.resize(self.length + self._held, axis=0)
        self.dataset[self.length :] = self._buffer[: self._held]
        self.length += self._held
        self._held = 0


class Hdf5Writer:
    """Writes an HDF5 artifact piece by piece, with flat memory; it appears when the block ends without error.

    Args:
        path: the artifact.
        attributes: values that describe the content. May be completed through `.attributes` until the block
            ends.
        provenance: how the artifact came to be; likewise `.provenance` (wall time is known at the end).

    Example:
        with Hdf5Writer(path, attributes={"mode": "reference"}, provenance=p) as file:
            file.write("x0", x0)
            file.create("hidden", (768,), np.float32)
            for row in rows:
                file.append("hidden", row)
    """

    def __init__(self, path: Path | str, *, attributes: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.attributes = dict(attributes)
        self.provenance = dict(provenance)
        self._digests: dict[str, str] = {}
        self._streams: dict[str, _Stream] = {}
        self._file: h5py.File | None = None
        self._sink: _Sink | None = None
        self._session: AbstractContextManager[None] | None = None

    def __enter__(self) -> Self:
        self._session = self._write_session()
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._session is not None
        return self._session.__exit__(kind, value, trace)

    @contextmanager
    def _write_session(self) -> Iterator[None]:
        with replacing(self.path) as temporary, scratch.staged(temporary, artifact=self.path) as growing:
            yield from self._grow(growing)

    def _grow(self, path: Path) -> Iterator[None]:
        # A fixed version and no times make the bytes repeatable; version 1.10 checksums its metadata.
        with _Sink(path) as sink:
            self._sink = sink
            self._file = h5py.File(sink, "w", libver=("v110", "v110"), userblock_size=BLOCK_BYTES)
            try:
                yield
                self._finish(self._file)
            finally:
                # Never fails, since the sink keeps errors to itself; a failed close would crash at exit.
                self._file.close()
                self._file = None
                sink.check()
        with open(path, "r+b") as file:
            file.write(_block(path))

    def _open_file(self, name: str) -> h5py.File:
        if self._file is None:
            raise RuntimeError("an Hdf5Writer writes inside its `with` block only")
        if not name or name != name.strip("/") or any(part in ("", ".", "..") for part in name.split("/")):
            raise ValueError(f"{name!r} is no dataset name")
        if name in self._digests or name in self._streams:
            raise ValueError(f"dataset {name!r} is written twice")
        return self._file

    def write(self, name: str, value: Value) -> None:
        """Write a whole dataset of any shape.

        Args:
            name: dataset name; "/" makes groups.
            value: array of bool, integers, float16/32/64 or str; or `Bf16`.

        Raises:
            TypeError: the dtype cannot be stored.
            ArtifactError: the disk is full or read-only.
        """
        file = self._open_file(name)
        encoding, stored = encode(value)
        options: dict[str, Any] = {}
        if stored.size and stored.ndim and not encoding.is_text:
            options = {"chunks": chunk_shape(stored.shape, stored.itemsize), **_FILTERS}
        dtype = h5py.string_dtype() if encoding.is_text else encoding.stored
        dataset = file.create_dataset(name, shape=stored.shape, dtype=dtype, track_times=False, **options)
        if stored.size:
            dataset[...] = stored
        digest = Digest(encoding)
        digest.update(stored)
        self._digests[name] = _sign(dataset, encoding, digest)
        self._check_disk()

    def create(
        self,
        name: str,
        shape_tail: tuple[int, ...],
        dtype: DTypeLike | type[Bf16],
        *,
        most: int = 1 << 62,
        level: int = 4,
    ) -> None:
        """Start a dataset of rows, to be filled by `append`.

        Args:
            name: dataset name.
            shape_tail: shape of one row; () for numbers.
            dtype: as in `write`; `Bf16` for bfloat16, `str` for text.
            most: rows it will have at most, if that is known: a short dataset then takes a short chunk.
            level: effort of the compression, 1 to 9; noise in last bits takes time at any, and gives little.
        """
        file = self._open_file(name)
        encoding = encoding_for(dtype)
        tail = tuple(int(length) for length in shape_tail)
        item = _TEXT_ITEM_BYTES if encoding.is_text else encoding.stored.itemsize
        chunks = chunk_shape((most, *tail), item)
        dataset = file.create_dataset(
            name,
            shape=(0, *tail),
            maxshape=(None, *tail),
            chunks=chunks,
            dtype=h5py.string_dtype() if encoding.is_text else encoding.stored,
            track_times=False,
            **({} if encoding.is_text else {**_FILTERS, "compression_opts": level}),
        )
        self._streams[name] = _Stream(dataset, encoding, tail)

    def append(self, name: str, value: Value) -> None:
        """Append one row (shape `shape_tail`) or several (shape [n, *shape_tail]).

        Raises:
            ValueError: another shape or dtype than declared: a silent cast would change bits.
        """
        stream = self._streams.get(name)
        if stream is None:
            raise ValueError(f"dataset {name!r} is not declared: call create first")
        encoding, stored = encode(value)
        if stored.shape == stream.tail:
            stored = stored[np.newaxis]
        if encoding != stream.encoding or stored.shape[1:] != stream.tail or stored.ndim != len(stream.tail) + 1:
            raise ValueError(
                f"dataset {name!r} takes rows of {stream.encoding.name} {stream.tail}, "
                f"not {encoding.name} {stored.shape}"
            )
        stream.append(stored)
        self._check_disk()

    def _check_disk(self) -> None:
        if self._sink is not None:
            self._sink.check()

    def _finish(self, file: h5py.File) -> None:
        for name, stream in self._streams.items():
            stream.flush()
            self._digests[name] = _sign(stream.dataset, stream.encoding, stream.digest)
        by_json = []
        stored: dict[str, Any] = {}
        for name in sorted(self.attributes):
            if name in RESERVED:
                raise ValueError(f"attribute {name!r} is reserved")
            native = native_attribute(self.attributes[name])
            if native is None:
                by_json.append(name)
                native = _json_text(self.attributes[name])
            stored[name] = native
        stored["json_attributes"] = _json_text(by_json)
        for name, value in stored.items():
            file.attrs[name] = value
        provenance = _json_text(self.provenance)
        file.attrs["tremor_schema"] = np.int64(SCHEMA_VERSION)
        file.attrs["content_sha256"] = content_digest(self._digests, stored)
        file.attrs["provenance"] = provenance
        file.attrs["provenance_sha256"] = hashlib.sha256(provenance.encode()).hexdigest()


def _json_text(value: Any) -> str:
    # Plain ASCII: JSON escapes what HDF5 text cannot hold.
    return json.dumps(json_safe(value), ensure_ascii=True, allow_nan=False)


def _sign(dataset: h5py.Dataset, encoding: Encoding, digest: Digest) -> str:
    value = digest.hexdigest(dataset.shape)
    dataset.attrs["dtype"] = encoding.name
    dataset.attrs["sha256"] = value
    return value


def content_digest(digests: Mapping[str, str], stored: Mapping[str, Any]) -> str:
    """sha256 over sorted dataset names with their digests, and the attributes as they are stored."""
    content = [sorted([name, value] for name, value in digests.items()), attribute_digest_input(stored)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
