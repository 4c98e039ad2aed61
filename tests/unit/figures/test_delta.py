"""Figures of delta/jacobian: the values of the tables are on the axes, each model by its own depth."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tremor.figures import delta


def table(layers: int, mixer: str, gain: float) -> pd.DataFrame:
    depth = np.arange(1, layers + 1) / layers
    columns: dict[str, Any] = {"relative_depth": depth, "layer": np.arange(layers), "n_layers": layers, "mixer": mixer}
    for name in [column for column, _, _ in delta.GAINS]:
        columns |= {name: gain * depth, f"{name}_min": gain * depth / 2, f"{name}_max": gain * depth * 3}
    for noise in ("absolute", "relative_all", "relative_last"):
        columns |= {f"sensitivity_{noise}_mean": gain, f"sensitivity_{noise}_gain_mean": 1.0}
    columns |= {"sensitivity_absolute_std": 0.1, "secant_mean": gain / 4, "epsilon": 0.02, "gain_texts": 6}
    return pd.DataFrame({**columns, "last_states": 30, "token_states": 200})


def ranks(layers: int) -> pd.DataFrame:
    rows = [
        {"layer": k, "level": level, "centring": centring, "spectrum": spectrum, "effective_rank": 10.0 + k,
         "corrected": 12.0 + k, "gaussian": 25.0}
        for k in range(layers) for level in ("last", "token")
        for centring in ("centred", "uncentred") for spectrum in ("sigma", "sigma2")
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def layers() -> dict[str, pd.DataFrame]:
    return {"mamba": table(6, "ssm", 100.0), "gpt2": table(4, "attention", 10.0)}


def lines(figure: Any) -> dict[str, Any]:
    return {line.get_gid(): line for axes in figure.axes for line in axes.get_lines() if line.get_gid()}


def test_gain(layers: dict[str, pd.DataFrame]) -> None:
    figure = delta.gain(layers)
    found = lines(figure)
    assert np.allclose(found["spectral_last_logits-mamba"].get_xdata(), np.arange(1, 7) / 6)
    assert np.allclose(found["spectral_last_logits-gpt2"].get_ydata(), 10 * np.arange(1, 5) / 4)
    assert all(axes.get_yscale() == "log" for axes in figure.axes)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["mamba (6 blocks, ssm)", "gpt2 (4 blocks, attention)"]
    assert "6 texts" in figure.legends[0].get_title().get_text()


def test_gain_of_a_target_that_was_not_asked_for(layers: dict[str, pd.DataFrame]) -> None:
    for frame in layers.values():
        for ending in ("", "_min", "_max"):
            frame[f"spectral_all_logits{ending}"] = np.nan
    texts = [text.get_text() for axes in delta.gain(layers).axes for text in axes.texts]
    assert texts == ["not among delta.jacobian.targets"]


def test_rank(layers: dict[str, pd.DataFrame]) -> None:
    figure = delta.rank(layers, {"mamba": ranks(6), "gpt2": ranks(4)})
    found = lines(figure)
    assert found["last-gpt2"].get_ydata().tolist() == [10.0, 11.0, 12.0, 13.0]
    assert found["token-mamba-gaussian"].get_ydata().tolist() == [25.0] * 6
    assert "n = 30" in figure.axes[0].get_title()


def test_sensitivity_names_its_own_noise(layers: dict[str, pd.DataFrame]) -> None:
    figure = delta.sensitivity(layers)
    found = lines(figure)
    assert found["absolute-mamba"].get_ydata().tolist() == [100.0] * 6
    assert found["local-gpt2"].get_ydata()[-1] == 30.0
    assert "0.02 · N(0, 1)" in figure.axes[0].get_title()
