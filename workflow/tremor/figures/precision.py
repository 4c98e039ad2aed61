"""Figure of exp3: where a step survives rounding, and how far the answers in several precisions lie apart."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tremor.figures import style

COLOURS = {"float64": style.INK, "float32": style.BLUE, "float16": style.GREEN, "bfloat16": style.VERMILLION}
MARKS = {"embedding": "o", "hidden": "s", "logits": "D"}
STATES = {"embedding": "embedding x", "hidden": "hidden state h", "logits": "logits"}


@style.styled
def precision(
    survival: pd.DataFrame, levels: pd.DataFrame, precisions: pd.DataFrame, *, title: str | None = None
) -> Figure:
    """Coordinates that move by step and format, and by step and significant bits; distances to the widest precision.

    Args:
        survival: survival.csv.
        levels: levels.csv.
        precisions: precisions.csv.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.8)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.0, 1.15, 0.9))
    for fmt, colour in COLOURS.items():
        for variant, line in (("vector", "-"), ("sigma_vector", ":")):
            own = survival[(survival["format"] == fmt) & (survival["variant"] == variant)]
            left.plot(
                10.0 ** own["epsilon_power"].to_numpy(dtype=np.float64), own["moved_percent"], color=colour,
                linestyle=line, marker=".", label=fmt if variant == "vector" else "dotted: step ε σ v",
                gid=f"{variant}_{fmt}",
            )  # fmt: skip
    steps = 10.0 ** survival["epsilon_power"].to_numpy(dtype=np.float64)
    style.log_axis(left.xaxis, style.log_limits(steps))
    left.set_ylim(-3, 103)
    left.set_xlabel(style.label("ε; the step is ε v", style.EMBEDDING_UNITS))
    left.set_ylabel(style.label("coordinates of x that move", "%"))
    table = levels[levels["variant"] == "vector"].pivot(
        index="significant_bits", columns="epsilon_power", values="moved_percent"
    )
    image = middle.imshow(
        table.to_numpy(), origin="lower", aspect="auto", cmap="cividis", vmin=0, vmax=100, gid="levels",
        extent=(-0.5, table.shape[1] - 0.5, table.index.min() - 0.5, table.index.max() + 0.5),
    )  # fmt: skip
    shown = np.unique(np.linspace(0, table.shape[1] - 1, min(5, table.shape[1])).round().astype(int))
    middle.set_xticks(shown, [style.power(int(table.columns[k])) for k in shown])
    for name, bits in (("bfloat16", 8), ("float16", 11), ("float32", 24)):
        if table.index.min() <= bits <= table.index.max():
            middle.annotate(
                name, (0, bits), color="white", fontsize=6, va="center" if bits < table.index.max() else "top",
                ha="left", xytext=(2, 0), textcoords="offset points",
            )  # fmt: skip
    middle.set_xlabel(style.label("ε; the step is ε v", style.EMBEDDING_UNITS))
    middle.set_ylabel("significant bits")
    bar = figure.colorbar(image, ax=middle, pad=0.02)
    bar.set_label(style.label("coordinates that move", "%"))
    bar.outline.set_visible(False)
    reference = str(precisions["reference"].iloc[0])
    others = [name for name in dict.fromkeys(precisions["precision"]) if name != reference]
    values = []
    for state, mark in MARKS.items():
        own = precisions[precisions["state"] == state].set_index("precision")["relative_l2"]
        known = [(place, float(own[name])) for place, name in enumerate(others) if own[name] > 0]
        right.plot(
            [place for place, _ in known], [value for _, value in known], linestyle="none", marker=mark,
            markersize=4.5, color=style.PURPLE, markerfacecolor="white" if state == "embedding" else style.PURPLE,
            alpha=0.5 if state == "logits" else 1.0, label=STATES[state], gid=f"state_{state}",
        )  # fmt: skip
        values += [value for _, value in known]
    style.log_axis(right.yaxis, style.log_limits(np.array(values)))
    right.set_xticks(range(len(others)), others)
    right.set_xlim(-0.5, max(0.5, len(others) - 0.5))
    right.set_ylabel(f"distance from {reference.replace('_', ' ')}\nover its length")
    right.tick_params(axis="x", labelrotation=30)
    style.set_title(figure, title)
    style.outside_legend(figure, left, right, columns=4)
    return figure
