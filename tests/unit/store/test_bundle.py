"""Bundles: what goes in comes out bit for bit, and every way of smuggling something else in is refused."""

import json
import stat
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tremor import cli
from tremor.errors import ArtifactError
from tremor.store import bundle
from tremor.store.documents import write_json
from tremor.store.hdf5 import write_hdf5

DIGESTS = {"weights_digest": "a" * 64, "tokenizer_digest": "b" * 64}
PLATFORM = {"device": "cuda", "dtype": "float32"}


def recording(path, *, seed=0, **changes):
    attributes = {"model": "tiny", "schema": "recording/1", "question": path.stem, **DIGESTS, **changes}
    provenance = {"config": {"platform": PLATFORM}, "platform": {"applied": {"device_name": "Some GPU"}}}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_hdf5(path, {"x": np.arange(40) + seed}, attributes=attributes, provenance=provenance)
    return path


@pytest.fixture
def there(tmp_path):
    """The other machine: a folder with two recordings."""
    folder = tmp_path / "there/results/recordings/tiny/gpu"
    return [recording(folder / f"q0{n}.h5", seed=n) for n in (1, 2)]


@pytest.fixture
def packed(there, tmp_path):
    path = tmp_path / "gpu.tremor"
    bundle.pack(there, path, platform="gpu")
    return path


@pytest.fixture
def here(tmp_path):
    """This machine: the model's manifest, no recording."""
    manifest = tmp_path / "here/resources/models/tiny/manifest.json"
    manifest.parent.mkdir(parents=True)
    write_json(manifest, {"alias": "tiny", **DIGESTS})
    return tmp_path / "here"


def unpack(packed, here, **changes):
    arguments = {"model": "tiny", "local": here / "resources/models/tiny/manifest.json", **changes}
    return bundle.unpack(packed, here / "results/recordings", **arguments)


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: (entry, archive.read(entry)) for entry in archive.infolist()}


def rebuilt(path, content, *, mode=stat.S_IFREG | 0o644, kind=zipfile.ZIP_STORED):
    """A zip archive of these (name, bytes), as an attacker may write it."""
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, data in content:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (mode if name != bundle.MANIFEST else stat.S_IFREG | 0o644) << 16
            entry.compress_type = kind
            archive.writestr(entry, data)
    return path


def forged(packed, tmp_path, change, **how):
    """The bundle with its (name, bytes) and its manifest changed."""
    found = {name: data for name, (_, data) in members(packed).items()}
    manifest = json.loads(found.pop(bundle.MANIFEST))
    files = list(found.items())
    files = change(manifest, files) or files
    return rebuilt(tmp_path / "forged.tremor", [(bundle.MANIFEST, json.dumps(manifest).encode()), *files], **how)


def nothing_is_left(here):
    root = here / "results"
    return not root.exists() or not [path for path in root.rglob("*") if path.is_file()]


def test_there_and_back(packed, there, here):
    manifest = bundle.verify(packed)
    assert (manifest.platform, dict(manifest.settings), len(manifest.files)) == ("gpu", PLATFORM, 2)
    folder, _ = unpack(packed, here)
    assert folder == here / "results/recordings/tiny/gpu"
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == [path.read_bytes() for path in there]
    assert [path.name for path in folder.parent.iterdir()] == ["gpu"]


def test_equal_recordings_make_equal_bundles(packed, there, tmp_path):
    bundle.pack(list(reversed(there)), tmp_path / "again.tremor", platform="gpu")
    assert (tmp_path / "again.tremor").read_bytes() == packed.read_bytes()


def test_a_recording_that_is_there_stays_unless_told(packed, here):
    unpack(packed, here)
    kept = here / "results/recordings/tiny/gpu/q01.h5"
    recording(kept, seed=99)
    before = kept.read_bytes()
    with pytest.raises(ArtifactError, match=r"is there already; choose another name \(--platform\), or --replace it"):
        unpack(packed, here)
    assert kept.read_bytes() == before
    unpack(packed, here, replace=True)
    assert kept.read_bytes() != before
    folder, _ = unpack(packed, here, platform="other")
    assert folder.name == "other"


