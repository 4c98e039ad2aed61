"""The component map of a model: which scalars of which stored tensor are the query projection of block 3.

The map is the artifact `results/exp9/<model>/components.json` (rule exp9_components): made once from the model's
anatomy, read by whoever needs weights without the model (exp9, exp10). No torch here. This is the accessor of weights:

    components = open_components(path, folder)               # path of components.json, folder of the model
    part = components.find(block=0, component="q")
    weight = components.read(part)                            # float32 [outputs, inputs], digest checked

Names of components: q, k, v, o, gate, up, down (mixer and MLP projections), norm_<role> (role as in the anatomy:
mixer_in, mlp_in, both_in, mixer_out, mlp_out, residual, other), mixer.<name> and mlp.<name> (what else a mixer or an
MLP holds), router, embedding, unembedding, final_norm, other; biases are <component>.bias.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tremor.errors import ArtifactError, ModelError
from tremor.models.weightfiles import WeightFiles
from tremor.store.documents import read_json

SCHEMA = 1
_REMEDY = "delete it and run snakemake again"


@dataclass(frozen=True)
class Part:
    """One matrix or vector of a model inside a stored tensor.

    Attributes:
        name: Unique; the tensor's name, with ":component" for a slice and "[expert]" for one of stacked experts.
        tensor: Name of the stored tensor.
        block: Block, from 0; None outside the blocks.
        component: What it is; see the module's docstring.
        expert: Which expert, from 0; None for what is not an expert's.
        stacked: Whether `expert` counts the tensor's first axis, rather than being a tensor by itself.
        axis: Axis of the stored tensor that `runs` select from; None for all of it.
        runs: (start, stop, step) of the selected places, in order.
        transposed: Whether the matrix is stored as [inputs, outputs].
        fused: Whether it is a whole tensor of which other parts are slices.
    """

    name: str
    tensor: str
    block: int | None
    component: str
    expert: int | None = None
    stacked: bool = False
    axis: int | None = None
    runs: tuple[tuple[int, int, int], ...] = ()
    transposed: bool = False
    fused: bool = False

    def take(self, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The part of its tensor as a vector [n] or a matrix [outputs, inputs].

        Tensors of more axes (convolutions) become matrices of their first axis by all others.
        """
        if self.axis is not None:
            places = np.concatenate([np.arange(*run) for run in self.runs])
            tensor = np.take(tensor, places, axis=self.axis)
        if self.stacked:
            tensor = tensor[self.expert]
        if tensor.ndim > 2:
            tensor = tensor.reshape(tensor.shape[0], -1)
        return tensor.T if self.transposed and tensor.ndim == 2 else tensor


class Components:
    """The component map of a model, and its weights.

    Args:
        document: Content of components.json.
        folder: The model's folder.
        source: Where the map was read from, for messages.
    """

    def __init__(self, document: Mapping[str, Any], folder: Path, source: Path) -> None:
        self.source = source
        self.weights_digest = str(document["weights_digest"])
        self.tensors: Mapping[str, Mapping[str, Any]] = document["tensors"]
        self.parts: tuple[Part, ...] = tuple(_part(entry) for entry in document["parts"])
        self.files = WeightFiles(folder)
        self._verified: set[str] = set()
        if set(self.files.names) != set(self.tensors):
            odd = sorted(set(self.files.names) ^ set(self.tensors))[0]
            raise ArtifactError(f"{source} and the weight files disagree about tensor '{odd}'; {_REMEDY}")

    def find(self, *, component: str, block: int | None = None, expert: int | None = None) -> Part:
        """The one part of a name.

        Raises:
            ModelError: the model has none or several.
        """
        found = [
            part
            for part in self.parts
            if (part.component, part.block, part.expert, part.fused) == (component, block, expert, False)
        ]
        if len(found) != 1:
            known = sorted({part.component for part in self.parts if part.block == block})
            raise ModelError(
                f"{self.source}: {len(found)} parts are component '{component}' of block {block}"
                f"{'' if expert is None else f', expert {expert}'}; it has {', '.join(known) or 'no such block'}"
            )
        return found[0]

    def tensor(self, name: str) -> npt.NDArray[Any]:
        """A whole tensor as stored, float32 (float64 for F64), after its digest was compared with the map's.

        Raises:
            ArtifactError: the bytes are not those the map was made from.
            ModelError: a value is NaN or infinite.
        """
        if name not in self._verified:
            if name not in self.tensors or self.files.digest(name) != self.tensors[name]["sha256"]:
                raise ArtifactError(f"tensor '{name}' is not the one that {self.source} was made from; {_REMEDY}")
            self._verified.add(name)
        return self.files.read(name)

    def read(self, part: Part) -> npt.NDArray[Any]:
        """Values of a part: a vector [n] or a matrix [outputs, inputs]; float32 (float64 for F64).

        Raises:
            ArtifactError: the bytes are not those the map was made from.
            ModelError: a value is NaN or infinite.
        """
        return part.take(self.tensor(part.tensor))


def _part(entry: Mapping[str, Any]) -> Part:
    return Part(**{**entry, "runs": tuple((int(a), int(b), int(c)) for a, b, c in entry["runs"])})


def document(parts: Sequence[Part], files: WeightFiles, weights_digest: str) -> dict[str, Any]:
    """Content of components.json.

    Args:
        parts: Every part, in the order of the model.
        files: The weights.
        weights_digest: Digest over the weight files, as in the manifest.
    """
    tensors = {
        name: {"dtype": files.kind(name), "shape": list(files.shape(name)), "sha256": files.digest(name)}
        for name in files.names
    }
    return {
        "schema": SCHEMA,
        "weights_digest": weights_digest,
        "tensors": tensors,
        "parts": [asdict(part) for part in parts],
    }


def open_components(path: Path, folder: Path) -> Components:
    """Open a model's component map beside its weights.

    Args:
        path: components.json.
        folder: The model's folder.

    Raises:
        ArtifactError: the map is missing, of another schema, or not of these files.
        ModelError: the weight files are missing or damaged.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or "parts" not in content:
        raise ArtifactError(f"{path} is no component map of schema {SCHEMA}; {_REMEDY}")
    return Components(content, folder, path)
