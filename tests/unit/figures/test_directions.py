"""Figures of exp1, exp11 and exp14: lines hold the data, labels say what each is, odd data can be drawn."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from tremor.figures import propagation, rotations, small_steps

TAPS = ("embedding", "residual.0", "residual.1", "final_prenorm", "final")


def legend(figure: Figure) -> str:
    return " | ".join(text.get_text() for box in figure.legends for text in box.get_texts())


def lines(figure: Figure, gid: str) -> list[Any]:
    return [x for axes in figure.axes for x in axes.lines if x.get_gid() == gid]


def layer_rows(*, silent: bool = False) -> pd.DataFrame:
    rows = []
    for vector in (1, 32):
        for number, jump in enumerate((1, 1000, 10**6)):
            for place, tap in enumerate(TAPS):
                size = 0.0 if silent or number == 0 else 10.0 ** (number - 9 + place)
                rows.append(
                    {
                        "vector": vector, "sigma": 60.0, "jump": jump, "e1": 1.000363e-6, "e2": 1e-6, "tap": tap,
                        "num_changed": int(size > 0) * 9, "percent_changed": 50.0 * (size > 0),
                        "mean_absolute_diff": size / 10, "max_absolute_diff": size / 2, "l2_distance": size,
                        "cosine_similarity": 1.0, "cosine_distance": size**2,
                        "gain": np.nan if size == 0 else 10.0**place,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_layers_draws_raw_states_as_a_line_and_the_normed_one_apart() -> None:
    """The originals joined raw and normed states by one line."""
    frame = layer_rows()
    figure = propagation.layers(frame)
    own = frame[(frame["vector"] == 1) & (frame["jump"] == 10**6)]
    l2 = [line for line in figure.axes[3].lines if line.get_gid() == "jump1000000"]
    np.testing.assert_array_equal(l2[0].get_ydata(), own["l2_distance"][:4])
    np.testing.assert_array_equal(l2[1].get_ydata(), own["l2_distance"][4:])
    assert l2[1].get_linestyle() == "None"
    assert [t.get_text() for t in figure.axes[3].get_xticklabels()] == ["emb.", "0", "1", "pre-norm", "normed"]
    assert all(any(p.get_gid() == "normed" for p in axes.patches) for axes in figure.axes)
    text = legend(figure)
    assert "jump 1: inputs equal in every bit" in text
    assert "jump 10³" in text
    assert "behind the final norm" in figure.legends[0].get_title().get_text()
    assert "1.000363×10⁻⁶" in figure.get_suptitle()


@pytest.mark.parametrize("draw", ["layers", "sweep", "walk"])
def test_figures_of_nothing_changed(draw: str, recwarn: pytest.WarningsRecorder) -> None:
    if draw == "layers":
        figure = propagation.layers(layer_rows(silent=True))
    elif draw == "sweep":
        names = ("embedding_count", "embedding_max_diff", "first_block_count", "first_block_max_diff")
        figure = propagation.sweep(pd.DataFrame({"jump": [1, 2], **{n: [0, 0] for n in names}}), width=32)
        assert "no difference (2 jumps)" in figure.axes[2].get_legend().get_texts()[0].get_text()
    else:
        rows = [
            {"step": s, "tap": t, "reference": r, "num_changed": 0, "l2_distance": 0.0}
            for t in TAPS for r in ("base", "first", "previous") for s in (1, 2)
        ]  # fmt: skip
        figure = propagation.walk(pd.DataFrame(rows))
        assert "2 of 2 inputs equal the reference" in figure.axes[0].get_title(loc="right")
    figure.draw_without_rendering()
    assert [str(w.message) for w in recwarn] == []


def test_many_layers_still_have_room() -> None:
    taps = ["embedding", *(f"residual.{k}" for k in range(80)), "final_prenorm", "final"]
    one = layer_rows().iloc[14:15]
    frame = pd.concat([one.assign(tap=tap) for tap in taps], ignore_index=True)
    figure = propagation.layers(frame)
    labels = [t.get_text() for t in figure.axes[3].get_xticklabels()]
    assert len(labels) < 20
    assert labels[0] == "emb."
    assert labels[-2:] == ["pre-norm", "normed"]


def states() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    widths = dict.fromkeys(TAPS, 300)
    data: dict[str, Any] = {
        "rank": np.array([1, 300]),
        "jump": np.array([0, 1, 10, 100]),
        "jump_index": np.array([[0, 0, 1, 2], [3, 3, 3, 4]]),
    }
    for tap, width in {**widths, "embedding": 16}.items():
        data[f"jump_states/{tap}"] = generator.normal(size=(5, width)).astype(np.float32)
    return data


def test_heatmap_shows_the_largest_of_each_bin_and_leaves_equal_states_grey() -> None:
    """The original drew every 20th coordinate and missed the others."""
    data = states()
    figure = propagation.heatmap(data, TAPS)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 4  # two directions, the two jumps that move an input
    assert [axes.get_title() for axes in figure.axes[:2]] == ["jump 10", "jump 100"]
    shown = images[0].get_array()
    assert shown.shape == (5, 200)
    difference = np.abs(data["jump_states/final"][1].astype(float) - data["jump_states/final"][0].astype(float))
    assert shown[4].max() == difference.max()
    assert images[2].get_array().mask.all()  # equal inputs: nothing but the class of its own
    figure.draw_without_rendering()


@pytest.mark.parametrize("width", [1, 16, 200, 201, 4096])
def test_no_coordinate_is_left_out_of_the_bins(width: int) -> None:
    for place in {0, width // 2, width - 1}:
        difference = np.zeros(width)
        difference[place] = 7.0
        found = propagation.binned(difference)
        assert len(found) == min(width, 200)
        assert found.max() == 7.0
        assert (found > 0).sum() == 1


@pytest.mark.parametrize(("number", "text"), [(1, "1"), (10, "10"), (100, "100"), (1000, "10³"), (10**12, "10¹²"),
                                              (2000, "2\u2009000"), (1010, "1\u2009010")])  # fmt: skip
def test_whole_numbers(number: int, text: str) -> None:
    assert propagation.whole(number) == text


def turned(*, silent: bool = False) -> tuple[pd.DataFrame, dict[str, Any]]:
    kinds = np.array(["shift"] * 3 + ["plane"] * 2 + ["random"])
    lists = [[[0, 1], [], [2], [1], [], [3]], [[0, 1, 2], [1], [2, 3], [1], [0], [3]]]
    if silent:
        lists = [[[]] * 6] * 2
    rows = []
    for jump, row in zip((10, 1), lists, strict=True):
        for ray, found in enumerate(row):
            rows.append(
                {"jump": jump, "kind": kinds[ray], "number": ray, "parameter": float(ray),
                 "embedding_changed": len(found), "first_block_changed": 0, "embedding_expected": 1.5}
            )  # fmt: skip
    flat = [i for row in lists for found in row for i in found]
    counts = np.array([[len(found) for found in row] for row in lists])
    offsets = np.concatenate([[0], np.cumsum(counts.ravel())[:-1]]).reshape(counts.shape)
    data: dict[str, Any] = {"kind": kinds, "jump": np.array([10, 1]), "width": 4}
    data |= {"embedding/indices": np.array(flat, int), "embedding/offsets": offsets, "embedding/counts": counts}
    data |= {
        "first_block/indices": np.zeros(0, int),
        "first_block/offsets": 0 * offsets,
        "first_block/counts": 0 * counts,
    }
    return pd.DataFrame(rows), data


def test_counts_by_turn() -> None:
    frame, _ = turned()
    figure = rotations.counts(frame)
    (shown,) = lines(figure, "shift_embedding_10")
    np.testing.assert_array_equal(shown.get_ydata(), [2, 0, 1])
    np.testing.assert_array_equal(shown.get_xdata(), [0, 1, 2])
    assert len(lines(figure, "plane_expected")) == 1
    assert "expected of the lattice alone (gap 10)" in legend(figure)
    assert all(axes.get_ylim()[0] == 0 for axes in figure.axes)


def test_shares_of_directions_by_index() -> None:
    _, data = turned()
    np.testing.assert_array_equal(rotations.pooled(data, "embedding", "shift", 1), [0, 1, 2, 1, 2, 3])
    figure = rotations.indices(data)
    steps = {p.get_gid(): p.get_data() for axes in figure.axes for p in axes.patches if p.get_gid()}
    np.testing.assert_allclose(steps["shift_embedding_1"].values, np.array([1, 2, 2, 1]) / 3)
    np.testing.assert_allclose(steps["random_embedding_10"].values, [0, 0, 0, 1])
    assert max(values.values.max() for values in steps.values()) <= 1


def test_turns_that_change_nothing_can_be_drawn(recwarn: pytest.WarningsRecorder) -> None:
    """The original failed on an empty list."""
    frame, data = turned(silent=True)
    for figure in (rotations.counts(frame), rotations.indices(data)):
        figure.draw_without_rendering()
    assert sum("nothing changed" in t.get_text() for axes in rotations.indices(data).axes for t in axes.texts) == 6
    assert [str(w.message) for w in recwarn] == []


def small(jumps: tuple[int, ...] = (3, 4, 9), walks: int = 2) -> pd.DataFrame:
    frames = []
    for walk in range(walks):
        out = np.zeros(120, dtype=int)
        out[list(jumps)] = 8
        into = out.copy()
        into[7] = 1
        frames.append(
            pd.DataFrame(
                {
                    "walk": walk,
                    "step_size": 10.0 ** (walk - 11),
                    "step": np.arange(120),
                    "input_changed": into,
                    "output_changed": out,
                    "output_l2": out * 1e-6,
                    "input_l2": into * 1e-10 * 10.0**walk,
                    "position": np.arange(120) * 1e-11,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def scaled(walks: int = 2, *, silent: bool = False) -> pd.DataFrame:
    sizes = 10.0 ** (np.arange(walks) - 11)
    gain = np.full(walks, np.nan) if silent else 60 + 1e-9 / sizes
    return pd.DataFrame({"step_size": sizes, "gain_rms": gain, "sigma": 60.0, "noise_floor_l2": 5e-6})


def test_a_jump_is_drawn_between_its_steps() -> None:
    """The original drew jump k at step k."""
    figure = small_steps.differences(small(), floor=5e-6)
    whole, near = lines(figure, "jumps")
    np.testing.assert_array_equal(whole.get_xdata(), [3.5, 4.5, 9.5])
    np.testing.assert_array_equal(whole.get_ydata(), [8e-6] * 3)
    assert near.get_xdata().max() <= 3 + 51
    np.testing.assert_array_equal(lines(figure, "quiet")[0].get_xdata(), [7.5])
    assert "between steps 3 and 4" in figure.axes[1].get_title(loc="left")
    text = legend(figure)
    assert "input and answer change (3)" in text
    assert "input changes, answer does not (1)" in text
    assert "same input again (116)" in text


def test_scaling_shows_sigma_and_the_floor() -> None:
    frame, table = small(), scaled()
    figure = small_steps.scaling(frame, table)
    np.testing.assert_array_equal(lines(figure, "walk1")[0].get_xdata(), [8e-9] * 3)
    np.testing.assert_array_equal(lines(figure, "gain")[0].get_ydata(), table["gain_rms"])
    assert "σ × realised step" in legend(figure)
    assert "rounding noise floor" in legend(figure)


@pytest.mark.parametrize("jumps", [(), (5,)])
def test_walks_with_hardly_a_jump(jumps: tuple[int, ...], recwarn: pytest.WarningsRecorder) -> None:
    frame = small(jumps, 1)
    figures = (
        small_steps.differences(frame, floor=5e-6),
        small_steps.distributions(frame, floor=5e-6),
        small_steps.scaling(frame, scaled(1, silent=not jumps)),
    )
    for figure in figures:
        figure.draw_without_rendering()
    assert "too few jumps" in [t.get_text() for axes in figures[1].axes for t in axes.texts]
    assert [str(w.message) for w in recwarn] == []
