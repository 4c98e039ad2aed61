"""The page of results, built from small results, in Debian's chromium. Without one the tests are skipped."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import pages
from tremor.report import build

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a page over synthetic results."""
    folder = tmp_path_factory.mktemp("page")
    output = folder / "results/index.html"
    build.write(output, pages.make(folder), max_mb=15.0, map_cells=201)
    return output.as_uri()


@dataclass
class Visit:
    """An open page, and what it asked for and complained about."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Visit]]:
    """Open the page in a window of a width and a colour scheme; complaints and requests fail the test at its end."""
    visits: list[Visit] = []

    def open_page(width: int = 1280, scheme: str = "light", at: str = address) -> Visit:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        found = Visit(context.new_page())
        visits.append(found)
        page = found.page
        page.on("request", lambda request: found.requests.append(request.url))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.on("console", lambda said: found.complaints.append(said.text) if said.type in _BAD else None)
        page.goto(at)
        page.wait_for_selector("html[data-ready]", state="attached")
        return found

    yield open_page
    for each in visits:
        each.page.context.close()
        assert not each.complaints
        elsewhere = [url for url in each.requests if not url.startswith(("file:", "data:", "blob:"))]
        assert not elsewhere


_BAD = ("error", "warning")


@pytest.fixture
def screenshot() -> Callable[..., None]:
    """Keep a picture of a page for the eye, in TREMOR_SCREENSHOTS or .screenshots."""
    folder = Path(os.environ.get("TREMOR_SCREENSHOTS", ROOT / ".screenshots"))

    def keep(page: Any, name: str, *, whole: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{name}.png", full_page=whole)

    return keep
