"""The cross-examination's numbers, against hand computation and scipy."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tremor.statistics import cross


def test_relative_and_absolute_changes():
    assert cross.change(4.0, 5.0, relative=True) == 0.25
    assert cross.change(4.0, 5.0, relative=False) == 1.0
    assert cross.change(0.0, 0.0, relative=True) == 0.0
    assert cross.change(0.0, 2.0, relative=True) == math.inf
    assert math.isnan(cross.change(4.0, math.nan, relative=True))
    assert math.isnan(cross.change(math.nan, 4.0, relative=False))


def test_effects_of_either_sign_are_judged_by_their_size():
    controls = [0.1, -0.3, 0.2, 0.0]
    found = cross.against(-0.25, controls)
    assert found["control_mean"] == pytest.approx(0.0, abs=1e-17)
    assert found["control_std"] == pytest.approx(np.std(controls, ddof=1), rel=1e-15)
    assert found["z"] == pytest.approx(-0.25 / np.std(controls, ddof=1), rel=1e-15)
    assert found["p"] == 2 / 5  # itself and -0.3
    assert cross.against(0.4, controls)["p"] == 1 / 5


def test_controls_that_do_the_same_tell_nothing_apart():
    found = cross.against(0.5, [0.5] * 20)
    assert found["p"] == 1.0
    assert math.isnan(found["z"])
    assert found["control_std"] == 0.0


def test_a_control_without_a_finite_model_is_an_infinite_effect():
    found = cross.against(0.5, [0.1, math.nan, 0.2])
    assert found["p"] == 2 / 4
    assert math.isnan(found["z"])
    assert math.isnan(found["control_mean"])


def test_nothing_is_judged_without_effect_or_controls():
    for effect, controls in ((math.nan, [1.0, 2.0]), (1.0, []), (1.0, [1.0])):
        assert all(math.isnan(value) for value in cross.against(effect, controls).values())


def reading(sigma: float, floor: float = 1.0, boundary: float = 1.0, nll: float = 4.0, deep: bool = True):
    return {"sigma_1": sigma, "floor": floor, "boundary": boundary, "nll": nll, "deep": deep}


def test_costly_quantities_are_compared_with_those_controls_that_have_them():
    controls = [reading(11.0, boundary=2.0), reading(12.0, boundary=3.0)]
    controls += [reading(13.0, boundary=math.nan, nll=math.nan, deep=False)] * 3
    row = cross.judged(reading(10.0), reading(20.0, boundary=5.0, nll=4.5), controls)
    assert row["sigma_1_change"] == 1.0
    assert row["sigma_1_p"] == 1 / 6
    assert row["boundary_change"] == 4.0
    assert row["boundary_p"] == 1 / 3
    assert row["delta_nll"] == 0.5
    assert row["delta_nll_control_mean"] == 0.0
    assert row["floor_change"] == 0.0
    assert row["floor_p"] == 1.0


def test_findings_count_and_correlate():
    generator = np.random.default_rng(1)
    size = 12
    table = pd.DataFrame(
        {
            "sigma_1_change": generator.normal(size=size), "floor_change": np.zeros(size),
            "boundary_change": [math.nan] * 10 + [1.0, 2.0], "delta_nll": generator.normal(size=size),
            "sigma_1_p": [1 / 5] * 3 + [0.6] * 9, "floor_p": 1.0, "boundary_p": math.nan, "delta_nll_p": 1 / 3,
            "controls": 4, "deep_controls": 2,
        }
    )  # fmt: skip
    found = cross.findings(table)
    assert found["sigma_1"]["outstanding"] == 3
    assert found["sigma_1"]["tested"] == size
    # Twelve sets, each with one chance in five.
    assert found["sigma_1"]["outstanding_by_chance"] == pytest.approx(12 / 5, rel=1e-14)
    assert found["sigma_1"]["largest"] == table["sigma_1_change"].loc[table["sigma_1_change"].abs().idxmax()]
    assert found["boundary"]["tested"] == 0
    assert found["boundary"]["largest"] == 2.0
    own = stats.spearmanr(table["sigma_1_change"].abs(), table["delta_nll"].abs()).statistic
    assert found["spearman_nll_sigma_1"] == pytest.approx(own, rel=1e-12)
    assert found["spearman_nll_floor"] is None  # constant
    assert found["spearman_nll_boundary"] is None  # two sets
