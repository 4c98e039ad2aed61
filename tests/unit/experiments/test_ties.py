"""exp6 and exp7 as the scripts run them, on a tiny model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tremor.errors import ArtifactError, ConfigError, NumericsError
from tremor.experiments import columns, plane_results, planes, randomness, spectrum, summaries, ties
from tremor.replay import content
from tremor.shards import Shard, names
from tremor.store import shards
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5, write_hdf5
from tremor.store.tables import read_csv, read_parquet

ORIGIN: dict[str, Any] = {"config": {}, "code": "code-digest", "inputs": {}}
PROMPT = {"text": "The capital of France is", "bos": "auto"}
SMALL = {"planes": [[1, 2], [1, "last"]], "radii": [1e-6, 1e-8], "points": 9, "zoom_points": 7,
         "zoom_window": [[-5e-9, 5e-9], [5e-9, 0.0]], "draws": 9, "window": 3, "seed": 0}  # fmt: skip


def tie(chain: Any, folder: Path, method: str = "geometric", **probe: Any) -> Path:
    ties.measure_tie(
        chain.session, PROMPT, method=method, probe=chain.settings("probe", **probe),
        settings={"max_evaluations": 30}, data=folder / "tie.h5", history=folder / "history.csv",
        statistics=folder / "tie.json", provenance=ORIGIN,
    )  # fmt: skip
    base, _ = ties.tie_base(chain.session, PROMPT, folder / "tie.h5")
    spectrum.measure(
        chain.session, PROMPT, chain.settings("spectrum"), data=folder / "spectrum.h5",
        statistics=folder / "spectrum.json", provenance=ORIGIN, base=base,
    )  # fmt: skip
    return folder


def flips(chain: Any, folder: Path, **changes: Any) -> None:
    inputs = {"tie": folder / "tie.h5", "spectrum": folder / "spectrum.h5", **changes}
    ties.measure_flips(
        chain.session, PROMPT, arithmetic="float64", probe=chain.settings("probe"),
        settings={"directions": 3, "epsilon": 1e-5, "steps": 21, "max_distinct_inputs": 4096},
        tie_statistics=read_json(folder / "tie.json"), table=folder / "flips.parquet",
        intervals=folder / "intervals.csv", nearest=folder / "nearest.csv", statistics=folder / "statistics.json",
        provenance=ORIGIN, **inputs,
    )  # fmt: skip


def measure(chain: Any, folder: Path, name: str, **changes: Any) -> Path:
    {"planes": planes.measure_planes, "zoom": planes.measure_zoom}[name](
        chain.session, PROMPT, arithmetic="float64", probe=chain.settings("probe"), settings={**SMALL, **changes},
        tie=folder / "tie.h5", spectrum=folder / "spectrum.h5", data=folder / f"{name}.h5", provenance=ORIGIN,
    )  # fmt: skip
    return folder / f"{name}.h5"


@pytest.fixture(scope="module")
def done(chain: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tie(chain, tmp_path_factory.mktemp("ties"))
    flips(chain, folder)
    measure(chain, folder, "planes")
    measure(chain, folder, "zoom")
    randomness.measure(
        folder / "planes.h5", settings=SMALL, table=folder / "maps.csv", tests=folder / "tests.csv", provenance=ORIGIN
    )
    return folder


def test_the_tie_is_stored_with_all_that_the_original_left_out(done: Path) -> None:
    artifact, facts = read_hdf5(done / "tie.h5"), read_json(done / "tie.json")
    assert artifact.array("tie").dtype == np.float32
    distance = np.linalg.norm(artifact.array("tie").astype(float) - artifact.array("x0"))
    assert facts["distance_l2"] == pytest.approx(distance, rel=1e-12)
    history = read_csv(done / "history.csv")
    assert list(history.columns) == ["evaluation", "stage", "second_token", "gap", "distance_l2", "is_top_2"]
    assert history["stage"][0] == "start"
    assert facts["evaluations"] == len(history) + facts["gradients"] <= 30
    assert facts["start_gap"] == history["gap"][0]
    assert abs(facts["gap_float64"]) == pytest.approx(history["gap"].abs().min(), rel=1e-9)
    assert facts["is_top_2"]
    assert facts["first_token"] != facts["second_token"]


def test_the_spectrum_is_that_of_the_tie(done: Path, chain: Any, results: Path) -> None:
    there = read_hdf5(done / "spectrum.h5")
    np.testing.assert_array_equal(there.array("x0"), read_hdf5(done / "tie.h5").array("tie"))
    assert not np.array_equal(there.array("jacobian"), read_hdf5(results / "spectrum.h5").array("jacobian"))


def test_flips_have_their_tables(done: Path) -> None:
    grid, near = read_parquet(done / "flips.parquet"), read_csv(done / "nearest.csv")
    assert len(grid) == 3 * 21
    assert {"direction", "epsilon", "token", "first_logit", "second_logit", "gap", "probability"} <= set(grid.columns)
    assert grid["epsilon"][10] == 0
    assert near["direction"].tolist() == [1, 2, 3, 1, 2, 3]
    assert near["certified"].all()
    facts = read_json(done / "statistics.json")
    runs = read_csv(done / "intervals.csv")
    assert facts["grid_flips"] == len(runs) - 3
    assert runs["steps"].sum() == 63
    assert facts["reference_token"] == grid["token"][10]
    steps = near["step"][~near["censored"]].abs()
    assert facts["nearest_flip_abs"] == (steps.min() if len(steps) else None)
    # No grid point nearer than the exact flip shows another token.
    for direction, group in grid.groupby("direction"):
        for _, flip in near[near["direction"] == direction].iterrows():
            inside = group[
                (group["epsilon"] * flip["sign"] >= 0) & (group["epsilon"].abs() <= abs(flip["last_unflipped"]))
            ]
            assert (inside["token"] == facts["reference_token"]).all()


def test_flips_refuse_another_tie_and_another_spectrum(done: Path, chain: Any, results: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="starts from another input"):
        flips(chain, done, spectrum=results / "spectrum.h5")
    source = read_hdf5(done / "tie.h5")
    write_hdf5(
        tmp_path / "tie.h5", {**source.datasets, "h_tie": source.array("h_tie") * np.float32(1.0001)},
        attributes=source.attributes, provenance=source.provenance,
    )  # fmt: skip
    with pytest.raises(NumericsError, match=r"answers the tie of .* with other bits"):
        flips(chain, done, tie=tmp_path / "tie.h5")


def test_summary_of_flips_has_the_documented_columns(done: Path, tmp_path: Path) -> None:
    names = {"model": "tiny", "prompt": "capital", "tie": "geometric", "arithmetic": "float64"}
    summaries.gather("exp6", [done / "statistics.json"], [names], output=tmp_path / "summary.csv", provenance=ORIGIN)
    table = read_csv(tmp_path / "summary.csv")
    assert list(table.columns) == [*names, *(name.replace(".", "_") for name in columns.FLIPS)]


def test_maps_know_where_they_are(done: Path) -> None:
    source = read_hdf5(done / "planes.h5")
    assert source.array("gap").shape == (2, 2, 9, 9)
    assert source.array("ranks").tolist() == [[1, 2], [1, 32]]
    np.testing.assert_allclose(source.array("e1")[0, 1], np.arange(-4, 5) * 2.5e-9, rtol=1e-7, atol=0)
    centre = source.array("off_plane")[:, :, 4, 4]
    assert (centre == 0).all()
    assert (source.array("moved_coordinates")[:, :, 4, 4] == 0).all()
    facts = read_json(done / "tie.json")
    assert (source.array("gap")[:, :, 4, 4] == facts["gap_unembed"]).all()
    assert source.attributes["first_token"] == facts["first_token"]
    realised = source.array("realised_1")[0, 0]
    assert np.abs(realised - source.array("e1")[0, 0][:, None]).max() < 1e-7  # the widest map is nearly where it says


def test_zoom_recomputes_and_crop_cuts(done: Path, chain: Any, tmp_path: Path) -> None:
    zoom, maps = read_hdf5(done / "zoom.h5"), read_hdf5(done / "planes.h5")
    assert zoom.array("gap").shape == (2, 1, 7, 7)  # more points in the window than the map has
    np.testing.assert_allclose(zoom.array("e2")[0, 0][[0, -1]], [0.0, 5e-9], rtol=1e-7)
    randomness.crop(done / "planes.h5", settings=SMALL, data=tmp_path / "crop.h5", provenance=ORIGIN)
    crop = read_hdf5(tmp_path / "crop.h5")
    np.testing.assert_array_equal(crop.array("gap")[:, 0], maps.array("gap")[:, 1, 2:7, 4:7])
    np.testing.assert_array_equal(crop.array("e1")[1, 0], maps.array("e1")[1, 1, 2:7])
    assert crop.array("radii").tolist() == [1e-8]
    wide = {**SMALL, "zoom_window": [[-1e-3, 0.0], [0.0, 1e-6]]}
    with pytest.raises(ConfigError, match=r"zoom_window reaches to 0.001, beyond the widest map \(1e-06\)"):
        randomness.crop(done / "planes.h5", settings=wide, data=tmp_path / "no.h5", provenance=ORIGIN)


def test_randomness_is_a_table(done: Path, tmp_path: Path) -> None:
    table, tests = read_csv(done / "maps.csv"), read_csv(done / "tests.csv")
    assert list(table.columns) == list(randomness.SUMMARY)
    assert len(table) == 4
    assert len(tests) == 4 * 9 * 3
    shares = table[["first_fraction", "second_fraction", "equal_fraction", "other_fraction"]].sum(axis=1)
    np.testing.assert_allclose(shares, 1.0, atol=1e-12)
    names = {"model": "tiny", "prompt": "capital", "tie": "geometric", "arithmetic": "float64"}
    randomness.summarise([done / "maps.csv"], [names], output=tmp_path / "summary.csv", provenance=ORIGIN)
    summary = read_csv(tmp_path / "summary.csv")
    assert list(summary.columns) == [*names, *randomness.SUMMARY]
    assert len(summary) == 4


def test_planes_need_their_vectors() -> None:
    assert planes.plane_ranks([[1, 2], [1, "last"]], 16, complete=True).tolist() == [[1, 2], [1, 16]]
    with pytest.raises(ConfigError, match="asks for singular vector 17, but the spectrum has 16"):
        planes.plane_ranks([[1, 17]], 16, complete=True)
    with pytest.raises(ConfigError, match="last is known to a dense spectrum only"):
        planes.plane_ranks([[1, "last"]], 16, complete=False)
    with pytest.raises(ConfigError, match="one singular vector twice"):
        planes.plane_ranks([[16, "last"]], 16, complete=True)


@pytest.mark.parametrize("count", [2, 5])
def test_tiles_make_the_maps_of_one_job_bit_for_bit(done: Path, chain: Any, tmp_path: Path, count: int) -> None:
    """4 maps of 9 rows: tiles end in the middle of a map, and one holds the end of a map and the start of the next."""
    parts = []
    for name in names(count):
        parts.append(tmp_path / f"{name}.h5")
        planes.measure_planes(
            chain.session, PROMPT, arithmetic="float64", probe=chain.settings("probe"), settings=SMALL,
            tie=done / "tie.h5", spectrum=done / "spectrum.h5", data=parts[-1], provenance=ORIGIN,
            shard=Shard.parse(name),
        )  # fmt: skip
    whole, origin = shards.gather(parts)
    plane_results.write_planes(whole, data=tmp_path / "planes.h5", provenance=origin)
    assert content(tmp_path / "planes.h5") == content(done / "planes.h5")


def test_a_zoom_in_shards_is_that_of_one_job(chain: Any, done: Path, tmp_path: Path) -> None:
    def zoom(data: Path, **more: Any) -> Path:
        planes.measure_zoom(
            chain.session, PROMPT, arithmetic="float64", probe=chain.settings("probe"), settings=SMALL,
            tie=done / "tie.h5", spectrum=done / "spectrum.h5", data=data, provenance=ORIGIN, **more,
        )  # fmt: skip
        return data

    one = zoom(tmp_path / "zoom.h5")
    # 2 planes of 7 rows: neither 4 nor 7 rows are a multiple of a shard's.
    parts = [zoom(tmp_path / f"{name}.h5", shard=Shard.parse(name)) for name in names(4)]
    whole, origin = shards.gather(parts)
    plane_results.write_planes(whole, data=tmp_path / "gathered.h5", provenance=origin)
    assert content(tmp_path / "gathered.h5") == content(one)
    with pytest.raises(ConfigError, match=r"shards.exp7_zoom is 15, but there are only 14 items"):
        zoom(tmp_path / "part.h5", shard=Shard(1, 15))
