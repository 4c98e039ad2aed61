"""Time and memory against width, depth, prompt length and rays: docs/scaling.csv and its figure.

Run by hand on a quiet machine: ``python bench/scaling.py`` (about two minutes, one thread). Every point runs in a
process of its own, forked before anything ran, so that its peak memory is its own. Seconds are processor seconds.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python bench/scaling.py`

import numpy as np
import pandas as pd

from bench import ROOT
from tremor import platform

TABLE, FIGURE = ROOT / "docs" / "scaling.csv", ROOT / "docs" / "scaling.png"
# The point that all axes go through, and where each goes; inner width is 2.5 d, as in the embedded Llama.
BATCH = 256
CENTRE = {"width": 256, "layers": 4, "tokens": 8, "rays": 256}
AXES: dict[str, tuple[int, ...]] = {
    "width": (64, 128, 256, 512, 1024),
    "layers": (2, 4, 8, 16, 32),
    "tokens": (4, 8, 16, 32, 64, 128, 256),
    "rays": (64, 256, 1024, 4096, 16384),
}
WORK = ("forward", "jacobian", "response", "boundary")
LABELS = {
    "width": "width d", "layers": "layers", "tokens": "prompt length (tokens)", "rays": "rays",
    "forward": "forward of the prompt", "jacobian": "whole Jacobian", "response": "256 inputs, batched",
    "boundary": "boundary search of all rays",
}  # fmt: skip


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _measured(point: dict[str, int], work: str) -> dict[str, float]:
    """Processor seconds (the best of rounds) and growth of the resident set of one piece of work."""
    from bench import llama
    from tremor.probe.boundary import find_boundaries
    from tremor.probe.jacobian import jacobian
    from tremor.probe.response import Response

    width = point["width"]
    shape = replace(llama.SMALL, width=width, layers=point["layers"], inner=5 * width // 2)
    loaded = llama.build(shape)
    base = llama.point(loaded, point["tokens"])
    before = _peak()
    directions = llama.plane(width, point["rays"])

    def forward() -> None:
        import torch

        with torch.no_grad():
            loaded.anatomy.base(inputs_embeds=base.embeddings[None], use_cache=False)

    response = Response(loaded, base, mode="batched", batch_size=BATCH) if work in ("response", "boundary") else None
    inputs = base.x + np.random.default_rng(0).normal(scale=1e-3, size=(BATCH, width)).astype(np.float32)

    def boundary() -> None:
        find_boundaries(response, directions, s_max=1e-6, arithmetic="float64")

    actions: dict[str, Callable[[], Any]] = {
        "forward": forward, "jacobian": lambda: jacobian(loaded, base), "boundary": boundary,
        "response": lambda: response.evaluate(inputs),
    }  # fmt: skip
    best, spent = float("inf"), 0.0
    while spent < 0.4:
        began = time.process_time()
        actions[work]()
        took = time.process_time() - began
        best, spent = min(best, took), spent + took
    return {"seconds": best, "memory_mib": _peak() - before}


def _apart(point: dict[str, int], work: str) -> dict[str, float]:
    """The same in a forked process."""
    with tempfile.NamedTemporaryFile("r") as file:
        child = os.fork()
        if child == 0:
            try:
                Path(file.name).write_text(json.dumps(_measured(point, work)), encoding="utf-8")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        text = file.read()
    if not text:
        raise SystemExit(f"{work} at {point} failed")
    found: dict[str, float] = json.loads(text)
    return found


def measure() -> pd.DataFrame:
    """All points of all axes, one row each."""
    # Once, before any fork: their import is no part of a point.
    import torch  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    import tremor.probe.boundary
    import tremor.probe.jacobian  # noqa: F401

    rows = []
    for axis, values in AXES.items():
        for value in values:
            for work in WORK:
                # How many inputs a ray has depends on the model's weights: the search is told over rays only.
                if (axis == "rays") != (work == "boundary"):
                    continue
                point = {**CENTRE, axis: value}
                rows.append({"axis": axis, **point, "work": work, **_apart(point, work)})
                print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Slope of log seconds over log axis between its last three points: where it is going, not where it starts."""
    rows = []
    for (axis, work), own in table.groupby(["axis", "work"], sort=False):
        last = own.sort_values(str(axis)).tail(3)
        slope = np.polyfit(np.log(last[str(axis)]), np.log(last["seconds"]), 1)[0]
        rows.append({"axis": axis, "work": work, "slope": round(float(slope), 2)})
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Seconds above, peak memory below, one column for each axis; slopes at the ends of the lines."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    from tremor.figures.style import BLUE, GREEN, ORANGE, PURPLE

    look = dict(zip(WORK, zip((BLUE, ORANGE, GREEN, PURPLE), "os^D", strict=True), strict=True))
    told = slopes(table).set_index(["axis", "work"])["slope"]
    figure, axes = pyplot.subplots(2, len(AXES), figsize=(13, 6), sharey="row", layout="constrained")
    for column, axis in enumerate(AXES):
        upper, lower = axes[:, column]
        for work, own in table[table["axis"] == axis].groupby("work", sort=False):
            colour, mark = look[work]
            upper.loglog(own[axis], own["seconds"], color=colour, marker=mark, label=LABELS[work])
            end = own.sort_values(axis).iloc[-1]
            upper.annotate(f"{told[axis, work]:.1f}", (end[axis], end["seconds"]), (5, 0), textcoords="offset points",
                           color=colour, va="center", fontsize=9)  # fmt: skip
            # Below a mebibyte the growth is that of the allocator's pages.
            grown = own[own["memory_mib"] >= 1]
            lower.loglog(grown[axis], grown["memory_mib"], color=colour, marker=mark)
        margin = (AXES[axis][-1] / AXES[axis][0]) ** 0.05  # and room for the slopes on the right
        for panel in (upper, lower):
            panel.set_xlabel(LABELS[axis])
            panel.set_xscale("log", base=2)
            panel.set_xlim(AXES[axis][0] / margin, AXES[axis][-1] * margin**2.4)
            panel.grid(visible=True, alpha=0.3)
    axes[0, 0].set_ylabel("processor seconds (slope at the end)")
    axes[1, 0].set_ylabel("growth of peak memory, MiB")
    lines = [pyplot.Line2D([], [], color=look[w][0], marker=look[w][1], label=LABELS[w]) for w in WORK]
    figure.legend(handles=lines, loc="outside upper center", ncols=len(WORK), frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def main() -> None:
    """Measure, write the table, draw the figure; with ``--draw`` only the figure, from the table that is there."""
    if "--draw" not in sys.argv[1:]:
        platform.apply(platform.Request(device="cpu", threads=1))
        measure().to_csv(TABLE, index=False, float_format="%.6g")
    table = pd.read_csv(TABLE)
    draw(table, FIGURE)
    print(slopes(table).to_string(index=False))


if __name__ == "__main__":
    main()
