"""Figure of the perturbation tests: how far the answer moves for each kind of noise, and where the token changes."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tremor.figures import style

COLOURS = {
    "gaussian": style.BLUE, "uniform": style.GREEN, "sign": style.ORANGE, "single_dimension": style.PURPLE,
    "constant_positive": style.VERMILLION,
}  # fmt: skip


@style.styled
def perturbation(table: pd.DataFrame, *, title: str | None = None) -> Figure:
    """Change of the final state over relative noise, and what is left of the embedding after adding a constant.

    Args:
        table: perturbation.csv.
        title: Text above the figure.
    """
    figure = style.new_figure(width="page", height=2.9)
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1.0))
    shown = table[(table["relative_embedding_diff"] > 0) & (table["hidden_l2_after_norm"] > 0)]
    for kind, colour in COLOURS.items():
        own = shown[shown["perturbation_type"] == kind]
        for changed, face, text in ((False, "white", kind.replace("_", " ")), (True, colour, "filled: token changes")):
            rows = own[own["token_changed"] == changed]
            dots: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 3.2, "markeredgewidth": 0.7}
            if len(rows) or (len(own) and not changed):
                left.plot(
                    rows["relative_embedding_diff"], rows["hidden_l2_after_norm"] / rows["hidden_norm_after_orig"],
                    markerfacecolor=face, markeredgecolor=colour, label=text, gid=f"{kind}_{changed}", **dots,
                )  # fmt: skip
    style.log_axis(left.xaxis, style.log_limits(shown["relative_embedding_diff"].to_numpy()))
    moved = (shown["hidden_l2_after_norm"] / shown["hidden_norm_after_orig"]).to_numpy()
    style.log_axis(left.yaxis, style.log_limits(moved))
    left.set_xlabel("length of the noise over that of the embeddings")
    left.set_ylabel("change of the final state\nover its length")
    lattice = table[table["scale"] == "lattice"]
    prompts = list(dict.fromkeys(lattice["prompt"]))
    for prompt in prompts:
        own = lattice[(lattice["prompt"] == prompt) & (lattice["relative_embedding_diff"] > 0)].sort_values("magnitude")
        right.plot(
            own["magnitude"], own["relative_embedding_diff"], color=COLOURS["constant_positive"], linewidth=0.8,
            gid=f"lattice_{prompt}",
        )  # fmt: skip
        changed = own[own["token_changed"]]
        right.plot(
            changed["magnitude"], changed["relative_embedding_diff"], linestyle="none", marker="o", markersize=3.2,
            color=COLOURS["constant_positive"], gid="lattice_changed",
        )  # fmt: skip
    right.axhline(1.0, color=style.INK, linewidth=0.6, linestyle=":")
    right.annotate("all is lost", (0.02, 1.0), xycoords=("axes fraction", "data"), fontsize=6.5, va="bottom")
    style.log_axis(right.xaxis, style.log_limits(lattice["magnitude"].to_numpy()))
    lost = np.append(lattice["relative_embedding_diff"].to_numpy(), 1.0)
    style.log_axis(right.yaxis, style.log_limits(lost, margin=0.1))
    right.set_xlabel(style.label("constant c", style.EMBEDDING_UNITS))
    right.set_ylabel("what is lost, over the embeddings' length")
    style.set_title(figure, title)
    style.outside_legend(figure, left, columns=3)
    return figure
