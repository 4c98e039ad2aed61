"""Figures of the score analyses: what is drawn is what the tables say."""

import numpy as np
import pandas as pd
import pytest

from tremor.figures import esa_scores, save


@pytest.fixture
def effects():
    return pd.DataFrame(
        {
            "method": ["magnitude", "spikes", "wanda"],
            "weights": pd.array([10, 0, 10], dtype="Int64"),
            "status": ["ok", None, "nan_logits"],
            "delta_nll": [0.3, np.nan, np.nan],
            "delta_nll_low": [0.1, np.nan, np.nan],
            "delta_nll_high": [0.5, np.nan, np.nan],
            "first_delta_nll": [0.2, np.nan, 0.1],
            "control_mean": [0.0, np.nan, 0.0],
            "control_std": [0.01, np.nan, 0.02],
            "control_highest": [0.02, np.nan, 0.03],
        }
    )


def test_methods_without_a_number_say_why(effects):
    figure = esa_scores.effects(effects)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["found none", "nan_logits"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["magnitude (10)", "spikes (0)", "wanda (10)"]


def test_agreement_is_a_triangle_with_its_numbers():
    pairs = pd.DataFrame(
        {
            "first": ["a", "a", "b"], "second": ["b", "c", "c"], "k": 5, "jaccard": [1.0, 0.25, 0.0],
            "jaccard_chance": 1e-5, "spearman": [1.0, -0.5, np.nan], "correlated": 100,
        }
    )  # fmt: skip
    left, right = esa_scores.agreement(pairs).axes
    assert [text.get_text() for text in left.texts] == ["1", ".25", ".00"]
    assert [text.get_text() for text in right.texts] == ["1", "\N{MINUS SIGN}.50"]
    assert left.get_title() == "Jaccard index of the top 5\n(chance: 1.0×10⁻⁵)"


def test_files_are_the_same_each_time(effects, tmp_path):
    methods = pd.DataFrame({"method": ["a", "b"], "needs": ["weights", "curvature"], "seconds": [0.01, 12.0]})
    peaks = pd.DataFrame(
        {
            "prompt": [0, 0, 0, 0], "bos": [True, True, False, False], "block": [0, 1, 0, 1],
            "input_value": [1.0, -600.0, 1.0, 5.0], "output_value": [2.0, 900.0, 1.0, 3.0],
            "input_scale": 0.1, "output_scale": 0.2, "spikes": [False, True, False, False],
            "originates": [True, True, True, True],
        }
    )  # fmt: skip
    changes = pd.DataFrame(
        {
            "method": ["a", "a", "none", "a"], "study": ["scaled", "scaled", "quantised", "quantised"],
            "factor": [0.0, 2.0, np.nan, np.nan], "grid": [None, None, "int4", "int4"],
            "group": [np.nan, np.nan, 32, 32], "delta_nll": [0.3, -0.01, 1e-3, 1e-4],
        }
    )  # fmt: skip
    drawn = {
        esa_scores.effects: effects, esa_scores.runtime: methods, esa_scores.peaks: peaks, esa_scores.changes: changes,
    }  # fmt: skip
    for draw, table in drawn.items():
        paths = [tmp_path / f"{draw.__name__}{i}.png" for i in range(2)]
        for path in paths:
            save.save(draw(table, title="tiny"), [path], dpi=50)
        assert paths[0].read_bytes() == paths[1].read_bytes()
