"""Figures of critical_weights show the numbers of their tables, byte for byte the same each time."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from tremor.figures import critical, save

METRICS = ("taylor_abs", "magnitude")


def results(status: str = "ok") -> pd.DataFrame:
    rows = []
    for number, metric in enumerate(METRICS):
        for k in (10, 100):
            value = (0.3 if number == 0 else -1e-4) * k / 100
            rows.append(
                {
                    "metric": metric, "selection": "top", "topk": k, "weights_requested": k, "status": "ok",
                    "delta_nll": value, "delta_nll_low": value - 0.01, "delta_nll_high": value + 0.01,
                    "kl": abs(value), "flip_rate": 0.1 * number, "controls": 3, "z": 12.0, "p": 0.25,
                }
            )  # fmt: skip
    frame = pd.DataFrame(rows)
    frame.loc[0, "status"] = status
    return frame


def draws() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"metric": m, "weights": k, "draw": d, "delta_nll": (d - 1) * 1e-3, "kl": 1e-4, "flip_rate": 0.01}
            for m in METRICS for k in (10, 100) for d in range(3)
        ]
    )  # fmt: skip


def lines(figure, gid: str):
    return [line for axes in figure.axes for line in axes.lines if line.get_gid() == gid]


def words(figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_effects_show_each_metric_and_all_controls():
    figure = critical.effects(results(), draws(), title="t")
    assert lines(figure, "delta_nll-taylor_abs")[0].get_ydata().tolist() == [0.03, 0.3]
    assert len(lines(figure, "kl-controls")[0].get_ydata()) == 12
    assert lines(figure, "flip_rate-magnitude")[0].get_ydata().tolist() == [10.0, 10.0]  # percent


def test_a_set_without_finite_likelihood_is_told_and_not_drawn():
    rows = results("nan_logits")
    again = rows.iloc[[0]].assign(topk=1000)  # the same set, as a share of a larger K
    figure = critical.effects(pd.concat([rows, again], ignore_index=True), draws())
    assert "1 sets without finite NLL" in words(figure)
    assert lines(figure, "delta_nll-taylor_abs")[0].get_ydata().tolist() == [0.3]


def test_controls_stand_beside_their_effect():
    figure = critical.controls(results(), draws())
    assert lines(figure, "effect-1")[0].get_xdata().tolist() == [0.3]
    figure.draw_without_rendering()
    assert "taylor_abs, 100  (z = 12, p = 0.25)" in words(figure)


def test_agreement_is_symmetric_and_names_the_chance_level():
    table = pd.DataFrame(
        [{"first": "a", "second": "b", "topk": 10, "jaccard": 0.25, "chance_jaccard": 0.01, "spearman": np.nan}]
    )
    figure = critical.overlap(table, topk=10)
    image = figure.axes[0].images[0].get_array()
    assert image.tolist() == [[1.0, 0.25], [0.25, 1.0]]
    assert "chance 0.01" in words(figure)
    assert "n/a" in words(figure)


def test_stability_marks_what_is_deterministic():
    table = pd.DataFrame(
        [
            {"metric": "m", "varied": v, "topk": 10, "jaccard": j, "chance_jaccard": 0.01, "label": t}
            for v, j, t in (("seed", 1.0, "deterministic"), ("half", 0.4, "compared"), ("half", 0.6, "compared"))
        ]
    )
    figure = critical.stability(table, topk=10)
    assert lines(figure, "seed-m")[0].get_markerfacecolor() == "none"
    assert lines(figure, "half-m")[0].get_ydata().tolist() == [0.4, 0.6]


def test_depth_and_tails():
    table = pd.DataFrame(
        [
            {"metric": "m", "block": b, "component": c, "weights": 100, "mean_score": 1.0 + b, "top_10": n}
            for b, c, n in ((0, "q", 0), (0, "v", 10), (1, "q", 0), (1, "v", 0))
        ]
    )
    figure = critical.depth(table, topk=10)
    assert lines(figure, "depth-m")[0].get_ydata().tolist() == [pytest.approx(1 / 1.5), pytest.approx(2 / 1.5)]
    assert "2" in words(figure)  # all ten lie in half of the weights
    scores = {"m": np.linspace(0.01, 1, 100, dtype=np.float32)}
    law = {"alpha": 2.0, "x_min": 0.5, "count": 51, "ks": 0.1, "p": 0.5}
    figure = critical.tails(scores, {"m": {"tail": {"power_law": law}}})
    assert lines(figure, "fit-m")[0].get_ydata().tolist() == [0.51, pytest.approx(0.51 / 4)]
    figure = critical.tails(scores, {"m": {"tail": {"power_law": None}}})
    assert not lines(figure, "fit-m")


def test_the_middle_k():
    assert critical.middle([10, 50, 100, 500]) == 100
    assert critical.middle([7]) == 7


def test_bytes_are_the_same_each_time(tmp_path):
    found = []
    for number in range(2):
        path = tmp_path / f"{number}.png"
        save.save(critical.controls(results(), draws()), [path])
        found.append(path.read_bytes())
    assert found[0] == found[1]
