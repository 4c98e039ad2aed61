"""Figure of the noise floors: every median and maximum at its value, platforms from the top, the types' roundings."""

import numpy as np
import pandas as pd

from tremor.figures.noise_floors import floors


def table(size: float) -> pd.DataFrame:
    kinds = [(dtype, mode) for dtype in ("float32", "bfloat16") for mode in ("reference", "batched")]
    rows = [
        {"dtype": dtype, "mode": mode, "state_median": size * (k + 1), "state_max": size * (k + 2),
         "logits_median": size * (k + 3), "logits_max": size * (k + 4)}
        for k, (dtype, mode) in enumerate(kinds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_every_floor_is_drawn_where_it_is():
    figure = floors({"native": table(1e-7), "avx2": table(3e-7)}, title="t")
    figure.draw_without_rendering()
    state, logits = figure.axes
    for panel, what, first in ((state, "state", 1), (logits, "logits", 3)):
        marks = [line for line in panel.lines if line.get_gid() == f"{what}_avx2"]
        np.testing.assert_allclose([line.get_xdata()[0] for line in marks], [3e-7 * (first + k) for k in range(4)])
        # In the second row from the top, reference above batched, both within their row.
        heights = [float(line.get_ydata()[0]) for line in marks]
        assert heights[0] < 1 < heights[1]
        assert all(0.5 < height < 1.5 for height in heights)
        assert {line.get_markerfacecolor() == "white" for line in marks} == {True, False}
        assert panel.get_xscale() == "log"
    ends = [
        line.get_xdata()[1] for line in state.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] not in (0, 1)
    ]
    assert any(np.isclose(end, 3e-7 * 5) for end in ends)
    bottom, top = state.get_ylim()
    assert bottom > top
    assert [text.get_text() for text in state.get_yticklabels()] == ["native", "avx2"]
    roundoffs = [line.get_xdata()[0] for line in state.lines if line.get_linestyle() == ":" and len(line.get_xdata())]
    assert set(roundoffs) == {2.0**-24, 2.0**-8}
