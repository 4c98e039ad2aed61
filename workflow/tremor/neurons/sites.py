"""Places where neurons are looked for and ablated: one name for the same place in every architecture."""

from __future__ import annotations

from dataclasses import dataclass

from tremor.errors import ModelError
from tremor.models.anatomy import BlockParts, Slice
from tremor.models.loader import LoadedModel
from tremor.weights.activations import locate

KINDS = ("output", "mixer", "mlp", "mixer_inner", "mlp_inner", "delta", "B", "C", "gate")
STATE_SPACE = ("delta", "B", "C", "gate")


@dataclass(frozen=True)
class Site:
    """One place of one model.

    Attributes:
        kind: Of `KINDS`.
        layer: Block, from 0.
        tap: Its name for `weights.activations`.
        start: First block whose computation an ablation here can change.
    """

    kind: str
    layer: int
    tap: str
    start: int


def site(loaded: LoadedModel, kind: str, layer: int) -> Site:
    """Find a place.

    Args:
        loaded: The model.
        kind: `output`: the residual stream after the block. `mixer`, `mlp`: what the branch adds to it.
            `mixer_inner`, `mlp_inner`: what the branch's output projection reads: heads' outputs, a Mamba mixer's
            gated channels, an MLP's hidden units. `delta`, `B`, `C`, `gate`: inside a Mamba scan.
        layer: Block, from 0.

    Raises:
        ModelError: The model has no such place.
    """
    anatomy = loaded.anatomy
    name = type(loaded.model).__name__
    if kind not in KINDS:
        raise ModelError(f"tap {kind!r} is unknown; taps are {', '.join(KINDS)}")
    if not 0 <= layer < anatomy.n_layers:
        raise ModelError(f"layer {layer} does not exist: this {name} has layers 0 to {anatomy.n_layers - 1}")
    parts = anatomy.block_parts[layer]
    if kind in STATE_SPACE:
        tap = f"block.{layer}.ssm.{kind}"
    elif kind in ("mixer_inner", "mlp_inner"):
        projection = parts.o if kind == "mixer_inner" else parts.down
        if projection is None:
            raise ModelError(f"block {layer} of this {name} has no output projection for tap {kind}; use another tap")
        tap = _read_by(parts, projection)
    elif kind != "output" and kind not in parts.taps:
        raise ModelError(f"block {layer} of this {name} has no {kind}; use another tap for it")
    else:
        tap = f"block.{layer}.{kind}"
    locate(anatomy, tap)  # refuses what this model does not have
    return Site(kind, layer, tap, layer + 1 if kind == "output" else layer)


def _read_by(parts: BlockParts, projection: Slice) -> str:
    module = projection.parameter.removeprefix(f"{parts.name}.").rsplit(".", 1)[0]
    return f"block.{parts.index}.{module}.input"


def layers(loaded: LoadedModel, wanted: list[int | str] | str) -> list[tuple[str, int]]:
    """Turn layers of the configuration into blocks of this model.

    Args:
        loaded: The model.
        wanted: Numbers, "middle" (block n // 2), "last"; or "all".

    Returns:
        (name as in the configuration, block); a block that two names mean is listed under the first.

    Raises:
        ModelError: The model is not so deep.
    """
    count = loaded.anatomy.n_layers
    named: dict[int, str] = {}
    for item in range(count) if wanted == "all" else wanted:
        block = {"middle": count // 2, "last": count - 1}.get(item, item) if isinstance(item, str) else item
        if not isinstance(block, int) or not 0 <= block < count:
            raise ModelError(f"delta.neurons.layers: {item} does not exist; this model has layers 0 to {count - 1}")
        named.setdefault(block, str(item))
    return [(name, block) for block, name in named.items()]
