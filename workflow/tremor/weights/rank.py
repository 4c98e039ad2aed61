"""Rankings: the K largest or smallest scores of a stream of tensors, without ever holding all scores.

Each tensor is cut to its own K best on its device, then merged into the K best so far: memory O(K + one tensor).
Equal scores are ordered by tensor (order of the model's parameters), then by flat index, so a ranking is a function
of the scores alone.
"""

import json
import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from tremor.errors import ConfigError, NumericsError
from tremor.weights.merge import COLUMNS
from tremor.weights.select import Chosen, Selection

Columns = dict[str, npt.NDArray[Any]]
Scope = Literal["global", "per_tensor", "per_block", "per_row"]


def top_k(
    stream: Iterable[tuple[str, Tensor]],
    k: int | None = None,
    *,
    selection: Selection,
    scope: Scope = "global",
    largest: bool = True,
    fraction: float | None = None,
    scorer: str = "",
    run_id: str = "",
) -> pd.DataFrame:
    """Rank scores.

    Args:
        stream: Tensor name and scores of the parameter's shape; scalars outside the selection are ignored.
        k: How many, in each tensor, block or row where the scope says so; fewer where there are fewer.
        selection: The scalars that count; also tells tensors, blocks and components.
        scope: "global" (one list), "per_tensor", "per_block" (-1: all that lies outside the blocks) or "per_row" (each
            output feature of each tensor).
        largest: Whether the largest scores come first, or the smallest.
        fraction: Instead of `k`, a share in (0, 1] of the selected scalars of the whole scope, rounded, at least one.
        scorer: Name for the column of that name.
        run_id: Name for the column of that name.

    Returns:
        One row a weight, columns `COLUMNS`; `rank` counts from 1 in each list of the scope, `index` is the index as a
        JSON list, `weight` the scalar's value now.

    Raises:
        ConfigError: Neither or both of k and fraction, or one out of range.
        NumericsError: A score is NaN, or the stream holds a tensor twice.
    """
    ranking = Ranking(
        k, selection=selection, scope=scope, largest=largest, fraction=fraction, scorer=scorer, run_id=run_id
    )
    for name, scores in stream:
        ranking.add(name, scores)
    return ranking.frame()


class Ranking:
    """A ranking in the making; arguments as of :func:`top_k`."""

    def __init__(
        self,
        k: int | None = None,
        *,
        selection: Selection,
        scope: Scope = "global",
        largest: bool = True,
        fraction: float | None = None,
        scorer: str = "",
        run_id: str = "",
    ) -> None:
        if (k is None) == (fraction is None):
            raise ConfigError("a ranking needs either a number k or a fraction; give one of the two")
        if (k is not None and k < 1) or (fraction is not None and not 0 < fraction <= 1):
            raise ConfigError(f"k ({k}) must be at least 1, and a fraction ({fraction}) lie in (0, 1]")
        self._k, self._fraction = k, fraction
        self._selection, self._scope, self._largest = selection, scope, largest
        self._labels = {"run_id": run_id, "scorer": scorer, "scope": scope}
        self._groups: dict[int, _Best] = {}
        self._rows: list[Columns] = []
        self._seen: set[str] = set()
        self._sizes: dict[int, int] = {}
        for entry in selection.chosen.values():
            group = self._group(entry)
            self._sizes[group] = self._sizes.get(group, 0) + entry.count

    def _group(self, entry: Chosen) -> int:
        """Which list of the scope a tensor's scalars go to; rows are handled apart."""
        if self._scope == "global":
            return 0
        return entry.layout.block if self._scope == "per_block" else entry.layout.order

    def _limit(self, size: int) -> int:
        if self._k is not None:
            return min(self._k, size)
        assert self._fraction is not None
        return max(1, round(self._fraction * size))

    def add(self, name: str, scores: Tensor) -> None:
        """Take in the scores of one parameter, of its shape."""
        entry = self._selection.chosen.get(name)
        if entry is None:
            return
        if name in self._seen:
            raise NumericsError(f"the scores of {name} came twice; a stream gives each tensor once")
        self._seen.add(name)
        if tuple(scores.shape) != entry.layout.shape:
            raise NumericsError(f"scores of shape {tuple(scores.shape)} do not fit {name}, {entry.layout.shape}")
        scores = scores.detach()
        if not scores.is_floating_point() or scores.element_size() < 4:
            scores = scores.float()
        values, flat = pick(scores, entry)
        values = values if self._largest else -values
        peak = float(values.max())  # NaN if any score is: one pass, which most tensors need no more than
        if math.isnan(peak):
            raise NumericsError(f"the scores of {name} hold NaN; look for NaN in the weights or in the loss")
        if self._scope == "per_row":
            self._add_rows(entry, values, flat)
            return
        group = self._group(entry)
        best = self._groups.setdefault(group, _Best(self._limit(self._sizes[group])))
        if not best.full or peak >= best.edge:
            best.merge(values, flat, entry.layout.order)

    def _add_rows(self, entry: Chosen, values: Tensor, flat: Tensor | None) -> None:
        table, index = as_rows(entry, values, flat)
        limit = self._limit(table.shape[1])
        order = torch.sort(table, dim=1, descending=True, stable=True)
        picked, places = order.values[:, :limit].reshape(-1), index.gather(1, order.indices[:, :limit]).reshape(-1)
        ranks = torch.arange(1, limit + 1).repeat(table.shape[0])
        self._rows.append(self._table(entry.layout.name, picked, places, ranks.numpy()))

    def _table(self, name: str, values: Tensor, flat: Tensor, ranks: npt.NDArray[np.int64]) -> Columns:
        """Columns of the schema for scalars of one tensor; a data frame each would cost more than the ranking."""
        layout = self._selection.chosen[name].layout
        places = flat.cpu().numpy().astype(np.int64)
        parts = layout.parts_of(places)
        parameter = self._selection.anatomy.parameter(name).detach()
        weights = parameter.reshape(-1)[flat.to(parameter.device)]
        columns = np.unravel_index(places, layout.shape)
        return {
            "rank": ranks,
            "tensor": np.full(len(places), name, dtype=object),
            "flat_index": places,
            "index": np.array(
                [json.dumps([int(i) for i in index]) for index in zip(*columns, strict=True)], dtype=object
            ),
            "block": np.array([part.block for part in parts], dtype=np.int64),
            "component": np.array([part.component for part in parts], dtype=object),
            "weight": weights.double().cpu().numpy(),
            "score": (values if self._largest else -values).double().cpu().numpy(),
        }

    def frame(self, *, partial: bool = False) -> pd.DataFrame:
        """The ranking so far, see :func:`top_k`.

        Args:
            partial: Other jobs have the other tensors: that nothing was scored here is an empty table and no error.
        """
        names = {entry.layout.order: name for name, entry in self._selection.chosen.items()}
        parts = list(self._rows)
        for group in sorted(self._groups):
            best = self._groups[group]
            ranks = np.arange(1, len(best.values) + 1)
            pieces = []
            for number in best.orders.unique().tolist():
                mine = best.orders == number
                chosen = mine.cpu().numpy()
                pieces.append(self._table(names[number], best.values[mine], best.flat[mine], ranks[chosen]))
            joined = _joined(pieces)
            order = np.argsort(joined["rank"])
            parts.append({column: values[order] for column, values in joined.items()})
        if not parts and partial:
            return pd.DataFrame(columns=list(COLUMNS))
        if not parts:
            raise NumericsError("no scores came for any selected weight; this score is not defined for the selection")
        table = pd.DataFrame(_joined(parts))
        for name in ("tensor", "index", "component"):
            table[name] = table[name].astype("str")
        for name, value in self._labels.items():
            table[name] = value
        return table[list(COLUMNS)]


