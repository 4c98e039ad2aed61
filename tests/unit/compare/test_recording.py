"""Recordings: read row by row, refused where they are damaged or say nothing about two platforms."""

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthetic import Pretended, Side, write_recording
from tremor.compare.recording import open_recording, require_comparable
from tremor.errors import ArtifactError
from tremor.store.arrays import Bf16
from tremor.store.hdf5 import read_hdf5, write_hdf5

MODEL = Pretended()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "q01.h5"
    write_recording(path, MODEL, Side())
    return path


def test_rows_are_those_of_the_datasets(path: Path) -> None:
    whole = read_hdf5(path)
    with open_recording(path) as run:
        assert len(run) == 12
        assert run.ids.tolist() == whole.array("generated_ids").tolist()
        assert run.question == "q01"
        assert run.taps == ("embedding", "final_prenorm", "final")
        assert (run.width("final"), run.rows("final")) == (24, 12)
        state = run.state("final", 7)
        assert isinstance(state, np.ndarray)
        assert state.tobytes() == whole.array("states/final")[7].tobytes()
        top = run.top(7)
        assert top.ids[0] == run.ids[7]
        assert top.margin == top.logits[0] - top.logits[1]
        assert not top.tied
        assert run.column("margin", 3, 5).tolist() == whole.array("margin")[3:5].tolist()
        assert run.pieces[0].endswith("é")
        for wrong in (-1, 12):
            with pytest.raises(IndexError, match="has rows 0 to 11"):
                run.state("final", wrong)


def test_bfloat16_states_are_their_bits(tmp_path: Path) -> None:
    write_recording(tmp_path / "r.h5", MODEL, Side(dtype="bfloat16"))
    with open_recording(tmp_path / "r.h5") as run:
        state = run.state("final", 0)
        assert isinstance(state, Bf16)
        assert state.bits.dtype == np.int16
        assert np.array_equal(state.to_float32(), MODEL.state([5, 6, 7], "bfloat16"))


def test_a_question_that_ends_at_once_is_a_recording(tmp_path: Path) -> None:
    write_recording(tmp_path / "r.h5", MODEL, Side(length=1), changes={"stopped": "eos"})
    with open_recording(tmp_path / "r.h5") as run:
        assert (len(run), run.stopped) == (1, "eos")
        assert run.states("final", 0, 1).shape == (1, 24)


def test_text_that_utf8_cannot_hold_comes_back(tmp_path: Path) -> None:
    """A byte-level token by itself is half a letter; NUL is a letter too."""
    pieces = ["\ufffd", "\x00", "日本", "\udce9", "", "\n"]
    write_recording(tmp_path / "r.h5", MODEL, Side(length=6), changes={"pieces": pieces})
    with open_recording(tmp_path / "r.h5") as run:
        assert run.pieces == tuple(pieces)


def test_what_was_not_recorded_is_named(path: Path) -> None:
    with open_recording(path) as run, pytest.raises(ArtifactError, match=r"does not hold .*block\.0.*recorder\.taps"):
        run.state("block.0.mixer", 0)


def test_a_tap_may_be_recorded_for_the_first_tokens_only(path: Path, tmp_path: Path) -> None:
    whole = read_hdf5(path)
    datasets = {**whole.datasets, "states/embedding": whole.array("states/embedding")[:4]}
    write_hdf5(tmp_path / "r.h5", datasets, attributes=_own(whole.attributes), provenance={})
    with open_recording(tmp_path / "r.h5") as run:
        assert run.rows("embedding") == 4
        assert run.state("embedding", 3).shape == (24,)
        with pytest.raises(ArtifactError, match=r"for the first 4 tokens.*recorder\.tap_steps"):
            run.state("embedding", 4)


def _own(attributes: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in attributes.items() if k not in ("tremor_schema", "content_sha256")}


@pytest.mark.parametrize("name", ["ties", "states/final", "generated_ids"])
def test_datasets_that_do_not_fit_are_refused(path: Path, tmp_path: Path, name: str) -> None:
    whole = read_hdf5(path)
    longer = np.concatenate([whole.array(name), whole.array(name)[:1]])
    write_hdf5(tmp_path / "r.h5", {**whole.datasets, name: longer}, attributes=_own(whole.attributes), provenance={})
    with pytest.raises(ArtifactError, match="does not fit"):
        open_recording(tmp_path / "r.h5")


def test_other_files_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        open_recording(tmp_path / "none.h5")
    write_hdf5(tmp_path / "other.h5", {"x": np.zeros(3)}, attributes={}, provenance={})
    with pytest.raises(ArtifactError, match="is no recording, it has no attribute 'question'"):
        open_recording(tmp_path / "other.h5")
    write_recording(tmp_path / "old.h5", MODEL, Side(length=2), changes={"schema": "recording/0"})
    with pytest.raises(ArtifactError, match="has the schema recording/0"):
        open_recording(tmp_path / "old.h5")


@pytest.mark.parametrize("left", [0.0, 0.5, 0.999])
def test_a_truncated_recording_is_refused(path: Path, tmp_path: Path, left: float) -> None:
    content = path.read_bytes()
    (tmp_path / "r.h5").write_bytes(content[: int(left * len(content))])
    with pytest.raises(ArtifactError, match=r"truncated|not an HDF5 file"):
        open_recording(tmp_path / "r.h5")


@pytest.mark.parametrize(
    ("side", "more", "what"),
    [
        (Side(weights_digest="sha256:others"), {}, "different weights"),
        (Side(tokenizer_digest="sha256:others"), {}, "different tokenizers"),
        (Side(), {"question": "q02"}, "different questions"),
        (Side(), {"text": "When?"}, "different texts"),
        (Side(), {"prompt": (5, 6, 8)}, "different prompt ids"),
        (Side(), {"prompt": (5, 6, 7, 7)}, "different prompt ids"),
    ],
)
def test_what_says_nothing_of_the_platforms_is_refused(
    path: Path, tmp_path: Path, side: Side, more: dict[str, Any], what: str
) -> None:
    write_recording(tmp_path / "r.h5", MODEL, side, **more)
    with open_recording(path) as a, open_recording(tmp_path / "r.h5") as b:
        with pytest.raises(ArtifactError, match=what):
            require_comparable(a, b)
        require_comparable(a, a)


def test_one_row_does_not_read_the_file(tmp_path: Path) -> None:
    """The original loaded each stage's file whole, twice, for one row of it."""
    rows, width = 2000, 2048  # 16 MB in chunks of 1 MB
    with open_recording(_long(tmp_path, rows, width)) as run:
        tracemalloc.start()
        run.state("final", rows - 1)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # The row itself and Python's objects; the HDF5 library holds a chunk or two of 1 MB, which is not counted here.
    assert peak < 1e5


def _long(folder: Path, rows: int, width: int) -> Path:
    short = folder / "short.h5"
    write_recording(short, MODEL, Side(length=1))
    whole = read_hdf5(short)
    datasets: dict[str, Any] = {
        name: np.repeat(value, rows, axis=0) if isinstance(value, np.ndarray) and name != "prompt_ids" else value
        for name, value in whole.datasets.items()
    }
    datasets["states/final"] = np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)
    attributes = {**_own(whole.attributes), "pieces": ["x"] * rows}
    write_hdf5(folder / "long.h5", datasets, attributes=attributes, provenance={})
    return folder / "long.h5"


def test_the_comparer_imports_no_torch() -> None:
    code = (
        "import sys, pkgutil, importlib, tremor.compare as c\n"
        "[importlib.import_module(f'tremor.compare.{m.name}') for m in pkgutil.iter_modules(c.__path__)]\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