def test_another_model_is_refused(packed, here):
    for key in DIGESTS:
        write_json(here / "resources/models/tiny/manifest.json", {"alias": "tiny", **DIGESTS, key: "c" * 64})
        with pytest.raises(ArtifactError, match="was recorded with another model"):
            unpack(packed, here)
        assert nothing_is_left(here)
    with pytest.raises(ArtifactError, match="does not exist"):
        unpack(packed, here, local=here / "none.json")


def test_recordings_of_two_models_make_no_bundle(there, tmp_path):
    recording(there[1], weights_digest="c" * 64)
    with pytest.raises(ArtifactError, match="is of another model or platform"):
        bundle.pack(there, tmp_path / "x", platform="gpu")
    with pytest.raises(ArtifactError, match="no recordings of platform 'none'"):
        bundle.pack([], tmp_path / "x", platform="none")
    there[0].write_bytes(there[0].read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="truncated"):
        bundle.pack(there, tmp_path / "x", platform="gpu")
    assert not (tmp_path / "x").exists()


NAMES = [
    "/etc/q01.h5",
    "../q01.h5",
    "a/../../q01.h5",
    "q01.h5/",
    "..\\q01.h5",
    "C:\\q01.h5",
    "sub/q01.h5",
    "q01.txt",
    "",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("listed", [True, False])
def test_no_name_leads_out(name, listed, packed, here, tmp_path):
    """Absolute and parent paths, folders, foreign separators; whether the manifest lists them or not."""

    def change(manifest, files):
        if listed:
            manifest["files"][name] = manifest["files"].pop("q01.h5")
        return [(name, files[0][1]), files[1]]

    with pytest.raises(ArtifactError):
        unpack(forged(packed, tmp_path, change), here)
    assert nothing_is_left(here)
    assert not list(tmp_path.rglob("q01.txt"))


@given(name=st.text(min_size=1, max_size=30))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_other_name_at_all(name, packed, tmp_path):
    if bundle._NAME.fullmatch(name.split("\0")[0]):
        return
    forgery = forged(packed, tmp_path, lambda manifest, files: [(name, files[0][1]), files[1]])
    with pytest.raises(ArtifactError):
        bundle.verify(forgery)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR])
def test_links_and_devices_are_refused(kind, packed, here, tmp_path):
    forgery = forged(packed, tmp_path, lambda manifest, files: None, mode=kind | 0o777)
    with pytest.raises(ArtifactError, match="is a link or device, not a file"):
        unpack(forgery, here)
    assert nothing_is_left(here)


def test_compression_is_refused_so_nothing_can_swell(packed, here, tmp_path):
    """Ten megabytes of zeros in ten kilobytes, announced or not."""

    def change(manifest, files):
        manifest["files"]["q01.h5"] = {"bytes": 10**7, "sha256": "0" * 64}
        return [("q01.h5", bytes(10**7)), files[1]]

    with pytest.raises(ArtifactError, match="is compressed or encrypted"):
        unpack(forged(packed, tmp_path, change, kind=zipfile.ZIP_DEFLATED), here)


def test_sizes_that_lie_are_refused(packed, here, tmp_path):
    def less(manifest, files):
        manifest["files"]["q01.h5"]["bytes"] -= 1

    with pytest.raises(ArtifactError, match="has another size than the manifest says"):
        unpack(forged(packed, tmp_path, less), here)
    # The same lie in the archive's own tables, which are what a careless reader believes.
    raw = packed.read_bytes()
    size = members(packed)["q01.h5"][0].file_size.to_bytes(4, "little")
    for huge in (2**31, 2**32 - 2):
        lying = tmp_path / "lying.tremor"
        lying.write_bytes(raw.replace(size + size, huge.to_bytes(4, "little") * 2))
        with pytest.raises(ArtifactError):
            unpack(lying, here)
    with pytest.raises(ArtifactError, match="raise --max-bytes"):
        unpack(packed, here, largest=1000)
    assert nothing_is_left(here)


