"""Figures of the cross-examination show the numbers of their tables, byte for byte the same each time."""

import numpy as np
import pandas as pd
from matplotlib.text import Text

from tremor.figures import cross, save

SCORES, SIZES, OPERATIONS = ("taylor_abs", "spikes"), (1, 10), ("zero", "sign")
COLUMNS = ("sigma_1_change", "floor_change", "boundary_change", "delta_nll")


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    generator = np.random.default_rng(2)
    keys = [(s, k, o) for s in SCORES for k in SIZES for o in OPERATIONS]
    rows = [{"score": s, "topk": k, "operation": o, **dict(zip(COLUMNS, generator.normal(size=4), strict=True))}
            for s, k, o in keys]  # fmt: skip
    drawn = [{"score": s, "topk": k, "operation": o, "draw": d,
              **dict(zip(COLUMNS, 0.1 * generator.normal(size=4), strict=True))}
             for s, k, o in keys for d in range(3)]  # fmt: skip
    controls = pd.DataFrame(drawn)
    controls.loc[controls["draw"] == 2, ["boundary_change", "delta_nll"]] = np.nan
    return pd.DataFrame(rows), controls


def lines(figure, gid: str):
    return [line for axes in figure.axes for line in axes.lines if line.get_gid() == gid]


def words(figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_every_change_stands_beside_the_range_of_its_controls():
    table, controls = tables()
    figure = cross.changes(table, controls, title="t")
    for column in COLUMNS:
        for score in SCORES:
            own = table[(table["score"] == score) & (table["operation"] == "sign")]
            (line,) = lines(figure, f"{column}-sign-{score}")
            assert line.get_ydata().tolist() == own[column].tolist()
            bars = lines(figure, f"{column}-sign-{score}-controls")
            drawn = controls[(controls["score"] == score) & (controls["operation"] == "sign")]
            for k, bar in zip(SIZES, bars, strict=True):
                values = drawn[drawn["topk"] == k][column].dropna()
                assert bar.get_ydata().tolist() == [values.min(), values.max()]
    text = words(figure)
    assert "removed" in text
    assert "sign flipped" in text
    assert "super weights" in text
    assert "nats per token" in text
    assert "× 2" not in text  # no such set


def test_sets_without_a_finite_state_are_counted():
    table, controls = tables()
    table.loc[0, list(COLUMNS)] = np.nan
    assert "1 sets without a finite state" in words(cross.changes(table, controls))


def test_geometry_stands_against_likelihood_and_zeros_are_counted():
    table, controls = tables()
    table.loc[0, "boundary_change"] = 0.0
    figure = cross.effects(table, controls)
    (line,) = lines(figure, "sigma_1_change-taylor_abs")
    own = table[table["score"] == "taylor_abs"]
    assert line.get_xdata().tolist() == own["delta_nll"].abs().tolist()
    assert line.get_ydata().tolist() == own["sigma_1_change"].abs().tolist()
    (grey,) = lines(figure, "floor_change-controls")
    assert len(grey.get_xdata()) == 8 * 2  # two of three controls have a likelihood
    assert f"1 of {8 + 16} at zero, not shown" in words(figure)


def test_figures_are_the_same_bytes_each_time(tmp_path):
    table, controls = tables()
    for name, draw in (("changes", cross.changes), ("effects", cross.effects)):
        contents = []
        for turn in "ab":
            path = tmp_path / f"{name}-{turn}.png"
            save.save(draw(table, controls, title="x"), [path], provenance={}, dpi=60)
            contents.append(path.read_bytes())
        assert contents[0] == contents[1]
