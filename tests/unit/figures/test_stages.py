"""Figures of exp8 and exp10: what is in the tables is on the axes, zeros are said, byte-stable."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tremor.figures import save, stages, sweeps

STAGES = [("embedding", None, "embedding"), ("block.0.mlp", 0, "mlp"), ("residual.1", 1, "residual"),
          ("block.1.mlp", 1, "mlp"), ("final", None, "final")]  # fmt: skip


def values(questions: int, scale: float = 1.0) -> pd.DataFrame:
    rows = []
    for number in range(questions):
        for order, (name, block, part) in enumerate(STAGES):
            size = scale * order * 1e-7 * (number + 1)
            rows.append((f"q{number}", order, name, block, part, 25.0 * order * (scale > 0), size, 2.0 * order * scale))
    columns = ["question", "order", "stage", "block", "part", "percent_changed", "relative_l2", "ulp_median"]
    return pd.DataFrame(rows, columns=columns).astype({"block": "Int64"})


def test_overview_has_every_question_and_stage() -> None:
    figure = stages.overview(values(2))
    lines = {line.get_gid(): line for axes in figure.axes for line in axes.get_lines()}
    assert lines["percent_changed-q1"].get_ydata().tolist() == [0, 25, 50, 75, 100]
    shown = np.asarray(lines["relative_l2-q0"].get_ydata())
    assert np.isnan(shown[0])  # zero has no place on a log axis
    np.testing.assert_allclose(shown[1:], [1e-7, 2e-7, 3e-7, 4e-7])
    assert [text.get_text() for text in figure.axes[-1].get_xticklabels()] == ["0", "1"]


def test_overview_of_many_questions_has_one_entry_in_the_legend() -> None:
    figure = stages.overview(values(9))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a question each"]


def test_a_question_that_lacks_stages_does_not_move_the_others() -> None:
    """With recorder.tap_questions others record the ends only: their last stage is the model's last, not its third."""
    whole = values(2)
    short = whole[(whole["question"] == "q0") & whole["stage"].isin(["embedding", "residual.1", "final"])]
    table = pd.concat([short.assign(order=[0, 1, 2]), whole[whole["question"] == "q1"]], ignore_index=True)
    lines = {line.get_gid(): line for axes in stages.overview(table).axes for line in axes.get_lines()}
    assert lines["percent_changed-q0"].get_xdata().tolist() == [0, 2, 4]
    assert lines["percent_changed-q1"].get_xdata().tolist() == [0, 1, 2, 3, 4]
    drawn = {line.get_gid(): line for axes in stages.growth(table).axes for line in axes.get_lines()}
    assert list(drawn["relative_l2-q0"].get_xdata()) == [0, 2, 4]
    panels = [axes for axes in stages.heatmaps(table).axes if axes.images]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["residual", "mlp"]


def test_zeros_are_said() -> None:
    for figure in (stages.overview(values(1, 0.0)),):
        assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["all zero"] * 2


def test_heatmaps_put_the_stream_first() -> None:
    figure = stages.heatmaps(values(3))
    panels = [axes for axes in figure.axes if axes.images]
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["residual", "mlp"]
    grid = np.ma.filled(panels[1].images[0].get_array(), np.nan)
    assert np.isnan(grid[0, 0])  # block 0 has no stream of its own in the list
    np.testing.assert_allclose(grid[1], np.log10([2e-7, 6e-7]))  # medians over the questions


def test_decades_are_not_cumulative() -> None:
    counts = np.array([[5, 0, 0, 2, 1, 0], [3, 0, 0, 0, 4, 0]])
    names = ["equal_bits", "zero", "below_1e-2", "1e-2", "1e-1", "not_finite"]
    figure = stages.decades(counts, names, np.array([[8, 4, 3]]))
    bars = [patch.get_y() + patch.get_height() for patch in figure.axes[0].patches]
    np.testing.assert_allclose(bars, [8, 0.5, 0.5, 2, 5, 0.5])
    assert "46.7 % of 15 coordinates" in figure.axes[0].get_title()


