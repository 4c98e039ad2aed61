"""Figures of exp13, exp15 and the spectrum: lines hold the data, legends say what each is, odd data can be drawn."""

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from tremor.figures import distances, spectrum, vectors


def legend(figure: Figure) -> str:
    return " | ".join(text.get_text() for box in figure.legends for text in box.get_texts())


def lines(figure: Figure, gid: str) -> list[Any]:
    return [x for axes in figure.axes for x in axes.lines if x.get_gid() == gid]


def vector_rays(count: int = 40) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    sigma = np.geomspace(60, 0.3, count)
    return {
        "kind": np.array(["singular"] * (2 * count) + ["random"] * count),
        "vector": np.concatenate([np.arange(count)] * 3),
        "sign": np.repeat([1, -1, 1], count),
        "sigma": np.concatenate([sigma, sigma, np.full(count, np.nan)]),
        "max_s": (2e-10 * np.exp(generator.normal(size=3 * count))).astype(np.float32),
        "censored": np.zeros(3 * count, dtype=bool),
        "certified": np.ones(3 * count, dtype=bool),
    }


def distance_rays(count: int) -> dict[str, Any]:
    generator = np.random.default_rng(1)
    return {
        "embedding_l2": 4e-12 * np.exp(generator.normal(size=count) / 3),
        "hidden_l2": 9e-5 * np.exp(generator.normal(size=count) / 20),
        "smooth_prediction_l2": 1e-10 * np.exp(generator.normal(size=count)),
        "noise_floor_l2": np.full(count, 8.5e-5),
        "embedding_ulps": generator.integers(1, 12, count),
        "censored": np.zeros(count, dtype=bool),
        "theta": np.linspace(0, 2 * np.pi, count, endpoint=False),
    }


def test_stability_shows_both_signs_by_rank_and_by_sigma() -> None:
    data = vector_rays()
    figure = vectors.stability(data, spearman=-0.25, p_value=0.01)
    for sign, rows in ((1, slice(0, 40)), (-1, slice(40, 80))):
        by_rank, by_sigma = lines(figure, f"sign{sign:+d}")
        np.testing.assert_array_equal(by_rank.get_xdata(), np.arange(1, 41))
        np.testing.assert_array_equal(by_sigma.get_xdata(), data["sigma"][rows])
        np.testing.assert_array_equal(by_rank.get_ydata(), data["max_s"][rows].astype(float))
    control = data["max_s"][80:].astype(float)
    for median in lines(figure, "control_median"):
        assert median.get_ydata()[0] == np.median(control)
    bands = [patch for axes in figure.axes for patch in axes.patches if patch.get_gid() == "control"]
    for band in bands:
        edges = [band.get_y(), band.get_y() + band.get_height()]
        # Height is stored, not the upper edge: one rounding of the difference.
        np.testing.assert_allclose(edges, np.quantile(control, [0.05, 0.95]), rtol=1e-12)
    assert len(bands) == 2
    left, right = figure.axes
    assert (right.get_xscale(), right.get_yscale(), left.get_yscale()) == ("log", "log", "log")
    assert "embedding units along a unit direction" in left.get_ylabel()
    assert "hidden-state units per embedding unit" in right.get_xlabel()
    assert right.get_title(loc="right") == "Spearman ρ(max_s, σ) = −0.250, p = 0.01"
    text = legend(figure)
    assert "along +vₖ" in text
    assert "along −vₖ" in text
    assert "5–95 %" in text
    for absent in ("censored", "certified", "own gain", "not resolved"):
        assert absent not in text


def test_stability_shows_what_is_special_about_rays() -> None:
    data = vector_rays()
    data["sigma"] = np.where(np.isnan(data["sigma"]), 9.0, data["sigma"])
    data["sigma"][39] = 1e-7
    data["censored"][:2] = True
    data["certified"][5] = False
    data["max_s"][7] = 0.0
    text = legend(vectors.stability(data))
    for present in ("censored: no change up to s_max (2 of 80 rays)", "not certified: the search jumped (1 of 80 rays)",
                    "max_s = 0 (1 of 80 rays)", "own gain", "not resolved"):  # fmt: skip
        assert present in text


@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 80), slice(79, 81)], ids=["one", "no-control", "one-each"])
def test_stability_of_few_rays(rows: slice, recwarn: pytest.WarningsRecorder) -> None:
    figure = vectors.stability({name: values[rows] for name, values in vector_rays().items()})
    figure.draw_without_rendering()
    assert figure.axes[1].get_title(loc="right").endswith("not defined")
    assert [str(w.message) for w in recwarn] == []


def test_stability_needs_a_singular_vector() -> None:
    with pytest.raises(ValueError, match="no ray of kind 'singular'"):
        vectors.stability({name: values[80:] for name, values in vector_rays().items()})


