"""Figure of exp3: curves hold the table, one precision alone can be drawn."""

import numpy as np
import pandas as pd

from tremor.figures.precision import precision

FORMATS = ("float64", "float32", "float16", "bfloat16")


def tables(precisions: tuple[str, ...]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    survival = pd.DataFrame(
        [
            {"variant": v, "format": f, "epsilon_power": p, "moved_percent": 10.0 * k + p}
            for v in ("vector", "sigma_vector") for k, f in enumerate(FORMATS) for p in (-2, -3, -4)
        ]
    )  # fmt: skip
    levels = pd.DataFrame(
        [
            {"variant": "vector", "epsilon_power": p, "significant_bits": b, "moved_percent": float(b)}
            for p in (-2, -3, -4) for b in range(1, 25)
        ]
    )  # fmt: skip
    compared = pd.DataFrame(
        [
            {"precision": p, "reference": precisions[0], "state": s, "relative_l2": 0.0 if k == 0 else 10.0**-k}
            for k, p in enumerate(precisions) for s in ("embedding", "hidden", "logits")
        ]
    )  # fmt: skip
    return survival, levels, compared


def test_the_figure_holds_the_tables() -> None:
    survival, levels, compared = tables(("true_float64", "float32", "bfloat16"))
    figure = precision(survival, levels, compared, title="t")
    figure.draw_without_rendering()
    (line,) = [x for x in figure.axes[0].lines if x.get_gid() == "vector_float16"]
    np.testing.assert_array_equal(line.get_ydata(), [18.0, 17.0, 16.0])
    (image,) = figure.axes[1].images
    assert image.get_array().shape == (24, 3)
    np.testing.assert_array_equal(np.asarray(image.get_array())[:, 0], np.arange(1, 25))
    (dots,) = [x for x in figure.axes[2].lines if x.get_gid() == "state_hidden"]
    np.testing.assert_array_equal(dots.get_ydata(), [0.1, 0.01])


def test_one_precision_alone() -> None:
    precision(*tables(("float32",))).draw_without_rendering()
