"""Angles and ranks: against the whole matrix at once; states that were normalised twice are found out."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from synthetic import Pretended, write_unembedding
from tremor import floats
from tremor.compare.angles import Unembedding, rank_angles
from tremor.errors import ArtifactError, ConfigError, NumericsError
from tremor.store.hdf5 import write_hdf5

Array = npt.NDArray[Any]
MODEL = Pretended()
UNIT = 2.0**-24
RANKS = (1, 2, 10, 11, 100)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unembedding") / "unembedding.h5"
    write_unembedding(path, MODEL)
    return path


@pytest.fixture(scope="module")
def states() -> Array:
    return np.stack([MODEL.state([k], "float32") for k in range(9)]).astype(np.float32)


def best(states: Array, finish: Any = lambda raw: raw, bias: Any = 0.0, k: int = 10) -> tuple[Array, Array, Array]:
    """All ids in order, the k best, and their logits rounded to float32."""
    raw = states.astype(np.float64) @ MODEL.weight.astype(np.float64).T + bias
    order = np.argsort(-raw, axis=1, kind="stable")
    return order, order[:, :k], finish(np.take_along_axis(raw, order[:, :k], 1)).astype(np.float32)


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_against_the_whole_matrix(path: Path, states: Array, block: int) -> None:
    order, ids, logits = best(states)
    with Unembedding(path, block=block) as matrix:
        found = rank_angles(states, ids, logits, matrix, RANKS, UNIT)
    assert np.array_equal(found.ids, order[:, np.array(RANKS) - 1])
    assert found.recomputed.tolist() == [False, False, False, True, True]
    assert found.same_first.all()
    for row, state in enumerate(states.astype(np.float64)):
        for column, token in enumerate(found.ids[row]):
            vector = MODEL.weight[token].astype(np.float64)
            cosine = vector @ state / np.linalg.norm(vector) / np.linalg.norm(state)
            assert found.degrees[row, column] == pytest.approx(np.degrees(np.arccos(cosine)), abs=1e-10)
    # Logits rounded once from float64 are off by half a spacing: |error| <= u |logit| <= u |w| |h|.
    assert found.logit_error.max() <= 1.0


def test_states_normalised_twice_are_found_out(path: Path, states: Array) -> None:
    """The original's recordings: what it stored is not what the unembedding read."""
    _, ids, logits = best(states)
    gain = 1 + 0.1 * np.random.default_rng(0).normal(size=states.shape[1])
    again = states / np.sqrt((states.astype(np.float64) ** 2).mean(axis=1, keepdims=True)) * gain
    with Unembedding(path) as matrix, pytest.raises(NumericsError, match="are not those of its final state"):
        rank_angles(again.astype(np.float32), ids, logits, matrix, RANKS, UNIT)
    with Unembedding(path) as matrix, pytest.raises(NumericsError, match="off by"):
        rank_angles(np.roll(states, 1, axis=0), ids, logits, matrix, RANKS, UNIT)


def test_equal_logits_are_ranked_by_id(tmp_path: Path) -> None:
    """Across blocks too; what equals the last place must not be lost."""
    weight = np.zeros((12, 2), np.float32)
    weight[:, 0] = [1, 3, 3, 2, 3, 2, 2, 2, 1, 3, 2, 0]
    write_hdf5(tmp_path / "u.h5", {"weight": weight}, attributes={"softcap": None, "scale": None}, provenance={})
    state = np.array([[1.0, 0.0]], np.float32)
    ids, logits = np.array([[1, 2]]), np.array([[3, 3]], np.float32)
    order = [1, 2, 4, 9, 3, 5, 6, 7, 10, 0, 8, 11]
    for block in (1, 2, 5, 12):
        with Unembedding(tmp_path / "u.h5", block=block) as matrix:
            found = rank_angles(state, ids, logits, matrix, range(1, 13), UNIT)
        assert found.ids[0].tolist() == order


def test_bias_scale_and_cap(tmp_path: Path, states: Array) -> None:
    bias = np.random.default_rng(1).normal(size=MODEL.vocabulary).astype(np.float32)
    datasets = {"weight": MODEL.weight.astype(np.float32), "bias": bias}
    write_hdf5(tmp_path / "u.h5", datasets, attributes={"softcap": 30.0, "scale": 0.5}, provenance={})
    order, ids, logits = best(states, lambda raw: 30 * np.tanh(raw * 0.5 / 30), bias.astype(np.float64))
    with Unembedding(tmp_path / "u.h5") as matrix:
        found = rank_angles(states, ids, logits, matrix, (1, 50), UNIT)
    assert np.array_equal(found.ids, order[:, [0, 49]])
    vector = MODEL.weight[order[0, 49]].astype(np.float64)
    assert found.dot[0, 1] == pytest.approx(vector @ states[0].astype(np.float64), rel=1e-13)


def test_bfloat16(tmp_path: Path) -> None:
    write_unembedding(tmp_path / "u.h5", MODEL, "bfloat16")
    states = np.stack([MODEL.state([k], "bfloat16") for k in range(4)])
    _, ids, logits = best(states)
    rounded = floats.round_to(logits, "bfloat16")
    with Unembedding(tmp_path / "u.h5") as matrix:
        found = rank_angles(states, ids, rounded, matrix, (1, 100), 2.0**-8 / 2)
        assert found.logit_error.max() <= 1.0
        with pytest.raises(NumericsError):  # judged as float32, bfloat16's rounding is far off
            rank_angles(states, ids, rounded, matrix, (1, 100), UNIT)


def test_refusals(path: Path, states: Array) -> None:
    _, ids, logits = best(states)
    with Unembedding(path) as matrix:
        with pytest.raises(ConfigError, match=r"rank 151, but the vocabulary has 150"):
            rank_angles(states, ids, logits, matrix, (1, 151), UNIT)
        with pytest.raises(ArtifactError, match="has vectors of 24, the states have 23"):
            rank_angles(states[:, 1:], ids, logits, matrix, RANKS, UNIT)
        with pytest.raises(ArtifactError, match="none of the 150"):
            rank_angles(states, ids + 1000, logits, matrix, RANKS, UNIT)
