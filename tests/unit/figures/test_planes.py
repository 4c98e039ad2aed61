"""Figures of exp6 and exp7: colours mean what the legend says, cells stand at their coordinates."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from tremor.figures import planes, ties
from tremor.statistics.spatial import against_nulls

ATTRIBUTES = {"first_token": 7, "second_token": 9, "first_text": " Paris", "second_text": " Rome\n"}
TIE = {**ATTRIBUTES, "logit_ulp": 1e-6, "gradients": 2, "distance_l2": 0.3}


def source(levels: int = 2) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    shape = (2, levels, 11, 9)
    radii = 10.0 ** -np.arange(6, 6 + levels)
    gap = np.round(generator.normal(size=shape) * 2) * 1e-6
    return {
        "gap": gap,
        "token": np.where(generator.random(shape) < 0.1, 5, np.where(gap > 0, 7, 9)),
        "e1": np.tile(radii[None, :, None] * np.linspace(-1, 1, 11), (2, 1, 1)),
        "e2": np.tile(radii[None, :, None] * np.linspace(-1, 1, 9), (2, 1, 1)),
        "off_plane": np.full(shape, 1e-9),
        "ranks": np.array([[1, 2], [1, 32]]),
        "radii": radii,
    }


def legend(figure: Figure) -> dict[str, Any]:
    (box,) = figure.legends
    return {t.get_text(): p.get_facecolor() for t, p in zip(box.get_texts(), box.get_patches(), strict=True)}


def test_the_legend_of_signs_is_true() -> None:
    # The original draws white for L1 < L2 under a title that says the opposite.
    data = source()
    figure = planes.signs(data, ATTRIBUTES)
    names = legend(figure)
    image = figure.axes[0].images[0]
    shown = image.cmap(image.norm(image.get_array()))
    for i, j in np.ndindex(11, 9):
        gap, token = data["gap"][0, 0, i, j], data["token"][0, 0, i, j]
        if token == 5:
            text = "a token outside the pair is chosen"
        elif gap == 0:
            text = "L₁ = L₂ exactly"
        else:
            text = "L₁ > L₂: “ Paris” ahead" if gap > 0 else "L₁ < L₂: “ Rome\\n” ahead"
        np.testing.assert_allclose(shown[j, i], names[text])  # axis 0 of the data runs to the right


def test_a_map_of_one_sign_has_that_sign_s_colour() -> None:
    data = source()
    data["gap"] = np.full_like(data["gap"], 1e-6)
    data["token"] = np.full_like(data["token"], 7)
    image = planes.signs(data, ATTRIBUTES).axes[0].images[0]
    np.testing.assert_allclose(image.cmap(image.norm(image.get_array()))[0, 0], to_rgba("white"))


def test_cell_centres_are_at_their_coordinates() -> None:
    # The original's extent puts the centres of the outer cells on the border: half a cell off.
    e1, e2 = np.linspace(-1.0, 1.0, 5), np.linspace(0.0, 3.0, 4)
    assert planes.extent(e1, e2) == pytest.approx((-1.25, 1.25, -0.5, 3.5))


def test_colours_of_a_map_are_symmetric_about_zero() -> None:
    image = planes.maps(source()).axes[0].images[0]
    assert image.norm.vmin == -image.norm.vmax


def test_the_enlarged_picture_says_what_it_is_and_reaches_the_border() -> None:
    data = source()
    data["token"] = np.full_like(data["token"], 7)
    data["gap"] = np.where(np.arange(11)[:, None] < 1, -1.0, 1.0) * np.ones((2, 2, 11, 9))
    figure = planes.enlarged(data, ATTRIBUTES, cells=1, title="x")
    assert "RENDERING, NOT DATA" in figure.get_suptitle()
    shown = np.asarray(figure.axes[0].images[0].get_array())
    # The border lies between columns 0 and 1; widened by one cell it covers columns 0 to 2, on every row.
    assert (shown == (np.arange(11) < 3)).all()


def test_zoom_texture_and_nulls_can_be_drawn() -> None:
    data = source()
    assert len(planes.zoom(source(1), ATTRIBUTES).axes) >= 4
    assert len(planes.texture(data, window=3).axes) >= 8
    rows = []
    for plane, level in np.ndindex(2, 2):
        where = {"rank_1": 1, "rank_2": int(data["ranks"][plane, 1]), "radius": data["radii"][level]}
        rows += [{**where, **vars(t)} for t in against_nulls(data["gap"][plane, level], (1.0, 1.0), draws=5, window=3)]
    figure = planes.nulls(pd.DataFrame(rows))
    texts = " ".join(t.get_text() for t in figure.legends[0].get_texts())
    assert "straight: central 95 %" in texts
    maps = [line for line in figure.axes[0].lines if line.get_gid() == "map"]
    np.testing.assert_array_equal(
        maps[0].get_ydata(), [r["value"] for r in rows if r["statistic"] == "flip_ratio"][::3]
    )


def test_search_shows_every_evaluation_and_exact_zeros() -> None:
    history = pd.DataFrame(
        {"evaluation": range(5), "stage": ["start", "newton", "regula falsi", "bisection", "bisection"],
         "gap": [1.0, -0.1, 1e-5, -1e-7, 0.0]}
    )  # fmt: skip
    figure = ties.search(history, TIE)
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    assert "exactly 0" in texts
    drawn = [line for line in figure.axes[0].lines if (line.get_gid() or "").split()[:1] in (["start"], ["newton"])]
    assert sorted(np.concatenate([line.get_ydata() for line in drawn])) == [0.1, 1.0]


def test_flips_mark_the_exact_ones_and_the_chosen_token() -> None:
    steps = np.linspace(-1e-6, 1e-6, 11)
    table = pd.DataFrame(
        {"direction": np.repeat([1, 2], 11), "epsilon": np.tile(steps, 2), "gap": np.tile(steps * 3, 2),
         "gap_float64": np.tile(steps * 3, 2), "token": np.tile(np.where(steps > 0, 7, 9), 2)}
    )  # fmt: skip
    nearest = pd.DataFrame(
        {"direction": [1, 2, 1, 2], "sign": [1, 1, -1, -1], "step": [2e-7, 3e-7, np.nan, -1e-7],
         "censored": [False, False, True, False], "certified": [True, True, True, False]}
    )  # fmt: skip
    figure = ties.flips(table, nearest, TIE)
    for axes, expected in zip(figure.axes, ([2e-7], [-1e-7, 3e-7]), strict=True):
        marks = [line.get_xdata()[0] for line in axes.lines if line.get_gid() == "flip"]
        assert sorted(marks) == expected
        band = np.asarray(axes.images[0].get_array())
        assert not np.array_equal(band[0, 0], band[0, -1])
    assert "nearest none and" in figure.axes[0].get_title(loc="right")
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    assert "flip, not certified" in texts
