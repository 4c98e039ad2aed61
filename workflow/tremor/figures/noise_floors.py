"""Figure of the noise floors: one row for each platform, on one logarithmic axis with the types' own roundings."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tremor.figures import style
from tremor.statistics.floors import UNIT_ROUNDOFF

COLOURS = {"float32": style.BLUE, "float16": style.GREEN, "bfloat16": style.VERMILLION}
MARKERS = {"reference": "o", "batched": "s"}
SHIFT = 0.17  # of the modes of one type, in rows


@style.styled
def floors(tables: Mapping[str, pd.DataFrame], *, title: str | None = None) -> Figure:
    """Median (mark) to maximum (end of the line) of the relative distance from true float64: states and logits.

    Args:
        tables: floors.csv by platform, first at the top.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=0.95 + 0.30 * len(tables))
    panels = dict(zip(("state", "logits"), figure.subplots(1, 2, sharex=True, sharey=True), strict=True))
    columns = [f"{what}_{end}" for what in panels for end in ("median", "max")]
    values = np.concatenate([table[columns].to_numpy().ravel() for table in tables.values()])
    dtypes = list(dict.fromkeys(dtype for table in tables.values() for dtype in table["dtype"]))
    roundoffs = [UNIT_ROUNDOFF[dtype] for dtype in dtypes]
    for what, panel in panels.items():
        for dtype in dtypes:
            panel.axvline(UNIT_ROUNDOFF[dtype], color=COLOURS[dtype], linewidth=0.7, linestyle=":", zorder=0)
        for row, (platform, table) in enumerate(tables.items()):
            for line in table.itertuples():
                height = row + (SHIFT if line.mode == "batched" else -SHIFT)
                median, largest = getattr(line, f"{what}_median"), getattr(line, f"{what}_max")
                colour = COLOURS[str(line.dtype)]
                panel.plot([median, largest], [height] * 2, color=colour, linewidth=1.0)
                panel.plot(
                    [median], [height], color=colour, marker=MARKERS[str(line.mode)], markersize=3.4,
                    markerfacecolor=colour if line.mode == "reference" else "white", gid=f"{what}_{platform}",
                )  # fmt: skip
        style.log_axis(panel.xaxis, style.log_limits(values, roundoffs))
        panel.set_xlabel(f"{'final state' if what == 'state' else what}: relative distance from true float64")
    first = panels["state"]
    first.set_yticks(range(len(tables)), list(tables))
    first.set_ylim(len(tables) - 0.5, -0.5)
    style.set_title(figure, title)
    shown = [Line2D([], [], color=COLOURS[dtype], label=dtype) for dtype in dtypes]
    shown += [
        Line2D([], [], color=style.INK, marker=marker, linestyle="none", label=f"{mode} (line to the maximum)",
               markerfacecolor=style.INK if mode == "reference" else "white")
        for mode, marker in MARKERS.items()
    ]  # fmt: skip
    shown.append(Line2D([], [], color=style.INK, linestyle=":", label="one rounding of the type"))
    for entry in shown:
        first.add_line(entry)
    style.outside_legend(figure, first, columns=len(shown))
    return figure
