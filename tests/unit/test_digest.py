"""Code digests: maths counts, comments and layout do not, imports are followed."""

import time
from pathlib import Path

import pytest

from tremor import digest
from tremor.digest import closure, code_digest
from tremor.errors import ConfigError

BASE = '''
"""Doc."""
from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from tremor.lazy import Kind

def f(x: int, y=2) -> int:
    """Doc."""
    z: int = x + y  # why
    return z

class C:
    """Doc."""
    field: int = 1
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "__init__.py": '__version__ = "1"',
        "errors.py": "class E(Exception): ...",
        "floats.py": BASE,
        "lazy.py": "Kind = 1",
        "probe/__init__.py": "",
        "probe/boundary.py": "from tremor.floats import f\nfrom tremor.errors import E\nfrom . import walk\n",
        "probe/walk.py": "def g():\n    import tremor.stats.mean as m\n    from ..deep import low\n",
        "deep/__init__.py": "DEEP = 1\n",
        "deep/low.py": "import importlib\nx = importlib.import_module('tremor.far')\n",
        "far.py": "from tremor.config.blocks import B\nfrom tremor.probe import boundary\n",
        "stats/__init__.py": "",
        "stats/mean.py": "import numpy as np\nfrom tremor import job\n",
        "config/__init__.py": "",
        "config/blocks.py": "B = 1",
        "job.py": "x = 1",
        "other.py": "x = 1",
    }
    for name, text in files.items():
        path = tmp_path / "tremor" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "tremor"


def test_closure_follows_every_kind_of_import(root: Path) -> None:
    assert closure("probe.boundary", root=root) == (
        "tremor.deep",
        "tremor.deep.low",
        "tremor.far",
        "tremor.floats",
        "tremor.probe",
        "tremor.probe.boundary",
        "tremor.probe.walk",
        "tremor.stats",
        "tremor.stats.mean",
    )
    assert closure("probe", root=root) == closure("probe.boundary", root=root)
    assert closure("tremor.lazy", root=root) == ("tremor.lazy",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# why", "# because"),
        ("x + y", "(x   +\n        y)"),
        ('"""Doc."""', '"""Other."""'),
        ("x: int, y=2) -> int", "x: float, y: 'Kind' = 2) -> float"),
        ("z: int = x", "z = x"),
        ("from tremor.lazy import Kind", "from tremor.other import Kind"),
    ],
)
def test_what_does_not_count(root: Path, old: str, new: str) -> None:
    before = code_digest("probe.boundary", root=root)
    (root / "floats.py").write_text(BASE.replace(old, new))
    assert code_digest("probe.boundary", root=root) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x + y", "x - y"),
        ("y=2", "y=3"),
        ("y=2", "y=2.0"),
        ("return z", "return -z"),
        ("field: int", "field: float"),
        ("def f", "def h"),
        ("return z", "return 'z'"),
        ("field: int = 1", "field: int = True"),
    ],
)
def test_what_counts(root: Path, old: str, new: str) -> None:
    before = code_digest("probe.boundary", root=root)
    (root / "floats.py").write_text(BASE.replace(old, new))
    assert code_digest("probe.boundary", root=root) != before


@pytest.mark.parametrize("name", ["far.py", "deep/__init__.py", "stats/mean.py", "probe/__init__.py"])
def test_distant_maths_counts(root: Path, name: str) -> None:
    before = code_digest("probe.boundary", root=root)
    (root / name).write_text((root / name).read_text() + "\nq = 3\n")
    assert code_digest("probe.boundary", root=root) != before


@pytest.mark.parametrize("name", ["__init__.py", "errors.py", "job.py", "config/blocks.py", "other.py"])
def test_plumbing_and_strangers_do_not(root: Path, name: str) -> None:
    before = code_digest("probe.boundary", root=root)
    (root / name).write_text("q = 3\n")
    assert code_digest("probe.boundary", root=root) == before


def test_order_and_names(root: Path) -> None:
    assert code_digest("far", "lazy", root=root) == code_digest("lazy", "far", "lazy", root=root)
    assert code_digest("lazy", root=root) != code_digest("other", root=root)
    with pytest.raises(ConfigError, match=r"no module 'probe.bondary' in tremor; correct the name"):
        code_digest("probe.bondary", root=root)
    with pytest.raises(ConfigError, match="no module ''"):
        code_digest("", root=root)
    (root / "far.py").write_text("def (")
    with pytest.raises(ConfigError, match=r"module tremor.far is not valid Python"):
        code_digest("probe.boundary", root=root)


def test_cache_on_disk(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache" / "code.json"
    fresh = code_digest("probe.boundary", root=root)
    digest._memory.clear()
    assert code_digest("probe.boundary", root=root, cache=cache) == fresh
    written = cache.read_bytes()

    digest._memory.clear()
    with monkeypatch.context() as patch:
        patch.setattr(digest, "_render", None)  # nothing is parsed again
        assert code_digest("probe.boundary", root=root, cache=cache) == fresh
    assert cache.read_bytes() == written

    for damage in (written[:50], b"[]", b'{"format": 1}', b"\xff", b'{"files": 3}'):
        digest._memory.clear()
        cache.write_bytes(damage)
        assert code_digest("probe.boundary", root=root, cache=cache) == fresh
        assert cache.read_bytes() == written

    (root / "far.py").write_text("q = 4\n")
    assert code_digest("probe.boundary", root=root, cache=cache) != fresh
    # A cache that cannot be written costs time, not the job.
    digest._memory.clear()
    assert code_digest("other", root=root, cache=root / "job.py" / "x.json") == code_digest("other", root=root)


def test_own_package_is_fast() -> None:
    digest._memory.clear()
    started = time.process_time()
    code_digest("store", "platform")
    # About 2000 lines take 0.05 s here; 1 s allows for slow machines and still catches a quadratic closure.
    assert time.process_time() - started < 1.0
