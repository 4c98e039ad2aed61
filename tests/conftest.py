"""Fixtures for the whole session: tiny saved models, each built, saved and loaded once."""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from families import save_tiny
from tremor.models.loader import LoadedModel, load

PROMPT = "The capital of France is"

# No deadline: a busy machine is no defect. In CI the examples are the same each time, so that a submission is judged
# by its change; elsewhere they are drawn anew, which is how defects are found.
settings.register_profile("tremor", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("tremor")


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Family -> folder of a saved tiny model with two blocks. Never change a file in it: copy it first."""

    @cache
    def save(family: str) -> Path:
        folder = tmp_path_factory.mktemp("tiny") / family
        save_tiny(family, folder, layers=2)
        return folder

    return save


@pytest.fixture(scope="session")
def loaded_model(saved_model: Callable[[str], Path]) -> Callable[..., LoadedModel]:
    """(family, dtype) -> a loaded tiny model on the CPU, shared by all tests: leave it as it is."""

    @cache
    def get(family: str, dtype: str = "float32") -> LoadedModel:
        return load(saved_model(family), dtype=dtype, device="cpu")

    return get


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny Llama for checkouts of the workflow; copy it, never change it."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_tiny("llama", folder)
    return folder


@pytest.fixture
def private_model(saved_model: Callable[[str], Path]) -> Callable[..., LoadedModel]:
    """(family, dtype) -> a loaded tiny model of this test's own, free to be damaged."""

    def get(family: str, dtype: str = "float32") -> LoadedModel:
        return load(saved_model(family), dtype=dtype, device="cpu")

    return get


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless chromium for the tests of a module.

    While it is there an event loop runs in this process, in which nothing else may use asyncio: hence not one for the
    session, which would outlive the tests that need it.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed; as root: make chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium)
        yield running
        running.close()
