"""exp12's figures: the lines hold the data, legends name only what is there, no input is too odd to draw."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tremor.figures import boundary

DRAW: dict[str, Callable[..., Figure]] = {
    name: getattr(boundary, name) for name in ("polar", "radar", "cartesian", "plane")
}
CENSORED, UNCERTIFIED, MOVES = "censored", "not certified", "first breakpoint"


def rays(count: int = 120, *, span: float = 0.5) -> dict[str, Any]:
    """Jagged boundaries around 1e-10 over ``span`` decades."""
    exponent = np.random.default_rng(3).uniform(-span / 2, span / 2, count)
    max_s = (1e-10 * 10**exponent).astype(np.float32)
    return {
        "theta": np.linspace(0, 2 * np.pi, count, endpoint=False),
        "max_s": max_s,
        "first_breakpoint": max_s / 2,
        "censored": np.zeros(count, dtype=bool),
        "certified": np.ones(count, dtype=bool),
    }


def line(figure: Figure, gid: str) -> Any:
    (found,) = [x for axes in figure.axes for x in axes.lines if x.get_gid() == gid]
    return found


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for box in figure.legends for text in box.get_texts()]


def labels(axes: Axes) -> str:
    return f"{axes.get_xlabel()} {axes.get_ylabel()}"


@pytest.mark.parametrize("name", ["polar", "radar"])
@pytest.mark.parametrize("span", [0.5, 2.0])
def test_round_figures_close_and_choose_their_radius(name: str, span: float) -> None:
    data = rays(span=span)
    figure = DRAW[name](data)
    axes: Any = figure.axes[0]
    curve = line(figure, "boundary")
    np.testing.assert_array_equal(curve.get_ydata()[:-1], data["max_s"].astype(float))
    assert curve.get_ydata()[-1] == curve.get_ydata()[0]
    assert curve.get_xdata()[-1] - curve.get_xdata()[0] == 2 * np.pi
    assert axes.get_theta_offset() == 0.0
    assert axes.get_theta_direction() == 1
    assert axes.yaxis.get_scale() == ("log" if span > 1 else "linear")
    assert axes.get_rmax() > data["max_s"].max()
    assert "max_s" in labels(axes)
    assert "embedding units along a unit direction" in labels(axes)
    np.testing.assert_array_equal(line(figure, "first_breakpoint").get_ydata()[:-1], data["first_breakpoint"])
    assert bool(axes.patches) == (name == "polar")


def test_extremes_are_marked_where_they_are() -> None:
    data = rays()
    low, high = np.argmin(data["max_s"]), np.argmax(data["max_s"])
    figure = DRAW["cartesian"](data)
    marks = [x for x in figure.axes[0].lines if x.get_gid() == "extreme"]
    places = [(x.get_xdata()[0], x.get_ydata()[0]) for x in marks]
    assert places == [(np.degrees(data["theta"][i]), data["max_s"][i]) for i in (low, high)]
    assert any(text.startswith("min ") and text.endswith("°") for text in legend(figure))


@pytest.mark.parametrize(("span", "scale"), [(0.5, "linear"), (2.0, "log")])
def test_cartesian_shows_degrees_mean_and_median(span: float, scale: str) -> None:
    data = rays(span=span)
    figure = DRAW["cartesian"](data)
    axes = figure.axes[0]
    np.testing.assert_allclose(
        line(figure, "boundary").get_xdata(), np.arange(0, 360, 3), rtol=1e-14
    )  # rounding of degrees
    assert axes.get_xlim() == (0, 360)
    assert axes.get_yscale() == scale
    # Means of the same float64 values: equal up to the order of summation.
    assert line(figure, "mean").get_ydata()[0] == pytest.approx(data["max_s"].astype(float).mean(), rel=1e-12)
    assert line(figure, "median").get_ydata()[0] == pytest.approx(np.median(data["max_s"].astype(float)), rel=1e-12)
    assert "degrees" in axes.get_xlabel()
    assert "embedding units" in axes.get_ylabel()
    assert [text.get_text() for text in axes.texts] == ["+e₁", "+e₂", "−e₁", "−e₂"]


def test_radar_names_values_of_the_circularly_nearest_rays() -> None:
    theta = np.radians([1.0, 92.0, 181.0, 269.0, 359.9])
    figure = DRAW["radar"]({"theta": theta, "max_s": np.array([1, 2, 3, 4, 5]) * 1e-10})
    np.testing.assert_array_equal(line(figure, "cardinal").get_ydata(), np.array([5, 2, 3, 4]) * 1e-10)
    texts = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert texts == ["+e₁\n5\nat 359.9°", "+e₂\n2\nat 92°", "−e₁\n3\nat 181°", "−e₂\n4\nat 269°"]


def test_plane_has_equal_aspect_and_the_points_of_the_boundary() -> None:
    data = rays()
    figure = DRAW["plane"](data)
    left, right = figure.axes[:2]
    x, y = data["max_s"].astype(float) * np.cos(data["theta"]), data["max_s"].astype(float) * np.sin(data["theta"])
    np.testing.assert_array_equal(line(figure, "boundary").get_xydata()[:-1], np.column_stack([x, y]))
    np.testing.assert_array_equal(right.collections[0].get_offsets(), np.column_stack([x, y]))
    reach = 1.3 * float(data["max_s"].max())
    for axes in (left, right):
        assert axes.get_aspect() == 1.0
        assert axes.get_xlim() == axes.get_ylim() == (-reach, reach)
        assert "embedding units" in axes.get_xlabel()


@pytest.mark.parametrize("name", DRAW)
def test_legend_names_only_what_there_is(name: str) -> None:
    data = rays()
    texts = " | ".join(legend(DRAW[name](data)))
    assert MOVES in texts
    assert CENSORED not in texts
    assert UNCERTIFIED not in texts
    data["censored"][5:8] = True
    data["certified"][9] = False
    data["first_breakpoint"][:] = np.nan
    figure = DRAW[name](data)
    texts = " | ".join(legend(figure))
    assert "censored: no change up to s_max (3 of 120 rays)" in texts
    assert "not certified: the search jumped (1 of 120 rays)" in texts
    assert "min of uncensored rays" in texts
    assert MOVES not in texts
    marks = [x for x in figure.axes[0].lines if x.get_label().startswith("censored")]
    assert [len(x.get_xdata()) for x in marks] == [3]
    assert marks[0].get_markerfacecolor() == "none"


@pytest.mark.parametrize("name", DRAW)
@pytest.mark.parametrize(
    ("count", "change"),
    [
        (1, {}),
        (2, {}),
        (3, {}),
        (12, {"max_s": np.full(12, 1e-10)}),
        (12, {"max_s": np.zeros(12)}),
        (12, {"max_s": np.full(12, 1e-6), "censored": np.ones(12, bool), "first_breakpoint": np.full(12, np.nan)}),
        (12, {"max_s": np.geomspace(1e-14, 1e-3, 12)}),
        (12, {"max_s": np.append(0.0, np.geomspace(1e-11, 1e-9, 11))}),
    ],
    ids=["one", "two", "three", "equal", "zero", "all-censored", "eleven-decades", "a-zero"],
)
def test_odd_data_can_be_drawn(name: str, count: int, change: dict[str, Any], recwarn: pytest.WarningsRecorder) -> None:
    figure = DRAW[name]({**rays(count), **change}, title="costs $5 and $6")
    figure.draw_without_rendering()
    assert [str(w.message) for w in recwarn] == []
    assert figure.get_suptitle() == "costs $5 and $6"


@pytest.mark.parametrize("name", DRAW)
def test_only_angle_and_boundary_are_needed(name: str) -> None:
    data = rays()
    shuffled = np.random.default_rng(1).permutation(120)
    figure = DRAW[name]({"theta": data["theta"][shuffled], "max_s": data["max_s"][shuffled]})
    curve = line(figure, "boundary").get_xydata()[:120]
    np.testing.assert_array_equal(curve, line(DRAW[name](data), "boundary").get_xydata()[:120])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"theta": np.zeros(0)}, r"theta must be \[n\] with n >= 1"),
        ({"max_s": np.ones(3)}, "max_s must be"),
        ({"max_s": np.full(4, np.nan)}, "max_s must be finite"),
    ],
)
def test_wrong_data_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        boundary.polar({**rays(4), **change})
