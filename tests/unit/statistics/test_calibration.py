"""Calibration against numbers worked out by hand."""

import numpy as np
import pytest

from tremor.statistics.calibration import calibration


def test_error_by_hand():
    """Bins (0, .5] and (.5, 1]: gaps |1/2 - .3| and |1/3 - .8|, weighted 2/5 and 3/5."""
    found = calibration([0.2, 0.4, 0.7, 0.8, 0.9], [False, True, False, False, True], bins=2)
    # Sums of a few numbers near one: 1e-15 is some ulps.
    assert found.ece == pytest.approx(2 / 5 * 0.2 + 3 / 5 * (0.8 - 1 / 3), abs=1e-15)
    assert found.mce == pytest.approx(0.8 - 1 / 3, abs=1e-15)
    assert found.bins["count"].tolist() == [2, 3]
    assert found.accuracy == 0.4
    assert found.confidence == pytest.approx(0.6, abs=1e-15)


def test_edges_belong_to_the_lower_bin_and_zero_to_the_first():
    found = calibration([0.0, 0.5, 1.0], [True, True, True], bins=2)
    assert found.bins["count"].tolist() == [2, 1]


def test_empty_bins_are_nan_and_add_nothing():
    found = calibration([0.95, 0.95], [True, False], bins=10)
    assert np.isnan(found.bins["accuracy"][:9]).all()
    assert found.ece == pytest.approx(0.45, abs=1e-15)


def test_bins_of_equal_count_hold_equal_counts_even_of_ties():
    found = calibration([0.3] * 10, [True] * 3 + [False] * 7, bins=5, binning="mass")
    assert found.bins["count"].tolist() == [2] * 5


def test_a_calibrated_forecaster_has_a_small_error():
    """10^5 draws: the error of 10 bins is about sqrt(10 / 1e5) * 0.8 * 0.45 = 0.004."""
    rng = np.random.default_rng(0)
    sure = rng.uniform(size=100_000)
    found = calibration(sure, rng.uniform(size=100_000) < sure, bins=10)
    assert found.ece < 0.012
    assert calibration(sure, rng.uniform(size=100_000) < sure / 2, bins=10).ece > 0.2


@pytest.mark.parametrize(("sure", "right"), [([], []), ([0.5], [True, False]), ([1.2], [True]), ([np.nan], [True])])
def test_what_is_no_prediction_is_refused(sure, right):
    with pytest.raises(ValueError, match=r"confidence|shapes"):
        calibration(sure, right)
