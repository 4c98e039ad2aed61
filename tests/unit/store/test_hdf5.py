"""HDF5 artifacts: bits kept, bytes repeatable, damage found, disks that fail."""

import errno
import hashlib
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tremor.errors import ArtifactError
from tremor.store import hdf5_writer
from tremor.store.arrays import CHUNK_BYTES, array_digest, chunk_shape
from tremor.store.hdf5 import Bf16, Hdf5Reader, Hdf5Writer, read_hdf5, write_hdf5

DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=5)
SMALL = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sample(path: Path, provenance: dict[str, object] | None = None) -> Path:
    write_hdf5(
        path,
        {
            "theta": np.linspace(0, 1, 300),
            "bits": Bf16(np.arange(8, dtype=np.uint16)),
            "group/words": np.array(["a", "é"]),
            "scalar": np.float32(-0.0),
            "empty": np.zeros((0, 3), np.float32),
        },
        attributes={"mode": "reference", "s_max": 1e-6, "angles": 300, "nested": {"a": [1, None]}},
        provenance=provenance or {"seed": 1},
    )
    return path


@SMALL
@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_every_bit_returns(tmp_path: Path, data: st.DataObject, dtype: str) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    kind = np.dtype(dtype)
    if kind.kind == "f":  # any bit pattern: NaN payloads, -0.0, denormals
        value = data.draw(hnp.arrays(f"u{kind.itemsize}", shape)).view(kind)
    else:
        value = data.draw(hnp.arrays(kind, shape))
    write_hdf5(tmp_path / "a.h5", {"x": value}, attributes={}, provenance={})
    found = read_hdf5(tmp_path / "a.h5").array("x")
    assert (found.dtype, found.shape, found.tobytes()) == (value.dtype, value.shape, value.tobytes())


@SMALL
@given(bits=hnp.arrays(np.int16, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=5)))
def test_bfloat16_returns(tmp_path: Path, bits: np.ndarray) -> None:
    write_hdf5(tmp_path / "a.h5", {"x": Bf16(bits)}, attributes={}, provenance={})
    found = read_hdf5(tmp_path / "a.h5").datasets["x"]
    assert isinstance(found, Bf16)
    assert found.shape == bits.shape
    assert found.bits.tobytes() == bits.tobytes()


@SMALL
@given(value=hnp.arrays(object, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4), elements=TEXT))
def test_text_returns(tmp_path: Path, value: np.ndarray) -> None:
    write_hdf5(tmp_path / "a.h5", {"x": value}, attributes={}, provenance={})
    found = read_hdf5(tmp_path / "a.h5").array("x")
    assert found.shape == value.shape
    assert found.tolist() == value.tolist()


def test_bf16_values() -> None:
    value = Bf16(np.array([0x3F80, 0xC000, 0x8000], np.uint16))
    assert value.bits.dtype == np.int16
    assert value.to_float32().tolist() == [1.0, -2.0, 0.0]
    assert np.signbit(value.to_float32()[2])
    with pytest.raises(TypeError, match="int16 or uint16"):
        Bf16(np.zeros(2, np.float32))  # type: ignore[arg-type]


def test_strided_and_big_endian_arrays(tmp_path: Path) -> None:
    value = np.arange(12.0).reshape(3, 4).T[::2]
    write_hdf5(tmp_path / "a.h5", {"x": value, "y": value.astype(">f8")}, attributes={}, provenance={})
    found = read_hdf5(tmp_path / "a.h5")
    assert found.array("x").tolist() == found.array("y").tolist() == value.tolist()


@pytest.mark.parametrize(
    "value", [np.zeros(2, complex), np.array([object()]), np.zeros(2, "M8[s]"), np.array(["a\0b"], object)]
)
def test_what_cannot_be_stored(tmp_path: Path, value: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"cannot be stored|strings only|cannot hold NUL"):
        write_hdf5(tmp_path / "a.h5", {"x": value}, attributes={}, provenance={})
    assert os.listdir(tmp_path) == []


