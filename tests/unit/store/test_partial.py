"""Parts of a job: taken up again when they are whole and of the same job, and never otherwise."""

import logging
from pathlib import Path

import numpy as np
import pytest

from tremor.store.partial import Parts

KEY = {"weights": "abc", "windows": [[1, 2]], "seed": None}


def test_a_part_comes_back(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "p", KEY)
    assert parts.load(0) is None
    values = np.array([0.0, -0.0, np.nan, 1e-310])
    parts.save(0, {"x": values})
    found = Parts(tmp_path / "p", dict(KEY)).load(0)
    assert found is not None
    assert found["x"].tobytes() == values.tobytes()
    assert parts.load(1) is None
    parts.clear()
    assert not (tmp_path / "p").exists()
    parts.clear()  # nothing there is nothing wrong


def test_a_part_of_another_job_is_not_used(tmp_path: Path) -> None:
    Parts(tmp_path, KEY).save(3, {"x": np.zeros(2)})
    assert Parts(tmp_path, {**KEY, "weights": "abd"}).load(3) is None


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_part_is_computed_again_and_said(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts(tmp_path, KEY)
    parts.save(0, {"x": np.arange(1000.0)})
    path = tmp_path / "000000.h5"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-100]
    else:
        content[-200] ^= 1
    path.write_bytes(bytes(content))
    with caplog.at_level(logging.WARNING, "tremor"):
        assert parts.load(0) is None
    assert "is computed again" in caplog.text
