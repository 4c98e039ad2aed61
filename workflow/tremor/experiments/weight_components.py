"""exp9, first step: the component map of a model's stored tensors, from its anatomy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tremor.experiments.session import Session
from tremor.models import component_map, components
from tremor.models.weightfiles import WeightFiles
from tremor.store.documents import write_json


def measure(session: Session, directory: Path, *, output: Path, provenance: Mapping[str, Any]) -> None:
    """Write components.json.

    Args:
        session: The model, loaded on the CPU.
        directory: The folder with its weights.
        output: JSON file to write.
        provenance: Config, code and input digests.

    Raises:
        ModelError: a loaded parameter is not what its file holds.
    """
    files = WeightFiles(directory)
    parts = component_map.build(session.loaded, files)
    content = components.document(parts, files, str(session.manifest["weights_digest"]))
    write_json(output, content, provenance=session.provenance(**provenance))
