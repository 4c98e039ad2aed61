"""Expected size of noisy averages by simulation; distributions and plateaus by hand."""

import numpy as np
import pandas as pd
import pytest

from tremor.statistics.quotient import distribution, noisy_gain, plateau


@pytest.mark.parametrize("samples", [1, 10, 1000])
def test_a_noisy_mean_is_as_large_as_expected(samples: int) -> None:
    generator, width, step, floor = np.random.default_rng(0), 400, 1e-3, 0.05
    true = np.zeros(width)
    true[0] = 2.0 * step
    # Roundings of length `floor` in random directions; their mean is drawn directly.
    means = true + generator.normal(size=(200, width)) * floor / np.sqrt(width * samples)
    measured = np.linalg.norm(means, axis=1) / step
    # 200 norms of 400 coordinates each: a quarter of a per cent.
    assert measured.mean() == pytest.approx(noisy_gain(2.0, floor, step, samples), rel=0.01)
    assert measured.mean() > 2.0  # a norm is biased upward, always


def test_the_bias_falls_with_the_root_of_n_and_then_stays_at_the_gain() -> None:
    far = noisy_gain(1.0, 1.0, 1e-6, 1) / noisy_gain(1.0, 1.0, 1e-6, 100)
    assert far == pytest.approx(10, rel=1e-3)
    assert noisy_gain(1.0, 1.0, 1e-6, 10**16) == pytest.approx(1.0, rel=1e-3)


def test_distribution() -> None:
    found = distribution([1.0, 2.0, 6.0, np.nan])
    assert found == {"count": 3, "mean": 3.0, "std": pytest.approx(np.sqrt(7)), "median": 2.0, "min": 1.0, "max": 6.0,
                     "cv": pytest.approx(np.sqrt(7) / 3)}  # fmt: skip
    assert distribution([4.0])["std"] is None
    assert distribution([])["count"] == 0


def test_plateau() -> None:
    table = pd.DataFrame(
        {
            "epsilon": [1.0, 0.1, 0.01, 0.001],
            "ratio_realised_to_sigma": [3.0, 1.05, 0.95, np.nan],
            "moved_coordinates": [5, 5, 2, 0],
        }
    )
    assert plateau(table) == {
        "agreeing_steps": 2, "agree_from": 0.01, "agree_to": 0.1, "first_moving_step": 0.01, "still_steps": 1,
    }  # fmt: skip
    still = table.iloc[3:]
    assert plateau(still)["agree_from"] is None
    assert plateau(still)["first_moving_step"] is None
