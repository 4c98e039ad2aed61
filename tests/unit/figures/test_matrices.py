"""Figures of exp9: the table's values are on the axes, fused tensors and vectors are not, experts are said."""

import numpy as np
import pandas as pd
import pytest

from tremor.figures import matrices, matrix_spectra

COLUMNS = ("frobenius_norm", "spectral_norm", "nuclear_norm", "mean", "std", "mean_abs", "skewness", "kurtosis",
           "max_abs", "stable_rank")  # fmt: skip


def table(components: tuple[str, ...] = ("q", "k", "down"), blocks: int = 6, experts: int = 0) -> pd.DataFrame:
    rows = [{"component": "embedding", "block": None, "fused": False, "expert": None, "inputs": 4}]
    for block in range(blocks):
        rows.append({"component": "q+k", "block": block, "fused": True, "expert": None, "inputs": 4})
        rows.append({"component": "norm_mlp_in", "block": block, "fused": False, "expert": None, "inputs": None})
        for component in components:
            for expert in range(experts) if experts else (None,):
                rows.append({"component": component, "block": block, "fused": False, "expert": expert, "inputs": 4})
    frame = pd.DataFrame(rows)
    for name in ("block", "expert", "inputs"):
        frame[name] = frame[name].astype("Int64")
    for number, name in enumerate(COLUMNS):
        frame[name] = 1.0 + number + 0.1 * np.arange(len(frame))
    return frame


def arrays(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    values = np.tile([8.0, 2.0, 1e-12], (len(frame), 1))
    return {
        "singular_values": values.ravel(),
        "offsets": 3 * np.arange(len(frame) + 1),
        "histogram_counts": np.tile([1, 2, 0, 1], (len(frame), 1)),
        "histogram_edges": np.tile(np.linspace(-1, 1, 5), (len(frame), 1)),
    }


@pytest.mark.parametrize("draw", [matrices.norms, matrices.moments, matrices.shapes])
def test_lines_are_the_tables_columns(draw) -> None:
    frame = table()
    lines = {line.get_gid(): line for axes in draw(frame).axes for line in axes.get_lines()}
    own = frame[frame["component"] == "k"]
    drawn = [name for name in lines if name and name.endswith("-k")]
    assert len(drawn) == (3 if draw is matrices.norms else 2)
    for gid in drawn:
        assert lines[gid].get_ydata().tolist() == own[gid.removesuffix("-k")].tolist()
        assert lines[gid].get_xdata().tolist() == list(range(6))
    assert not [gid for gid in lines if gid and ("q+k" in gid or "norm_mlp" in gid or "embedding" in gid)]


def test_experts_are_averaged() -> None:
    frame = table(experts=3)
    means = matrices.by_block(frame)
    own = frame[(frame["component"] == "k") & (frame["block"] == 2)]
    found = means[(means["component"] == "k") & (means["block"] == 2)]
    assert len(found) == 1
    assert found["std"].iloc[0] == pytest.approx(own["std"].mean())


def test_bars_out_of_the_band_stand_out() -> None:
    frame = table(components=("q",))
    frame.loc[frame["component"] == "q", "mean_abs"] = [1.0, 1.0, 1.0, 1.0, 5.0, 1.0]
    (axes,) = [axes for axes in matrices.magnitudes(frame).axes if axes.get_title() == "q"]
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[4] != colours[0]
    assert [bar.get_height() for bar in axes.patches] == [1.0, 1.0, 1.0, 1.0, 5.0, 1.0]


def test_a_large_kurtosis_does_not_hide_the_others() -> None:
    frame = table()
    assert matrices.shapes(frame).axes[1].get_yscale() == "linear"
    frame.loc[5, "kurtosis"] = 900.0
    assert matrices.shapes(frame).axes[1].get_yscale() == "symlog"


def test_heat_maps_have_the_values_and_gaps() -> None:
    frame = table()
    gone = frame[~((frame["component"] == "down") & (frame["block"] == 1))]
    figure = matrices.heatmaps(gone)
    images = {image.get_gid(): image.get_array() for axes in figure.axes for image in axes.get_images()}
    assert set(images) >= {name for name, _ in matrices.MAPS}
    grid = images["stable_rank"]
    assert grid.shape == (3, 6)
    assert grid.mask.sum() == 1
    assert grid.mask[2, 1]
    assert grid[1, 4] == frame[(frame["component"] == "k") & (frame["block"] == 4)]["stable_rank"].iloc[0]


def test_spectra_are_relative_and_end_at_the_rounding() -> None:
    frame = table()
    figure = matrix_spectra.spectra(frame, arrays(frame))
    lines = {line.get_gid(): line for axes in figure.axes for line in axes.get_lines()}
    assert len(lines) == 18
    values = np.asarray(lines["q-3"].get_ydata())
    assert values[:2].tolist() == [1.0, 0.25]
    assert np.isnan(values[2])  # 1e-12 of 8 is the rounding of the weights, no singular value


def test_distributions_at_five_depths() -> None:
    frame = table(blocks=9, experts=2)
    figure = matrix_spectra.distributions(frame, arrays(frame))
    steps = {patch.get_gid(): patch for axes in figure.axes for patch in axes.patches}
    assert {gid for gid in steps if gid.startswith("q-")} == {f"q-{k}" for k in (0, 2, 4, 6, 8)}
    assert steps["q-0"].get_data().values.tolist() == [0.5, 1.0, 0.0, 0.5]  # a density: times 0.5, sums to 1
    assert [axes.get_title() for axes in figure.axes[:3]] == ["q, expert 0", "k, expert 0", "down, expert 0"]
    assert matrix_spectra.shown_blocks(1) == [0]


def test_log_scales_have_plain_labels() -> None:
    """Formulas are off in this style: what a log formatter of matplotlib writes would show its source."""
    frame = table()
    frame.loc[frame["component"] == "k", list(COLUMNS)] *= 300.0
    for figure in (matrices.heatmaps(frame), matrices.shapes(frame), matrices.norms(frame)):
        figure.canvas.draw()
        texts = [text.get_text() for axes in figure.axes for text in (*axes.get_yticklabels(), *axes.get_xticklabels())]
        assert not [text for text in texts if "$" in text]
        assert any(texts)
    assert matrices.log_ticks(0.3, 40.0) == [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
    assert matrices.log_ticks(0.5, 2e3) == [1.0, 10.0, 100.0, 1000.0]
    assert len(matrices.log_ticks(1e-12, 1.0)) <= 5
