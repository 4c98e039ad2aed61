"""Figures of the pdf study: words without a probability leave gaps, ranks and perplexities are the data's."""

import numpy as np
import pandas as pd
import pytest

from tremor.figures import documents

COUNT = 30


@pytest.fixture
def words() -> pd.DataFrame:
    logs = -np.linspace(0.1, 12.0, COUNT)
    logs[0] = np.nan
    match = pd.array([pd.NA, *([True] * 5), *([False] * (COUNT - 6))], dtype="boolean")
    frame = pd.DataFrame({"word": np.arange(COUNT), "page": np.repeat([1, 2, 3], COUNT // 3), "log_probability": logs,
                          "first_token_log_probability": logs / 2, "prediction_match": match})  # fmt: skip
    frame["first_token_rank"] = pd.array([pd.NA, *range(1, COUNT)], dtype="Int64")
    for column, *_ in documents.COSINES:
        frame[column] = np.linspace(-0.2, 0.9, COUNT)
    return frame


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    position = np.arange(1, 2 * COUNT)
    return {
        "log_probability": -np.linspace(0.1, 5.0, len(position)),
        "rank": position,
        "position": position,
        "context": position,
        "word": np.repeat(np.arange(COUNT), 2),
    }


def test_course(words: pd.DataFrame, arrays: dict[str, np.ndarray]) -> None:
    figure = documents.course(words, arrays)
    lines = {line.get_gid(): line for axes in figure.axes for line in axes.get_lines()}
    assert np.array_equal(lines["word"].get_ydata(), words["log_probability"], equal_nan=True)
    assert np.isnan(lines["rank"].get_ydata()[0])
    assert lines["rank"].get_ydata()[1:].tolist() == list(range(1, COUNT))
    assert lines["so_far"].get_ydata()[-1] == pytest.approx(np.exp(-arrays["log_probability"].mean()))
    assert figure.axes[1].get_yscale() == figure.axes[2].get_yscale() == "log"
    pages = [line.get_xdata()[0] for line in figure.axes[0].get_lines() if line.get_gid() == "page"]
    assert pages == [9.5, 19.5]


def test_distributions(words: pd.DataFrame, arrays: dict[str, np.ndarray]) -> None:
    figure = documents.distributions(words, arrays)
    ranks = next(line for line in figure.axes[1].get_lines() if line.get_gid() == "rank")
    assert ranks.get_ydata()[-1] == 1.0
    bars = {patch.get_gid() for patch in figure.axes[0].patches}
    assert bars == {"whole word", "its first token"}


def test_cosines(words: pd.DataFrame, arrays: dict[str, np.ndarray]) -> None:
    figure = documents.cosines(words, arrays)
    lines = {line.get_gid(): line for axes in figure.axes for line in axes.get_lines()}
    assert len(lines["match-True"].get_xdata()) == 5
    assert len(lines["match-False"].get_xdata()) == COUNT - 6  # the word without a probability is neither
    assert {column for column, *_ in documents.COSINES} <= set(lines)


def test_running_mean_against_a_loop() -> None:
    values = np.random.default_rng(0).standard_normal(50)
    values[[0, 1, 20]] = np.nan
    found = documents.running_mean(values, 4)
    for end in range(50):
        part = values[max(0, end - 3) : end + 1]
        part = part[np.isfinite(part)]
        assert np.isnan(found[end]) if not len(part) else found[end] == pytest.approx(part.mean(), abs=1e-12)
