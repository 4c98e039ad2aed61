"""Which scalars of a model are meant: filters by layer and component, resolved by the anatomy and never by substrings.

Every parameter is cut along one axis into parts, each with the block and the component it belongs to. A projection
inside a fused parameter (GPT-2's c_attn, GPT-NeoX's query_key_value) is a part like any other.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tremor.errors import ConfigError
from tremor.models.anatomy import Anatomy, BlockParts, Slice
from tremor.weights.mutate import Edit

NO_BLOCK = -1  # of what lies outside the blocks, as in the tables
PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")
COMPONENTS = (*PROJECTIONS, "router", "norm", "mixer", "mlp", "embedding", "position", "unembedding", "other")
KINDS = ("attention", "ssm", "recurrent")  # of mixers
ALIASES = {
    "query": "q",
    "key": "k",
    "value": "v",
    "output": "o",
    "attn": "attention",
    "lm_head": "unembedding",
    "norms": "norm",
}


@dataclass(frozen=True)
class Part:
    """One component's share of a parameter.

    Attributes:
        block: Number of the block, from 0; -1 outside the blocks.
        component: One of `COMPONENTS`.
        answers: All names that a filter may call it by: the component, its group, and pieces of its path in the block.
    """

    block: int
    component: str
    answers: frozenset[str]


@dataclass(frozen=True)
class Layout:
    """The parts of one parameter.

    Attributes:
        name: In `model.named_parameters()`.
        order: Its place there.
        shape: Of the parameter.
        axis: Axis along which the parts lie; it counts output features.
        parts: The parts.
        codes: Which part each coordinate of the axis belongs to, int64 [shape[axis]].
        transposed: Whether the parameter is stored as [.., inputs, outputs].
    """

    name: str
    order: int
    shape: tuple[int, ...]
    axis: int
    parts: tuple[Part, ...]
    codes: npt.NDArray[np.int64]
    transposed: bool

    @property
    def numel(self) -> int:
        """Number of scalars."""
        return math.prod(self.shape)

    @property
    def block(self) -> int:
        """Block the parameter belongs to, -1 outside the blocks."""
        return self.parts[int(self.codes[0])].block

    def along_axis(self, flat: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Coordinates on the axis of flat indices int64 [n]."""
        stride = math.prod(self.shape[self.axis + 1 :])
        return (flat // stride) % self.shape[self.axis]

    def parts_of(self, flat: npt.NDArray[np.int64]) -> list[Part]:
        """The part that each flat index int64 [n] lies in."""
        return [self.parts[code] for code in self.codes[self.along_axis(flat)]]


def layouts(anatomy: Anatomy) -> dict[str, Layout]:
    """The parts of every parameter of a model, each parameter once however often it is tied.

    Args:
        anatomy: Of the model.

    Returns:
        Layouts by name, in the order of `model.named_parameters()`.
    """
    owners = _slices(anatomy)
    found = {}
    for order, (name, parameter) in enumerate(anatomy.model.named_parameters()):
        found[name] = _layout(anatomy, name, order, parameter, owners.get(name, []))
    return found


def _slices(anatomy: Anatomy) -> dict[str, list[tuple[BlockParts, str, Slice, bool]]]:
    """Projections by the parameter that holds them; the flag tells a bias."""
    owners: dict[str, list[tuple[BlockParts, str, Slice, bool]]] = {}
    for block in anatomy.block_parts:
        for role in PROJECTIONS:
            part: Slice | None = getattr(block.projections, role)
            if part is None:
                continue
            owners.setdefault(part.parameter, []).append((block, role, part, False))
            if part.bias is not None:
                owners.setdefault(part.bias, []).append((block, role, part, True))
    return owners


def _layout(
    anatomy: Anatomy, name: str, order: int, parameter: nn.Parameter, owners: list[tuple[BlockParts, str, Slice, bool]]
) -> Layout:
    shape = tuple(parameter.shape)
    transposed = name in anatomy.transposed
    axis = max(0, len(shape) - (1 if transposed or len(shape) == 1 else 2))
    rest = _unprojected(anatomy, name, parameter)
    parts, codes = [rest], np.zeros(shape[axis] if shape else 1, dtype=np.int64)
    for block, role, part, bias in owners:
        axis = len(shape) - 1 if bias else part.axis
        if len(codes) != shape[axis]:
            codes = np.zeros(shape[axis], dtype=np.int64)
        index = part.index if isinstance(part.index, slice) else part.index.cpu().numpy()
        parts.append(Part(block.index, role, rest.answers | {role, *_groups(block, role)}))
        codes[index] = len(parts) - 1
    return Layout(name, order, shape or (1,), axis, tuple(parts), codes, transposed)


def _groups(block: BlockParts, role: str) -> set[str]:
    if role in ("gate", "up", "down"):
        return {"mlp"}
    return {"mixer", block.mixer_kind}


def _pieces(path: str) -> set[str]:
    """All runs of whole path elements: "mixer.in_proj" from "mixer.in_proj.weight", never "in"."""
    elements = path.split(".")
    if elements[-1] in ("weight", "bias"):
        elements = elements[:-1]
    count = len(elements)
    return {".".join(elements[i:j]) for i in range(count) for j in range(i + 1, count + 1)}


def _unprojected(anatomy: Anatomy, name: str, parameter: nn.Parameter) -> Part:
    """What a parameter is where no projection claims its scalars."""
    for block in anatomy.block_parts:
        if name.startswith(block.name + "."):
            component, groups = _inside(anatomy, block, name)
            return Part(block.index, component, frozenset({component, *groups, *_pieces(name[len(block.name) + 1 :])}))
    component, groups = _outside(anatomy, name, parameter)
    return Part(NO_BLOCK, component, frozenset({component, *groups, *_pieces(name)}))


def _inside(anatomy: Anatomy, block: BlockParts, name: str) -> tuple[str, set[str]]:
    holder = anatomy.model.get_submodule(name.rpartition(".")[0])

    def belongs(module: nn.Module | None) -> bool:
        return module is not None and any(holder is inner for inner in module.modules())

    if any(belongs(norm) for norm in block.norms.values()) or "norm" in type(holder).__name__.lower():
        return "norm", set()
    if belongs(block.router):
        return "router", {"mlp"}
    if belongs(block.mixer):
        return "mixer", {block.mixer_kind}
    if any(belongs(module) for module in block.mlp):
        return "mlp", set()
    return "other", set()


def _outside(anatomy: Anatomy, name: str, parameter: nn.Parameter) -> tuple[str, set[str]]:
    holder = anatomy.model.get_submodule(name.rpartition(".")[0])
    if parameter is getattr(anatomy.embedding, "weight", None):
        return "embedding", {"unembedding"} if anatomy.tied else set()
    if any(holder is inner for inner in anatomy.unembedding.modules()):
        return "unembedding", set()
    if isinstance(holder, nn.Embedding):
        return "position", set()
    final = anatomy.final_norm
    if "norm" in type(holder).__name__.lower() or (final is not None and any(holder is m for m in final.modules())):
        return "norm", set()
    return "other", set()


@dataclass(frozen=True)
class Chosen:
    """The selected scalars of one parameter.

    Attributes:
        layout: The parameter's parts.
        along: Which coordinates of the layout's axis are meant, bool [shape[axis]]; None for all of them.
    """

    layout: Layout
    along: npt.NDArray[np.bool_] | None

    @property
    def count(self) -> int:
        """Number of selected scalars."""
        if self.along is None:
            return self.layout.numel
        return int(self.along.sum()) * (self.layout.numel // len(self.along))

    def mask(self, device: torch.device | str = "cpu") -> Tensor | None:
        """Bool tensor of the parameter's shape (expanded, not copied), None where all scalars are meant."""
        if self.along is None:
            return None
        shape = [1] * len(self.layout.shape)
        shape[self.layout.axis] = len(self.along)
        return torch.from_numpy(self.along).to(device).view(shape).expand(self.layout.shape)


@dataclass(frozen=True)
class Selection:
    """Scalars of a model that a score, a ranking or a mutation is about.

    Attributes:
        anatomy: Of the model.
        chosen: By parameter name, in the order of `model.named_parameters()`.
    """

    anatomy: Anatomy
    chosen: dict[str, Chosen]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(self.chosen)

    @property
    def count(self) -> int:
        """Number of selected scalars; a tied parameter counts once."""
        return sum(entry.count for entry in self.chosen.values())

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name and parameter, in order."""
        for name in self.chosen:
            yield name, self.anatomy.parameter(name)

    def only(self, names: Collection[str]) -> "Selection":
        """The part of this selection that lies in some parameters.

        Raises:
            ConfigError: Nothing is left.
        """
        chosen = {name: entry for name, entry in self.chosen.items() if name in names}
        if not chosen:
            scored = ", ".join(sorted(names)[:4]) or "no weight of this model"
            raise ConfigError(f"this score is defined for {scored} ..., none of which is selected; select others")
        return Selection(self.anatomy, chosen)

    @cached_property
    def parts(self) -> dict[str, npt.NDArray[np.int64]]:
        """Flat indices, ascending, of what is selected of each parameter of which a part alone is."""
        masks = {name: entry.mask() for name, entry in self.chosen.items()}
        return {name: np.flatnonzero(mask.reshape(-1).numpy()) for name, mask in masks.items() if mask is not None}

    def share(self, names: Collection[str]) -> frozenset[str] | None:
        """Some of the parameters, as a job that scores these only is told them; None where they are all."""
        return None if len(names) == len(self.chosen) else frozenset(names)

    def locate(self, tensor: str, flat: npt.NDArray[np.int64]) -> list[Part]:
        """Block and component of scalars.

        Args:
            tensor: Name of a selected parameter.
            flat: Flat indices in row-major order, int64 [n].
        """
        return self.chosen[tensor].layout.parts_of(flat)


def select(
    anatomy: Anatomy,
    *,
    layers: Sequence[int] | None = None,
    components: Sequence[str] | None = None,
    vectors: bool = False,
) -> Selection:
    """Select scalars by block and component.

    Args:
        anatomy: Of the model.
        layers: Blocks, from 0; None for all and for what lies outside the blocks.
        components: Names from `COMPONENTS`, "attention", "ssm" or "recurrent" (the mixer of that kind), "query", "key",
            "value", or whole elements of a module's path in its block ("in_proj", "mlp.experts"); None for all. A name
            that other architectures have may be absent here, as long as something is selected.
        vectors: Whether biases, norm gains and other vectors belong to the selection.

    Returns:
        The selection, parameters in the model's order, tied ones once.

    Raises:
        ConfigError: A block or a component does not exist, or nothing is selected.
    """
    known = layouts(anatomy)
    if layers is not None:
        wrong = [layer for layer in layers if not 0 <= layer < anatomy.n_layers]
        if wrong:
            raise ConfigError(f"there is no block {wrong[0]}: this model has blocks 0 to {anatomy.n_layers - 1}")
    wanted = None if components is None else {ALIASES.get(name.lower(), name) for name in components}
    _check_components(known, components, wanted)
    chosen = {}
    for name, layout in known.items():
        if not vectors and len([size for size in layout.shape if size > 1]) < 2:
            continue
        fits = [_fits(part, layers, wanted) for part in layout.parts]
        along = np.array(fits, dtype=bool)[layout.codes]
        if along.any():
            chosen[name] = Chosen(layout, None if along.all() else along)
    if not chosen:
        where = "" if layers is None else f" in block {', '.join(map(str, layers))}"
        hint = "" if vectors else " (vectors such as biases and norm gains are left out unless vectors is true)"
        names = "weights" if components is None else ", ".join(components)
        raise ConfigError(f"no {names}{where} in this model{hint}; it has {', '.join(_present(known))}")
    return Selection(anatomy, chosen)


def _fits(part: Part, layers: Sequence[int] | None, wanted: set[str] | None) -> bool:
    return (layers is None or part.block in layers) and (wanted is None or bool(wanted & part.answers))


def _present(known: dict[str, Layout]) -> list[str]:
    """Components the model has, in the order of `COMPONENTS`."""
    present = {layout.parts[code].component for layout in known.values() for code in np.unique(layout.codes)}
    return [name for name in COMPONENTS if name in present]


def _check_components(known: dict[str, Layout], asked: Sequence[str] | None, wanted: set[str] | None) -> None:
    if wanted is None or asked is None:
        return
    answers = {name for layout in known.values() for code in np.unique(layout.codes)
               for name in layout.parts[code].answers}  # fmt: skip
    for name in asked:
        if ALIASES.get(name.lower(), name) not in answers | {*COMPONENTS, *KINDS}:
            raise ConfigError(f"this model has no component {name!r}; it has {', '.join(_present(known))}")


def edits_of(selection: Selection) -> list[Edit]:
    """All selected weights as edits."""
    found = []
    for name, entry in selection.chosen.items():
        mask = entry.mask()
        found.append(Edit(name, None if mask is None else mask.reshape(-1).nonzero().flatten()))
    return found
