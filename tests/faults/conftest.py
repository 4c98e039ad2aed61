"""A session on a tiny Llama, as a job opens it, for faults in the middle of an experiment."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from faults.parts import probe
from tremor import gpus, memory
from tremor.experiments import session
from tremor.models import manifest
from tremor.store.documents import write_json


@pytest.fixture
def tiny(saved_model: Callable[[str], Path], tmp_path: Path) -> Iterator[session.Session]:
    """A session of the test's own; the process's settings come back at the end."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    environment = dict(os.environ)
    folder = saved_model("llama")
    path = tmp_path / "manifest.json"
    write_json(path, manifest.build("tiny", {"source": "path", "path": str(folder)}, folder))
    yield session.open_session(manifest=path, directory=folder, dtype="float32", attention="auto", probe=probe())
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """Shortages and claimed cards belong to a process, which is one job; here it is one test."""
    memory.reset()
    yield
    memory.reset()
    gpus.release_all()
