"""Figures of the esa analyses that remove weights: what is drawn is what the tables say."""

import numpy as np
import pandas as pd
import pytest

from tremor.figures import esa_ablation, save

INTERVAL = {"delta_nll_low": -0.1, "delta_nll_high": 0.5, "status": "ok"}


@pytest.fixture
def parts():
    rows = [
        {"block": block, "component": name, "level": level, "mode": mode, "delta_nll": value, **INTERVAL}
        for mode in ("zero", "mean")
        for block in (0, 1)
        for name, level, value in (("block", "block", 3.0), ("q", "component", 0.2), ("ln", "norm", -0.001),
                                   ("head.0", "head", 0.1))
        if mode == "zero" or level != "head"
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def doses():
    rows = [
        {"score": "taylor_abs", "operation": "zero", "selection": selection, "fraction": fraction,
         "delta_nll": effect, "controls": 0 if selection == "bottom" or fraction == 1 else 20,
         "control_mean": 0.01, "control_lowest": -0.02, "control_highest": 0.03, **INTERVAL}
        for selection, effects in (("top", (0.1, 1.0, 3.0)), ("bottom", (0.0, -0.01, 3.0)))
        for fraction, effect in zip((0.001, 0.1, 1.0), effects, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def replaced():
    return pd.DataFrame(
        {"selection": ["most", "least"], "fill": "zero", "weights": [7, 9], "status": ["ok", "nan_logits"],
         "delta_nll": [0.3, np.nan], "delta_nll_low": [0.1, np.nan], "delta_nll_high": [0.5, np.nan],
         "control_mean": 0.0, "control_std": 0.1, "greedy_kept": [0.0, 1.0], "sampled_kept": [0.5, 0.25],
         "other_seed_kept": 0.3}
    )  # fmt: skip


@pytest.fixture
def pruned():
    rows = [
        {"score": score, "group": group, "sparsity": sparsity, "delta_nll": sparsity, **INTERVAL}
        for score in ("magnitude", "random")
        for group, sparsities in (("global", (0.1, 0.5)), ("per_row", (0.1, 0.5)), ("2:4", (0.5,)))
        for sparsity in sparsities
    ]
    return pd.DataFrame(rows)


def test_the_map_has_every_part_but_heads_and_leaves_gaps_where_there_is_no_number(parts):
    gap = parts[~((parts["mode"] == "mean") & (parts["component"] == "ln"))]
    left, right, *_ = esa_ablation.components(gap).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["block", "q", "ln"]
    assert [text.get_text() for text in left.texts] == ["3.00", "3.00", "0.20", "0.20", "0", "0"]
    assert [text.get_text() for text in right.texts] == ["3.00", "3.00", "0.20", "0.20"]


def test_the_ranking_is_sorted_and_says_what_broke(parts):
    parts.loc[parts["component"] == "head.0", ["delta_nll", "delta_nll_low", "delta_nll_high"]] = np.nan
    parts.loc[parts["component"] == "head.0", "status"] = "inf_loss"
    (axes,) = esa_ablation.ranking(parts).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["block 0, head.0", "block 1, head.0", "block 0, q", "block 1, q", "block 0, ln", "block 1, ln"]
    assert [text.get_text() for text in axes.texts] == ["inf_loss", "inf_loss"]


def test_the_response_says_how_many_controls_there_were(doses):
    figure = esa_ablation.response(doses)
    (legend,) = figure.legends
    assert "random sets: range of 20 draws" in [text.get_text() for text in legend.get_texts()]
    assert figure.axes[0].get_xscale() == "log"


def test_patterns_have_a_panel_of_their_own(pruned):
    *_, last = esa_ablation.curves(pruned).axes
    assert [label.get_text() for label in last.get_xticklabels()] == ["2:4"]
    assert len(esa_ablation.curves(pruned[pruned["group"] == "global"]).axes) == 1


def test_a_selection_without_a_number_says_why(replaced):
    left, right = esa_ablation.effects(replaced).axes
    assert [text.get_text() for text in left.texts] == ["nan_logits"]
    greedy = next(line for line in right.lines if line.get_label() == "greedy")
    assert list(greedy.get_xdata()) == [0.0, 100.0]


def test_files_are_the_same_each_time(parts, doses, replaced, pruned, tmp_path):
    tables = {"sensitivity": parts, "targeted-perturbation": doses, "selective-weight-pruning": replaced,
              "pruning": pruned}  # fmt: skip
    for analysis, figures in esa_ablation.FIGURES.items():
        for name, draw in figures.items():
            paths = [tmp_path / f"{name}{number}.png" for number in range(2)]
            for path in paths:
                save.save(draw(tables[analysis], title="tiny"), [path], dpi=50)
            assert paths[0].read_bytes() == paths[1].read_bytes()
