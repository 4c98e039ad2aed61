"""One saved tiny Llama, a session on it, and the whole chain of experiments run once."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tremor.config import Config, block
from tremor.experiments import boundary, distances, session, spectrum
from tremor.models import manifest
from tremor.store.documents import write_json

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}
PROMPT = {"text": "The capital of France is", "bos": "auto"}


@dataclass(frozen=True)
class Chain:
    """Runs each experiment in process, as the scripts do, with small settings that a test may change."""

    session: session.Session

    @staticmethod
    def settings(name: str, **changes: Any) -> dict[str, Any]:
        small: dict[str, dict[str, Any]] = {
            "exp12": {"angles": 16, "s_max": 1e-4},
            "exp13": {"vectors": 5, "random_directions": 4, "s_max": 1e-4},
            "exp15": {"noise_samples": 16},
            "probe": {"batch_size": 16, "mode": "batched", "threads": 1, "device": "cpu"},
        }
        return {**block(Config(), name), **small.get(name, {}), **changes}

    def spectrum(self, folder: Path, *, prompt: Any = PROMPT, **changes: Any) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        spectrum.measure(
            self.session,
            prompt,
            self.settings("spectrum", **changes),
            data=folder / "spectrum.h5",
            statistics=folder / "spectrum.json",
            provenance=ORIGIN,
        )
        return folder / "spectrum.h5"

    def boundary(
        self,
        folder: Path,
        source: Path,
        variant: str,
        *,
        arithmetic: Any = "float64",
        prompt: Any = PROMPT,
        probe: Any = None,
        **changes: Any,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        name = {"angles": "exp12", "vectors": "exp13"}[variant]
        boundary.measure(
            name,
            self.session,
            prompt,
            arithmetic=arithmetic,
            probe=self.settings("probe", **(probe or {})),
            settings=self.settings(name, **changes),
            spectrum=source,
            data=folder / f"{name}.h5",
            table=folder / f"{name}.csv",
            statistics=folder / f"{name}.json",
            provenance=ORIGIN,
        )
        return folder / f"{name}.h5"

    def distances(
        self,
        folder: Path,
        ancestor: Path,
        source: Path,
        variant: str,
        *,
        prompt: Any = PROMPT,
        probe: Any = None,
        current: session.Session | None = None,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        distances.measure(
            current or self.session,
            prompt,
            variant=variant,
            probe=self.settings("probe", **(probe or {})),
            settings=self.settings("exp15"),
            boundary=ancestor,
            spectrum=source,
            table=folder / f"{variant}.csv",
            statistics=folder / f"{variant}.json",
            provenance=ORIGIN,
        )
        return folder / f"{variant}.csv"

    def everything(self, folder: Path, *, arithmetic: Any = "float64") -> Path:
        source = self.spectrum(folder)
        for variant in ("angles", "vectors"):
            ancestor = self.boundary(folder, source, variant, arithmetic=arithmetic)
            self.distances(folder, ancestor, source, variant)
        return folder


@pytest.fixture(scope="session")
def open_tiny(
    saved_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., session.Session]]:
    """(family, dtype) -> a session as a job opens it; the process's own settings come back at the end."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    environment = dict(os.environ)

    def start(family: str = "llama", dtype: str = "float32") -> session.Session:
        path = tmp_path_factory.mktemp("manifest") / "manifest.json"
        folder = saved_model(family)
        write_json(path, manifest.build("tiny", {"source": "path", "path": str(folder)}, folder))
        return session.open_session(
            manifest=path, directory=folder, dtype=dtype, attention="auto", probe=Chain.settings("probe")
        )

    yield start
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="session")
def chain(open_tiny: Callable[..., session.Session]) -> Chain:
    return Chain(open_tiny())


@pytest.fixture(scope="session")
def results(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the artifacts of the whole chain; tests only read them."""
    return chain.everything(tmp_path_factory.mktemp("results"))
