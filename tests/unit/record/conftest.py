"""Sessions on tiny models, and a way to record as the job does."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tremor.config import Config, block
from tremor.experiments import recordings, session
from tremor.models import manifest
from tremor.store.documents import write_json

ORIGIN = {"config": {"platform": {"decode": "cached"}}, "code": "code-digest", "inputs": {}}
QUESTIONS = (
    ("capital", "factual", "The capital of France is"),
    ("short", "factual", "Rome"),
    ("accents", "unknowable", "Où est la forêt de Zorblax ?"),
)
PLATFORM = {
    "device": "cpu",
    "dtype": "float32",
    "attention": "auto",
    "threads": 1,
    "tf32": False,
    "environment": {},
    "decode": "cached",
    "batch": 1,
}


@pytest.fixture
def questions() -> tuple[tuple[str, str, str], ...]:
    """What `record` asks by default."""
    return QUESTIONS


def write_questions(path: Path, rows: Any = QUESTIONS) -> Path:
    path.write_text("name\tkind\ttext\n" + "".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def open_platform(
    saved_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., session.Session]]:
    """(family, keys of the platform) -> a session as a job opens it; the process's own settings come back."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    environment = dict(os.environ)

    def start(family: str = "llama", **changes: Any) -> session.Session:
        path = tmp_path_factory.mktemp("manifest") / "manifest.json"
        folder = saved_model(family)
        write_json(path, manifest.build("tiny", {"source": "path", "path": str(folder)}, folder))
        return session.open_platform(manifest=path, directory=folder, settings={**PLATFORM, **changes})

    yield start
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def record(open_platform: Callable[..., session.Session], tmp_path: Path) -> Callable[..., list[Path]]:
    """Record some questions in a folder of their own, as the job does."""

    def run(
        name: str = "native",
        *,
        opened: session.Session | None = None,
        family: str = "llama",
        rows: Any = QUESTIONS,
        decode: str = "cached",
        batch: int = 1,
        platform: Any = None,
        **changes: Any,
    ) -> list[Path]:
        settings = {**block(Config(), "recorder"), "tokens": 6, **changes}
        paths = [tmp_path / name / f"q{number + 1:02d}.h5" for number in range(len(rows))]
        recordings.measure(
            opened or open_platform(family, **(platform or {})),
            questions=write_questions(tmp_path / "questions.tsv", rows),
            settings=settings,
            decode=decode,
            batch=batch,
            recordings=paths,
            provenance=ORIGIN,
        )
        return paths

    return run