def _joined(pieces: list[Columns]) -> Columns:
    """Columns of several tables, one below the other."""
    return {column: np.concatenate([piece[column] for piece in pieces]) for column in pieces[0]}


class _Best:
    """The K largest values so far, with where they are; sorted, ties by tensor and flat index."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.values = torch.empty(0)
        self.flat = torch.empty(0, dtype=torch.int64)
        self.orders = torch.empty(0, dtype=torch.int64)

    @property
    def full(self) -> bool:
        """Whether there are K already."""
        return len(self.values) == self.k

    @property
    def edge(self) -> float:
        """The smallest of them."""
        return float(self.values[-1])

    def merge(self, values: Tensor, flat: Tensor | None, order: int) -> None:
        if self.full:  # most tensors have few candidates left, so this cut comes first
            places = (values >= self.values[-1].to(values)).nonzero().flatten()
            values, flat = values[places], places if flat is None else flat[places]
        values, flat = _cut(values, flat, self.k)
        device = self.values.device if len(self.values) else values.device
        dtype = torch.promote_types(self.values.dtype, values.dtype)
        joined = torch.cat([self.values.to(device, dtype), values.to(device, dtype)])
        places = torch.cat([self.flat.to(device), flat.to(device)])
        orders = torch.cat([self.orders.to(device), torch.full((len(values),), order, device=device)])
        # Sorted by place first; the stable sort by value then keeps that order among equals.
        by_place = torch.argsort(places, stable=True)
        by_place = by_place[torch.argsort(orders[by_place], stable=True)]
        by_value = by_place[torch.argsort(joined[by_place], descending=True, stable=True)][: self.k]
        self.values, self.flat, self.orders = joined[by_value], places[by_value], orders[by_value]


def _cut(values: Tensor, flat: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of values [n] with their indices; among equals at the edge, those that come first."""
    if k < len(values):
        edge = torch.topk(values, k, sorted=False).values.min()
        above = (values > edge).nonzero().flatten()
        equal = (values == edge).nonzero().flatten()[: k - len(above)]
        places = torch.cat([above, equal])
    else:
        places = torch.arange(len(values), device=values.device)
    return values[places], places if flat is None else flat[places]


def pick(scores: Tensor, entry: Chosen) -> tuple[Tensor, Tensor | None]:
    """Selected scores [n] and their flat indices, None for all in order."""
    mask = entry.mask(scores.device)
    if mask is None:
        return scores.reshape(-1), None
    flat = mask.reshape(-1).nonzero().flatten()
    return scores.reshape(-1)[flat], flat


def as_rows(entry: Chosen, values: Tensor, flat: Tensor | None) -> tuple[Tensor, Tensor]:
    """Selected scores as [rows, scalars of a row] and their flat indices: a row is one output feature."""
    shape = list(entry.layout.shape)
    axis = entry.layout.axis
    if entry.along is not None:
        shape[axis] = int(entry.along.sum())
    index = torch.arange(len(values), device=values.device) if flat is None else flat
    if len(shape) == 1:
        return values.view(1, -1), index.view(1, -1)
    inputs = len(shape) - 2 if entry.layout.transposed else len(shape) - 1
    if len(shape) > 2 and not entry.layout.transposed and axis == 0:  # a convolution's filter is one row
        return values.view(shape[0], -1), index.view(shape[0], -1)
    table = values.view(shape).movedim(inputs, -1).reshape(-1, shape[inputs])
    return table, index.view(shape).movedim(inputs, -1).reshape(-1, shape[inputs])
