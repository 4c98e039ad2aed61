"""Figures of the analyses of whole models: what is drawn is what the tables say, the same bytes each time."""

import numpy as np
import pandas as pd
import pytest

from tremor.figures import esa_models, save

BINS = pd.DataFrame({
    "low": [0.0, 0.5], "high": [0.5, 1.0], "count": [2, 2], "confidence": [0.3, 0.8], "accuracy": [0.5, 0.5],
})  # fmt: skip
SUMMARY = pd.DataFrame({
    "model": ["a", "b", "a", "a"], "analysis": ["evaluate", "evaluate", "pruning", "evaluate"],
    "quantity": ["NLL", "NLL", "cost", "ECE"], "value": [4.0, np.nan, -0.02, 0.1],
    "unit": [esa_models.NATS, esa_models.NATS, esa_models.NATS, None], "detail": None,
})  # fmt: skip


def test_the_calibration_error_in_the_figure_is_that_of_its_bins():
    upper, lower = esa_models.reliability(BINS).axes
    assert upper.texts[0].get_text() == "ECE 0.250\n4 predictions"
    assert [bar.get_height() for bar in lower.patches] == [2, 2]


def test_the_overview_leaves_out_what_is_no_number_and_splits_units():
    upper, lower = esa_models.overview(SUMMARY).axes
    assert [t.get_text() for t in upper.get_yticklabels()] == ["evaluate: NLL", "pruning: cost"]
    assert [t.get_text() for t in lower.get_yticklabels()] == ["evaluate: ECE"]
    assert upper.lines[0].get_xdata().tolist() == [4.0, -0.02]


@pytest.mark.parametrize("draw", ["reliability", "overview"])
def test_bytes_are_the_same_each_time(draw, tmp_path):
    table = BINS if draw == "reliability" else SUMMARY
    for name in ("first.png", "second.png"):
        save.save(getattr(esa_models, draw)(table), [tmp_path / name], dpi=50)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
