"""exp2 in process: ranks, columns, sigma against an SVD by itself, quotients recomputed row by row."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tremor import floats
from tremor.config import Config, block
from tremor.errors import ConfigError
from tremor.experiments import average_lipschitz, gain_results, gains, summaries
from tremor.experiments.prompt_set import SetPrompt
from tremor.probe.base import base_point
from tremor.probe.jacobian import jacobian
from tremor.probe.response import Response
from tremor.replay import content
from tremor.shards import Shard, names
from tremor.store import shards
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv

ORIGIN: dict[str, Any] = {"config": {}, "code": "code-digest", "inputs": {}}
PROMPTS = Path(__file__).parents[3] / "resources/prompts/lipschitz.tsv"
ORIGINAL_COLUMNS = {  # of version 3, whose Lipschitz columns are quotient_nominal, singular_value and the ratio here
    "analysis_type", "dimension", "singular_value", "epsilon_power", "epsilon", "output_diff_norm", "logit_diff",
    "orig_token_id", "orig_token", "orig_prob", "orig_logit", "pert_token_id", "pert_token", "pert_prob", "pert_logit",
    "token_changed",
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(chain: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exp2")
    average_lipschitz.measure(chain.session, **arguments(chain), **outputs(folder), provenance=ORIGIN)
    return folder


def arguments(chain: Any) -> dict[str, Any]:
    settings = {
        **block(Config(), "exp2"),
        "names": ["capital", "bank"],
        "powers": [-1, -3, -6, -12],
        "ranks": [5, 4000, "last"],
        "noise_powers": [-3, -8],
        "noise_samples": [1, 3, 70],
        "floor_samples": 8,
    }
    return {
        "precision": "float32",
        "prompts": PROMPTS,
        "probe": chain.settings("probe"),
        "spectrum": chain.settings("spectrum"),
        "settings": settings,
    }


def outputs(folder: Path) -> dict[str, Path]:
    tables = {name: folder / f"{name}.csv" for name in ("table", "quotients", "averages")}
    return {**tables, "data": folder / "spectra.h5", "statistics": folder / "statistics.json"}


def test_shards_make_the_files_of_one_job_bit_for_bit(measured: Path, chain: Any, tmp_path: Path) -> None:
    parts = [tmp_path / f"{name}.h5" for name in names(2)]
    for path, name in zip(parts, names(2), strict=True):
        found = average_lipschitz.part(chain.session, **arguments(chain), shard=Shard.parse(name))
        shards.write_part(path, found, provenance=chain.session.provenance(**ORIGIN, seeds=found.seeds))
    whole, origin = shards.gather(parts)
    gain_results.write_gains(whole, **outputs(tmp_path), provenance=origin)
    for name, path in outputs(tmp_path).items():
        assert content(path) == content(outputs(measured)[name])


def test_ranks_beyond_the_spectrum_are_an_error_that_names_the_key(chain: Any) -> None:
    own = arguments(chain)
    own["settings"] = {**own["settings"], "names": ["capital"], "noise_ranks": [4000]}
    with pytest.raises(ConfigError, match=r"exp2\.noise_ranks names no direction .* there are 32 singular vectors"):
        average_lipschitz.part(chain.session, **own)


def test_ranks_count_from_one_and_none_comes_twice() -> None:
    found = gains.ranks(5, [5, 50, 4096, "last"], 128)
    assert found == [
        *(("top_k_singular", k) for k in range(1, 6)),
        ("specific_dimension", 50),
        ("specific_dimension", 128),
    ]  # The original's dimension 0 was the last vector under a false name.
    assert all(rank >= 1 for _, rank in gains.ranks(2, [1, 2], 3))
    assert gains.ranks(5, ["last"], 3) == [("top_k_singular", k) for k in (1, 2, 3)]


def test_sigma_is_that_of_a_plain_decomposition(measured: Path, chain: Any) -> None:
    table = read_csv(measured / "table.csv")
    assert list(table["name"]) == ["capital", "bank"]
    for _, row in table.iterrows():
        matrix = jacobian(chain.session.loaded, base_point(chain.session.loaded, row["text"])).astype(np.float64)
        values = np.linalg.svd(matrix)[1]
        np.testing.assert_allclose([row[f"sigma_{k}"] for k in range(1, 6)], values[:5], rtol=1e-10)
        assert row["frobenius_norm"] == pytest.approx(np.sqrt((matrix**2).sum()))
        assert row["noise_floor_l2"] > 0
    artifact = read_hdf5(measured / "spectra.h5")
    assert artifact.array("bank/right").shape[0] == 5


def test_quotients_are_those_of_single_forwards(measured: Path, chain: Any) -> None:
    table = read_csv(measured / "quotients.csv")
    assert set(table.columns) >= ORIGINAL_COLUMNS
    loaded = chain.session.loaded
    own = table[table["prompt"] == "bank"]
    assert len(own) == 4 * len(own["dimension"].unique())
    base = base_point(loaded, "The bank is by")
    right = read_hdf5(measured / "spectra.h5").array("bank/right")
    response = Response(loaded, base, mode="batched", batch_size=16)
    for _, row in own[own["dimension"] <= 5].iterrows():
        p = floats.nudge(base.x, right[row["dimension"] - 1], row["epsilon"], arithmetic="float32")
        change = np.linalg.norm(response.evaluate(p[None])[0].astype(np.float64) - response.h0)
        assert row["output_diff_norm"] == change
        assert row["quotient_nominal"] == change / 10.0 ** row["epsilon_power"]
        step = np.linalg.norm(p.astype(np.float64) - base.x)
        assert row["realised_l2"] == pytest.approx(step, rel=1e-12)
        if step == 0:
            assert np.isnan(row["quotient_realised"])
        else:
            assert row["quotient_realised"] == pytest.approx(change / step, rel=1e-12)


def test_averages_have_both_noises_and_their_bias(measured: Path) -> None:
    table = read_csv(measured / "averages.csv")
    assert set(table["noise"]) == {"isotropic", "along"}
    assert set(table["n_samples"]) == {1, 3, 70}
    np.testing.assert_allclose(table["bias"], table["quotient_nominal"] - table["smooth_gain"])
    np.testing.assert_allclose(table["smooth_gain"], table["singular_value"], rtol=1e-3, atol=1e-5)
    leading = table[(table["dimension"] == 1) & (table["epsilon_power"] == -3)]
    # Far above the floor an average is the gain, for every n, up to curvature over 1e-3.
    np.testing.assert_allclose(leading["quotient_nominal"], leading["smooth_gain"], rtol=2e-2)
    again = pd.read_csv(measured / "averages.csv")
    assert len(again) == len(table) == 2 * 2 * 2 * 3


def test_summary_has_its_columns(measured: Path, tmp_path: Path) -> None:
    statistics = measured / "statistics.json"
    summaries.gather(
        "exp2", [statistics], [{"model": "m", "precision": "float32"}], output=tmp_path / "s.csv", provenance=ORIGIN
    )
    row = read_csv(tmp_path / "s.csv").iloc[0]
    assert row["prompts"] == 2
    assert row["quotients_evaluated_inputs"] <= row["quotients_rows"] + 2
    assert read_json(statistics)["gate"] == {"relative_error": None}


def test_lanczos_finds_the_leading_directions_and_the_same_predictions(chain: Any) -> None:
    prompt = SetPrompt("capital", "fact", "original", "The capital of France is")
    dense, leading = (
        gains.place(
            chain.session.loaded,
            prompt,
            chain.settings("spectrum", method=method, top_k=3),
            bos="auto",
            max_memory=2**30,
        )
        for method in ("dense", "lanczos")
    )
    assert leading.matrix is None
    # Products in float32 are good to some 1e-6 of sigma_1.
    values = dense.spectrum.singular_values[:3]
    np.testing.assert_allclose(leading.spectrum.singular_values, values, rtol=1e-5)
    steps = 1e-3 * dense.directions[:2].astype(np.float64)
    np.testing.assert_allclose(leading.product(steps), dense.product(steps), atol=1e-8)
    row = gains.spectrum_row(leading, 5, None, np.ones(3))
    assert np.isnan(row["frobenius_norm"])
    assert np.isnan(row["sigma_4"])
