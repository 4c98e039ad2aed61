"""Figure of the perturbation tests: every row is a dot, filled where the token changes."""

import numpy as np
import pandas as pd

from tremor.figures.perturbation import perturbation


def test_every_row_is_drawn_once() -> None:
    rows = [
        {"prompt": "a", "scale": scale, "perturbation_type": kind, "magnitude": 10.0**-k,
         "relative_embedding_diff": 10.0**-k * (kind != "sign" or k < 3), "hidden_l2_after_norm": 5.0 * 10.0**-k,
         "hidden_norm_after_orig": 5.0, "token_changed": k == 0}
        for scale, kind in (("lattice", "constant_positive"), ("relative", "gaussian"), ("absolute", "sign"))
        for k in range(4)
    ]  # fmt: skip
    figure = perturbation(pd.DataFrame(rows), title="t")
    figure.draw_without_rendering()
    left, right = figure.axes
    drawn = {line.get_gid(): len(line.get_xdata()) for line in left.lines}
    assert drawn["gaussian_False"] == 3
    assert drawn["gaussian_True"] == 1
    assert drawn["sign_False"] == 2  # one did not move anything
    (curve,) = [line for line in right.lines if line.get_gid() == "lattice_a"]
    np.testing.assert_allclose(curve.get_ydata(), [1e-3, 1e-2, 1e-1, 1.0])
