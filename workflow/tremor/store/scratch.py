"""Node-local scratch: an artifact that grows is written on a disk of the node, and goes to its place when it is whole.

A file that HDF5 writes grows in small pieces, here and there, and is read back for its checksum. On a file system that
nodes share, each of these is a message to a server; on a disk of the node it is nothing, and the server then gets one
file from its beginning to its end. Off unless the environment variable TREMOR_SCRATCH names a folder.

What is promised of artifacts (:mod:`tremor.store.atomic`) does not change: the copy is a temporary file beside the
artifact, forced to the disk, and takes the artifact's name in one step. A file that a killed job left in the scratch is
removed by the next job that writes there.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tremor.errors import PlatformError
from tremor.store.atomic import disk_errors, locked_file, sweep

VARIABLE = "TREMOR_SCRATCH"
COPY_BYTES = 16 * 2**20
_NAME = re.compile(r"tremor-[0-9a-f]{12}\.tmp\.\w+")
_log = logging.getLogger(__name__)


def use(folder: str | None) -> None:
    """Name the scratch of this process.

    Args:
        folder: A folder of the node, made if it is missing; may hold variables, such as ``$TMPDIR``. None or "" leaves
            the environment as it is.

    Raises:
        PlatformError: a variable is not set on this node, or the folder cannot be made.
    """
    if folder:
        os.environ[VARIABLE] = folder
        current()


def current() -> Path | None:
    """The scratch of this process, None if there is none.

    Raises:
        PlatformError: a variable in its name is not set on this node, or the folder cannot be made.
    """
    name = os.environ.get(VARIABLE, "")
    if not name:
        return None
    found = os.path.expanduser(os.path.expandvars(name))
    if "$" in found:
        raise PlatformError(f"the scratch folder {name} has a variable that is not set on this node; name another one")
    try:
        Path(found).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"the scratch folder {found} cannot be made on this node ({error.strerror}); name another one"
        raise PlatformError(text) from error
    return Path(found)


def free() -> int | None:
    """Bytes that are free in the scratch, None if there is none."""
    folder = current()
    return None if folder is None else shutil.disk_usage(folder).free


@contextmanager
def staged(target: Path, *, artifact: Path) -> Iterator[Path]:
    """Give a file in the scratch, which is copied over `target` on success; `target` itself where there is no scratch.

    Args:
        target: An existing file beside the artifact, which :func:`tremor.store.atomic.replacing` gives.
        artifact: What is being written; named in messages.

    Yields:
        Path of an existing empty file, to be written by the caller.

    Raises:
        ArtifactError: the scratch is full or read-only.
        PlatformError: there is no such folder on this node.
    """
    folder = current()
    if folder is None:
        yield target
        return
    remedy = (
        f"it is the scratch of {artifact}: make room in {folder}, or name another folder as scratch (or none), then "
        "run snakemake again"
    )
    sweep(folder, _NAME)
    with disk_errors(folder / f"tremor-*{target.suffix}", remedy=remedy):
        fresh, descriptor = locked_file(folder, "tremor-", f".tmp{target.suffix}")
    try:
        with disk_errors(fresh, remedy=remedy):
            yield fresh
        with disk_errors(artifact):
            _copy(fresh, target)
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        os.close(descriptor)


def _copy(source: Path, target: Path) -> None:
    """Copy the content. Errors carry no file name, lest `disk_errors` takes those of the target for somebody else's."""
    size = source.stat().st_size
    with open(source, "rb", buffering=0) as reader, open(target, "r+b", buffering=0) as writer:
        writer.truncate(0)
        while block := reader.read(COPY_BYTES):
            view = memoryview(block)
            while view:
                view = view[writer.write(view) :]
    _log.debug("%d bytes from %s to %s", size, source, target)
