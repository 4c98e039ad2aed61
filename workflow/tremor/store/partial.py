"""Parts of a long job, saved while it runs: a job that was killed goes on from the last part that is whole.

The folder is no output of a rule, for Snakemake removes those of a job that fails. Every part is an artifact with a
checksum, and carries a digest of all that its numbers depend on; a part of another job, or a damaged one, is not used.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tremor.errors import ArtifactError
from tremor.store.documents import json_safe
from tremor.store.hdf5 import read_hdf5, write_hdf5

_log = logging.getLogger(__name__)


class Parts:
    """Numbered parts of one job.

    Args:
        folder: Where they lie; made when the first is saved.
        key: All that their content depends on (digests, settings, code), in terms of JSON.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.folder = folder
        self.key = hashlib.sha256(json.dumps(json_safe(key), sort_keys=True).encode()).hexdigest()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.h5"

    def load(self, number: int) -> dict[str, Any] | None:
        """The datasets of a part; None if it is not there, damaged, or of another job (the log tells which)."""
        path = self._path(number)
        if not path.is_file():
            return None
        try:
            found = read_hdf5(path)
        except ArtifactError as error:
            _log.warning("part %s is computed again: %s", path, error)
            return None
        if found.attributes.get("key") != self.key:
            _log.info("part %s is of another run (settings, model, code or platform) and computed again", path)
            return None
        return found.datasets

    def save(self, number: int, datasets: Mapping[str, Any]) -> None:
        """Save a part; it is whole or not there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_hdf5(self._path(number), datasets, attributes={"key": self.key, "number": number}, provenance={})

    def clear(self) -> None:
        """Remove all parts: what they were for is written."""
        shutil.rmtree(self.folder, ignore_errors=True)
