"""Figures of exp5: the values of the tables are on the axes, names are whole, equal inputs are said."""

import numpy as np
import pandas as pd
import pytest

from tremor.figures import local

MODULES = ("model.layers.1", "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.o_proj")


@pytest.fixture
def stages() -> pd.DataFrame:
    chained = [("embedding", -1, 1.0), ("block", 0, 20.0), ("block", 1, 3.0), ("final", -1, 2.0)]
    rows = [(part, block, norm, 1.0) for part, block, norm in chained]
    rows += [("mixer", k, 0.5, np.nan) for k in range(2)] + [("mlp", k, 2.0, np.nan) for k in range(2)]
    frame = pd.DataFrame(rows, columns=["part", "block", "spectral_norm", "gain_of_v1"])
    frame["frobenius_norm"] = frame["spectral_norm"] * 2
    frame["stable_rank"] = 4.0
    frame["norm_product"] = [1.0, 20, 60, 120] + [np.nan] * 4
    frame["cumulative_norm"] = [1.0, 20, 30, 50] + [np.nan] * 4
    frame.loc[:3, "gain_of_v1"] = [1.0, 18, 1.5, 50 / 27]
    return frame


def test_norms(stages: pd.DataFrame) -> None:
    figure = local.norms(stages)
    lines = {line.get_gid(): line for axes in figure.axes for line in axes.get_lines()}
    assert list(lines["spectral_norm-block"].get_ydata()) == [20.0, 3.0]  # input and final stage are no blocks
    assert list(lines["spectral_norm-mlp"].get_xdata()) == [0, 1]
    assert all(axes.get_yscale() == "log" for axes in figure.axes)


def test_norms_without_whole_matrices(stages: pd.DataFrame) -> None:
    stages["frobenius_norm"] = stages["stable_rank"] = np.nan
    texts = [text.get_text() for axes in local.norms(stages).axes for text in axes.texts]
    assert texts == ["known with method: dense only"] * 2


def test_chain(stages: pd.DataFrame) -> None:
    (axes,) = local.chain(stages, sigma_1=50.0).axes
    lines = {line.get_gid(): np.asarray(line.get_ydata()) for line in axes.get_lines()}
    assert lines["bound"].tolist() == [1.0, 20, 60, 120]
    assert lines["v1"][-1] == pytest.approx(50.0)
    assert lines["sigma"][0] == 50.0
    assert [text.get_text() for text in axes.get_xticklabels()] == ["in", "0", "1", "norm"]


def test_modules_have_their_full_names() -> None:
    """The original's labels were cut at an underscore: seven bars were called proj."""
    rows = []
    for jump, size in ((1, 0.0), (1000, 1e-6)):
        for k, module in enumerate(MODULES):
            change = size * (k + 1)
            rows.append(
                {
                    "arithmetic": "float64", "block": 1, "module": module, "jump": jump, "e1": 1e-6,
                    "e2": 1e-6 + jump * 1e-11, "inputs_equal": jump == 1, "percent_changed": 50.0 * (size > 0),
                    "max_absolute_diff": change, "l2_distance": 2 * change, "gain": change * 1e6 if size else np.nan,
                }
            )  # fmt: skip
    figure = local.modules(pd.DataFrame(rows))
    first = figure.axes[0]
    assert tuple(text.get_text() for text in first.get_yticklabels()) == MODULES
    bars = [patch for patch in figure.axes[2].patches if patch.get_gid() == "l2_distance-1000"]
    ends = [patch.get_x() + patch.get_width() for patch in bars]
    assert ends == pytest.approx([2e-6, 4e-6, 6e-6])
    assert not [patch for patch in first.patches if patch.get_gid() == "percent_changed-1"]
    legend = figure.legends[0]
    assert any("the two inputs are equal" in text.get_text() for text in legend.get_texts())