def path_table() -> pd.DataFrame:
    rows = [
        (f"q{q}", "decision", order, name, block, part, q == 7, 0.5 * (order + 1), 1e-3 * order)
        for q in range(9)
        for order, (name, block, part) in enumerate(STAGES)
    ]
    columns = ["question", "which", "order", "stage", "block", "part", "decided", "gap_a", "gap_difference"]
    return pd.DataFrame(rows, columns=columns).astype({"block": "Int64"})


def test_path_shows_questions_that_parted_first() -> None:
    figure = stages.path(path_table())
    gids = [line.get_gid() for line in figure.axes[0].get_lines() if line.get_gid()]
    assert gids[0] == "gap-q7"
    assert len([gid for gid in gids if gid.startswith("gap-")]) == stages.MAX_COLOURED
    assert "6 of 9 questions" in figure.legends[0].get_title().get_text()
    few = stages.path(path_table()[lambda table: table["question"].isin(["q1", "q7"])])
    assert "questions" not in few.legends[0].get_title().get_text()


def test_growth_and_norm() -> None:
    table = values(2).rename(columns={"part": "kind"})
    lines = {line.get_gid(): line for axes in stages.growth(table).axes for line in axes.get_lines()}
    assert len(lines["relative_l2-q1"].get_xdata()) == len(STAGES)
    angles = pd.DataFrame(
        {"which": "decision", "run": ["a", "b"], "rank": [1, 1], "change_degrees": [0.5, 0.6],
         "change_gain_free_degrees": [0.0, 0.0]}
    )  # fmt: skip
    drawn = {line.get_gid(): line for line in stages.norm(angles, kind="RMSNorm").axes[0].get_lines()}
    assert drawn["change_degrees-b"].get_ydata().tolist() == [0.6]


@pytest.fixture
def sweep() -> pd.DataFrame:
    rows = [
        ("weight", way, eps, 3.0, moved, eps * moved / 2, 2.5 * eps, 2.0 if moved else np.nan, 2.0, 1e-9, 1e-9, 2e-9)
        for way in ("random", "top")
        for eps, moved in ((1e-3, 2), (1e-9, 0))
    ]
    columns = [
        "subject",
        "direction",
        "epsilon",
        "spectral_norm",
        "moved_coordinates",
        "realised_l2",
        "output_l2",
        "magnification_realised",
        "magnification_nominal",
        "smooth_l2",
        "residual_l2",
        "noise_floor_l2",
    ]
    return pd.DataFrame(rows, columns=columns)


def test_sweeps_draw_no_magnification_of_a_step_that_did_not_happen(sweep: pd.DataFrame) -> None:
    figure = sweeps.sweeps(sweep)
    lines = {line.get_gid(): line for axes in figure.axes for line in axes.get_lines() if line.get_gid()}
    assert lines["realised-top"].get_xdata().tolist() == [1e-3]
    assert lines["sigma"].get_ydata()[0] == 3.0


def test_tensors_say_that_bits_are_equal(tmp_path: Path) -> None:
    rows = [("float32", step, 100, 0, 0.0, 0.0, 1e-7, 1e-7, 0.0) for step in (1, 2)]
    columns = [
        "dtype",
        "step",
        "entries",
        "n_changed_bits",
        "ulp_max",
        "ulp_median",
        "error_a",
        "error_b",
        "relative_l2",
    ]
    table = pd.DataFrame(rows, columns=columns)
    figure = sweeps.tensors(table, names=("one", "other"))
    assert "all bits are equal" in [text.get_text() for axes in figure.axes for text in axes.texts]
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    save.save(figure, [tmp_path / "a.png"])
    save.save(sweeps.tensors(table, names=("one", "other")), [tmp_path / "b.png"])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