def test_attributes_return(tmp_path: Path) -> None:
    attributes = {
        "text": "é\n",
        "true": True,
        "int": -3,
        "float": 1e-6,
        "inf": float("inf"),
        "none": None,
        "big": 2**70,
        "mapping": {"a": [1, 2.5, None]},
        "list": ["a", 1],
        "f32": np.float32(0.1),
        "nul": "a\0",
        "empty": "",
    }
    array = np.arange(3, dtype=np.float32)
    write_hdf5(tmp_path / "a.h5", {}, attributes={**attributes, "array": array}, provenance={"p": [1, "é"]})
    found = read_hdf5(tmp_path / "a.h5")
    assert found.attributes.pop("array").tobytes() == array.tobytes()
    assert found.attributes == attributes
    assert type(found.attributes["true"]) is bool
    assert type(found.attributes["int"]) is int
    assert found.provenance == {"p": [1, "é"]}
    with h5py.File(tmp_path / "a.h5") as file:  # other tools see plain values
        assert file.attrs["float"] == 1e-6
        assert file.attrs["text"] == "é\n"


def test_equal_content_has_equal_bytes(tmp_path: Path) -> None:
    first, second = sample(tmp_path / "a.h5").read_bytes(), sample(tmp_path / "b.h5").read_bytes()
    assert first == second
    sample(tmp_path / "c.h5", {"seed": 2})
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "c.h5") as c:
        assert a.attrs["content_sha256"] == c.attrs["content_sha256"]
        assert a.attrs["provenance_sha256"] != c.attrs["provenance_sha256"]
        assert a["theta"].compression == "gzip"
        assert a["theta"].shuffle
        assert a["theta"].fletcher32
        assert a["theta"].attrs["sha256"] == array_digest(np.linspace(0, 1, 300))
        assert a["bits"].attrs["dtype"] == "bfloat16"


def test_digest_tells_bits_shape_and_dtype() -> None:
    base = np.zeros(4, np.float32)
    others = [-base, base.reshape(2, 2), base.view(np.int32), Bf16(np.zeros(4, np.int16)), base.astype("f8")]
    assert len({array_digest(base), *(array_digest(other) for other in others)}) == 6
    # Lengths are part of the text's digest: moving a letter to the neighbour changes it.
    assert array_digest(np.array(["ab", "c"])) != array_digest(np.array(["a", "bc"]))


def test_some_names_only(tmp_path: Path) -> None:
    found = read_hdf5(sample(tmp_path / "a.h5"), names=["scalar", "group/words"])
    assert set(found.datasets) == {"scalar", "group/words"}
    with pytest.raises(ArtifactError, match=r"a.h5 has no dataset 'thetta': did you mean 'theta'\?.*snakemake"):
        read_hdf5(tmp_path / "a.h5", names=["thetta"])


def test_flipped_bytes_are_found(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.h5")
    good = path.read_bytes()
    # Every region of the file: our block with its padding, HDF5's metadata, chunks, text heap.
    for offset in [*range(0, 520, 7), *range(520, len(good), 131), len(good) - 1]:
        damaged = bytearray(good)
        damaged[offset] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"a.h5 .*; delete it and run snakemake again"):
            read_hdf5(path)


@pytest.mark.parametrize(
    ("cut", "text"), [(0, "not an HDF5 file"), (9, "damaged"), (700, "truncated to 700"), (-1, "truncated")]
)
def test_truncation(tmp_path: Path, cut: int, text: str) -> None:
    path = sample(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ArtifactError, match=f"{text}.*delete it and run snakemake again"):
        read_hdf5(path)


def test_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist; run snakemake"):
        read_hdf5(tmp_path / "none.h5")
    (tmp_path / "t.h5").write_text("theta,max_s\n" * 100)
    with pytest.raises(ArtifactError, match="not an HDF5 file"):
        read_hdf5(tmp_path / "t.h5")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["x"] = np.arange(3)
    with pytest.raises(ArtifactError, match="not written by Tremor"):
        read_hdf5(tmp_path / "f.h5")


