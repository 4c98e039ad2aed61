"""Saving figures: the same bytes in every process, nothing of time in them, atomic, and no heavy imports."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import tremor
from tremor.errors import ArtifactError, ConfigError
from tremor.figures import boundary, save, style

LIBRARY = Path(tremor.__file__).parents[1]
PROVENANCE = {
    "config": {"figures": {"dpi": 72}},
    "code": "c0de",
    "inputs": {"boundary.h5": "1nput"},
    "model": {"alias": "tiny", "weights_digest": "we1ght", "tokenizer_digest": None},
    "platform": {"device": "cpu"},
    "seeds": {"draw": 7},
    "libraries": {"numpy": "2.4"},
    "volatile": {"created_utc": "2026-01-02T03:04:05Z", "wall_time_s": 1.5},
}

DRAW = """
import sys
import numpy as np
from tremor.figures import boundary, save
theta = np.linspace(0, 2 * np.pi, 90, endpoint=False)
max_s = (1e-10 * (2 + np.cos(3 * theta))).astype(np.float32)
figure = boundary.plane({"theta": theta, "max_s": max_s, "first_breakpoint": max_s / 2})
save.save(figure, sys.argv[1:], provenance={"code": "c0de", "volatile": {"created_utc": "now"}}, dpi=72)
heavy = {"torch", "pandas", "scipy", "transformers", "matplotlib.pyplot", "h5py", "pydantic"} & set(sys.modules)
print(sorted(heavy))
"""


def in_process(folder: Path, *names: str) -> str:
    command = [sys.executable, "-c", DRAW, *(str(folder / name) for name in names)]
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY), "PYTHONHASHSEED": str(time.monotonic_ns() % 4096)}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def small() -> Figure:
    theta = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    return boundary.polar({"theta": theta, "max_s": np.full(12, 1e-10, dtype=np.float32)})


def test_two_processes_write_the_same_bytes_and_load_nothing_heavy(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    heavy = in_process(first, "a.png", "a.pdf", "a.svg")
    time.sleep(1.1)  # times in PDF and SVG have a resolution of one second
    in_process(second, "a.png", "a.pdf", "a.svg")
    assert heavy == "[]"
    for suffix in ("png", "pdf", "svg"):
        assert digest(first / f"a.{suffix}") == digest(second / f"a.{suffix}"), suffix


def test_bytes_do_not_depend_on_the_other_formats_nor_on_a_second_save(tmp_path: Path) -> None:
    figure = small()
    save.save(figure, [tmp_path / "a.png", tmp_path / "a.pdf"], dpi=72)
    save.save(figure, [tmp_path / "b.pdf"], dpi=300)
    save.save(small(), [tmp_path / "c.pdf", tmp_path / "c.png"], dpi=72)
    assert digest(tmp_path / "a.pdf") == digest(tmp_path / "b.pdf") == digest(tmp_path / "c.pdf")
    assert digest(tmp_path / "a.png") == digest(tmp_path / "c.png")


def test_a_matplotlibrc_changes_nothing_and_is_restored(tmp_path: Path) -> None:
    save.save(small(), [tmp_path / "a.png"], dpi=72)
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "savefig.bbox": "tight", "axes.grid": True}):
        save.save(small(), [tmp_path / "b.png"], dpi=72)
        assert matplotlib.rcParams["font.size"] == 20
    assert digest(tmp_path / "a.png") == digest(tmp_path / "b.png")


def test_the_stable_part_of_the_provenance_is_embedded(tmp_path: Path) -> None:
    text = save.short_provenance(PROVENANCE)
    assert text.isascii()
    assert json.loads(text) == {
        "config": {"figures": {"dpi": 72}},
        "code": "c0de",
        "seeds": {"draw": 7},
        "platform": {"device": "cpu"},
        "libraries": {"numpy": "2.4"},
        "model": {"weights_digest": "we1ght"},
    }
    later = {**PROVENANCE, "volatile": {"created_utc": "2027"}, "inputs": {"boundary.h5": "other"}}
    assert save.short_provenance(later) == text
    assert save.short_provenance({**PROVENANCE, "config": {"figures": {"dpi": 73}}}) != text
    assert save.short_provenance(None) == save.short_provenance({}) == ""
    save.save(small(), [tmp_path / "a.png", tmp_path / "a.pdf", tmp_path / "a.svg"], provenance=PROVENANCE, dpi=72)
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        assert b"we1ght" in content, path
        assert b"libraries" in content, path
        assert b"Tremor" in content, path
        for secret in (b"2026-01-02", b"CreationDate", b"Matplotlib v", b"1nput"):
            assert secret not in content, (path, secret)


def test_png_size_follows_width_and_dpi(tmp_path: Path) -> None:
    save.save(small(), [tmp_path / "a.png"], dpi=100)
    header = (tmp_path / "a.png").read_bytes()[16:24]  # IHDR: width and height, big endian
    assert int.from_bytes(header[:4], "big") == round(100 * style.WIDTHS["column"])


def test_another_suffix_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"choose png or pdf in figures\.formats"):
        save.save(small(), [tmp_path / "a.png", tmp_path / "a.jpg"])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(ArtifactError, match=r"a\.png.*no space is left"):
        save.save(small(), [path])
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
