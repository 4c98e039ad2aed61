"""Which GPU of a machine a job takes: one id per job while there are free ones, by locks that die with the process.

Snakemake counts GPUs (`--resources gpu=4`) but does not say which; without this, all jobs would take the first.
The card's number is no part of the numerics: cards of one kind give the same bits.
"""

import fcntl
import itertools
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tremor.errors import PlatformError

_log = logging.getLogger(__name__)

# Open descriptors of this process's locks by folder and card, never closed: the kernel drops them with the process,
# also after kill -9. Python opens files close-on-exec, so programs that a job starts do not hold them on.
_held: dict[tuple[Path, str], tuple[int, int]] = {}


def claim(cards: Sequence[str], *, folder: Path | None = None) -> int:
    """Take a card that no other job of this user has taken, until this process ends; the same one when asked again.

    With more jobs than cards they are shared evenly, with a warning.

    Args:
        cards: Identity of each card (not its number, which differs between jobs of a scheduler).
        folder: Where the locks lie, on a disk of this machine.

    Returns:
        Index of the card.

    Raises:
        PlatformError: the folder for the locks is not this user's, or cannot be made.
    """
    place = _private(folder or Path(tempfile.gettempdir()) / f"tremor-gpus-{os.getuid()}")
    for index, card in enumerate(cards):
        if (place, card) in _held:
            return index
    for seat in itertools.count():
        for index, card in enumerate(cards):
            descriptor = _lock(place / f"{card}.{seat}")
            if descriptor is None:
                continue
            _held[place, card] = descriptor, seat
            if seat:
                _log.warning(
                    "every GPU has %d job(s) of Tremor; number %d is shared: use `--resources gpu=%d`",
                    seat,
                    index,
                    len(cards),
                )
            return index
    raise AssertionError("unreachable: there is always another seat")


def _private(folder: Path) -> Path:
    """A folder of this user alone: others could hold the locks, or put links in their place."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise PlatformError(
            f"cannot make {folder} for the locks of GPUs ({error.strerror}); set TMPDIR to a folder of yours"
        ) from error
    if found.st_uid != os.getuid() or folder.is_symlink():
        raise PlatformError(f"{folder} is not a folder of yours; remove it, or set TMPDIR to a folder of yours")
    return folder


def _lock(path: Path) -> int | None:
    """The locked descriptor, or None where another process (or descriptor) holds it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        raise PlatformError(f"{path} cannot be locked ({error.strerror}); set TMPDIR to a local disk") from error
    return descriptor


def release_all() -> None:
    """Give all cards of this process back, as its end does."""
    while _held:
        _, (descriptor, _) = _held.popitem()
        os.close(descriptor)
