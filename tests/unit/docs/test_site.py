"""What the site's build relies on; the build itself (make site) is a step of CI, where warnings are errors."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
LIBRARY = ROOT / "workflow/tremor"
# Packages whose modules all have an entry. Others (configuration, graph, experiments, figures) serve the workflow.
PACKAGES = (
    "api",
    "probe",
    "record",
    "compare",
    "weights",
    "weights/scores",
    "neurons",
    "evaluate",
    "documents",
    "statistics",
    "store",
)


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def conf() -> ModuleType:
    before = list(sys.path)
    try:
        return module(DOCS / "conf.py")
    finally:
        sys.path[:] = before


@pytest.fixture(scope="module")
def docstrings() -> ModuleType:
    return module(DOCS / "_extensions/docstrings.py")


@pytest.fixture(scope="module")
def offline() -> ModuleType:
    return module(DOCS / "_extensions/offline.py")


def test_every_page_is_in_the_navigation_once(conf: ModuleType):
    text = conf.navigation((DOCS / "index.md").read_text(encoding="utf-8"))
    entries = [
        line for tree in re.findall(r"```{toctree}\n(.*?)```", text, re.DOTALL) for line in tree.splitlines() if line
    ]
    pages = [entry for entry in entries if not entry.startswith(":")]
    assert len(pages) == len(set(pages))
    assert {path.stem for path in DOCS.glob("*.md")} - {"index"} <= set(pages)
    assert all(list(DOCS.glob(f"{page}.*")) for page in pages)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_lists_every_module_of(package: str, conf: ModuleType):
    listed = {name for names in conf.LIBRARY.values() for name in names}
    there = {
        f"tremor.{package.replace('/', '.')}.{path.stem}"
        for path in (LIBRARY / package).glob("*.py")
        if path.stem != "__init__"
    }
    assert there <= listed


def test_the_reference_lists_no_module_that_is_gone(conf: ModuleType):
    for name in [name for names in conf.LIBRARY.values() for name in names]:
        assert (LIBRARY.parent / f"{name.replace('.', '/')}.py").is_file(), name


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        "<script async src='//cdn.example/x.js'></script>",
        '<link rel="stylesheet" type="text/css" href="https://cdn.example/x.css" />',
        '<link href="http://cdn.example/x.css" rel="stylesheet">',
        '<img alt="a" src="https://cdn.example/badge.svg">',
    ],
)
def test_what_a_page_would_fetch_is_found(html: str, tmp_path: Path, offline: ModuleType):
    (tmp_path / "index.html").write_text(f"<p>{html}</p>", encoding="utf-8")
    assert [line.partition(":")[0] for line in offline.fetched(tmp_path)] == ["index.html"]


def test_what_a_style_would_fetch_is_found(tmp_path: Path, offline: ModuleType):
    (tmp_path / "x.css").write_text("@import 'https://fonts.example/css';", encoding="utf-8")
    (tmp_path / "y.css").write_text("a { background: url(//cdn.example/a.png) }", encoding="utf-8")
    assert len(offline.fetched(tmp_path)) == 2


def test_links_and_own_files_are_no_fetches(tmp_path: Path, offline: ModuleType):
    page = (
        '<a href="https://example.org">x</a><script src="_static/a.js"></script><link rel="next" href="https://e.org">'
    )
    (tmp_path / "index.html").write_text(page, encoding="utf-8")
    (tmp_path / "x.css").write_text("a { background: url(data:image/svg+xml;utf8,http://x) }", encoding="utf-8")
    assert offline.fetched(tmp_path) == []


def test_bars_and_asterisks_are_what_they_are(docstrings: ModuleType):
    given = ["|w| times ``a * b`` of :func:`x`, [n, *shape].", "", "Example:", "    f(*rows) | g", "", "End |x|."]
    assert docstrings.escaped(given) == [
        r"\|w\| times ``a * b`` of :func:`x`, [n, \*shape].",
        "",
        "Example::",
        "",
        "    f(*rows) | g",
        "",
        r"End \|x\|.",
    ]


def test_attributes_leave_the_text_of_a_class(docstrings: ModuleType):
    given = [
        "A ranking.",
        "",
        "Attributes:",
        "    left: [n] columns,",
        "        in order.",
        "    right: rows.",
        "",
        "More.",
    ]
    assert docstrings.fields(given) == (
        ["A ranking.", "", "More."],
        {"left": ["[n] columns,", "in order."], "right": ["rows."]},
    )


def test_fields_have_the_description_of_their_class_or_their_comment(docstrings: ModuleType):
    source = '''
LIMIT = 3  # most of them


class A:
    """A ranking.

    Attributes:
        left: [n] columns,
            in order.
    """

    left: int  # overruled
    right: str  # [d] rows
    plain: str
'''
    assert docstrings.descriptions(source) == {
        ("", "LIMIT"): ["most of them"],
        ("A", "left"): ["[n] columns,", "in order."],
        ("A", "right"): ["[d] rows"],
    }


def test_arrays_have_their_short_name(docstrings: ModuleType):
    long = "(x: ~numpy.ndarray[tuple[~typing.Any, ...], ~numpy.dtype[~numpy.float64]]) "
    assert docstrings.shorten(None, "", "", None, None, long, None) == (
        "(x: ~numpy.typing.NDArray[~numpy.float64]) ",
        None,
    )
