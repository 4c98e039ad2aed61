"""regimes on a tiny model: three formats, every step accounted for, the figures' tables complete."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tremor.errors import ConfigError
from tremor.experiments import regimes
from tremor.figures import regimes as figures
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv, read_parquet

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}
PROMPT = {"text": "The capital of France is", "bos": "auto"}


def run(chain: Any, source: Path, folder: Path, directory: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    regimes.measure(
        chain.session,
        PROMPT,
        directory=directory,
        attention="auto",
        probe=chain.settings("probe"),
        settings=chain.settings("regimes", per_decade=4, bootstrap=20, **changes),
        spectrum=source,
        data=folder / "regimes.h5",
        steps=folder / "steps.parquet",
        avalanche=folder / "avalanche.parquet",
        bands=folder / "bands.csv",
        crossovers=folder / "crossovers.csv",
        statistics=folder / "statistics.json",
        provenance=ORIGIN,
    )
    return folder


@pytest.fixture(scope="module")
def mapped(chain: Any, results: Path, saved_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(chain, results / "spectrum.h5", tmp_path_factory.mktemp("regimes"), saved_model("llama"))


def test_every_step_of_every_format(mapped: Path) -> None:
    steps, told = read_parquet(mapped / "steps.parquet"), read_json(mapped / "statistics.json")
    assert list(dict.fromkeys(steps["precision"])) == ["float32", "bfloat16", "float64"]
    assert list(dict.fromkeys(steps["direction"])) == ["v1", "v16", "v32", "random"]
    assert len(steps) == 3 * 4 * (24 * 4 + 1)
    assert steps["nominal"].max() / steps["nominal"].min() == pytest.approx(1e24)
    still = steps["realised"] == 0
    assert (steps[still]["moved_coordinates"] == 0).all()
    assert (steps[still]["regime"] == "stable").all()
    assert steps[still]["gain_realised"].isna().all()
    np.testing.assert_allclose(steps["gain_nominal"], steps["output_l2"] / steps["nominal"])
    for name, form in told["formats"].items():
        assert form["distinct_inputs"] < form["requested_inputs"] == 4 * 97
        assert (form["gate"] is not None) == (name == "float64")
    assert told["formats"]["float64"]["gate"]["passed"]


def test_formats_share_the_signal_and_differ_in_the_floor(mapped: Path) -> None:
    rows = read_csv(mapped / "crossovers.csv").set_index(["direction", "precision"]).loc["v1"]
    # bfloat16 rounds weights and every stage to 8 bits: its derivative is another one by some percent.
    assert rows["sigma"]["float64"] == pytest.approx(rows["sigma"]["float32"], rel=1e-5)
    assert rows["sigma"]["bfloat16"] == pytest.approx(rows["sigma"]["float32"], rel=0.1)
    floors = rows["noise_floor"]
    # 2^-8, 2^-24 and 2^-53 lie 5 and 9 decades apart; noise follows to within one.
    assert 1e4 < floors["bfloat16"] / floors["float32"] < 1e6
    assert 1e8 < floors["float32"] / floors["float64"] < 1e10
    for name in ("first_change", "crossover"):
        assert rows[name]["float64"] < rows[name]["float32"] < rows[name]["bfloat16"]
        assert (rows[f"{name}_low"] <= rows[name]).all()
        assert (rows[name] <= rows[f"{name}_high"]).all()
    assert rows["signal_gain"]["float64"] == pytest.approx(rows["sigma"]["float64"], rel=0.05)


def test_the_avalanche_begins_at_the_input(mapped: Path) -> None:
    table = read_parquet(mapped / "avalanche.parquet")
    assert list(dict.fromkeys(table["tap"])) == ["residual.0", "residual.1", "final_prenorm", "final"]
    first = table[table["tap"] == "residual.0"]
    np.testing.assert_allclose(first["gain_realised"], 1.0, rtol=1e-12)  # the input of block 0 is the embedding
    bands = read_csv(mapped / "bands.csv")
    assert (bands["gain_realised_q05"] <= bands["gain_realised_q50"]).all()
    gains = read_hdf5(mapped / "regimes.h5").array("smooth_gain/float64")
    np.testing.assert_allclose(gains[:, 0], 1.0, rtol=1e-7)  # directions are float32 unit vectors


def test_figures_are_drawn(mapped: Path) -> None:
    steps, bands = read_parquet(mapped / "steps.parquet"), read_csv(mapped / "bands.csv")
    crossovers = read_csv(mapped / "crossovers.csv")
    main = figures.regimes(steps, bands, crossovers, dtype="float32", title="t")
    (axes,) = main.axes
    lines = {line.get_gid(): line for line in axes.get_lines()}
    row = crossovers[(crossovers["precision"] == "float32") & (crossovers["direction"] == "v1")].iloc[0]
    assert lines["sigma-float32"].get_ydata()[0] == row["sigma"]
    x, y = (np.asarray(each) for each in lines["noise-float32"].get_data())
    np.testing.assert_allclose(x * y, row["noise_floor"])
    spans = {patch.get_gid() for patch in axes.patches}
    assert {"regime-stable", "regime-chaotic", "regime-signal"} <= spans
    assert len([a for a in figures.directions(steps, crossovers).axes if a.get_visible()]) == 4
    assert len(figures.avalanche(read_parquet(mapped / "avalanche.parquet"), crossovers).axes) == 4  # and the bar


def test_own_format_only(chain: Any, results: Path, saved_model: Any, tmp_path: Path) -> None:
    folder = run(chain, results / "spectrum.h5", tmp_path, saved_model("llama"), precisions=["float32"], directions=[2])
    assert set(read_parquet(folder / "steps.parquet")["precision"]) == {"float32"}
    assert read_json(folder / "statistics.json")["main"]["direction"] == "v2"


def test_a_rank_that_is_not_there(chain: Any, results: Path, saved_model: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"regimes\.directions asks for singular vector 99"):
        run(chain, results / "spectrum.h5", tmp_path, saved_model("llama"), directions=[99])


def test_a_model_that_runs_in_bfloat16(open_tiny: Any, chain: Any, saved_model: Any, tmp_path: Path) -> None:
    """Its own format comes first; float32 and float64 are the others, the latter of the bfloat16 weights."""
    own = type(chain)(open_tiny("llama", "bfloat16"))
    folder = run(own, own.spectrum(tmp_path), tmp_path, saved_model("llama"), directions=[1])
    told, steps = read_json(folder / "statistics.json"), read_parquet(folder / "steps.parquet")
    assert list(dict.fromkeys(steps["precision"])) == ["bfloat16", "float32", "float64"]
    assert told["dtype"] == "bfloat16"
    data = read_hdf5(folder / "regimes.h5")
    np.testing.assert_array_equal(data.array("x/float64"), data.array("x/bfloat16").astype(np.float64))


def test_products_in_place_of_the_matrix(chain: Any, saved_model: Any, tmp_path: Path) -> None:
    """A Lanczos spectrum holds no Jacobian: the smooth part comes from products, and is the same."""
    told = []
    for name, changes in (("dense", {}), ("lanczos", {"method": "lanczos", "top_k": 3})):
        folder = tmp_path / name
        source = chain.spectrum(folder, **changes)
        settings = {"precisions": ["float32"], "directions": [1], "decades": 14}
        run(chain, source, folder, saved_model("llama"), **settings)
        told.append(read_parquet(folder / "steps.parquet"))
    # The directions agree to the Lanczos tolerance of 1e-5, so steps and smooth parts do; products are float32.
    large = told[0]["realised"] > 1e-4
    np.testing.assert_allclose(told[0]["smooth_l2"][large], told[1]["smooth_l2"][large], rtol=1e-3)
