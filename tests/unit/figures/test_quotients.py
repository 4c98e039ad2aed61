"""Figures of exp2: lines hold the medians of the table, zeros and gaps can be drawn."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tremor.figures import quotients


def lines(figure: Any, gid: str) -> list[Any]:
    return [x for axes in figure.axes for x in axes.lines if x.get_gid() == gid]


def steps(prompts: int = 3) -> pd.DataFrame:
    rows = []
    for prompt in range(prompts):
        for rank, sigma in ((1, 60.0), (2, 20.0), (7, 1e-3)):
            for power in range(-1, -13, -1):
                size = 10.0**power
                moved = size > 1e-10
                out = (prompt + 1) * np.hypot(sigma * size, 4e-6) * moved
                rows.append(
                    {
                        "prompt": f"p{prompt}",
                        "dimension": rank,
                        "epsilon": size,
                        "output_diff_norm": out,
                        "smooth_prediction_l2": sigma * size * moved,
                        "realised_l2": size * moved,
                        "noise_floor_l2": 4e-6,
                        "ratio_realised_to_sigma": out / size / sigma if moved else np.nan,
                        "ratio_nominal_to_sigma": out / size / sigma,
                    }
                )
    return pd.DataFrame(rows)


def test_by_step_draws_medians_over_prompts(recwarn: pytest.WarningsRecorder) -> None:
    table = steps()
    figure = quotients.by_step(table, title="t")
    figure.draw_without_rendering()
    (line,) = lines(figure, "output")
    own = table[(table["dimension"] == 1) & (table["output_diff_norm"] > 0)]
    np.testing.assert_allclose(line.get_ydata(), own.groupby("epsilon")["output_diff_norm"].median())
    (ratio,) = lines(figure, "ratio_realised_to_sigma_7")
    assert len(ratio.get_ydata()) == 9  # 1e-1 ... 1e-9 move the input
    assert "embedding units" in figure.axes[0].get_xlabel()
    assert [str(w.message) for w in recwarn] == []


def test_prompts_that_do_not_move_count_in_the_median() -> None:
    table = steps()
    still = (table["prompt"] != "p2") & (table["epsilon"] < 1e-5)  # two of three
    table.loc[still, ["output_diff_norm", "smooth_prediction_l2", "realised_l2"]] = 0.0
    (line,) = lines(quotients.by_step(table), "output")
    assert min(line.get_xdata()) == pytest.approx(1e-5)


def test_by_step_of_an_input_that_never_moves() -> None:
    table = steps(1)
    table[["output_diff_norm", "smooth_prediction_l2", "realised_l2"]] = 0.0
    table[["ratio_realised_to_sigma", "ratio_nominal_to_sigma"]] = np.nan, 0.0
    quotients.by_step(table).draw_without_rendering()


def test_distribution_shows_every_prompt_once() -> None:
    table = pd.DataFrame(
        {
            "sigma_1": [3.0, 4.0, 50.0, 6.0],
            "kind": ["fact", "fact", "code", "fact"],
            "source": ["original", "project", "project", "project"],
        }
    )
    figure = quotients.distribution(table)
    figure.draw_without_rendering()
    dots = np.concatenate([line.get_xdata() for kind in ("fact", "code") for line in lines(figure, f"kind_{kind}")])
    assert sorted(dots) == [3.0, 4.0, 6.0, 50.0]
    (curve,) = lines(figure, "cumulative")
    assert curve.get_ydata()[-1] == 1.0
    assert [line.get_xdata()[0] for line in lines(figure, "median")] == [4.0, 50.0]
    quotients.distribution(table.iloc[:1]).draw_without_rendering()


def test_averages_draw_measured_beside_expected() -> None:
    rows = [
        {"prompt": "a", "dimension": 1, "noise": noise, "epsilon": size, "n_samples": n, "smooth_gain": 60.0,
         "quotient_nominal": 60.0 + 1 / n, "expected_quotient": 61.0}
        for noise in ("isotropic", "along") for size in (1e-3, 1e-7) for n in (1, 10)
    ]  # fmt: skip
    figure = quotients.averages(pd.DataFrame(rows))
    figure.draw_without_rendering()
    assert len(figure.axes) == 2
    (first, _) = lines(figure, "measured_1e-07")
    np.testing.assert_allclose(first.get_ydata(), [61.0, 60.1])
    still = pd.DataFrame(rows).assign(quotient_nominal=0.0)
    quotients.averages(still[still["noise"] == "along"]).draw_without_rendering()
