"""Bundles: recordings of a platform, packed into one file that another machine can check and take in.

A bundle is a zip archive whose members are stored without compression, `manifest.json` first. The manifest has the
sha256 and size of every file and says which model they belong to. Nothing in a bundle is believed before it is
checked: names, kinds and sizes of members before anything is read, digests while it is copied, and the recordings'
own checksums and model at the end. What is unpacked appears all at once, or not at all.
"""

import hashlib
import json
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tremor.errors import ArtifactError
from tremor.store.atomic import disk_errors, replacing
from tremor.store.documents import json_safe, read_json
from tremor.store.hdf5_reader import Hdf5Reader
from tremor.store.hdf5_writer import SCHEMA_VERSION as HDF5_SCHEMA

FORMAT = "tremor-bundle"
SCHEMA = 1
MANIFEST = "manifest.json"
KIND = "recordings"
LARGEST = 200 * 2**30  # bytes of all files together, unless the user allows more
LARGEST_MANIFEST = 4 * 2**20
MOST_FILES = 1000
_NAME = re.compile(r"q\d{2}\.h5")  # the one kind of file there is: no folders, no surprises
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PIECE = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # no times: equal recordings make equal bundles
_DAMAGE = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, KeyError, OSError)


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself.

    Attributes:
        model: Alias, weights_digest and tokenizer_digest of the model.
        platform: Name of the platform where it was recorded.
        settings: The platform's entry in the configuration there.
        fingerprint: What was asked of that machine, and what it applied.
        files: File name to `{"bytes", "sha256"}`.
    """

    model: Mapping[str, str]
    platform: str
    settings: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(int(entry["bytes"]) for entry in self.files.values())


def pack(recordings: Sequence[Path], bundle: Path, *, platform: str) -> Manifest:
    """Pack the recordings of one model on one platform.

    Args:
        recordings: Their files; each is verified first.
        bundle: File to write.
        platform: Name of the platform.

    Raises:
        ArtifactError: there is none, one is damaged, or they are of different models or platforms.
    """
    if not recordings:
        raise ArtifactError(f"there are no recordings of platform '{platform}' to pack; record first")
    described = [_describe(path) for path in recordings]
    for path, other in zip(recordings, described, strict=True):
        if other != described[0]:
            raise ArtifactError(f"{path} is of another model or platform than {recordings[0]}; record them together")
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(recordings)}
    manifest = Manifest(files=files, platform=platform, **described[0])
    _check_manifest(_document(manifest), bundle)
    text = json.dumps(json_safe(_document(manifest)), indent=2).encode()
    with replacing(bundle) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_member(MANIFEST), text)
        for path in sorted(recordings):
            with archive.open(_member(path.name), "w", force_zip64=True) as target, path.open("rb") as source:
                shutil.copyfileobj(source, target, _PIECE)
    return manifest


def _member(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def _describe(path: Path) -> dict[str, Any]:
    """Model and platform of a recording, as it says itself."""
    with Hdf5Reader(path) as file:
        for name in file.names:
            file.read(name)
        known, origin = file.attributes, file.provenance
    if not str(known.get("schema", "")).startswith("recording/"):
        raise ArtifactError(f"{path} is no recording; pack files of results/recordings")
    return {
        "model": {key: str(known[key]) for key in ("model", "weights_digest", "tokenizer_digest")},
        "settings": dict(origin.get("config", {}).get("platform", {})),
        "fingerprint": dict(origin.get("platform", {})),
    }


def _document(manifest: Manifest) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "kind": KIND,
        "hdf5_schema": HDF5_SCHEMA,
        "model": dict(manifest.model),
        "platform": manifest.platform,
        "settings": dict(manifest.settings),
        "fingerprint": dict(manifest.fingerprint),
        "files": {name: dict(entry) for name, entry in manifest.files.items()},
    }


def verify(bundle: Path, *, largest: int = LARGEST) -> Manifest:
    """Check a bundle from end to end without leaving anything on the disk.

    Args:
        bundle: The file.
        largest: Most bytes that its files may have together.

    Raises:
        ArtifactError: it is damaged, altered, of another schema, or holds what no bundle may hold.
    """
    with tempfile.TemporaryDirectory(prefix="tremor-bundle-") as folder:
        return _extract(bundle, Path(folder), largest=largest)


def unpack(
    bundle: Path,
    results: Path,
    *,
    model: str,
    local: Path,
    platform: str | None = None,
    replace: bool = False,
    largest: int = LARGEST,
) -> tuple[Path, Manifest]:
    """Put a bundle's recordings where the workflow looks for them.

    Args:
        bundle: The file.
        results: The folder ``results/recordings``.
        model: Alias of the model here.
        local: Manifest of that model here.
        platform: Name of the platform here; by default the one it had there.
        replace: Whether recordings that are there already give way.
        largest: Most bytes that its files may have together.

    Returns:
        The folder of the recordings, and the manifest.

    Raises:
        ArtifactError: see `verify`; or the model here has other weights or another tokenizer; or there are
            recordings of that name already.
    """
    if not _ALIAS.fullmatch(model) or ".." in model:
        raise ArtifactError(f"{model!r} is no name of a model; use the alias it has in the configuration")
    target_parent = results / model
    target_parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target_parent, prefix=".unpacking-") as name:
        folder = Path(name) / "files"
        folder.mkdir()
        manifest = _extract(bundle, folder, largest=largest)
        _require_model(bundle, manifest, local, model)
        chosen = platform or manifest.platform
        if not _ALIAS.fullmatch(chosen) or ".." in chosen:
            raise ArtifactError(f"{chosen!r} is no name of a platform; choose one with letters, digits, '.', '_', '-'")
        target = target_parent / chosen
        if target.exists() or target.is_symlink():
            if not replace:
                raise ArtifactError(f"{target} is there already; choose another name (--platform), or --replace it")
            target.rename(Path(name) / "replaced")
        folder.rename(target)
    return target, manifest


def _require_model(bundle: Path, manifest: Manifest, local: Path, alias: str) -> None:
    here = read_json(local)
    for key in ("weights_digest", "tokenizer_digest"):
        if here.get(key) != manifest.model[key]:
            what = key.removesuffix("_digest")
            raise ArtifactError(
                f"{bundle} was recorded with another model: the digest of its {what} "
                f"({manifest.model[key][:12]}) is not that of '{alias}' here ({str(here.get(key))[:12]}); use the same "
                "model on both machines"
            )


def _extract(bundle: Path, folder: Path, *, largest: int) -> Manifest:
    """Copy the files of a bundle into an empty folder, each checked; anything unexpected is an error."""
    with _opened(bundle) as archive:
        entries = _entries(archive, bundle)
        with _damage(bundle), archive.open(entries[MANIFEST]) as member:
            text = member.read(LARGEST_MANIFEST + 1)
        if len(text) > LARGEST_MANIFEST:
            raise ArtifactError(f"the manifest of {bundle} is larger than any; do not use this file")
        manifest = _check_manifest(_parsed(text, bundle), bundle)
        _check_sizes(manifest, entries, bundle, folder, largest)
        for name, expected in manifest.files.items():
            with _damage(bundle), archive.open(entries[name]) as member:
                _copy(member, folder / name, expected, bundle)
    for name in manifest.files:
        described = _describe(folder / name)
        if described["model"] != dict(manifest.model):
            raise ArtifactError(f"{name} in {bundle} is of another model than its manifest says; do not use this file")
    return manifest


@contextmanager
def _damage(bundle: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise ArtifactError(f"{bundle} is truncated or damaged ({error}); copy it again") from error


@contextmanager
def _opened(bundle: Path) -> Iterator[zipfile.ZipFile]:
    if not bundle.is_file():
        raise ArtifactError(f"{bundle} is no file; name a bundle made by `tremor bundle pack`")
    with _damage(bundle):
        archive = zipfile.ZipFile(bundle)
    with archive:
        yield archive


def _entries(archive: zipfile.ZipFile, bundle: Path) -> dict[str, zipfile.ZipInfo]:
    """Members by name, after a look at what they claim to be; nothing is read yet."""
    found: dict[str, zipfile.ZipInfo] = {}
    members = archive.infolist()
    if len(members) > MOST_FILES:
        raise ArtifactError(f"{bundle} has {len(members)} members; no bundle has that many")
    for entry in members:
        name, mode = entry.filename, entry.external_attr >> 16
        if name != MANIFEST and not _NAME.fullmatch(name):
            raise ArtifactError(f"{bundle} holds {name!r}; a bundle holds manifest.json and q01.h5, q02.h5, ... only")
        if name in found:
            raise ArtifactError(f"{bundle} holds {name!r} twice; do not use this file")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise ArtifactError(f"{name} in {bundle} is a link or device, not a file; do not use this file")
        if entry.flag_bits & 0x1 or entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ArtifactError(f"{name} in {bundle} is compressed or encrypted, which no bundle is")
        found[name] = entry
    if MANIFEST not in found:
        raise ArtifactError(f"{bundle} has no {MANIFEST}; it is no bundle")
    return found


def _parsed(text: bytes, bundle: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"the manifest of {bundle} is no JSON ({error}); copy the bundle again") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT or document.get("kind") != KIND:
        raise ArtifactError(f"{bundle} is no bundle of recordings")
    for key, known in (("schema", SCHEMA), ("hdf5_schema", HDF5_SCHEMA)):
        if document.get(key) != known:
            raise ArtifactError(
                f"{bundle} has {key} {document.get(key)!r}, this Tremor reads {known}; use the same version on both "
                "machines"
            )
    return document


def _check_manifest(document: Mapping[str, Any], bundle: Path) -> Manifest:
    """The manifest of a document, with every value of the kind it must be."""
    model, files = document.get("model"), document.get("files")
    good = (
        isinstance(model, dict)
        and all(isinstance(model.get(key), str) for key in ("model", "weights_digest", "tokenizer_digest"))
        and isinstance(document.get("platform"), str)
        and all(isinstance(document.get(key), dict) for key in ("settings", "fingerprint"))
        and isinstance(files, dict)
        and 0 < len(files) < MOST_FILES
    )
    if not good:
        raise ArtifactError(f"the manifest of {bundle} lacks model, platform or files; do not use this file")
    assert isinstance(model, dict)
    assert isinstance(files, dict)
    for name, entry in files.items():
        sound = (
            _NAME.fullmatch(name)
            and isinstance(entry, dict)
            and type(entry.get("bytes")) is int
            and entry["bytes"] >= 0
            and isinstance(entry.get("sha256"), str)
            and _DIGEST.fullmatch(entry["sha256"])
        )
        if not sound:
            raise ArtifactError(f"the manifest of {bundle} lists {name!r} without a proper name, size or digest")
    return Manifest(
        model={key: str(value) for key, value in model.items()},
        platform=str(document["platform"]),
        settings=document["settings"],
        fingerprint=document["fingerprint"],
        files=files,
    )


def _check_sizes(
    manifest: Manifest, entries: Mapping[str, zipfile.ZipInfo], bundle: Path, folder: Path, largest: int
) -> None:
    listed, held = set(manifest.files), set(entries) - {MANIFEST}
    if listed != held:
        name = sorted(listed ^ held)[0]
        where = "is listed in the manifest, but not there" if name in listed else "is not in the manifest"
        raise ArtifactError(f"{name} {where} ({bundle}); copy the bundle again")
    for name, entry in manifest.files.items():
        if entry["bytes"] != entries[name].file_size:
            raise ArtifactError(f"{name} in {bundle} has another size than the manifest says; copy the bundle again")
    if manifest.size > bundle.stat().st_size:
        raise ArtifactError(f"{bundle} claims more bytes than it has; do not use this file")
    if manifest.size > largest:
        raise ArtifactError(f"{bundle} unpacks to {manifest.size} bytes, more than {largest}; raise --max-bytes")
    free = shutil.disk_usage(folder).free
    if manifest.size > free:
        raise ArtifactError(f"{bundle} unpacks to {manifest.size} bytes, {free} are free; free some space")


def _copy(source: IO[bytes], target: Path, expected: Mapping[str, Any], bundle: Path) -> None:
    """Copy a member; never more than was announced, whatever its header says."""
    digest, left = hashlib.sha256(), int(expected["bytes"])
    with disk_errors(target), target.open("xb") as file:
        while piece := source.read(min(_PIECE, left + 1)):
            left -= len(piece)
            if left < 0:
                raise ArtifactError(f"{target.name} in {bundle} is longer than the manifest says; do not use this file")
            digest.update(piece)
            file.write(piece)
    if left or digest.hexdigest() != expected["sha256"]:
        raise ArtifactError(f"{target.name} in {bundle} was altered after it was packed; copy the bundle again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
