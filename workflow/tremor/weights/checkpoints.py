"""Save a changed model as a model folder like any other, and make sure that what was saved is what it should be."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tremor.errors import ArtifactError
from tremor.models import catalogue, manifest
from tremor.models.loader import LoadedModel, load, quiet
from tremor.store.documents import write_json
from tremor.weights.mutate import Edit, bits_of

DTYPE_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float64: "float64"}


def save(loaded: LoadedModel, source: Path, folder: Path, *, alias: str, zeros: Sequence[Edit]) -> dict[str, Any]:
    """Save the model as it is now, with the tokenizer of its source and a manifest, and read it back.

    Args:
        loaded: The model, changed.
        source: Folder it was loaded from, for the tokenizer.
        folder: Where it goes; made new.
        alias: Its name in the manifest.
        zeros: Positions that must be zero in the file.

    Returns:
        The manifest.

    Raises:
        ArtifactError: What is read back through the loader is not what was to be saved.
    """
    folder.mkdir(parents=True)
    with quiet():
        loaded.model.save_pretrained(folder, safe_serialization=True)
    for path in catalogue.tokenizer_files(source):
        shutil.copyfile(path, folder / path.name)
    found = manifest.build(alias, {"source": "path"}, folder)
    write_json(folder / "manifest.json", found)
    _verify(loaded, folder, zeros, str(found["weights_digest"]))
    return found


def _verify(loaded: LoadedModel, folder: Path, zeros: Sequence[Edit], digest: str) -> None:
    again = load(folder, dtype=DTYPE_NAMES[loaded.dtype], device="cpu", attention=loaded.attention, digest=digest)
    saved = dict(again.model.named_parameters())
    for name, parameter in loaded.model.named_parameters():
        mine = bits_of(parameter.detach().cpu().contiguous())
        if name not in saved or not torch.equal(bits_of(saved[name].detach().contiguous()), mine):
            raise ArtifactError(f"{folder}: {name} was read back with other bits than it was saved with; save it again")
    for edit in zeros:
        flat = again.anatomy.parameter(edit.tensor).detach().reshape(-1)
        kept = flat if edit.flat_index is None else flat[edit.flat_index.cpu()]
        if bool(kept.any()):
            raise ArtifactError(f"{folder}: {int((kept != 0).sum())} pruned weights of {edit.tensor} are not zero")