def reseal(path: Path) -> None:
    """Make the file's own checksum right again, as somebody might who edits on purpose."""
    raw = bytearray(path.read_bytes())
    digest = hashlib.sha256(raw[512:]).hexdigest()
    raw[:512] = f"TREMOR-HDF5 1\nsize {len(raw)}\nsha256 {digest}\n".encode().ljust(512, b"\0")
    path.write_bytes(raw)


def test_edits_by_another_tool_are_found(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.h5")

    def edited(name: str) -> Path:
        (tmp_path / name).write_bytes(path.read_bytes())
        return tmp_path / name

    with h5py.File(edited("value.h5"), "r+") as file:
        file["theta"][5] = 0.25
    with pytest.raises(ArtifactError, match=r"value.h5 was changed after it was written"):
        read_hdf5(tmp_path / "value.h5")
    reseal(tmp_path / "value.h5")
    with pytest.raises(ArtifactError, match=r"dataset 'theta' of .*value.h5 was changed"):
        read_hdf5(tmp_path / "value.h5")
    assert read_hdf5(tmp_path / "value.h5", names=["scalar"]).array("scalar") == 0  # others are sound

    with h5py.File(edited("replaced.h5"), "r+") as file:
        del file["theta"]
        file["theta"] = np.linspace(0, 1, 300)
    reseal(tmp_path / "replaced.h5")
    with pytest.raises(ArtifactError, match=r"dataset 'theta' of .* was written by another tool"):
        read_hdf5(tmp_path / "replaced.h5")

    with h5py.File(edited("missing.h5"), "r+") as file:
        del file["scalar"]
    reseal(tmp_path / "missing.h5")
    with pytest.raises(ArtifactError, match="list of datasets"):
        read_hdf5(tmp_path / "missing.h5")

    with h5py.File(edited("attribute.h5"), "r+") as file:
        file.attrs["mode"] = "batched"
    reseal(tmp_path / "attribute.h5")
    with pytest.raises(ArtifactError, match=r"attributes .* were edited"):
        read_hdf5(tmp_path / "attribute.h5")

    with h5py.File(edited("provenance.h5"), "r+") as file:
        file.attrs["provenance"] = json.dumps({"seed": 9})
    reseal(tmp_path / "provenance.h5")
    with pytest.raises(ArtifactError, match=r"the provenance of .* was edited"):
        read_hdf5(tmp_path / "provenance.h5")


def test_other_schema_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_writer, "SCHEMA_VERSION", 7)
    sample(tmp_path / "a.h5")
    with pytest.raises(ArtifactError, match=r"schema version 7, this Tremor reads 1; delete it"):
        read_hdf5(tmp_path / "a.h5")


def test_rows_are_written_and_read_one_by_one(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)
    words = [f"w{i}é" for i in range(50)]
    with Hdf5Writer(tmp_path / "a.h5", attributes={}, provenance={}) as file:
        file.create("rows", (7,), np.float32)
        file.create("bits", (), Bf16)
        file.create("words", (), str)
        file.create("none", (3,), np.float64)
        for i in range(0, 50, 5):
            file.append("rows", rows[i])
            file.append("rows", rows[i + 1 : i + 5])
        for i, word in enumerate(words):
            file.append("words", np.array(word, dtype=object))
            file.append("bits", Bf16(np.array(i, np.int16)))
        file.attributes["late"] = 1
        assert not (tmp_path / "a.h5").exists()
    with Hdf5Reader(tmp_path / "a.h5") as read:
        assert read.names == ("bits", "none", "rows", "words")
        assert read.attributes == {"late": 1}
        assert read.shape("rows") == (50, 7)
        assert read.shape("none") == (0, 3)
        assert read.read("rows", 3, 9).tobytes() == rows[3:9].tobytes()  # type: ignore[union-attr]
        assert [row.tobytes() for row in read.rows("rows")] == [row.tobytes() for row in rows]  # type: ignore[union-attr]
        assert [str(word) for word in read.rows("words")] == words
        assert [int(bit.bits) for bit in read.rows("bits")] == list(range(50))  # type: ignore[union-attr]
        assert list(read.rows("none")) == []
    whole = read_hdf5(tmp_path / "a.h5")
    assert whole.array("rows").tobytes() == rows.tobytes()
    with h5py.File(tmp_path / "a.h5") as raw:  # the incremental digest is the digest of the whole
        assert raw["rows"].attrs["sha256"] == array_digest(rows)
        assert raw["words"].attrs["sha256"] == array_digest(np.array(words))


