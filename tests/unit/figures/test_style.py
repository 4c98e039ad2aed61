"""Labels, numbers, limits and ticks of the style."""

import numpy as np
import pytest

from tremor.figures import style


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.234e-10, "1.23×10⁻¹⁰"), (0.0, "0"), (0.5, "0.5"), (-2.5, "−2.5"), (6.5e7, "6.50×10⁷"), (float("nan"), "nan")],
)
def test_number(value: float, text: str) -> None:
    assert style.number(value) == text


def test_label_carries_unit_and_exponent() -> None:
    assert style.label("max_s", "embedding units", exponent=-10) == "max_s (10⁻¹⁰ embedding units)"
    assert style.label("max_s", "embedding units", wrap=True) == "max_s\n(embedding units)"
    assert style.label("rank k", "") == "rank k"


@pytest.mark.parametrize(
    # float32(1e-6) is 9.99999997e-7, which is still to be written as 1 times 10^-6
    ("value", "exponent"),
    [(3e-10, -10), (float(np.float32(1e-6)), -6), (1.0, 0), (0.0, 0), (float("inf"), 0), (2e5, 5)],
)
def test_exponent(value: float, exponent: int) -> None:
    assert style.exponent_of(value) == exponent


def test_log_limits_hold_all_positive_values_and_always_a_power_of_ten() -> None:
    low, high = style.log_limits([0.0, np.nan, 3e-11], [2e-9])
    assert low < 3e-11 < 2e-9 < high
    low, high = style.log_limits([5e-10] * 3)
    assert high / low >= 10**1.2
    assert np.ceil(np.log10(low)) <= np.floor(np.log10(high))
    assert style.log_limits([0.0], []) == (0.1, 10.0)


def test_decades() -> None:
    assert style.decades([1e-11, 0.0], [1e-9]) == pytest.approx(2.0, abs=1e-12)  # exact but for log10's last digit
    assert style.decades([0.0, np.nan]) == 0.0


def test_log_ticks_are_text_not_formulas() -> None:
    with style.look():
        axes = style.new_figure().add_subplot()
        style.log_axis(axes.yaxis, (1e-11, 1e-10))
        assert axes.yaxis.get_major_formatter()(1e-10, 0) == "10⁻¹⁰"
        assert axes.yaxis.get_minor_formatter()(2e-11, 0) == "2×10⁻¹¹"
        assert axes.yaxis.get_minor_formatter()(3e-11, 0) == ""
        style.log_axis(axes.yaxis, (1e-11, 1e-5))
        assert axes.yaxis.get_minor_formatter()(2e-11, 0) == ""


def test_the_angle_map_closes() -> None:
    assert style.CYCLE(0.0) == style.CYCLE(1.0)


def test_a_legend_has_no_more_columns_than_fit_and_each_text_once() -> None:
    with style.look():
        figure = style.new_figure()
        axes = figure.add_subplot()
        for k in range(3):
            axes.plot([0], [k], label="a very long text for a legend of a figure one column wide")
        axes.plot([0], [9], label="short")
        style.outside_legend(figure, axes, columns=3)
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == [axes.lines[0].get_label(), "short"]
    assert legend._ncols == 1
