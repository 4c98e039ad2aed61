"""From the spectrum to the summary in process: every artifact, its columns, its datasets, twice the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tremor import floats
from tremor.errors import ArtifactError, ConfigError
from tremor.experiments import boundary, boundary_results, summaries
from tremor.probe.base import base_point
from tremor.probe.jacobian import jacobian
from tremor.probe.response import Response
from tremor.replay import content
from tremor.shards import Shard, names
from tremor.store import shards
from tremor.store.documents import read_json, write_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.provenance import read_provenance
from tremor.store.tables import read_csv

PROMPT = {"text": "The capital of France is", "bos": "auto"}
ORIGIN: dict[str, Any] = {"config": {}, "code": "code-digest", "inputs": {}}
SEARCH = (
    "max_s", "min_t", "first_breakpoint", "moved_coordinates", "realised_l2", "evaluations", "certified",
)  # fmt: skip
SAVED = {
    *SEARCH, "direction", "censored", "changed_embedding", "changed_hidden", "ids", "x0", "h0", "singular_values",
}  # fmt: skip


def test_spectrum_artifact(results: Path, chain: Any) -> None:
    source = read_hdf5(results / "spectrum.h5")
    assert set(source.datasets) == {
        "ids", "x0", "jacobian", "singular_values", "left", "right", "residuals",
    }  # fmt: skip
    base = base_point(chain.session.loaded, PROMPT["text"])
    matrix = jacobian(chain.session.loaded, base)
    np.testing.assert_array_equal(source.array("jacobian"), matrix)
    np.testing.assert_array_equal(source.array("x0"), base.x)
    np.testing.assert_allclose(source.array("singular_values"), np.linalg.svd(matrix.astype(float))[1], rtol=1e-6)
    left, right = source.array("left"), source.array("right")
    assert left.dtype == right.dtype == np.float32
    # Vectors are rounded to float32 (6e-8 an entry).
    product = left * source.array("singular_values") @ right
    np.testing.assert_allclose(product, matrix, rtol=0, atol=1e-5 * np.abs(matrix).max())
    assert source.attributes["converged"]
    assert source.attributes["tap"] == "final"
    statistics = read_json(results / "spectrum.json")
    assert statistics["frobenius_norm"] == pytest.approx(np.linalg.norm(matrix.astype(float)))
    assert statistics["stable_rank"] == pytest.approx((statistics["frobenius_norm"] / statistics["sigma_1"]) ** 2)


def test_lanczos_spectrum_serves_the_same_descendants(results: Path, chain: Any, tmp_path: Path) -> None:
    path = chain.spectrum(tmp_path, method="lanczos", top_k=3)
    found, dense = read_hdf5(path), read_hdf5(results / "spectrum.h5")
    assert "jacobian" not in found.datasets
    assert found.attributes["converged"]
    np.testing.assert_allclose(found.array("singular_values"), dense.array("singular_values")[:3], rtol=1e-5)
    assert read_json(tmp_path / "spectrum.json")["frobenius_norm"] is None
    ancestor = chain.boundary(tmp_path, path, "vectors", vectors="all", signs="positive", random_directions="match")
    rays = read_hdf5(ancestor)
    assert rays.array("kind").tolist() == ["singular"] * 3 + ["random"] * 3
    # Without a matrix the gain of a random direction is not known, and not made up.
    assert np.isnan(rays.array("sigma")[3:]).all()
    table = read_csv(chain.distances(tmp_path, ancestor, path, "vectors"))
    step = rays.array("changed_embedding").astype(float) - rays.array("x0")
    expected = np.linalg.norm(step @ dense.array("jacobian").astype(float).T, axis=1)
    # Products in float32 against the stored float32 matrix: some tens of eps.
    np.testing.assert_allclose(table["smooth_prediction_l2"], expected, rtol=1e-4)


@pytest.mark.parametrize("experiment", ["exp12", "exp13"])
def test_shards_of_rays_make_the_files_of_one_job(results: Path, chain: Any, tmp_path: Path, experiment: str) -> None:
    parts = [tmp_path / f"{name}.h5" for name in names(3)]  # of 16 angles, and of 14 rays
    for path in parts:
        found = boundary.FIND[experiment](
            chain.session, PROMPT, arithmetic="float64", probe=chain.settings("probe"),
            settings=chain.settings(experiment), spectrum=results / "spectrum.h5", shard=Shard.parse(path.stem),
        )  # fmt: skip
        origin = chain.session.provenance(**ORIGIN, seeds=found.seeds)
        shards.write_part(path, found, provenance=origin)
    whole, origin = shards.gather(parts)
    files = {"data": "h5", "table": "csv", "statistics": "json"}
    paths = {kind: tmp_path / f"{experiment}.{suffix}" for kind, suffix in files.items()}
    boundary_results.WRITERS[experiment](whole, **paths, provenance=origin)
    for path in paths.values():
        assert content(path) == content(results / path.name)
    assert origin["seeds"] == read_provenance(results / f"{experiment}.h5")["seeds"]


def test_boundary_table_has_exactly_the_documented_columns(results: Path) -> None:
    header = (results / "exp12.csv").read_text().splitlines()[0]
    assert header == ("theta,max_s,min_t,first_breakpoint,moved_coordinates,realised_l2,evaluations,certified")
    header = (results / "exp13.csv").read_text().splitlines()[0]
    assert header == (
        "kind,vector,sign,sigma,max_s,min_t,first_breakpoint,moved_coordinates,realised_l2,evaluations,certified"
    )
    header = (results / "angles.csv").read_text().splitlines()[0]
    assert header.startswith(
        "theta,max_s,min_t,embedding_l2,hidden_l2,smooth_prediction_l2,noise_floor_l2,embedding_ulps"
    )
    header = (results / "vectors.csv").read_text().splitlines()[0]
    assert header.startswith("kind,vector,sign,sigma,max_s,min_t,embedding_l2,hidden_l2,smooth_prediction_l2")


@pytest.mark.parametrize(
    ("name", "extra"), [("exp12", {"theta", "e1", "e2"}), ("exp13", {"kind", "vector", "sign", "sigma"})]
)
def test_boundary_artifact(results: Path, name: str, extra: set[str]) -> None:
    source = read_hdf5(results / f"{name}.h5")
    assert set(source.datasets) == SAVED | extra
    rays = len(source.array("max_s"))
    assert rays == (16 if name == "exp12" else 2 * 5 + 4)
    for dataset in ("direction", "changed_embedding", "changed_hidden"):
        assert source.array(dataset).shape == (rays, 32)
        assert source.array(dataset).dtype == np.float32
    assert source.array("max_s").dtype == source.array("min_t").dtype == np.float32
    wanted = {"mode": "batched", "arithmetic": "float64", "s_max": 1e-4, "threshold": 0.0, "dtype": "float32"}
    assert {key: source.attributes[key] for key in wanted} == wanted
    assert source.provenance["model"]["alias"] == "tiny"
    assert source.provenance["platform"]["applied"]["device"] == "cpu"
    table = read_csv(results / f"{name}.csv")
    for column in SEARCH:
        np.testing.assert_array_equal(table[column], source.array(column))
    np.testing.assert_array_equal(source.array("min_t"), np.nextafter(source.array("max_s"), np.float32(np.inf)))


@pytest.mark.parametrize("name", ["exp12", "exp13"])
def test_stored_boundaries_hold_on_a_fresh_response(results: Path, chain: Any, name: str) -> None:
    """The artifact alone is enough to check its claim."""
    source = read_hdf5(results / f"{name}.h5")
    base = base_point(chain.session.loaded, PROMPT["text"])
    response = Response(chain.session.loaded, base, mode="batched", batch_size=source.attributes["batch_size"])
    assert response.h0.tobytes() == source.array("h0").tobytes()
    for step, changed in (("max_s", False), ("min_t", True)):
        inputs = floats.nudge(
            source.array("x0"), source.array("direction"), source.array(step)[:, None], arithmetic="float64"
        )
        flags, answers = response.changed(inputs)
        assert np.all(flags == changed)
    np.testing.assert_array_equal(inputs, source.array("changed_embedding"))
    np.testing.assert_array_equal(answers, source.array("changed_hidden"))


def test_angles_lie_in_the_plane(results: Path) -> None:
    source, origin = read_hdf5(results / "exp12.h5"), read_hdf5(results / "spectrum.h5")
    theta = source.array("theta")
    np.testing.assert_allclose(np.degrees(theta), np.arange(16) * 22.5)
    np.testing.assert_array_equal(source.array("e1"), origin.array("right")[0])
    np.testing.assert_array_equal(source.array("e2"), origin.array("right")[1])
    directions = source.array("direction").astype(float)
    # Unit vectors to the rounding of float32.
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(source.array("direction")[0], source.array("e1"))
    np.testing.assert_allclose(directions @ source.array("e1"), np.cos(theta), atol=1e-6)
    np.testing.assert_allclose(directions @ source.array("e2"), np.sin(theta), atol=1e-6)


def test_vectors_both_signs_and_a_control(results: Path) -> None:
    source, origin = read_hdf5(results / "exp13.h5"), read_hdf5(results / "spectrum.h5")
    directions, right = source.array("direction"), origin.array("right")
    np.testing.assert_array_equal(directions[:5], right[:5])
    np.testing.assert_array_equal(directions[5:10], -right[:5])
    assert source.array("sign").tolist() == [1] * 5 + [-1] * 5 + [1] * 4
    assert source.array("vector").tolist() == [*range(5), *range(5), *range(4)]
    np.testing.assert_array_equal(source.array("sigma")[:5], origin.array("singular_values")[:5])
    np.testing.assert_allclose(np.linalg.norm(directions[10:].astype(float), axis=1), 1, atol=1e-6)
    gain = np.linalg.norm(directions[10:].astype(float) @ origin.array("jacobian").astype(float).T, axis=1)
    np.testing.assert_allclose(source.array("sigma")[10:], gain, rtol=1e-6)
    assert np.abs(directions[10:] @ directions[10:].T - np.eye(4)).max() < 0.9  # four different draws


@pytest.mark.parametrize("variant", ["angles", "vectors"])
def test_distances(results: Path, variant: str) -> None:
    name = {"angles": "exp12", "vectors": "exp13"}[variant]
    source, origin = read_hdf5(results / f"{name}.h5"), read_hdf5(results / "spectrum.h5")
    table = read_csv(results / f"{variant}.csv")
    step = source.array("changed_embedding").astype(float) - source.array("x0")
    moved = source.array("changed_hidden").astype(float) - source.array("h0")
    np.testing.assert_allclose(table["embedding_l2"], np.linalg.norm(step, axis=1), rtol=1e-12)
    np.testing.assert_allclose(table["embedding_l2"], source.array("realised_l2"), rtol=1e-12)
    np.testing.assert_allclose(table["hidden_l2"], np.linalg.norm(moved, axis=1), rtol=1e-12)
    smooth = np.linalg.norm(step @ origin.array("jacobian").astype(float).T, axis=1)
    np.testing.assert_allclose(table["smooth_prediction_l2"], smooth, rtol=1e-12)
    ulps = np.abs(source.array("changed_embedding").view(np.int32).astype(np.int64) - source.array("x0").view(np.int32))
    np.testing.assert_array_equal(table["embedding_ulps"], ulps.sum(axis=1))
    assert np.all(table["hidden_ulps_max"] >= 1)
    assert np.all(table["hidden_changed_coordinates"] == (moved != 0).sum(axis=1))
    assert table["noise_floor_l2"].nunique() == 1
    assert table["noise_floor_l2"][0] > 0
    assert not table["censored"].any()
    statistics = read_json(results / f"{variant}.json")
    assert statistics["violations"] == 0
    assert statistics["rays"] == statistics["certified_rays"] == len(table)
    assert statistics["gain_smooth"] == pytest.approx(smooth.mean() / np.linalg.norm(step, axis=1).mean())


def test_two_runs_give_the_same_artifacts(results: Path, chain: Any, tmp_path: Path) -> None:
    again = chain.everything(tmp_path)
    for name in ("spectrum", "exp12", "exp13"):
        first, second = read_hdf5(results / f"{name}.h5"), read_hdf5(again / f"{name}.h5")
        assert first.attributes == second.attributes
        assert set(first.datasets) == set(second.datasets)
        for dataset in first.datasets:
            one, other = first.array(dataset), second.array(dataset)
            assert one.dtype == other.dtype
            assert one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()
        stable = [{k: v for k, v in a.provenance.items() if k != "volatile"} for a in (first, second)]
        assert stable[0] == stable[1]
    for name in ("exp12.csv", "exp13.csv", "angles.csv", "vectors.csv"):
        assert (results / name).read_bytes() == (again / name).read_bytes()


def test_statistics_agree_with_the_table(results: Path) -> None:
    table, found = read_csv(results / "exp12.csv"), read_json(results / "exp12.json")
    assert found["max_s_min"] == table["max_s"].min()
    assert found["argmin_angle_degrees"] == pytest.approx(np.degrees(table["theta"][table["max_s"].argmin()]))
    assert found["rays"] == 16
    assert found["provenance"]["code"] == "code-digest"


ROW = {
    "spectrum": {"model": "tiny", "prompt": "capital", "dtype": "float32"},
    "exp12": {"model": "tiny", "prompt": "capital", "arithmetic": "float64"},
    "exp13": {"model": "tiny", "prompt": "capital", "arithmetic": "float64"},
}


@pytest.mark.parametrize("experiment", ["spectrum", "exp12", "exp13"])
def test_summary_of_each(results: Path, tmp_path: Path, experiment: str) -> None:
    output = tmp_path / "summary.csv"
    summaries.gather(experiment, [results / f"{experiment}.json"], [ROW[experiment]], output=output, provenance=ORIGIN)
    table = read_csv(output)
    assert len(table) == 1
    columns = [c.replace(".", "_") for c in summaries.COLUMNS[experiment]]
    assert list(table.columns) == list(dict.fromkeys([*ROW[experiment], *columns]))
    found = read_json(results / f"{experiment}.json")
    if experiment == "exp12":
        assert table["cardinal_e1_max_s"][0] == found["cardinal"]["e1"]["max_s"]


def test_summary_of_distances(results: Path, tmp_path: Path) -> None:
    """The table this issue is about: one row for each variant, in the order asked for."""
    output = tmp_path / "summary.csv"
    rows = [
        {"model": "tiny", "prompt": "capital", "arithmetic": "float64", "variant": v} for v in ("angles", "vectors")
    ]
    summaries.gather(
        "exp15", [results / f"{row['variant']}.json" for row in rows], rows, output=output, provenance=ORIGIN
    )
    table = read_csv(output)
    assert output.read_text().splitlines()[0] == (
        "model,prompt,arithmetic,variant,rays,certified_rays,censored_rays,violations,"
        "embedding_l2_mean,embedding_l2_median,embedding_l2_min,embedding_l2_max,"
        "hidden_l2_mean,hidden_l2_median,hidden_l2_min,hidden_l2_max,"
        "hidden_over_embedding,gain_smooth,noise_floor_l2,mode,dtype,device"
    )
    assert table["variant"].tolist() == ["angles", "vectors"]
    assert table["violations"].tolist() == [0, 0]
    assert table["rays"].tolist() == [16, 14]
    for k, variant in enumerate(("angles", "vectors")):
        rays = read_csv(results / f"{variant}.csv")
        assert table["hidden_l2_mean"][k] == pytest.approx(rays["hidden_l2"].mean(), rel=1e-12)
        assert table["embedding_l2_median"][k] == pytest.approx(rays["embedding_l2"].median(), rel=1e-12)
    # The smooth gain lies below the largest singular value; the ratio of rounding noise to input quantum does not.
    sigma_1 = read_json(results / "spectrum.json")["sigma_1"]
    assert np.all(table["gain_smooth"] <= sigma_1 * (1 + 1e-6))
    assert read_provenance(output)["code"] == "code-digest"


def test_summary_with_nothing_crossed(chain: Any, results: Path, tmp_path: Path) -> None:
    """All rays censored: counted, and empty cells instead of numbers, through to the summary."""
    source = results / "spectrum.h5"
    ancestor = chain.boundary(tmp_path, source, "angles", s_max=1e-13)
    statistics = read_json(tmp_path / "exp12.json")
    assert statistics["censored_rays"] == statistics["rays"] == statistics["certified_rays"] == 16
    assert statistics["max_s_mean"] is None
    table = read_csv(chain.distances(tmp_path, ancestor, source, "angles"))
    assert table["censored"].all()
    assert table["min_t"].isna().all()
    assert np.all(table["hidden_l2"] == 0)
    rows = [{"model": "tiny", "prompt": "p", "arithmetic": "float64", "variant": "angles"}]
    summaries.gather("exp15", [tmp_path / "angles.json"], rows, output=tmp_path / "summary.csv", provenance=ORIGIN)
    row = read_csv(tmp_path / "summary.csv")
    assert row["censored_rays"][0] == 16
    assert row[["hidden_l2_mean", "hidden_over_embedding", "gain_smooth"]].isna().all(axis=None)
    summaries.gather("exp12", [tmp_path / "exp12.json"], rows, output=tmp_path / "s12.csv", provenance=ORIGIN)
    assert read_csv(tmp_path / "s12.csv")["max_s_mean"].isna().all()


def test_summary_of_a_document_without_a_value(results: Path, tmp_path: Path) -> None:
    document = read_json(results / "exp12.json")
    del document["cardinal"]["e2"]
    write_json(tmp_path / "old.json", document)
    with pytest.raises(ArtifactError, match=r"old\.json has no 'cardinal\.e2\.max_s'; delete it and run"):
        summaries.gather("exp12", [tmp_path / "old.json"], [ROW["exp12"]], output=tmp_path / "s.csv", provenance=ORIGIN)
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize("variant", ["angles", "vectors"])
@pytest.mark.parametrize("mode", ["reference", "batched"])
def test_float32_arithmetic_reference_mode_and_thresholds(
    results: Path, chain: Any, tmp_path: Path, variant: str, mode: str
) -> None:
    source = results / "spectrum.h5"
    ancestor = chain.boundary(tmp_path, source, variant, arithmetic="float32", probe={"mode": mode}, threshold=5e-7)
    stored = read_hdf5(ancestor)
    assert (stored.attributes["arithmetic"], stored.attributes["mode"]) == ("float32", mode)
    chain.distances(tmp_path, ancestor, source, variant, probe={"mode": mode})
    statistics = read_json(tmp_path / f"{variant}.json")
    assert (statistics["mode"], statistics["arithmetic"], statistics["violations"]) == (mode, "float32", 0)
    moved = np.abs(stored.array("changed_hidden").astype(float) - stored.array("h0")).max(axis=1)
    assert np.all(moved > 5e-7)


@pytest.mark.parametrize(("family", "dtype"), [("mamba", "float32"), ("llama", "bfloat16")])
def test_other_models(chain: Any, open_tiny: Callable[..., Any], tmp_path: Path, family: str, dtype: str) -> None:
    other = type(chain)(open_tiny(family, dtype))
    source = other.spectrum(tmp_path)
    ancestor = other.boundary(tmp_path, source, "angles", s_max=2.0, angles=6)
    assert read_hdf5(ancestor).attributes["dtype"] == dtype
    other.distances(tmp_path, ancestor, source, "angles")
    assert read_json(tmp_path / "angles.json")["violations"] == 0
    assert read_json(tmp_path / "angles.json")["dtype"] == dtype


def test_too_few_vectors(chain: Any, results: Path, tmp_path: Path) -> None:
    source = chain.spectrum(tmp_path, method="lanczos", top_k=2)
    with pytest.raises(ConfigError, match=r"exp12\.plane asks for singular vector 5, but the spectrum has 2"):
        chain.boundary(tmp_path, source, "angles", plane=[1, 5])
    with pytest.raises(ConfigError, match=r"exp13\.vectors is 3, but the spectrum has 2; lower it or use all"):
        chain.boundary(tmp_path, source, "vectors", vectors=3)
    assert not list(tmp_path.glob("exp1*"))


def test_more_singular_values_than_the_jacobian_has(chain: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"spectrum\.top_k is 100, but .* has 32 singular values; lower it"):
        chain.spectrum(tmp_path, method="lanczos", top_k=100, max_iterations=256)
    assert not list(tmp_path.iterdir())


def test_rays_that_never_change_are_said(
    chain: Any, results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain.boundary(tmp_path, results / "spectrum.h5", "angles", s_max=1e-30, angles=3)
    assert "3 of 3 rays changed nothing up to s_max = 1e-30" in caplog.text
    assert "raise s_max (a typical ulp of this float32 input is" in caplog.text
    caplog.clear()
    chain.boundary(tmp_path, results / "spectrum.h5", "angles", angles=3)
    assert not caplog.records


def test_directions_are_rounded_once() -> None:
    right = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    theta, directions = boundary.plane_directions(right, (1, 3), 7)
    exact = np.cos(theta)[:, None] * right[0].astype(float) + np.sin(theta)[:, None] * right[2].astype(float)
    np.testing.assert_array_equal(directions, exact.astype(np.float32))
    assert directions.dtype == np.float32
    settings: dict[str, Any] = {"vectors": "all", "signs": "positive", "random_directions": 0, "seed": 0}
    rays = boundary.vector_directions(right, np.ones(3), settings)
    np.testing.assert_array_equal(rays["direction"], right)
