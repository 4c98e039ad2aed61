"""Make a model's component map: the anatomy of the loaded model, laid over the tensors of its files.

Names in files and in the model differ at times (a prefix, experts that are stacked when they are loaded), so a tensor
belongs to a parameter when the names agree up to the prefix, and else when the bits do. Bits are compared in any case:
a map never says of a tensor what is true of another.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tremor.errors import ModelError
from tremor.models.anatomy_parts import BlockParts, Slice
from tremor.models.components import Part
from tremor.models.loader import LoadedModel
from tremor.models.weightfiles import WeightFiles

_PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")


@dataclass(frozen=True)
class _Claim:
    """What one parameter, or a slice of it, is."""

    component: str
    block: int | None
    axis: int | None = None
    index: slice | Tensor | None = None


def build(loaded: LoadedModel, files: WeightFiles) -> list[Part]:
    """Lay the anatomy over the stored tensors.

    Args:
        loaded: The model, in any dtype that its weights were cast to.
        files: Its weight files.

    Returns:
        Parts that cover every tensor, in the order of the computation; tensors that nothing claims are "other".

    Raises:
        ModelError: a parameter that was loaded is not what its file holds.
    """
    model = loaded.model
    claims = _claims(loaded)
    used: set[str] = set()
    parts: list[Part] = []
    late: list[tuple[str, nn.Parameter]] = []
    seen: set[int] = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        stored = _by_name(name, str(model.base_model_prefix), parameter, files)
        if id(parameter) in seen and stored not in used and stored is not None:  # tied, and stored twice
            parts.append(Part(stored, stored, None, "unembedding"))
            used.add(stored)
        elif id(parameter) in seen:
            continue
        elif stored is None:
            late.append((name, parameter))
        else:
            _check_bits(name, parameter, stored, files)
            used.add(stored)
            parts += _parts(stored, parameter, claims[id(parameter)], name in loaded.anatomy.transposed)
        seen.add(id(parameter))
    if late:
        parts += _by_bits(loaded, late, claims, files, used)
    parts += [Part(name, name, None, "other") for name in files.names if name not in used]
    return sorted(parts, key=_order)


def _claims(loaded: LoadedModel) -> dict[int, list[_Claim]]:
    """By the identity of a parameter: what it is, or what its slices are."""
    anatomy = loaded.anatomy
    claims: dict[int, list[_Claim]] = {id(p): [_Claim("other", None)] for p in loaded.model.parameters()}
    if not anatomy.tied:
        _claim_module(claims, anatomy.unembedding, "unembedding", None)
    _claim_module(claims, anatomy.embedding, "embedding", None)
    if anatomy.final_norm is not None:
        _claim_module(claims, anatomy.final_norm, "final_norm", None)
    for part in anatomy.block_parts:
        _claim_block(claims, part, dict(loaded.model.named_parameters(remove_duplicate=False)))
    return claims


def _claim_module(claims: dict[int, list[_Claim]], module: nn.Module, component: str, block: int | None) -> None:
    for name, parameter in module.named_parameters():
        inside = name.removesuffix("weight").strip(".")
        claims[id(parameter)] = [_Claim(f"{component}.{inside}" if inside else component, block)]


def _claim_block(claims: dict[int, list[_Claim]], part: BlockParts, parameters: dict[str, nn.Parameter]) -> None:
    """The narrow claim is made after the wide one, and replaces it."""
    _claim_module(claims, part.module, "other", part.index)
    _claim_module(claims, part.mixer, "mixer", part.index)
    for module in part.mlp:
        _claim_module(claims, module, "mlp", part.index)
    if part.router is not None:
        _claim_module(claims, part.router, "router", part.index)
    for name, module in part.norms.items():
        _claim_module(claims, module, f"norm_{part.roles[name]}", part.index)
    sliced: dict[int, list[_Claim]] = {}
    for component in _PROJECTIONS:
        found: Slice | None = getattr(part.projections, component)
        if found is None:
            continue
        weight = parameters[found.parameter]
        sliced.setdefault(id(weight), []).append(_Claim(component, part.index, found.axis, found.index))
        if found.bias is not None:
            bias = parameters[found.bias]
            claim = _Claim(f"{component}.bias", part.index, bias.ndim - 1, found.index)
            sliced.setdefault(id(bias), []).append(claim)
    claims.update(sliced)


def _by_name(name: str, prefix: str, parameter: nn.Parameter, files: WeightFiles) -> str | None:
    candidates = (name, name.removeprefix(f"{prefix}."), f"{prefix}.{name}")
    return next((c for c in candidates if c in files and files.shape(c) == tuple(parameter.shape)), None)


def _as_loaded(values: np.ndarray[Any, Any], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.array(values)).to(dtype)  # a copy: mapped files cannot be written to


def _check_bits(name: str, parameter: nn.Parameter, stored: str, files: WeightFiles) -> None:
    if not torch.equal(parameter.detach().cpu(), _as_loaded(files.read(stored), parameter.dtype)):
        raise ModelError(
            f"{files.folder}: parameter '{name}' of the loaded model is not what tensor '{stored}' holds; "
            "the class changes its weights when it loads them, which the component map cannot follow"
        )


def _parts(tensor: str, parameter: nn.Parameter, claims: list[_Claim], transposed: bool) -> Iterator[Part]:
    """Parts of a tensor that holds a whole parameter."""
    shape = tuple(parameter.shape)
    stacked = claims[0].axis is not None and len(shape) - (not claims[0].component.endswith(".bias")) == 2
    if len(claims) > 1 and not stacked:
        fused = "+".join(claim.component for claim in claims)
        yield Part(tensor, tensor, claims[0].block, fused, transposed=transposed, fused=True)
    for claim in claims:
        axis, runs = _runs(claim, shape)
        label = f"{tensor}:{claim.component}" if axis is not None else tensor
        part = Part(label, tensor, claim.block, claim.component, axis=axis, runs=runs, transposed=transposed)
        if not stacked:
            yield part
            continue
        for expert in range(shape[0]):
            yield replace(part, name=f"{label}[{expert}]", expert=expert, stacked=True)


def _runs(claim: _Claim, shape: tuple[int, ...]) -> tuple[int | None, tuple[tuple[int, int, int], ...]]:
    """The places of a slice as (start, stop, step); none for a whole axis."""
    if claim.axis is None or claim.index is None:
        return None, ()
    size = shape[claim.axis]
    if isinstance(claim.index, slice):
        run = claim.index.indices(size)
        return (None, ()) if run == (0, size, 1) else (claim.axis, (run,))
    places = claim.index.cpu().numpy()
    if np.array_equal(places, np.arange(size)):
        return None, ()
    ends = np.flatnonzero(np.diff(places) != 1) + 1
    pieces = np.split(places, ends)
    return claim.axis, tuple((int(piece[0]), int(piece[-1]) + 1, 1) for piece in pieces)


def _by_bits(
    loaded: LoadedModel,
    late: list[tuple[str, nn.Parameter]],
    claims: dict[int, list[_Claim]],
    files: WeightFiles,
    used: set[str],
) -> Iterator[Part]:
    """Parameters that no tensor has the name of: find tensors of the same bits, whole or expert by expert."""
    free: dict[str, list[str]] = {}
    for name in files.names:
        if name not in used:
            free.setdefault(_digest(_as_loaded(files.read(name), loaded.dtype)), []).append(name)

    def stored(values: Tensor) -> tuple[str, bool] | None:
        for turned in (False, True) if values.ndim == 2 else (False,):
            names = free.get(_digest(values.T if turned else values))
            if names:
                found = names.pop(0)
                used.add(found)
                return found, turned
        return None

    for name, parameter in late:
        values, transposed = parameter.detach().cpu(), name in loaded.anatomy.transposed
        match = stored(values)
        if match is not None:
            yield from _parts(match[0], parameter, claims[id(parameter)], transposed != match[1])
            continue
        for claim in claims[id(parameter)]:
            if claim.axis is None or claim.index is None:
                continue
            whole = Slice(name, claim.axis, claim.index).take(values)
            for expert in range(len(whole)):
                match = stored(whole[expert])
                if match is not None:
                    turned = transposed != match[1]
                    yield Part(match[0], match[0], claim.block, claim.component, expert, transposed=turned)


def _digest(values: Tensor) -> str:
    wide = values.to(torch.float64 if values.dtype == torch.float64 else torch.float32).contiguous().numpy()
    return hashlib.sha256(repr(wide.shape).encode() + wide.tobytes()).hexdigest()


def _order(part: Part) -> tuple[Any, ...]:
    """Order of the computation: embedding, blocks with their components, what follows, and what is unknown."""
    outside = {"embedding": -1, "final_norm": 1, "unembedding": 2}.get(part.component.partition(".")[0], 3)
    place = 0 if part.block is not None else outside
    known = {name: number for number, name in enumerate(_PROJECTIONS)}
    first = part.component.split("+")[0].partition(".")[0]
    rank = known.get(first, len(known))
    block = -1 if part.block is None else part.block
    expert = -1 if part.expert is None else part.expert
    return place, block, rank, not part.fused, part.tensor, expert, part.component
