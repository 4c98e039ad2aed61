"""Writers killed in the middle of a write, disks that are full or read-only, and damage of every kind of file."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tremor.errors import ArtifactError, TremorError
from tremor.store import atomic
from tremor.store.documents import read_json, write_json
from tremor.store.hdf5 import read_hdf5, write_hdf5
from tremor.store.provenance import read_provenance
from tremor.store.tables import read_csv, read_parquet, write_csv, write_parquet

LIBRARY = str(Path(atomic.__file__).parents[2])
KILLS = 80

# Its own process: every child is a copy of it before any library has started a thread, so it can be forked at will.
TORTURE = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from faults import test_writers as t

folder, kills, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(7)

def child(work):
    number = os.fork()
    if number == 0:
        os.setpgid(0, 0)
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    return number

def ended(number):
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])

def forever(version):
    while True:
        version += 1
        for kind in t.KINDS:
            kind.write(folder / kind.name, version)

def check():
    for kind in t.KINDS:
        if (folder / kind.name).exists():
            try:
                t.whole(kind, folder / kind.name)
            except t.ArtifactError as error:
                # A table and its sidecar are two files: killed between their renames they do not fit, and it is seen.
                if kind.name != "a.csv" or "a.csv was edited after it was written" not in str(error):
                    raise

for kill in range(kills):
    writer = child(lambda: forever(1000 * kill))
    time.sleep(rng.uniform(0.002, 0.12))
    os.kill(writer, signal.SIGKILL)
    assert ended(writer) == -signal.SIGKILL
    print(kill, sum(".tmp" in p.name for p in folder.iterdir()), flush=True)
    assert ended(child(check)) == 0, kill

def once():
    for kind in t.KINDS:
        kind.write(folder / kind.name, 0)
    check()

assert ended(child(once)) == 0
print(*sorted(os.listdir(folder)))
"""


class Kind:
    """A format of the store: how a version is written, and how it is read back."""

    def __init__(self, name: str, write: Callable[[Path, int], None], read: Callable[[Path], Any]) -> None:
        self.name, self.write, self.read = name, write, read


def _values(version: int) -> np.ndarray:
    return np.random.default_rng(version).random(20_000)


def _frame(version: int) -> pd.DataFrame:
    return pd.DataFrame({"version": np.full(2000, version), "x": _values(version)[:2000]})


def _write_hdf5(path: Path, version: int) -> None:
    write_hdf5(path, {"x": _values(version)}, attributes={"version": version}, provenance={})


def _write_safetensors(path: Path, version: int) -> None:
    from safetensors.numpy import save_file

    with atomic.replacing(path) as temporary:
        save_file({"x": _values(version)}, temporary, metadata={"version": str(version)})


def _read_safetensors(path: Path) -> tuple[int, np.ndarray]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return int(file.metadata()["version"]), file.get_tensor("x")


def _read_hdf5(path: Path) -> tuple[int, np.ndarray]:
    found = read_hdf5(path)
    return found.attributes["version"], found.array("x")


def _read_table(path: Path) -> tuple[int, np.ndarray]:
    found = read_parquet(path, schema_version=1) if path.suffix == ".parquet" else read_csv(path)
    assert found["version"].nunique() == 1
    return int(found["version"][0]), found["x"].to_numpy()


def _read_json(path: Path) -> tuple[int, np.ndarray]:
    found = read_json(path)
    return found["version"], np.array(found["x"])


KINDS = (
    Kind("a.h5", _write_hdf5, _read_hdf5),
    Kind("a.csv", lambda path, version: write_csv(path, _frame(version), provenance={}), _read_table),
    Kind(
        "a.parquet",
        lambda path, version: write_parquet(path, _frame(version), provenance={}, schema_version=1),
        _read_table,
    ),
    Kind(
        "a.json",
        lambda path, version: write_json(
            path, {"version": version, "x": _values(version)[:2000].tolist()}, provenance={}
        ),
        _read_json,
    ),
    Kind("a.safetensors", _write_safetensors, _read_safetensors),
)


def whole(kind: Kind, path: Path) -> None:
    """The file is one version from its first to its last value."""
    version, found = kind.read(path)
    np.testing.assert_array_equal(found, _values(version)[: len(found)])
    assert len(found) in (2000, 20_000)


