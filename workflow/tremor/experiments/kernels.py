"""exp8, part 7: the same stored vectors through one platform's kernels: the unembedding as the model runs it, and dots.

The vectors are those of the first platform of the pair, for both: two kernels can only be compared on one input.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tremor.compare.recording import Recording, open_recording
from tremor.compare.stages import stages
from tremor.errors import ArtifactError
from tremor.experiments.session import Session
from tremor.progress import track
from tremor.store.arrays import Bf16
from tremor.store.hdf5 import Hdf5Writer
from tremor.store.tables import read_csv

Array = npt.NDArray[Any]


def measure(
    session: Session,
    recordings: Sequence[Path],
    *,
    divergence: Path,
    data: Path,
    provenance: Mapping[str, Any],
) -> None:
    """Run this platform's kernels on the first platform's vectors.

    Args:
        session: The model on this platform.
        recordings: Those of the pair's first platform.
        divergence: Table of part 2.
        data: HDF5 file. ``logits`` [rows, vocabulary]: the head on state ``final``, in the platform's type;
            ``question``, ``which``, ``row``: of each. ``dots`` [dots, 2]: torch.dot of a stage and the two tokens'
            vectors; ``dot_row``, ``dot_stage``: of each. ``exact`` [rows]: whether this type holds the stored vector.
        provenance: Config, code and input digests.

    Raises:
        ArtifactError: the recordings are of another model, or the table of other recordings.
    """
    anatomy = session.loaded.anatomy
    matrix = anatomy.unembedding.weight
    assert isinstance(matrix, Tensor)
    found = read_csv(divergence).set_index("question")
    named: dict[str, list[Any]] = {name: [] for name in ("question", "which", "row", "exact", "dot_row", "dot_stage")}
    dots: list[Array] = []
    digest = hashlib.sha256()
    origin = session.provenance(seeds=None, **provenance)
    attributes = {"dtype": str(matrix.dtype).removeprefix("torch."), "source": "the pair's first platform"}
    with Hdf5Writer(data, attributes=attributes, provenance=origin) as file, torch.no_grad():
        file.create(
            "logits", (anatomy.vocab,), Bf16 if matrix.dtype == torch.bfloat16 else np.dtype(attributes["dtype"])
        )
        for path in track(recordings, "questions"):
            with open_recording(path) as run:
                _require_model(run, session)
                told = found.loc[run.question]
                rows = {"decision": int(told["row"]), **({"before": int(told["row"]) - 1} if told["row"] else {})}
                tokens = [int(told["chosen_a"]), int(told["chosen_b"])]
                for which, row in rows.items():
                    final, exact = _tensor(run, "final", row, matrix, digest)
                    file.append("logits", _stored(anatomy.unembed(final[None, None]).reshape(-1)))
                    number = len(named["row"])
                    for name, value in zip(
                        ("question", "which", "row", "exact"), (run.question, which, row, exact), strict=True
                    ):
                        named[name].append(value)
                    for stage in stages(run, run, sorted({0, *rows.values()})):
                        if stage.duplicate_of or stage.width != matrix.shape[1]:
                            continue
                        vector, _ = _tensor(run, stage.name, row, matrix, digest)
                        dots.append(_carried(torch.stack([torch.dot(vector, matrix[token]) for token in tokens])))
                        named["dot_row"].append(number)
                        named["dot_stage"].append(stage.name)
        file.write("dots", np.stack(dots))
        for name, values in named.items():
            file.write(name, np.array(values))
        file.attributes["vectors_sha256"] = digest.hexdigest()


def _require_model(run: Recording, session: Session) -> None:
    theirs, ours = run.attributes["weights_digest"], session.manifest["weights_digest"]
    if theirs != ours:
        raise ArtifactError(f"{run.path} was recorded with other weights ({theirs}) than this model's ({ours})")


def _tensor(run: Recording, tap: str, row: int, like: Tensor, digest: "hashlib._Hash") -> tuple[Tensor, bool]:
    """A stored state as a tensor of this platform, and whether its type holds it exactly."""
    state = run.state(tap, row)
    values = state.to_float32() if isinstance(state, Bf16) else state
    digest.update(values.tobytes())
    stored = torch.from_numpy(np.ascontiguousarray(values))
    here = stored.to(dtype=like.dtype, device=like.device)
    return here, bool(torch.equal(here.cpu().to(stored.dtype), stored))


def _stored(vector: Tensor) -> Array | Bf16:
    host = vector.contiguous().cpu()
    if host.dtype == torch.bfloat16:
        return Bf16(np.asarray(host.view(torch.int16).numpy()))
    return np.asarray(host.numpy())


def _carried(vector: Tensor) -> Array:
    """Values as float32, exactly; float64 stays."""
    return np.asarray((vector if vector.dtype == torch.float64 else vector.float()).cpu().numpy())
