"""Figures of exp4: the values of the tables are on the axes, zeros are shown as such, the divergence is marked."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tremor.figures import angles, divergence


@pytest.fixture
def rows() -> pd.DataFrame:
    """q01 parts at token 2, the first row without any difference; in q02 nothing differs."""
    table = pd.DataFrame({"question": ["q01"] * 4 + ["q02"] * 3, "row": [0, 1, 2, 3, 0, 1, 2]})
    table["relative_l2"] = [0.0, 1e-7, 2e-7, 0.9, 0, 0, 0]
    table["cosine_distance"] = table["relative_l2"] ** 2 / 2
    table["l2"] = 3 * table["relative_l2"]
    table["equal_bits"] = table["relative_l2"] == 0
    table["last"] = table["row"] > 0
    return table


def lines(figure: Any) -> dict[str, Any]:
    return {line.get_gid(): line for axes in figure.axes for line in axes.get_lines() if line.get_gid()}


def test_drift(rows: pd.DataFrame) -> None:
    found = divergence.drift(rows, {"q01": 2, "q02": None})
    drawn = lines(found)
    values = np.asarray(drawn["q01-relative_l2"].get_ydata(), dtype=float)
    assert np.isnan(values[0])  # a log axis has no zero: a tick at the bottom says that no bit differs
    assert values[1:].tolist() == [1e-7, 2e-7, 0.9]
    assert drawn["q01-equal"].get_xdata().tolist() == [0]
    assert list(drawn["q01-divergence"].get_xdata()) == [2, 2]
    assert "q02-divergence" not in drawn
    titles = [axes.get_title(loc="left") for axes in found.axes]
    assert titles == ["q01: parts at token 2", "q02: the same tokens"]


def test_drift_of_identical_platforms_has_no_scale(rows: pd.DataFrame) -> None:
    found = divergence.drift(rows[rows["question"] == "q02"].reset_index(drop=True), {"q02": None})
    assert len(found.axes[0].get_yticks()) == 0
    assert lines(found)["q02-equal"].get_xdata().tolist() == [0, 1, 2]


def test_dimensions() -> None:
    listed = [
        ("q01", role, 5 - (role == "before"), measure, threshold, 10.0 * n)
        for role in ("decisive", "before")
        for measure in ("absolute", "ulps")
        for n, threshold in enumerate((1e-1, 1e-2, 1e-3) if measure == "absolute" else (4, 2, 1))
    ]
    table = pd.DataFrame(listed, columns=["question", "role", "row", "measure", "threshold", "percent"])
    drawn = lines(divergence.dimensions(table))
    assert list(drawn) == ["absolute-q01", "ulps-q01"]
    assert drawn["absolute-q01"].get_xdata().tolist() == [1e-3, 1e-2, 1e-1]
    assert drawn["ulps-q01"].get_ydata().tolist() == [20.0, 10.0, 0.0]


def test_embeddings(rows: pd.DataFrame) -> None:
    drawn = lines(divergence.embeddings(rows))
    assert np.asarray(drawn["l2-q01"].get_ydata(), dtype=float)[3] == pytest.approx(2.7)
    assert "l2-q02" not in drawn
    assert drawn["l2-equal"].get_xdata().tolist() == [0, 1, 2]
    same = divergence.embeddings(rows[rows["question"] == "q02"].reset_index(drop=True))
    assert [text.get_text() for axes in same.axes for text in axes.texts] == ["no embedding differs in any bit"] * 2


def test_logits_are_by_id() -> None:
    table = pd.DataFrame(
        {
            "question": ["q01"] * 3, "role": ["decisive"] * 3, "row": [6] * 3, "token": [8, 3, 5],
            "piece": [" the", "\n", "日"], "logit_a": [2.0, 1.9, np.nan], "logit_b": [1.8, 1.9, 1.0],
            "rank_a": pd.array([1, 2, None], dtype="Int64"), "rank_b": pd.array([2, 1, 3], dtype="Int64"),
        }
    )  # fmt: skip
    found = divergence.logits(table, pair=("one", "other"))
    axes = found.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["␣the  8", "↵  3", "日  5"]
    drawn = lines(found)
    assert drawn["q01-a"].get_xdata().tolist()[:2] == [2.0, 1.9]
    assert drawn["q01-b"].get_xdata().tolist() == [1.8, 1.9, 1.0]
    nothing = divergence.logits(table.assign(role="last"), pair=("one", "other"))
    assert [text.get_text() for text in nothing.texts] == ["no row decided two different tokens"]


def test_angles() -> None:
    generator = np.random.default_rng(0)
    ranks = np.tile([1, 2, 100], 30)
    table = pd.DataFrame(
        {
            "question": ["q01"] * 45 + ["q02"] * 45,
            "rank": ranks,
            "angle_degrees": 60 + ranks / 10 + generator.normal(size=90),
        }
    )
    found = angles.angles(table, bins=12)
    curve = lines(found)["kde-100"]
    own = table.loc[table["rank"] == 100, "angle_degrees"]
    points = np.asarray(curve.get_xdata())
    assert np.allclose(curve.get_ydata(), stats.gaussian_kde(own)(points), rtol=1e-12)
    # A density: its integral over the shown range is 1 but for the tails that the range cuts off.
    assert np.trapezoid(np.asarray(curve.get_ydata()), points) == pytest.approx(1.0, abs=0.02)
    drawn = lines(angles.histograms(table, bins=12))
    assert drawn["mean-2"].get_xdata()[0] == table.loc[table["rank"] == 2, "angle_degrees"].mean()
    assert [axes.get_title(loc="left") for axes in angles.questions(table).axes] == ["q01", "q02"]


def test_angles_of_a_single_step() -> None:
    """One token: no density to smooth, and no failure."""
    table = pd.DataFrame({"question": ["q01"] * 2, "rank": [1, 2], "angle_degrees": [50.0, 60.0]})
    assert not [gid for gid in lines(angles.angles(table, bins=5)) if gid.startswith("kde")]
    angles.histograms(table, bins=5)
    angles.questions(table)
