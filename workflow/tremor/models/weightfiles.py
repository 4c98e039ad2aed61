"""Weights straight from safetensors files, tensor by tensor, without the model and without torch.

Files are mapped into memory, so that a tensor costs what it holds and a file of any size costs nothing. Values come as
float32 (float64 where they are stored so): bfloat16 and float16 fit into it exactly. Which part of a model a tensor is
stands in its component map: see :mod:`tremor.models.components`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor.errors import ModelError
from tremor.models import catalogue
from tremor.models.manifest import read_header

# Type in the file -> type of the same bits in numpy, which has no bfloat16.
STORED: Mapping[str, str] = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
# Positions of a mask and the like are no weights.
_NO_WEIGHTS = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")
_PIECE = 1 << 24  # values looked at together


@dataclass(frozen=True)
class _Entry:
    path: Path
    kind: str
    shape: tuple[int, ...]
    offset: int  # bytes from the start of the file


def widen(stored: npt.NDArray[Any], kind: str) -> npt.NDArray[Any]:
    """Stored bits as numbers: float32 for BF16, F16 and F32, float64 for F64; exact.

    Args:
        stored: Values in the numpy type that :data:`STORED` names; any shape.
        kind: Type in the file.
    """
    if kind == "BF16":
        wide: npt.NDArray[np.float32] = (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return wide
    return np.asarray(stored, dtype=np.float64 if kind == "F64" else np.float32)


class WeightFiles:
    """All floating-point tensors in a model's weight files.

    Args:
        folder: The model's folder.

    Raises:
        ModelError: a file is missing, truncated or damaged, a tensor stands in two files, the weights are quantised, or
            a type is not read (such as 8-bit floats, which mean nothing without their scales).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if catalogue.read_config(folder).get("quantization_config"):
            raise ModelError(
                f"{folder / catalogue.CONFIG}: the stored weights are quantised (quantization_config); "
                "save the model dequantised, in bfloat16 or float32"
            )
        self._entries: dict[str, _Entry] = {}
        for path in catalogue.weight_files(folder):
            for name, entry in read_header(path).items():
                self._add(path, name, entry)
        self.names: tuple[str, ...] = tuple(sorted(self._entries))

    def _add(self, path: Path, name: str, entry: Mapping[str, Any]) -> None:
        kind, shape = entry["dtype"], tuple(int(n) for n in entry["shape"])
        if kind in _NO_WEIGHTS:
            return
        if kind not in STORED:
            raise ModelError(
                f"{path}: tensor '{name}' is stored as {kind}, which is not read; "
                "save the model in bfloat16, float16 or float32"
            )
        if name in self._entries:
            raise ModelError(f"tensor '{name}' stands in {self._entries[name].path} and in {path}; remove one file")
        start, stop = entry["data_offsets"]
        if stop - start != int(np.prod(shape, dtype=np.int64)) * np.dtype(STORED[kind]).itemsize:
            raise ModelError(f"{path}: the bytes of tensor '{name}' do not fit its shape; copy or fetch it again")
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        self._entries[name] = _Entry(path, kind, shape, 8 + header + int(start))

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            raise ModelError(
                f"{self.folder} has no tensor '{name}'; see results/exp9/<model>/components.json for names"
            )
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, as stored."""
        return self._entry(name).shape

    def kind(self, name: str) -> str:
        """Type of a tensor in its file: BF16, F16, F32 or F64."""
        return self._entry(name).kind

    def stored(self, name: str) -> npt.NDArray[Any]:
        """The stored bits of a tensor, mapped and not copied; bfloat16 as uint16.

        Returns:
            Read-only array of the tensor's shape, of the numpy type in :data:`STORED`.
        """
        entry = self._entry(name)
        dtype = np.dtype(STORED[entry.kind])
        if not all(entry.shape):
            return np.zeros(entry.shape, dtype)
        return np.memmap(entry.path, dtype=dtype, mode="r", offset=entry.offset, shape=entry.shape)

    def digest(self, name: str) -> str:
        """sha256 of a tensor's bytes as stored, in hexadecimal."""
        digest = hashlib.sha256()
        flat = self.stored(name).reshape(-1)
        for start in range(0, flat.size, _PIECE):
            digest.update(np.ascontiguousarray(flat[start : start + _PIECE]).data)
        return digest.hexdigest()

    def read(self, name: str) -> npt.NDArray[Any]:
        """All values of a tensor.

        Returns:
            float32 (float64 for F64) array of the tensor's shape.

        Raises:
            ModelError: no such tensor, or a value is NaN or infinite.
        """
        return self._checked(name, self.stored(name))

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows start <= i < stop of a tensor's first axis; nothing else is read.

        Returns:
            float32 (float64 for F64) array [stop - start, ...].

        Raises:
            ModelError: no such tensor or rows, or a value in them is NaN or infinite.
        """
        shape = self.shape(name)
        if not shape or not 0 <= start < stop <= shape[0]:
            raise ModelError(f"tensor '{name}' of shape {list(shape)} has no rows {start} to {stop}")
        return self._checked(name, self.stored(name)[start:stop])

    def _checked(self, name: str, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        values = widen(stored, self.kind(name))
        flat = values.reshape(-1)
        for start in range(0, flat.size, _PIECE):
            piece = flat[start : start + _PIECE]
            if not np.isfinite(piece).all():
                what = "NaN" if np.isnan(piece).any() else "infinite values"
                raise ModelError(f"weights in {self.folder}: tensor '{name}' has {what}; copy the model again")
        return values
