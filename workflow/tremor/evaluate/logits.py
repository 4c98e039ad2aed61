"""Logits of many tokens, kept exactly as a model gave them: in memory, or in a temporary file if they are many."""

import os
import tempfile

import torch
from torch import Tensor


class LogitStore:
    """Rows of logits in the model's dtype, written once and read often.

    Args:
        rows: Number of tokens.
        vocab: Logits of one token.
        memory: Bytes that may stay in memory; a larger store is mapped from an unnamed temporary file.
    """

    def __init__(self, rows: int, vocab: int, *, memory: float) -> None:
        self.rows = rows
        self.vocab = vocab
        self.memory = memory
        self._data: Tensor | None = None

    @property
    def on_disk(self) -> bool:
        """Whether the rows lie in a temporary file; known after the first `put`."""
        return self._data is not None and self._data.numel() * self._data.element_size() > self.memory

    def put(self, start: int, logits: Tensor) -> None:
        """Keep rows [n, vocab] from row `start` on."""
        if self._data is None:
            self._data = self._allocate(logits)
        self._data[start : start + len(logits)].copy_(logits)

    def get(self, start: int, count: int, like: Tensor) -> Tensor:
        """Rows [count, vocab] from `start` on, on the device of `like`."""
        assert self._data is not None, "nothing was put into the store"
        return self._data[start : start + count].to(like.device)

    def _allocate(self, like: Tensor) -> Tensor:
        count = self.rows * self.vocab
        if count * like.element_size() <= self.memory:
            return torch.empty((self.rows, self.vocab), dtype=like.dtype, device=like.device)
        handle, name = tempfile.mkstemp(prefix="tremor-logits-")
        try:
            os.truncate(name, count * like.element_size())
            data = torch.from_file(name, shared=True, size=count, dtype=like.dtype)
        finally:
            os.close(handle)
            os.unlink(name)  # the mapping keeps it until the store is gone
        return data.view(self.rows, self.vocab)
