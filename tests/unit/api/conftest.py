"""One tiny Llama, opened twice: as a job of the workflow opens it, and as a notebook does."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import tremor
from tremor.config import Config, block
from tremor.experiments import session
from tremor.models import manifest
from tremor.store.documents import write_json

PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def process() -> Iterator[None]:
    """Settings of the process that a model changes come back at the end."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    environment = dict(os.environ)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, saved_model: Callable[[str], Path]) -> Path:
    """A folder as Snakemake is run in, with a configuration that names the tiny model."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "config").mkdir()
    (folder / "resources/models").mkdir(parents=True)
    text = f"models: {{tiny: {{source: path, path: '{saved_model('llama')}'}}}}\n"
    text += "probe: {threads: 1, device: cpu, batch_size: 16}\nexp12: {angles: 8, s_max: 1.0e-4}\n"
    (folder / "config/config.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def model(process: None, project: Path) -> tremor.Model:
    return tremor.load("tiny", project=project)


@pytest.fixture(scope="module")
def job(process: None, saved_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> session.Session:
    """The session of a job on the same model."""
    folder = saved_model("llama")
    path = tmp_path_factory.mktemp("manifest") / "manifest.json"
    write_json(path, manifest.build("tiny", {"source": "path"}, folder))
    probe = {**block(Config(), "probe"), "threads": 1, "device": "cpu"}
    return session.open_session(manifest=path, directory=folder, dtype="float32", attention="auto", probe=probe)