def test_killed_in_mid_write(tmp_path: Path) -> None:
    """Eighty kills of a process that does nothing but write: each file is the old one or the new one, or refused."""
    folder = tmp_path / "out"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", TORTURE, str(folder), str(KILLS), str(Path(__file__).parents[1])],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": LIBRARY, "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    *kills, last = done.stdout.splitlines()
    assert len(kills) == KILLS
    # The moments are good ones: many kills came while a temporary file was open. None of those files is left over.
    assert sum(int(line.split()[1]) > 0 for line in kills) >= KILLS // 4
    assert last.split() == sorted([kind.name for kind in KINDS] + ["a.csv.meta.json"])


# ---------------------------------------------------------------------------------------------- disks


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_full_disk(kind: Kind, tmp_path: Path) -> None:
    """The real error of the kernel, by a limit on file sizes: the old artifact stays, and the message says it."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[3])\n"
        "from faults import test_writers as t\n"
        "from tremor.errors import ArtifactError\n"
        "kind = next(kind for kind in t.KINDS if kind.name == sys.argv[2])\n"
        "path = Path(sys.argv[1]) / kind.name\n"
        "kind.write(path, 1)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    kind.write(path, 2)\n"
        "except ArtifactError as error:\n"
        "    print(error)\n"
        "t.whole(kind, path)\n"
        "assert kind.read(path)[0] == 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), kind.name, str(Path(__file__).parents[1])],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": LIBRARY},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cannot write {tmp_path / kind.name}: the file would exceed the size limit")
    assert not [name for name in os.listdir(tmp_path) if ".tmp" in name]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_read_only_disk(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root a folder's mode forbids nothing, so the kernel's answer for a read-only file system is given here."""
    kind.write(tmp_path / kind.name, 1)
    real = os.open

    def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & os.O_CREAT and Path(path).parent == tmp_path:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "open", refuse)
        with pytest.raises(ArtifactError, match=rf"cannot write .*{kind.name}.*read-only; make the folder writable"):
            kind.write(tmp_path / kind.name, 2)
    assert kind.read(tmp_path / kind.name)[0] == 1


# --------------------------------------------------------------------------------------------- damage


def _cut(content: bytes, place: float) -> bytes:
    return content[: int(place * len(content))]


def _flip(content: bytes, place: float) -> bytes:
    changed = bytearray(content)
    changed[int(place * (len(content) - 1))] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("damage", [_cut, _flip])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name != "a.safetensors"], ids=lambda kind: kind.name)
def test_damage_is_named_wherever_it_is(kind: Kind, damage: Callable[[bytes, float], bytes], tmp_path: Path) -> None:
    """A file that is cut short, or has one bit turned, is refused by name with what to do.

    Some bits of a file say nothing that is read (white space, hints of the format to its readers): then every value
    and the provenance must be what they were.
    """
    path = tmp_path / kind.name
    kind.write(path, 1)
    good = path.read_bytes()
    silent, refusals = 0, list[str]()
    for place in np.linspace(0, 1, 101):
        bad = damage(good, float(place))
        if bad == good:
            continue
        path.write_bytes(bad)
        try:
            whole(kind, path)
            assert read_provenance(path) == {}
            silent += 1
        except ArtifactError as error:
            refusals.append(str(error))
    assert all(kind.name in text and "snakemake" in text for text in refusals)
    assert silent == 0 or (damage is _flip and silent <= 15 and kind.name in ("a.parquet", "a.json"))
    path.write_bytes(good)
    whole(kind, path)


@pytest.mark.parametrize("damage", [_cut, _flip])
def test_damaged_weights_are_named(
    damage: Callable[[bytes, float], bytes], tmp_path: Path, saved_model: Callable[[str], Path]
) -> None:
    """Safetensors have no checksum of their own: the model's manifest has, and is asked before the file is loaded."""
    import shutil

    from tremor.models import manifest

    model = tmp_path / "model"
    shutil.copytree(saved_model("llama"), model)
    known = json.loads(json.dumps(manifest.build("tiny", {"source": "path", "path": str(model)}, model)))
    path = model / "model.safetensors"
    good = path.read_bytes()
    for place in (0.0, 0.001, 0.37, 0.5, 0.93, 1.0):
        bad = damage(good, place)
        if bad == good:
            continue
        path.write_bytes(bad)
        with pytest.raises(TremorError, match=r"manifest|model\.safetensors"):
            manifest.verify(known, model)
    path.write_bytes(good)
    manifest.verify(known, model)
