"""One look for all figures: sizes of a paper's columns, a palette for every eye, labels that carry units."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

Width = Literal["column", "page"]
P = ParamSpec("P")
R = TypeVar("R")

WIDTHS: dict[Width, float] = {"column": 3.4, "page": 7.0}  # inches
LEGEND_ROW = 0.145  # inches
# Okabe and Ito, "Color Universal Design", 2008: told apart with any common colour vision.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
INK, GREY, PALE = "#222222", "#777777", "#DDDDDD"
# Angles need a map that closes; the usual ones pass through white, where points are lost on paper.
CYCLE = LinearSegmentedColormap.from_list("tremor_cycle", [BLUE, GREEN, ORANGE, VERMILLION, PURPLE, BLUE])

EMBEDDING_UNITS = "embedding units"
HIDDEN_UNITS = "hidden-state units"
STEP = "largest stable step max_s"
STEP_UNITS = "embedding units along a unit direction"

_LOOK: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 6.5,
    "legend.title_fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "legend.labelspacing": 0.35,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": PALE,
    "grid.linewidth": 0.4,
    "figure.dpi": 100,
    # Glyphs as procedures: text stays searchable. 42 (TrueType) takes the font apart anew for each file, 0.3 s more.
    "pdf.fonttype": 3,
    "svg.hashsalt": "tremor",
    "text.parse_math": False,  # a dollar in a title is a dollar
    "path.simplify": True,
}
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Not to be restored from the defaults: they choose a window system, which no figure here needs.
_SESSION_KEYS = ("backend", "backend_fallback", "interactive", "toolbar", "webagg.port", "datapath")


@contextmanager
def look() -> Iterator[None]:
    """Draw and save in this style, whatever the user's matplotlibrc says; the settings before are restored."""
    with matplotlib.rc_context():
        settings: Any = {k: v for k, v in matplotlib.rcParamsDefault.items() if k not in _SESSION_KEYS}
        settings.update(_LOOK)
        matplotlib.rcParams.update(settings)
        yield


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a drawing function so that it draws in this style."""

    @functools.wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> R:
        with look():
            return function(*args, **kwargs)

    return draw


def new_figure(*, width: Width = "column", height: float = 2.6) -> Figure:
    """An empty figure with constrained layout.

    Args:
        width: ``column`` (3.4 in) or ``page`` (7 in).
        height: Inches.
    """
    figure = Figure(figsize=(WIDTHS[width], height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05)  # type: ignore[union-attr,call-arg]
    return figure


def label(quantity: str, unit: str, *, exponent: int = 0, wrap: bool = False) -> str:
    """Axis label ``quantity (unit)``, with the power of ten that the tick labels leave out.

    Args:
        quantity: What the axis shows.
        unit: Its unit; "" for none.
        exponent: Tick labels are divided by 10**exponent.
        wrap: Put the unit on a line of its own.
    """
    scale = f"{power(exponent)} " if exponent else ""
    inside = f"{scale}{unit}".strip()
    if not inside:
        return quantity
    return f"{quantity}{chr(10) if wrap else ' '}({inside})"


def power(exponent: int) -> str:
    """10 to a power, as text: formulas of matplotlib cost a figure a second and cannot be searched in a PDF."""
    return f"10{str(exponent).translate(_RAISED)}"


def minus(text: str) -> str:
    """The text of a number with a true minus sign."""
    return text.replace("-", "\N{MINUS SIGN}")


def number(value: float, digits: int = 3) -> str:
    """A number for a legend, as 1.23×10⁻¹⁰ where it is not near one."""
    if not math.isfinite(value) or value == 0 or 1e-2 <= abs(value) < 1e4:
        return minus(f"{value:.{digits}g}")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{minus(mantissa)}×{power(int(exponent))}"


def exponent_of(largest: float) -> int:
    """Power of ten to take out of tick labels so that the largest value lies in [1, 10); 0 for plain numbers."""
    if not math.isfinite(largest) or largest <= 0 or 1e-2 <= largest < 1e4:
        return 0
    return math.floor(math.log10(largest) + 1e-6)  # float32 puts 1e-6 just below 1e-6


def scale_ticks(axis: Axis, exponent: int) -> None:
    """Show tick labels divided by 10**exponent; the data stay as they are."""

    def text(value: float, _: int | None) -> str:
        return minus(f"{value / 10.0**exponent + 0.0:.6g}")

    axis.set_major_formatter(FuncFormatter(text))


def decades(*arrays: npt.ArrayLike) -> float:
    """Decades between the smallest and the largest positive finite value; 0 where there is none."""
    values = positive(*arrays)
    return float(np.log10(values.max() / values.min())) if values.size else 0.0


def positive(*arrays: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """All positive finite values of some arrays."""
    flat = [np.asarray(a, dtype=np.float64).ravel() for a in arrays]
    values: npt.NDArray[np.float64] = np.concatenate(flat or [np.zeros(0)])
    return values[np.isfinite(values) & (values > 0)]


def log_limits(*arrays: npt.ArrayLike, margin: float = 0.06, least: float = 1.2) -> tuple[float, float]:
    """Limits of a log axis around all positive values, at least ``least`` decades wide so that a tick is labelled.

    Args:
        arrays: Values; zeros, NaN and infinities are ignored.
        margin: Free space on each side, as a share of the width.
        least: Smallest width, decades.

    Returns:
        Low and high; (0.1, 10) where no value is positive.
    """
    values = positive(*arrays)
    if not values.size:
        return 0.1, 10.0
    low, high = np.log10(values.min()), np.log10(values.max())
    missing = max(0.0, least - (high - low)) / 2
    low, high = low - missing, high + missing
    space = margin * (high - low)
    return float(10.0 ** (low - space)), float(10.0 ** (high + space))


def log_axis(axis: Axis, limits: tuple[float, float]) -> None:
    """Make an axis logarithmic; powers of ten are labelled, and 2 and 5 between where few powers are in sight.

    Args:
        axis: An x or y axis.
        limits: Low and high, see :func:`log_limits`.
    """
    name = "x" if axis is axis.axes.xaxis else "y"
    axis.axes.set(**{f"{name}scale": "log", f"{name}lim": limits})
    few = np.log10(limits[1] / limits[0]) < 2.2

    def major(value: float, _: int | None) -> str:
        return power(round(math.log10(value)))

    def minor(value: float, _: int | None) -> str:
        exponent = math.floor(math.log10(value) + 1e-9)
        mantissa = round(value / 10.0**exponent)
        return f"{mantissa}×{power(exponent)}" if few and mantissa in (2, 5) else ""

    axis.set_major_formatter(FuncFormatter(major))
    axis.set_minor_formatter(FuncFormatter(minor))


def set_title(figure: Figure, title: str | None) -> None:
    """Title of a whole figure; none by default, papers have captions."""
    if title:
        figure.suptitle(title, fontsize=8)


def outside_legend(figure: Figure, *axes: Axes, columns: int = 2, title: str | None = None) -> None:
    """Put one legend for some axes below the figure, which grows by it; entries of equal text appear once.

    Args:
        figure: The figure.
        axes: Where the entries come from, in order.
        columns: At most so many; fewer where the texts are too long for the figure.
        title: A line above the entries.
    """
    entries: dict[str, Any] = {}
    for source in axes:
        for handle, text in zip(*source.get_legend_handles_labels(), strict=True):
            entries.setdefault(text, handle)
    if not entries:
        return
    longest = max(len(text) for text in entries)
    fitting = max(1, int(figure.get_figwidth() / (longest * 0.058 + 0.35)))  # inches a letter, and of the handle
    columns = min(columns, fitting)
    rows = math.ceil(len(entries) / columns) + bool(title)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * rows)
    legend = figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=columns, title=title
    )
    for shown in legend.legend_handles:
        if isinstance(shown, Line2D):  # dots and hairlines of the data are too small to tell their colour
            shown.set_markersize(max(shown.get_markersize(), 3.5))
            shown.set_linewidth(max(shown.get_linewidth(), 1.0))
            shown.set_alpha(1.0)


def rank_limits(count: int) -> tuple[float, float]:
    """Limits of an axis of ranks 1 ... count, which leave out a tick at 0."""
    return 1.0 - min(0.9, 0.03 * count), count + max(0.5, 0.02 * count)
