"""The chain of local Jacobians: products, bounds and telescoping gains against plain numpy."""

import numpy as np
import pytest

from tremor.statistics.local import account


def norm(matrix: np.ndarray) -> float:
    return float(np.linalg.norm(matrix, 2))


def test_chain_account() -> None:
    generator = np.random.default_rng(0)
    stages = [generator.normal(size=shape) for shape in ((6, 4), (6, 6), (6, 6), (3, 6))]
    whole = stages[3] @ stages[2] @ stages[1] @ stages[0]
    _, _, vh = np.linalg.svd(whole)
    found = account(stages, [norm(m) for m in stages], vh[0], epsilon=2.0**-23, norm=norm)
    np.testing.assert_allclose(found.product, whole, rtol=1e-12, atol=1e-12)
    assert found.cumulative_norm[-1] == pytest.approx(norm(whole))
    assert found.cumulative_norm[1] == pytest.approx(norm(stages[1] @ stages[0]))
    # Along the leading vector the gains telescope to sigma_1; the norms' product bounds every partial product.
    assert np.prod(found.gain) == pytest.approx(norm(whole))
    assert (found.norm_product >= found.cumulative_norm * (1 - 1e-12)).all()


def test_rounding_bound_covers_rounded_stages_and_no_lost_path() -> None:
    generator = np.random.default_rng(1)
    stages = [np.eye(32) + 0.5 * generator.normal(size=(32, 32)) / 32**0.5 for _ in range(8)]
    norms = [norm(m) for m in stages]
    found = account(stages, norms, np.ones(32), epsilon=2.0**-23, norm=norm)
    rounded = account([m.astype(np.float32).astype(float) for m in stages], norms, np.ones(32), epsilon=0.0, norm=norm)
    assert norm(rounded.product - found.product) < found.rounding_bound
    assert rounded.rounding_bound == 0
    # A path past the stream of a thousandth would be seen.
    assert found.rounding_bound < 1e-3 * norm(found.product)
