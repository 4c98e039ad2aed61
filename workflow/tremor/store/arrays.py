"""How arrays and attributes become bytes in an artifact: encoding, canonical digests, chunk shapes."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

CHUNK_BYTES = 1 << 20
"""Target size of a chunk: large enough to compress, small enough to read one row without reading all."""

_KINDS = "biuf"
_WIDEST_FLOAT = 8
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, eq=False)
class Bf16:
    """A bfloat16 array, which numpy does not know, as its bits.

    Attributes:
        bits: int16 array of any shape; uint16 is accepted and viewed as int16.
    """

    bits: NDArray[np.int16]

    def __post_init__(self) -> None:
        bits = np.asarray(self.bits)
        if bits.dtype not in (np.dtype(np.int16), np.dtype(np.uint16)):
            raise TypeError(f"Bf16 holds the bits as int16 or uint16, not {bits.dtype}")
        object.__setattr__(self, "bits", bits.view(np.int16))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.bits.shape

    def to_float32(self) -> NDArray[np.float32]:
        """The same values as float32, exactly (bfloat16 is the upper half of a float32)."""
        return (self.bits.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


@dataclass(frozen=True)
class Encoding:
    """What a dataset holds and how its bytes are digested.

    Attributes:
        name: "bfloat16", "utf8", or numpy's little-endian dtype string such as "<f4".
        stored: numpy dtype in the file; object for text.
    """

    name: str
    stored: np.dtype[Any]

    @property
    def is_text(self) -> bool:
        """Whether the values are strings."""
        return self.name == "utf8"


def encoding_for(kind: DTypeLike | type[Bf16] | str) -> Encoding:
    """Encoding of a dtype; `Bf16` or "bfloat16" for bfloat16, `str` for text.

    Raises:
        TypeError: the kind cannot be stored (complex, structured, dates, long double, Python objects).
    """
    if kind is Bf16 or (isinstance(kind, str) and kind == "bfloat16"):
        return Encoding("bfloat16", np.dtype("<i2"))
    if kind is str or (isinstance(kind, str) and kind == "utf8"):
        return Encoding("utf8", np.dtype(object))
    dtype = np.dtype(kind)
    if dtype.kind in "UT":
        return Encoding("utf8", np.dtype(object))
    if dtype.kind not in _KINDS or (dtype.kind == "f" and dtype.itemsize > _WIDEST_FLOAT):
        raise TypeError(f"dtype {dtype} cannot be stored: use bool, integers, float16/32/64, Bf16 or str")
    little = dtype.newbyteorder("<")
    return Encoding(little.str, little)


def encode(value: Array | Bf16) -> tuple[Encoding, Array]:
    """Encoding of a value and the contiguous array to store, bits unchanged.

    Args:
        value: array of any shape, or `Bf16`.

    Raises:
        TypeError: the dtype cannot be stored, or an object array holds something else than strings.
    """
    if isinstance(value, Bf16):
        return encoding_for(Bf16), np.asarray(value.bits, dtype="<i2", order="C")
    array = np.asarray(value)
    if array.dtype.kind in "OUT":
        text = array.astype(object)
        for item in text.flat:
            if not isinstance(item, str):
                raise TypeError(f"an array of objects may hold strings only, not {type(item).__name__}")
            if _NO_TEXT.search(item):
                raise TypeError("HDF5 text cannot hold NUL or lone surrogates: store token ids or bytes instead")
        return encoding_for(str), text
    encoding = encoding_for(array.dtype)
    return encoding, np.asarray(array, dtype=encoding.stored, order="C")


class Digest:
    """sha256 over raw bytes, then dtype and shape: rows can be added before their number is known."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._hash = hashlib.sha256()

    def update(self, stored: Array) -> None:
        """Add rows, as they are stored."""
        if not self._encoding.is_text:
            # uint8 view instead of tobytes(): no second copy of a large recording.
            self._hash.update(np.asarray(stored, order="C").reshape(-1).view(np.uint8).data)
            return
        for item in stored.flat:
            raw = item.encode("utf-8")
            self._hash.update(len(raw).to_bytes(8, "little") + raw)

    def hexdigest(self, shape: Iterable[int]) -> str:
        """Digest of all rows so far as an array of this shape."""
        closing = self._hash.copy()
        closing.update(json.dumps([self._encoding.name, [int(n) for n in shape]]).encode())
        return closing.hexdigest()


def array_digest(value: Array | Bf16) -> str:
    """sha256 of one array: dtype, shape and bits; -0.0 differs from 0.0 and NaN payloads count."""
    encoding, stored = encode(value)
    digest = Digest(encoding)
    digest.update(stored)
    return digest.hexdigest(stored.shape)


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Chunk for an array of this shape: whole trailing axes as far as they fit `CHUNK_BYTES`.

    Our own rule instead of h5py's guess, which may change between its versions and with it the bytes of
    artifacts.

    Args:
        shape: at least one axis; zero lengths count as one.
        itemsize: bytes per element.

    Returns:
        Chunk shape with the same number of axes.
    """
    lengths = [max(1, length) for length in shape]
    chunk = [1] * len(lengths)
    room = max(1, CHUNK_BYTES // max(1, itemsize))
    for axis in reversed(range(len(lengths))):
        chunk[axis] = min(lengths[axis], room)
        room = max(1, room // chunk[axis])
    return tuple(chunk)


def attribute_digest_input(attributes: Mapping[str, Any]) -> list[list[str]]:
    """Canonical form of attributes, as stored in HDF5, for a digest: [name, dtype, shape, bytes in hex]."""
    rows = []
    for name in sorted(attributes):
        value = np.asarray(attributes[name])
        if value.dtype.kind in "OUST":
            listed = [v.decode() if isinstance(v, bytes) else str(v) for v in value.flat]
            rows.append([name, "utf8", str(list(value.shape)), json.dumps(listed)])
        else:
            little = value.astype(value.dtype.newbyteorder("<"))
            rows.append([name, little.dtype.str, str(list(value.shape)), little.tobytes().hex()])
    return rows


def native_attribute(value: Any) -> Any | None:
    """The value as HDF5 holds it natively (text, bool, number, array of them), or None if it needs JSON."""
    if isinstance(value, str):
        # NUL and lone surrogates are no HDF5 text; JSON escapes both.
        return value if not _NO_TEXT.search(value) else None
    if isinstance(value, (bool, np.bool_)):
        return np.bool_(value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return np.int64(value)
    if isinstance(value, (float, np.number, np.ndarray)):
        array = np.asarray(value)
        if array.dtype.kind in _KINDS and array.dtype.itemsize <= _WIDEST_FLOAT and array.size:
            return value
    return None