def test_a_full_disk_is_refused_before_anything_is_written(packed, here, monkeypatch):
    monkeypatch.setattr(bundle.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(ArtifactError, match="10 are free"):
        unpack(packed, here)
    assert nothing_is_left(here)


def test_too_little_too_much_and_twice(packed, here, tmp_path):
    def without(manifest, files):
        return files[:1]

    def unlisted(manifest, files):
        manifest["files"].pop("q02.h5")

    def twice(manifest, files):
        return [*files, files[0]]

    for change, message in (
        (without, "listed in the manifest, but not"),
        (unlisted, "is not in the"),
        (twice, "twice"),
    ):
        with pytest.warns() if change is twice else no_warning(), pytest.raises(ArtifactError, match=message):
            unpack(forged(packed, tmp_path, change), here)
    assert nothing_is_left(here)


class no_warning:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_a_changed_file_is_refused_also_with_a_changed_manifest(packed, here, tmp_path):
    import hashlib

    def altered(manifest, files):
        data = bytearray(files[0][1])
        data[-10] ^= 1
        return [("q01.h5", bytes(data)), files[1]]

    def and_signed(manifest, files):
        found = altered(manifest, files)
        manifest["files"]["q01.h5"]["sha256"] = hashlib.sha256(found[0][1]).hexdigest()
        return found

    def relabelled(manifest, files):
        manifest["model"]["weights_digest"] = "c" * 64

    with pytest.raises(ArtifactError, match="was altered after it was packed"):
        unpack(forged(packed, tmp_path, altered), here)
    with pytest.raises(ArtifactError, match="changed after it was written"):
        unpack(forged(packed, tmp_path, and_signed), here)
    with pytest.raises(ArtifactError, match="of another model than its manifest says"):
        unpack(forged(packed, tmp_path, relabelled), here)
    assert nothing_is_left(here)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "has schema 2, this Tremor reads 1"),
        ({"hdf5_schema": 99}, "has hdf5_schema 99"),
        ({"format": "other"}, "is no bundle of recordings"),
        ({"model": None}, "lacks model, platform or files"),
        ({"files": {}}, "lacks model, platform or files"),
        ({"files": {"q01.h5": {"bytes": True, "sha256": "0" * 64}}}, "without a proper name, size or digest"),
        ({"files": {"q01.h5": {"bytes": -1, "sha256": "0" * 64}}}, "without a proper name, size or digest"),
        ({"platform": 3}, "lacks model, platform or files"),
    ],
)
def test_a_manifest_must_be_of_the_schema(change, message, packed, here, tmp_path):
    with pytest.raises(ArtifactError, match=message):
        unpack(forged(packed, tmp_path, lambda manifest, files: manifest.update(change)), here)


@pytest.mark.parametrize("name", ["../gpu", "/tmp/gpu", ".", "a/b", ""])
def test_a_platforms_name_leads_nowhere_else(name, packed, here, tmp_path):
    forgery = forged(packed, tmp_path, lambda manifest, files: manifest.update(platform=name))
    with pytest.raises(ArtifactError, match="is no name of a platform"):
        unpack(forgery, here)
    with pytest.raises(ArtifactError, match="is no name of a model"):
        unpack(packed, here, model=name)
    assert nothing_is_left(here)


@given(cut=st.floats(0.0, 0.999), flip=st.integers(0, 7), truncate=st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_anywhere_is_an_error_of_ours_or_changes_no_recording(cut, flip, truncate, packed, there, tmp_path):
    raw = bytearray(packed.read_bytes())
    place = int(cut * len(raw))
    raw[place] ^= 1 << flip
    damaged = tmp_path / "damaged.tremor"
    damaged.write_bytes(raw[:place] if truncate else raw)
    folder = tmp_path / "out"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    try:
        bundle._extract(damaged, folder, largest=bundle.LARGEST)
    except ArtifactError:
        return
    # A bit in a time stamp or an unused field of the archive says nothing of the files.
    assert not truncate
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == [path.read_bytes() for path in there]


def test_the_commands(packed, there, here, tmp_path, capsys):
    again = tmp_path / "b.tremor"
    where = ["--directory", str(tmp_path / "there")]
    assert cli.main(["bundle", "pack", str(again), "--model", "tiny", "--platform", "gpu", *where]) == 0
    assert "2 recordings of 'tiny' on 'gpu'" in capsys.readouterr().out
    assert cli.main(["bundle", "verify", str(again)]) == 0
    assert "Some GPU" in capsys.readouterr().out
    assert cli.main(["bundle", "unpack", str(again), "--directory", str(here)]) == 0
    assert 'gpu: {"device": "cuda", "dtype": "float32", "imported": true}' in capsys.readouterr().out
    assert cli.main(["bundle", "unpack", str(again), "--directory", str(here)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["bundle", "verify", str(tmp_path / "none")]) == 1
