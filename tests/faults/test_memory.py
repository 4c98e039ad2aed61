"""Memory that runs out in a batched sweep: smaller batches, never two shapes in one artifact, and it is said."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from faults.parts import ORIGIN, PROMPT, probe
from tremor import job, memory
from tremor.config import Config, block
from tremor.errors import PlatformError
from tremor.experiments import boundary, spectrum
from tremor.experiments.session import Session
from tremor.models.loader import LoadedModel
from tremor.probe.base import base_point
from tremor.probe.response import AUTO_BATCHES, Response, row_bytes
from tremor.replay import content
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.provenance import read_provenance

Models = Callable[..., LoadedModel]
WIDE = 1e6  # bytes: 64 rows of the tiny Llama and more


class Scarce:
    """Lets a model's forward fail for batches of more than `rows` rows, from its `after`-th such forward on."""

    def __init__(self, module: torch.nn.Module, rows: int, *, after: int = 0, error: Exception | None = None) -> None:
        self.rows, self.after, self.seen, self.shapes = rows, after, 0, list[int]()
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self._handle = module.register_forward_pre_hook(self._check, with_kwargs=True)

    def _check(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        rows = len(kwargs["inputs_embeds"])
        self.shapes.append(rows)
        if rows > self.rows:
            self.seen += 1
            if self.seen > self.after:
                raise self.error

    def __enter__(self) -> "Scarce":
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


def test_the_real_errors_are_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert memory.is_shortage(caught.value)
    with pytest.raises(MemoryError) as numpys:
        np.empty(2**50)
    assert memory.is_shortage(numpys.value)
    assert memory.is_shortage(torch.OutOfMemoryError("CUDA out of memory."))
    assert memory.is_shortage(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"))
    assert not memory.is_shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not memory.is_shortage(PlatformError("memory ran out"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_auto_halves_while_it_looks_for_a_size(
    loaded_model: Models, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT["text"])
    first = Response(loaded, base, mode="batched", max_memory=WIDE).batch_size
    assert first > 8
    with Scarce(loaded.anatomy.base, 8, error=error), caplog.at_level(logging.WARNING):
        assert Response(loaded, base, mode="batched", max_memory=WIDE).batch_size == 8
        # A second response of the same job does not run into it again.
        tried = memory.shortages()
        assert Response(loaded, base, mode="batched", max_memory=WIDE).batch_size == 8
    assert tried == memory.shortages() == [b for b in AUTO_BATCHES if 8 < b <= first]
    assert f"memory ran out with batches of {first} rows; {first // 2} are tried" in caplog.text


def test_a_size_that_was_asked_for_is_an_error_that_names_the_key(loaded_model: Models) -> None:
    """Another shape would be another function, so nothing is changed behind the user's back."""
    loaded = loaded_model("llama")
    base = base_point(loaded, PROMPT["text"])
    with (
        Scarce(loaded.anatomy.base, 8),
        pytest.raises(PlatformError, match=r"batches of 16 rows; set probe\.batch_size to a smaller number"),
    ):
        Response(loaded, base, mode="batched", batch_size=16)
    response = Response(loaded, base, mode="batched", batch_size=16)
    with (
        Scarce(loaded.anatomy.base, 8),
        pytest.raises(PlatformError, match=r"probe\.batch_size") as caught,
    ):
        response.evaluate(np.stack([base.x] * 3))
    assert not isinstance(caught.value, memory.BatchTooLarge)
    assert memory.batch_limit() is None
    with Scarce(loaded.anatomy.base, 0), pytest.raises(PlatformError, match="one sequence of 5 tokens"):
        Response(loaded, base, mode="reference")
    with Scarce(loaded.anatomy.base, 0), pytest.raises(PlatformError, match="a batch of one row"):
        Response(loaded, base, mode="batched")


def _measure(session: Session, folder: Path, source: Path, batch_size: Any) -> Path:
    folder.mkdir(exist_ok=True)
    boundary.measure(
        "exp13",
        session,
        PROMPT,
        arithmetic="float64",
        probe=probe(batch_size=batch_size),
        settings={**block(Config(), "exp13"), "vectors": 5, "random_directions": 4, "s_max": 1e-4},
        spectrum=source,
        data=folder / "boundary.h5",
        table=folder / "boundary.csv",
        statistics=folder / "statistics.json",
        provenance=ORIGIN,
    )
    return folder / "boundary.h5"


@pytest.fixture
def source(tiny: Session, tmp_path: Path) -> Path:
    path = tmp_path / "spectrum.h5"
    spectrum.measure(
        tiny,
        PROMPT,
        block(Config(), "spectrum"),
        data=path,
        statistics=tmp_path / "spectrum.json",
        provenance=ORIGIN,
    )
    return path


def test_a_sweep_starts_again_with_half_the_batch(tiny: Session, source: Path, tmp_path: Path) -> None:
    """The log says it, the artifact says it, and its numbers are those of a run that took the small batch at once."""
    model = tiny.loaded.anatomy.base
    base = base_point(tiny.loaded, PROMPT["text"])
    tiny = Session(tiny.loaded, tiny.manifest, tiny.fingerprint, 8.5 * row_bytes(tiny.loaded, base))
    with Scarce(model, 8) as plenty:
        free = read_hdf5(_measure(tiny, tmp_path / "free", source, "auto"))
    first = free.attributes["batch_size"]
    assert first == 8
    forwards = plenty.shapes.count(first)
    runs: list[int] = []

    def run(inputs: Any, params: Any, outputs: Any) -> None:
        runs.append(len(scarce.shapes))
        _measure(tiny, tmp_path / "scarce", source, "auto")

    log = tmp_path / "job.log"
    snakemake = SimpleNamespace(input={}, output={}, params={}, log=[str(log)], rule="exp13")
    # All but the last batch of the search have been answered when it happens.
    with Scarce(model, first // 2, after=forwards - 1) as scarce:
        job.main(run, snakemake)
    assert len(runs) == 2
    again = scarce.shapes[runs[1] :]
    # No batch of the artifact had another shape; the single row is the prompt's own forward.
    assert set(again) == {first // 2, 1}
    assert again.count(1) == 1
    said = f"memory ran out with batches of {first} rows; the job starts again with at most {first // 2}"
    assert said in log.read_text()
    found = read_hdf5(tmp_path / "scarce/boundary.h5")
    assert found.attributes["batch_size"] == first // 2
    assert found.provenance["out_of_memory_rows"] == [first]
    assert free.provenance["out_of_memory_rows"] == []
    memory.reset()
    fixed = _measure(tiny, tmp_path / "fixed", source, first // 2)
    assert content(tmp_path / "scarce/boundary.h5") == content(fixed)
    assert read_json(tmp_path / "scarce/statistics.json")["provenance"]["out_of_memory_rows"] == [first]
    assert read_provenance(fixed)["out_of_memory_rows"] == []


def test_memory_that_no_batch_can_save_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(inputs: Any, params: Any, outputs: Any) -> None:
        torch.empty(2**50)

    with pytest.raises(SystemExit):
        job.main(run, SimpleNamespace(input={}, output={}, params={}, log=[], rule="spectrum"))
    said = capsys.readouterr().err
    assert said.startswith("error: memory ran out (")
    assert "lower probe.max_memory" in said
    assert "Traceback" not in said


def test_nan_in_mid_sweep_leaves_nothing(tiny: Session, source: Path, tmp_path: Path) -> None:
    """The search is under way when the model answers NaN: an error, and no artifact, not even half of one."""
    from tremor.errors import NumericsError

    seen = 0

    def poison(module: torch.nn.Module, args: Any, output: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen > 10:
            output.last_hidden_state[0, -1, 0] = torch.nan if seen % 2 else torch.inf
        return output

    handle = tiny.loaded.anatomy.base.register_forward_hook(poison)
    try:
        with pytest.raises(NumericsError, match="became NaN or infinite under a nudge; lower s_max"):
            _measure(tiny, tmp_path / "out", source, 4)
    finally:
        handle.remove()
    assert seen == 11
    assert list((tmp_path / "out").iterdir()) == []
