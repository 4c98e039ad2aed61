"""Provenance: complete, stable, and fit to be published."""

import getpass
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tremor.errors import ArtifactError
from tremor.store import provenance
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5
from tremor.store.provenance import _head, collect, read_provenance
from tremor.store.tables import write_csv, write_parquet


def make(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "config": {"angles": 4, "text": "/home is where"},
        "code": "ab" * 32,
        "inputs": {"results/a.h5": "cd" * 32},
        "seeds": {"directions": 1},
        "platform": {"applied": {"device": "cpu"}},
        "model": {"alias": "tiny"},
    }
    return collect(**{**arguments, **changes})


def test_stable_and_volatile_parts() -> None:
    first, second = make(wall_time_s=1.0), make(wall_time_s=2.0)
    assert first.pop("volatile") != second.pop("volatile")
    assert first == second
    assert first["config"]["text"] == "/home is where"  # a prompt is no path
    assert first["libraries"]["numpy"] == np.__version__
    volatile = make()["volatile"]
    assert set(volatile) == {
        "wall_time_s",
        "peak_memory_bytes",
        "peak_device_memory_bytes",
        "created_utc",
        "git_commit",
        "git_dirty",
    }
    assert volatile["peak_memory_bytes"] > 10_000_000  # a Python with numpy is larger than that
    assert volatile["created_utc"].endswith("Z")
    json.dumps(make(), allow_nan=False)


def test_nothing_private() -> None:
    found = make(
        config={
            "path": "/data/me/my-model",
            "hf_token": "hf_secret",
            "file": "rel/x",
            "nested": [{"folder": "C:\\u\\m"}],
        },
        inputs={"/data/me/weights.safetensors": "0"},
        model={"source": Path("/data/me/my-model")},
    )
    text = json.dumps(found)
    for private in ("hf_secret", "hf_token", "/data/me", "C:", str(Path.home()) + "/", socket.gethostname()):
        assert private not in text
    assert getpass.getuser() == "root" or getpass.getuser() not in text
    assert found["config"] == {"path": "my-model", "file": "rel/x", "nested": [{"folder": "m"}]}
    assert found["inputs"] == {"weights.safetensors": "0"}
    assert found["model"] == {"source": "my-model"}


def test_commit_without_the_git_program(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert _head(git) is None  # no commit yet
    (git / "packed-refs").write_text("# pack-refs\n" + "a" * 40 + " refs/heads/main\n")
    assert _head(git) == "a" * 40
    (git / "refs" / "heads" / "main").write_text("b" * 40 + "\n")
    assert _head(git) == "b" * 40
    worktree = tmp_path / "w"
    (git / "worktrees" / "w").mkdir(parents=True)
    (git / "worktrees" / "w" / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "worktrees" / "w" / "commondir").write_text("../..\n")
    worktree.mkdir()
    (worktree / ".git").write_text(f"gitdir: {git / 'worktrees' / 'w'}\n")
    assert _head(worktree / ".git") == "b" * 40
    (git / "HEAD").write_text("c" * 40 + "\n")
    assert _head(git) == "c" * 40


def test_read_from_every_kind(tmp_path: Path) -> None:
    origin = make()
    table = pd.DataFrame({"x": [1.5]})
    write_hdf5(tmp_path / "a.h5", {}, attributes={}, provenance=origin)
    write_csv(tmp_path / "a.csv", table, provenance=origin)
    write_parquet(tmp_path / "a.parquet", table, provenance=origin, schema_version=1)
    write_json(tmp_path / "a.json", {}, provenance=origin)
    for name in ("a.h5", "a.csv", "a.parquet", "a.json"):
        assert read_provenance(tmp_path / name) == origin
    write_json(tmp_path / "b.json", {})
    for name in ("b.json", "c.png"):
        with pytest.raises(ArtifactError, match="carries no provenance"):
            read_provenance(tmp_path / name)


def test_cheap_imports() -> None:
    """A job that writes JSON must not pay for pandas, pyarrow or torch."""
    code = (
        "import sys; import tremor.store.hdf5, tremor.store.provenance, tremor.store.documents, tremor.job, "
        "tremor.digest, tremor.platform, tremor.progress\n"
        "print(sorted({'torch', 'pandas', 'pyarrow', 'pydantic', 'snakemake', 'tqdm'} & set(sys.modules)))"
    )
    root = str(Path(provenance.__file__).parents[2])
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout.strip() == "[]"
