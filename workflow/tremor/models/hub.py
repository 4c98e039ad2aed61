"""Fetch a model from the Hugging Face hub: safetensors and text files only, all or nothing (no torch)."""

import fcntl
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tremor.errors import ModelError
from tremor.models import catalogue

# Without network the hub's client raises errors of its HTTP library. Its own error derives from them: so the
# library, which has changed between versions, need not be named.
_TRANSPORT: type[Exception] = HfHubHTTPError.__bases__[0]

# Never code (.py) and never pickles (.bin, .pt): what is not fetched cannot run.
PATTERNS = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "tokenizer.model",
    "spiece.model",
    "merges.txt",
    "vocab.txt",
)
# Copies of the weights in other layouts that some repositories carry in subfolders.
IGNORED = ("*/*", "consolidated*")


def _explain(error: Exception, repo: str, revision: str) -> ModelError:
    """One clear message; the reply of the server is left out, as its text may hold request details."""
    if isinstance(error, GatedRepoError):
        text = (
            f"{repo} is gated: accept its licence on the hub and set HF_TOKEN in the environment of the run, "
            "or use a model that is open"
        )
    elif isinstance(error, DisabledRepoError):
        text = f"{repo} was disabled on the hub; use another model"
    elif isinstance(error, RepositoryNotFoundError):
        text = (
            f"there is no repository {repo} on the hub, or it is private and HF_TOKEN is not set; check models.*.repo"
        )
    elif isinstance(error, RevisionNotFoundError):
        text = f"{repo} has no revision '{revision}'; check models.*.revision"
    elif isinstance(error, HFValidationError):
        text = f"'{repo}' is no repository name; write it as owner/name"
    elif isinstance(error, HfHubHTTPError):
        status = getattr(getattr(error, "response", None), "status_code", "unknown")
        text = f"the hub answered with status {status} while fetching {repo}; try again later"
    elif isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        text = f"fetching {repo} failed on the disk: {error.strerror}"
    else:
        text = (
            f"cannot reach the hub to fetch {repo}@{revision}; fetch it where there is a network, "
            "or give a local folder with source: path"
        )
    return ModelError(text)


def fetch(repo: str, revision: str, folder: Path) -> Path:
    """Fetch one revision of a model.

    The files arrive in a temporary folder beside the target, which gets its name only when all is there and
    checked; what a killed fetch left there is removed first, and all is fetched again. A token is taken from the
    environment alone, by the hub's client.

    Args:
        repo: Repository, `owner/name`.
        revision: Commit, tag or branch.
        folder: Where to put the model; an older copy is replaced.

    Returns:
        The folder.

    Raises:
        ModelError: If the repository is missing, gated or unsafe, or the hub cannot be reached.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    lock = os.open(partial, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: then nothing is ever swept
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            snapshot_download(
                repo,
                revision=revision,
                local_dir=partial,
                allow_patterns=list(PATTERNS),
                ignore_patterns=list(IGNORED),
            )
        except (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            _TRANSPORT,
            OSError,
        ) as error:
            raise _explain(error, repo, revision) from error
        # The client's bookkeeping holds times of this machine.
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        try:
            catalogue.check(partial)
        except ModelError as error:
            raise ModelError(f"{repo}@{revision}: {str(error).replace(str(partial), 'the repository')}") from error
        partial.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
            folder.replace(old / folder.name)
            partial.replace(folder)
            shutil.rmtree(old)
        else:
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)
    return folder


def _sweep(folder: Path) -> None:
    """Remove what fetches that were killed left beside the target; a living one holds the lock of its folder."""
    pattern = re.compile(re.escape(f".{folder.name}.") + r"(old\.)?[a-z0-9_]{8}")
    for entry in folder.parent.iterdir():
        found = pattern.fullmatch(entry.name)
        if not found or not entry.is_dir() or entry.is_symlink():
            continue
        if found.group(1) and not folder.exists():
            continue  # killed between two renames: the only copy there is, until the new one stands
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            shutil.rmtree(entry, ignore_errors=True)
        finally:
            os.close(descriptor)
