"""Atomic replacement of files: a reader sees the old artifact or the new one, never half of one."""

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tremor.errors import ArtifactError, TremorError

_SPACE = "free some space there (or work in another folder with `snakemake --directory`), then run snakemake again"
_RIGHTS = "make the folder writable (or work in another one with `snakemake --directory`), then run snakemake again"
_CAUSES = {
    errno.ENOSPC: ("no space is left on that disk", _SPACE),
    errno.EDQUOT: ("the disk quota is used up", _SPACE),
    errno.EFBIG: ("the file would exceed the size limit of the disk or of `ulimit -f`", _SPACE),
    errno.EROFS: ("the file system is read-only", _RIGHTS),
    errno.EACCES: ("permission is denied", _RIGHTS),
    errno.EPERM: ("the operation is not permitted", _RIGHTS),
    errno.ENOTDIR: (
        "a part of the path is a file, not a folder",
        "remove that file, then run snakemake again",
    ),
    errno.EISDIR: ("a folder stands in its place", "remove that folder, then run snakemake again"),
    errno.EIO: ("the disk reported an input/output error", "check the disk, then run snakemake again"),
}


def _errno_of(error: BaseException) -> int | None:
    """Error number of an exception; HDF5 and libraries in Rust have it in their text only, at times causes deep."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _CAUSES:
            return seen.errno
        found = re.search(r"\b(?:errno =|os error) (\d+)", str(seen))
        if found and int(found.group(1)) in _CAUSES:
            return int(found.group(1))
        seen = seen.__cause__ or seen.__context__
    return None


@contextmanager
def disk_errors(path: Path, *, remedy: str | None = None) -> Iterator[None]:
    """Turn a failing disk into one clear error.

    Args:
        path: the artifact being written; named in the message.
        remedy: what to do, instead of what is usual for the cause.

    Raises:
        ArtifactError: for a full or read-only disk, missing rights, a used-up quota. Other errors pass
            unchanged.
    """
    try:
        yield
    except TremorError:
        raise
    except Exception as error:
        # Safetensors and tokenizers raise kinds of their own; of others only the text of a Rust error is believed.
        known = isinstance(error, (OSError, RuntimeError)) or "(os error " in str(error)
        number = _errno_of(error) if known else None
        if number is None or not _concerns(error, path):
            raise
        cause, usual = _CAUSES[number]
        raise ArtifactError(f"cannot write {path}: {cause}; {remedy or usual}") from error


def _concerns(error: BaseException, path: Path) -> bool:
    """Whether the error is about the artifact: one that names a file of another folder is somebody else's."""
    name = getattr(error, "filename", None)
    if not isinstance(name, (str, os.PathLike)):
        return True
    folder, named = Path(os.path.abspath(path.parent)), Path(os.path.abspath(name))
    return named == folder or named in folder.parents or named.parent == folder


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a temporary file that replaces `path` in one step on success and is removed on failure.

    The temporary file keeps the suffix, because several writers choose their format by it. It is locked while
    its writer lives, so that what a killed job left behind can be told from the file of a living one and is
    swept away.

    Args:
        path: where the artifact shall be. Missing folders are made.

    Yields:
        Path of an empty file in the same folder, to be written by the caller.

    Raises:
        ArtifactError: the disk is full or read-only, or rights are missing; the old artifact is intact.
    """
    path = Path(path)
    temporary: Path | None = None
    descriptor = -1
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            own = re.escape(f".{path.stem}.") + r"[0-9a-f]{12}\.tmp" + re.escape(path.suffix)
            sweep(path.parent, re.compile(own))
            temporary, descriptor = locked_file(path.parent, f".{path.stem}.", f".tmp{path.suffix}")
            yield temporary
            _synchronise(temporary)
            os.replace(temporary, path)
            temporary = None
            _synchronise_folder(path.parent)
    finally:
        if temporary is not None:
            # A disk that fails may also refuse this; the first error is the one to report.
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        if descriptor >= 0:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by a living writer, or a file system without locks: then nothing is ever swept
        return False
    return True


def locked_file(folder: Path, before: str, after: str) -> tuple[Path, int]:
    """Make a file and lock it for as long as its descriptor is open.

    Args:
        folder: Where.
        before: What its name begins with; 12 random hexadecimal digits follow.
        after: What its name ends with.

    Returns:
        The file and its descriptor.
    """
    while True:
        fresh = folder / f"{before}{secrets.token_hex(6)}{after}"
        # 0o666 and the umask, as open() does: mkstemp's 0o600 would hide results from the user's group.
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        _lock(descriptor)
        # Another job may have swept it away before it was locked.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(fresh), os.fstat(descriptor)):
                return fresh, descriptor
        os.close(descriptor)


def sweep(folder: Path, pattern: re.Pattern[str]) -> None:
    """Remove temporary files whose writer is dead (killed jobs cannot clean up), by a pattern of their whole names."""
    for entry in folder.iterdir():
        if not pattern.fullmatch(entry.name):
            continue
        try:
            descriptor = os.open(entry, os.O_RDWR)
        except OSError:
            continue
        try:
            if _lock(descriptor):
                with suppress(OSError):
                    entry.unlink()
        finally:
            os.close(descriptor)


def _synchronise(path: Path) -> None:
    """Force the content to the disk: delayed allocation reports a full disk only here."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _synchronise_folder(folder: Path) -> None:
    """Force the rename to the disk where the file system can do that; the content is safe already."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a small file atomically.

    Args:
        path: where the file shall be.
        content: its bytes.

    Raises:
        ArtifactError: the disk is full or read-only, or rights are missing.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)
