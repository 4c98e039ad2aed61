"""exp8: the statistics of its parts in one document, which the summary reads; no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tremor.store.documents import read_json, write_json
from tremor.store.provenance import collect

KERNELS = (
    "rows", "equal_rows", "changed_logits_percent", "ulp_max", "other_argmax", "reproduces_recording", "vectors_exact",
    "equal_dots_percent", "dots_favour_another",
)  # fmt: skip


def merge(parts: Mapping[str, Path], *, output: Path, provenance: Mapping[str, Any]) -> None:
    """Write one document with the statistics of each part under its name.

    Args:
        parts: JSON files by name. ``kernels`` is missing where a platform's recordings were imported: nothing can be
            computed on it here, and its values are null.
        output: JSON file.
        provenance: Config, code and input digests.
    """
    told = {name: _without_provenance(read_json(path)) for name, path in parts.items()}
    told.setdefault("kernels", dict.fromkeys(KERNELS))
    write_json(output, told, provenance=collect(seeds=None, platform={}, model={}, **provenance))


def _without_provenance(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "provenance"}
