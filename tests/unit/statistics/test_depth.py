"""Layers of models of different length at common relative depths."""

import numpy as np

from tremor.statistics.depth import at_depths, common_depths


def test_common_depths_lie_within_every_model() -> None:
    six, four = np.arange(1, 7) / 6, np.arange(1, 5) / 4
    np.testing.assert_allclose(common_depths([six, four], 4), [0.25, 0.5, 0.75, 1.0])
    assert common_depths([np.array([1.0]), four], 5).tolist() == [1.0]
    assert len(common_depths([np.array([0.1, 0.2]), np.array([0.5, 1.0])], 5)) == 0


def test_a_gain_that_grows_by_a_factor_a_layer_is_the_same_at_every_length() -> None:
    """Compared by index, 24 and 12 layers of one and the same growth over depth would differ by a power of it."""
    wanted = np.linspace(0.1, 1.0, 7)
    long, short = np.arange(1, 25) / 24, np.arange(1, 13) / 12
    found = [at_depths(each, np.exp(3 * each), wanted, log=True) for each in (long, short)]
    np.testing.assert_allclose(found[0], np.exp(3 * wanted), rtol=1e-12)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
    np.testing.assert_allclose(at_depths(short, 2 * short, wanted, log=False), 2 * wanted, rtol=1e-12)


def test_what_is_not_known_is_not_made_up() -> None:
    depth, values = np.array([0.25, 0.5, 0.75, 1.0]), np.array([1.0, 2.0, np.nan, 4.0])
    found = at_depths(depth, values, np.array([0.3, 0.6, 0.8, 1.0]), log=True)
    assert np.isnan(found).tolist() == [False, True, True, False]
    assert np.isnan(at_depths(depth, np.array([1.0, 0.0, 1.0, 1.0]), np.array([0.4]), log=True)).all()