def test_distances_by_angle() -> None:
    data = distance_rays(90)
    figure = distances.by_angle(data)
    top, bottom, ulps = figure.axes
    for gid, name in (("embedding", "embedding_l2"), ("hidden", "hidden_l2"), ("smooth", "smooth_prediction_l2")):
        (found,) = lines(figure, gid)
        np.testing.assert_array_equal(found.get_ydata(), data[name])
        np.testing.assert_array_equal(found.get_xdata(), np.degrees(data["theta"]))
    assert lines(figure, "noise_floor")[0].get_ydata()[0] == 8.5e-5
    np.testing.assert_array_equal(lines(figure, "ulps")[0].get_ydata(), data["embedding_ulps"])
    assert top.get_yscale() == bottom.get_yscale() == "log"
    low, high = bottom.get_ylim()
    assert low < data["smooth_prediction_l2"].min() < data["hidden_l2"].max() < high
    assert "embedding units" in top.get_ylabel()
    assert "hidden-state units" in bottom.get_ylabel()
    assert "ulps" in ulps.get_ylabel()
    assert "degrees" in bottom.get_xlabel()
    text = legend(figure)
    for present in ("‖Δx‖ at min_t", "measured ‖Δh‖", "smooth prediction ‖J Δx‖", "rounding noise floor 8.50×10⁻⁵"):
        assert present in text
    assert "censored" not in text
    assert "not a gain" in figure.legends[0].get_title().get_text()


def test_censored_rays_are_gaps_marked_at_the_edge() -> None:
    data = distance_rays(30)
    data["censored"][[3, 4]] = True
    data["hidden_l2"][[3, 4]] = 0.0
    figure = distances.by_angle(data)
    for gid in ("embedding", "hidden", "smooth"):
        np.testing.assert_array_equal(np.isnan(lines(figure, gid)[0].get_ydata()), data["censored"])
    marks = lines(figure, "censored")
    assert [len(x.get_xdata()) for x in marks] == [2, 2]
    assert "censored: no change up to s_max (2 of 30 rays)" in legend(figure)


def test_distances_by_vector_keep_groups_apart() -> None:
    rays = vector_rays()
    data = {**distance_rays(120), **{name: rays[name] for name in ("kind", "vector", "sign")}}
    figure = distances.by_vector(data)
    groups = lines(figure, "hidden")
    assert [len(x.get_xdata()) for x in groups] == [40, 40, 40]
    np.testing.assert_array_equal(groups[1].get_ydata(), data["hidden_l2"][:40])
    np.testing.assert_array_equal(groups[1].get_xdata(), np.arange(1, 41))
    text = legend(figure)
    for present in ("random directions", "along +vₖ", "along −vₖ"):
        assert present in text
    assert text.count("smooth prediction") == 1
    assert "rank k" in figure.axes[1].get_xlabel()


@pytest.mark.parametrize("change", [{}, {"censored": True}, {"noise_floor_l2": np.nan}, {"hidden_l2": 0.0}], ids=str)
@pytest.mark.parametrize("count", [1, 8])
def test_odd_distances_can_be_drawn(count: int, change: dict[str, Any], recwarn: pytest.WarningsRecorder) -> None:
    data = {**distance_rays(count), **{name: np.full(count, value) for name, value in change.items()}}
    figure = distances.by_angle(data)
    figure.draw_without_rendering()
    assert ("rounding noise floor" in legend(figure)) == (change.keys() not in ({"noise_floor_l2"}, {"censored"}))
    assert ("‖Δh‖ = 0" in legend(figure)) == ("hidden_l2" in change)
    assert [str(w.message) for w in recwarn] == []


def test_distances_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden_l2 must be"):
        distances.by_angle({**distance_rays(8), "hidden_l2": np.ones(3)})


def test_spectrum_with_floor_and_norms() -> None:
    values = np.append(np.geomspace(60, 0.3, 30), [3e-6, 0.0])
    figure = spectrum.spectrum(values, frobenius=120.0)
    axes = figure.axes[0]
    np.testing.assert_array_equal(lines(figure, "spectrum")[0].get_ydata(), values[:-1])
    assert lines(figure, "floor")[0].get_ydata()[0] == 1e-7 * 60.0
    assert axes.get_title(loc="right") == "σ₁ = 60, Frobenius norm 120, stable rank 4"
    assert "hidden-state units\nper embedding unit" in axes.get_ylabel()
    assert axes.get_yscale() == "log"
    text = legend(figure)
    assert "not resolved by a float32 Jacobian" in text
    assert "σₖ = 0 (1 values)" in text


def test_a_resolved_spectrum_says_so() -> None:
    figure = spectrum.spectrum(np.geomspace(600, 1, 50), log_rank=True)
    assert lines(figure, "floor") == []
    assert "all above the floor" in legend(figure)
    assert "only the leading 50 known" in figure.axes[0].get_title(loc="right")
    assert figure.axes[0].get_xscale() == "log"


@pytest.mark.parametrize("values", [[615.0], [0.0, 0.0], [1.0, 1.0, 1.0]])
def test_odd_spectra_can_be_drawn(values: list[float], recwarn: pytest.WarningsRecorder) -> None:
    figure = spectrum.spectrum(np.array(values), frobenius=float(np.linalg.norm(values)))
    figure.draw_without_rendering()
    assert [str(w.message) for w in recwarn] == []


@pytest.mark.parametrize("values", [[], [1.0, 2.0], [np.nan], [[1.0]]])
def test_a_wrong_spectrum_is_refused(values: list[Any]) -> None:
    with pytest.raises(ValueError, match="largest first"):
        spectrum.spectrum(np.array(values))
