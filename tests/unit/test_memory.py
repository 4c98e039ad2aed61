"""The most memory that a process has taken."""

import os

from tremor import memory


def test_peak_memory() -> None:
    before = memory.peak_memory_bytes()
    block = bytearray(os.urandom(1)) * 300_000_000
    grown = memory.peak_memory_bytes()
    del block
    # At least the block; in a large test process the peak may stand above it already.
    assert grown >= max(before, 300_000_000)
