"""Figure of a Jacobian's singular values."""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tremor.figures import style

RESOLUTION = 1e-7  # share of sigma_1: about float32's epsilon, which every entry of the Jacobian carries
NEAR = 1e3  # the floor is drawn if the smallest value is within this factor of it


def _facts(values: npt.NDArray[np.float64], frobenius: float | None) -> str:
    lines = [f"σ₁ = {values[0]:.4g}"]
    if frobenius is None:
        return ", ".join([*lines, f"only the leading {values.size} known"])
    lines.append(f"Frobenius norm {frobenius:.4g}")
    if values[0] > 0:
        lines.append(f"stable rank {frobenius**2 / values[0] ** 2:.3g}")
    return ", ".join(lines)


@style.styled
def spectrum(
    singular_values: npt.NDArray[Any],
    *,
    frobenius: float | None = None,
    log_rank: bool = False,
    title: str | None = None,
) -> Figure:
    """Singular values over their rank, with the floor below which a float32 Jacobian resolves nothing.

    Args:
        singular_values: [k], largest first.
        frobenius: Norm of the whole matrix; None where only leading values are known.
        log_rank: Log axis of the rank.
        title: Text above the figure.
    """
    values = np.asarray(singular_values, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all() or (np.diff(values) > 0).any():
        raise ValueError("singular_values must be [k >= 1], finite, largest first")
    rank = np.arange(1, values.size + 1)
    floor = RESOLUTION * float(values[0])
    smallest = float(values[-1])
    near = floor > 0 and smallest < NEAR * floor
    low, high = style.log_limits(values, np.array([floor / 3]) if near else np.zeros(0))
    figure = style.new_figure(height=2.4)
    axes = figure.add_subplot()
    style.log_axis(axes.yaxis, (low, high))
    if near:
        axes.axhspan(low, floor, color=style.ORANGE, alpha=0.2, linewidth=0, gid="unresolved",
                     label="not resolved by a float32 Jacobian")  # fmt: skip
        axes.axhline(floor, color=style.ORANGE, linewidth=0.8, label="10⁻⁷ σ₁", gid="floor")
    elif floor > 0:
        axes.plot([], [], linestyle="none", label=f"all above the floor 10⁻⁷ σ₁ = {style.number(floor)}")
    positive = values > 0
    look: dict[str, Any] = {"marker": ".", "markersize": 4} if values.size <= 200 else {}
    axes.plot(rank[positive], values[positive], color=style.BLUE, label="σₖ", gid="spectrum", **look)
    if not positive.all():
        text = f"σₖ = 0 ({np.sum(~positive)} values)"
        axes.plot(
            rank[~positive], np.full(np.sum(~positive), low), linestyle="none", marker="v", color=style.INK,
            clip_on=False, label=text, gid="zero",
        )  # fmt: skip
    if log_rank and values.size > 1:
        style.log_axis(axes.xaxis, (0.9, values.size * 1.1))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        axes.set_xlim(*style.rank_limits(values.size))
    axes.set_title(_facts(values, frobenius), fontsize=6.5, loc="right")
    axes.set_xlabel(style.label("rank k", ""))
    axes.set_ylabel(style.label("singular value σₖ", f"{style.HIDDEN_UNITS}\nper embedding unit", wrap=True))
    style.set_title(figure, title)
    style.outside_legend(figure, axes, columns=2)
    return figure