def test_appending_needs_the_declared_kind(tmp_path: Path) -> None:
    with Hdf5Writer(tmp_path / "a.h5", attributes={}, provenance={}) as file:
        file.create("x", (3,), np.float32)
        for wrong in (np.zeros(3), np.zeros(4, np.float32), np.zeros((1, 1, 3), np.float32)):
            with pytest.raises(ValueError, match=r"takes rows of <f4 \(3,\)"):
                file.append("x", wrong)
        with pytest.raises(ValueError, match="not declared"):
            file.append("y", np.zeros(3))
        with pytest.raises(ValueError, match="twice"):
            file.write("x", np.zeros(3))
        with pytest.raises(ValueError, match="no dataset name"):
            file.write("/", np.zeros(3))
    with pytest.raises(RuntimeError, match="inside its `with`"):
        Hdf5Writer(tmp_path / "b.h5", attributes={}, provenance={}).write("x", np.zeros(1))
    with pytest.raises(ValueError, match="'provenance' is reserved"):
        write_hdf5(tmp_path / "b.h5", {}, attributes={"provenance": 1}, provenance={})


def test_streaming_has_flat_memory(tmp_path: Path) -> None:
    row = np.random.default_rng(0).standard_normal(4096)
    tracemalloc.start()
    with Hdf5Writer(tmp_path / "a.h5", attributes={}, provenance={}) as file:
        file.create("x", (4096,), np.float64)
        for _ in range(640):  # 20 MiB in all
            file.append("x", row)
    with Hdf5Reader(tmp_path / "a.h5") as read:
        assert sum(1 for _ in read.rows("x")) == 640
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One chunk buffered, one being read, and the pieces of the checksum; far below the 20 MiB of the data.
    assert peak < 6 * CHUNK_BYTES


@given(
    shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=3000),
    item=st.sampled_from([1, 2, 4, 8]),
)
def test_chunks_fit(shape: tuple[int, ...], item: int) -> None:
    chunk = chunk_shape(shape, item)
    assert len(chunk) == len(shape)
    assert all(1 <= c <= max(1, s) for c, s in zip(chunk, shape, strict=True))
    assert int(np.prod(chunk)) * item <= CHUNK_BYTES


@pytest.mark.parametrize("after", [0, 1, 3])
def test_no_space_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    path = sample(tmp_path / "a.h5")
    good = path.read_bytes()
    real, calls = os.pwrite, []

    def pwrite(*args: object) -> int:
        calls.append(1)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(hdf5_writer.os, "pwrite", pwrite)
        with pytest.raises(ArtifactError, match=r"cannot write .*a.h5: no space is left.*free some space"):
            sample(path)
    assert path.read_bytes() == good
    assert os.listdir(tmp_path) == ["a.h5"]


def test_a_full_disk_neither_crashes_nor_harms(tmp_path: Path) -> None:
    """The real thing, in its own process: HDF5's own file driver segfaults here, or says nothing at all."""
    code = (
        "import sys, resource, signal, numpy as np\n"
        "from tremor.store.hdf5 import write_hdf5, read_hdf5\n"
        "from tremor.errors import ArtifactError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "write = lambda n: write_hdf5(sys.argv[1], {'x': np.random.default_rng(0).random(n)}, "
        "attributes={}, provenance={})\n"
        "write(3)\n"
        "for n in (30_000, 500_000):\n"
        "    try: write(n)\n"
        "    except ArtifactError as error: print(error)\n"
        "print(len(read_hdf5(sys.argv[1]).array('x')))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(hdf5_writer.__file__).parents[2])}
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.h5")], capture_output=True, text=True, env=environment
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.startswith("cannot write ") for line in lines] == [True, True, False]
    assert lines[2] == "3"
    assert os.listdir(tmp_path) == ["a.h5"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000
