"""The comparer against loading whole files, as the originals did for one row of each."""

import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np

from bench import timing
from bench.context import Context
from bench.report import Row, at_least, at_most
from tremor.compare import bits, recording
from tremor.compare.runs import compare_runs
from tremor.store.arrays import chunk_shape
from tremor.store.hdf5 import Hdf5Writer, read_hdf5

ORDER = 75
DEVICES = ("cpu",)
WIDTH, TOP = 1024, 10
SHORT, LONG = 1000, 8000  # tokens: 4 and 33 MB of states
MEGABYTE = 2.0**20


def _write(path: Path, rows: int, seed: int) -> None:
    """A recording of drawn numbers; the states of two seeds differ in the last bits of some coordinates."""
    shared, own = np.random.default_rng(0), np.random.default_rng(seed)
    states = shared.normal(size=(rows, WIDTH)).astype(np.float32)
    states.view(np.int32)[...] += own.integers(0, 2, states.shape, dtype=np.int32)
    logits = -np.sort(-shared.normal(size=(rows, TOP)), axis=1)
    columns: dict[str, Any] = {
        "generated_ids": np.arange(rows), "top_ids": np.tile(np.arange(TOP), (rows, 1)),
        "top_logits": logits.astype(np.float32), "top_probs": np.full((rows, TOP), 0.09),
        "logsumexp": np.zeros(rows), "margin": np.ones(rows, np.float32), "ties": np.ones(rows, np.int64),
        "prompt_ids": np.arange(5), "states/final": states,
    }  # fmt: skip
    attributes = {**dict.fromkeys(recording.ATTRIBUTES, ""), "taps": ["final"], "pieces": ["x"] * rows}
    attributes |= {"schema": recording.SCHEMA, "dtype": "float32"}
    with Hdf5Writer(path, attributes=attributes, provenance={}) as file:
        for name, value in columns.items():
            file.write(name, value)


def _peak(path: Path, row: int) -> float:
    """Megabytes that Python holds at most while one row is read; the HDF5 library holds a chunk besides."""
    with recording.open_recording(path) as run:
        tracemalloc.start()
        run.state("final", row)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak / MEGABYTE


def measure(context: Context) -> list[Row]:
    """Memory and time of one row, short and long file; time of a whole comparison."""
    with tempfile.TemporaryDirectory() as name:
        paths = {(rows, seed): Path(name) / f"{rows}-{seed}.h5" for rows in (SHORT, LONG) for seed in (1, 2)}
        for (rows, seed), path in paths.items():
            _write(path, rows, seed)
        short, long = (_peak(paths[rows, 1], rows // 2) for rows in (SHORT, LONG))
        chunk = np.prod(chunk_shape((LONG, WIDTH), 4)) * 4 / MEGABYTE
        opened = timing.repeated(lambda: recording.open_recording(paths[LONG, 1]).close(), 3)
        with recording.open_recording(paths[LONG, 1]) as a, recording.open_recording(paths[LONG, 2]) as b:

            def decisive() -> None:
                bits.compare_vectors(a.state("final", LONG // 2), b.state("final", LONG // 2))

            def whole() -> None:
                first, second = (read_hdf5(paths[LONG, k]).array("states/final") for k in (1, 2))
                bits.compare_vectors(first[LONG // 2], second[LONG // 2])

            one, all_rows = timing.repeated(decisive, 7), timing.repeated(whole, 3)
            everything = timing.once(lambda: compare_runs(a, b))
    size = LONG * WIDTH * 4 / MEGABYTE
    return [
        at_most("one row of a recording, memory over that of a file 8 times shorter", long / short, 1.2,
                note=f"{long:.2g} MB, and a chunk of {chunk:.2g} MB in HDF5, of {size:.0f} MB"),
        at_least("one row of two recordings compared, times faster than by whole files", all_rows.best / one.best, 5,
                 note=one.text()),
        Row(f"opening a recording of {size:.0f} MB, which checks its sha256", f"{opened.text()}"),
        Row(f"{LONG} rows of {WIDTH} compared in bits, ulps and numbers", f"{everything:.3g} s, "
            f"{2 * size / everything:.0f} MB/s"),
    ]  # fmt: skip
