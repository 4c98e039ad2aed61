"""esa/super-weights, beyond removal: the weights of a method scaled, and held out while all others are quantised.

Both are questions of Yu et al. 2024, The Super Weight in Large Language Models (sections 4 and 5): how the quality
depends on the size of these weights, and how much of what quantisation costs they alone are to blame for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import product
from typing import Any

import pandas as pd
import torch

from tremor.experiments.esa_shared import Bench, Effect
from tremor.progress import Progress
from tremor.weights.mutate import edits_at, scale
from tremor.weights.quantise import held_out, on_grid
from tremor.weights.select import Selection, edits_of

NOBODY = "none"  # the method of a row in which no weight is held out of quantisation


def changes(
    bench: Bench, selection: Selection, named: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What scaling, and quantising around them, the weights of each method does to held-out text.

    Args:
        bench: The model beside its clean baseline.
        selection: Weights that are quantised.
        named: Method to its ranking, which may be empty.
        settings: Config block `esa.super_weights`.

    Returns:
        Rows of changes.csv; `held_out` counts the weights that kept their bits while others were quantised.
    """
    named = {method: table for method, table in named.items() if len(table)}
    grids = list(product(settings["grids"], settings["groups"]))
    rows = []
    with Progress(len(named) * (len(settings["factors"]) + len(grids)) + len(grids), "changes") as progress:
        for row in (*_scaled(bench, named, settings), *_quantised(bench, selection, named, grids)):
            rows.append(row)
            progress.advance()
    return rows


def _scaled(bench: Bench, named: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for method, table in named.items():
        edits = edits_at(table["tensor"].tolist(), table["flat_index"].tolist())
        for factor in settings["factors"]:
            effect = bench.edited(edits, scale(factor), allow_unchanged=factor == 1)
            yield _row(method, effect, study="scaled", factor=factor)


def _quantised(
    bench: Bench, selection: Selection, named: Mapping[str, pd.DataFrame], grids: list[tuple[str, int]]
) -> Iterator[dict[str, Any]]:
    edits = edits_of(selection)
    for grid, group in grids:
        place = {"study": "quantised", "grid": grid, "group": group}
        act = on_grid(grid, group)
        # A model that comes out of the same quantisation is on the grid already.
        yield _row(NOBODY, bench.edited(edits, act, allow_unchanged=True), **place, held_out=0)
        for method, table in named.items():
            kept = {str(name): torch.tensor(rows["flat_index"].tolist()) for name, rows in table.groupby("tensor")}
            effect = bench.edited(edits, held_out(act, kept), allow_unchanged=True)
            yield _row(method, effect, **place, held_out=len(table))


def _row(method: str, effect: Effect, **place: Any) -> dict[str, Any]:
    head = {"method": method, **dict.fromkeys(("study", "factor", "grid", "group", "held_out")), **place}
    return {**head, **asdict(effect)}
