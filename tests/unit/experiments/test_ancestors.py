"""Descendants check what they continue: boundaries are asserted again, other conditions are refused."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tremor.errors import ArtifactError, NumericsError, PlatformError
from tremor.experiments import distances
from tremor.experiments.session import memory_bytes, open_session
from tremor.store.documents import write_json
from tremor.store.hdf5 import read_hdf5, write_hdf5


def edited(path: Path, target: Path, *, attributes: Any = None, provenance: Any = None, **datasets: Any) -> Path:
    """A valid artifact, written through the store, with some content changed."""
    source = read_hdf5(path)
    write_hdf5(
        target,
        {**source.datasets, **datasets},
        attributes={**source.attributes, **(attributes or {})},
        provenance={**source.provenance, **(provenance or {})},
    )
    return target


@pytest.mark.parametrize("variant", ["angles", "vectors"])
def test_a_boundary_that_does_not_hold(results: Path, chain: Any, tmp_path: Path, variant: str) -> None:
    """max_s moved onto the change, min_t moved off it: both are found, with the rays named, and nothing is written."""
    path = results / {"angles": "exp12.h5", "vectors": "exp13.h5"}[variant]
    source = read_hdf5(path)
    max_s, min_t = source.array("max_s"), source.array("min_t")
    too_far, too_near = max_s.copy(), min_t.copy()
    too_far[[2, 5]] = min_t[[2, 5]]
    too_near[7] = max_s[7]
    for changes, said in (
        ({"max_s": too_far}, f"2 of {len(max_s)} boundaries .* do not hold .*first rays: 2, 5"),
        ({"min_t": too_near}, f"1 of {len(max_s)} boundaries .*first rays: 7"),
        ({"max_s": too_far, "min_t": too_near}, "3 of .*first rays: 2, 5, 7"),
    ):
        bad = edited(path, tmp_path / "bad.h5", **changes)
        with pytest.raises(NumericsError, match=said):
            chain.distances(tmp_path / "out", bad, results / "spectrum.h5", variant)
    assert not list((tmp_path / "out").iterdir())


def test_a_zero_that_changes_its_sign_is_a_changed_coordinate() -> None:
    """The boundary is one of bits: an answer that differs in the sign of a zero alone has a coordinate that changed."""
    x, h0 = np.array([1.0, 2.0], dtype=np.float32), np.array([0.0, 3.0, 5.0], dtype=np.float32)
    answers = {1.0: h0, 2.0: np.array([-0.0, 3.0, 5.0], np.float32), 3.0: np.array([-0.0, 3.0, 6.0], np.float32)}

    def changed(inputs: Any, *, threshold: float) -> Any:
        found = np.array([answers[float(row[0])] for row in inputs])
        return np.any(found.view(np.int32) != h0.view(np.int32), axis=1), found

    response: Any = SimpleNamespace(
        base=SimpleNamespace(x=x, fmt="float32"), h0=h0, output_format="float32", changed=changed
    )
    data = {
        "direction": np.array([[1, 0], [2, 0]], dtype=np.float32),
        "max_s": np.zeros(2, np.float32),
        "min_t": np.ones(2, np.float32),
        "censored": np.zeros(2, dtype=bool),
        "certified": np.ones(2, dtype=bool),
    }
    source: Any = SimpleNamespace(attributes={"arithmetic": "float64", "threshold": 0.0}, array=data.__getitem__)
    found = distances._distances(response, source, lambda steps: steps)
    assert found["hidden_changed_coordinates"].tolist() == [1, 2]
    assert found["hidden_l2"].tolist() == [0.0, 1.0]
    assert not found["violations"].any()


def test_a_censored_ray_that_changes(results: Path, chain: Any, tmp_path: Path) -> None:
    source = read_hdf5(results / "exp12.h5")
    bad = edited(
        results / "exp12.h5",
        tmp_path / "bad.h5",
        censored=np.ones(16, dtype=bool),
        max_s=source.array("min_t"),
        min_t=np.full(16, np.nan, np.float32),
    )
    with pytest.raises(NumericsError, match=r"16 of 16 boundaries .*first rays: 0, 1, 2, 3, 4"):
        chain.distances(tmp_path / "out", bad, results / "spectrum.h5", "angles")


def test_directions_are_the_stored_ones(results: Path, chain: Any, tmp_path: Path) -> None:
    """exp15 follows the vectors in the file: other vectors there, other answers."""
    direction = np.roll(read_hdf5(results / "exp12.h5").array("direction"), 5, axis=1)
    bad = edited(results / "exp12.h5", tmp_path / "bad.h5", direction=direction)
    with pytest.raises(NumericsError, match="do not hold when evaluated again"):
        chain.distances(tmp_path / "out", bad, results / "spectrum.h5", "angles")


def test_other_mode(results: Path, chain: Any, tmp_path: Path) -> None:
    said = r"exp12\.h5 was made with mode='batched', this job has mode='reference'; .*--forcerun exp12_measure"
    with pytest.raises(ArtifactError, match=said):
        chain.distances(tmp_path, results / "exp12.h5", results / "spectrum.h5", "angles", probe={"mode": "reference"})


def test_other_dtype(results: Path, chain: Any, open_tiny: Callable[..., Any], tmp_path: Path) -> None:
    narrow = open_tiny("llama", "bfloat16")
    said = r"exp13\.h5 was made with dtype='float32', this job has dtype='bfloat16'; .*--forcerun exp13_measure"
    with pytest.raises(ArtifactError, match=said):
        chain.distances(tmp_path, results / "exp13.h5", results / "spectrum.h5", "vectors", current=narrow)
    with pytest.raises(ArtifactError, match=r"spectrum\.h5 .*dtype.*float32.*bfloat16"):
        type(chain)(narrow).boundary(tmp_path, results / "spectrum.h5", "angles")


@pytest.mark.parametrize(("key", "there", "here"), [("threads", 64, 1), ("attention", "eager", "sdpa")])
def test_other_platform(results: Path, chain: Any, tmp_path: Path, key: str, there: Any, here: Any) -> None:
    origin = read_hdf5(results / "exp12.h5").provenance["platform"]
    elsewhere = {**origin, "applied": {**origin["applied"], key: there}}
    for name, wanted in (("exp12", "boundary"), ("spectrum", "spectrum")):
        bad = edited(results / f"{name}.h5", tmp_path / f"{name}.h5", provenance={"platform": elsewhere})
        said = (
            rf"{name}\.h5 was made on another platform: .*{key} {there!r} there, {here!r} here.*"
            rf"--forcerun {name}_measure"
        )
        paths = {"boundary": results / "exp12.h5", "spectrum": results / "spectrum.h5", wanted: bad}
        with pytest.raises(ArtifactError, match=said):
            chain.distances(tmp_path / "out", paths["boundary"], paths["spectrum"], "angles")
    with pytest.raises(ArtifactError, match=rf"another platform: .*{key} {there!r} there"):
        chain.boundary(tmp_path / "out", bad, "angles")


def test_no_platform(results: Path, chain: Any, tmp_path: Path) -> None:
    bad = edited(results / "spectrum.h5", tmp_path / "bad.h5", provenance={"platform": {}})
    with pytest.raises(ArtifactError, match="does not say on which platform it was made"):
        chain.boundary(tmp_path / "out", bad, "angles")


def test_other_weights(results: Path, chain: Any, tmp_path: Path) -> None:
    model = {**read_hdf5(results / "spectrum.h5").provenance["model"], "weights_digest": "0" * 64}
    for name in ("spectrum", "exp12"):
        edited(results / f"{name}.h5", tmp_path / f"{name}.h5", provenance={"model": model})
    said = "spectrum.h5 was made from other weights than tiny has now; make it again"
    with pytest.raises(ArtifactError, match=re.escape(said)):
        chain.boundary(tmp_path / "out", tmp_path / "spectrum.h5", "vectors")
    with pytest.raises(ArtifactError, match=r"exp12\.h5 was made from other weights than tiny has now"):
        chain.distances(tmp_path / "out", tmp_path / "exp12.h5", results / "spectrum.h5", "angles")


def test_other_prompt(results: Path, chain: Any, tmp_path: Path) -> None:
    # The same last token after other ones has the same x0, but it is another base point.
    other = {"text": "The capital of Spain is", "bos": "auto"}
    said = "another input than the prompt 'The capital of Spain is' gives now"
    with pytest.raises(ArtifactError, match=said):
        chain.boundary(tmp_path, results / "spectrum.h5", "angles", prompt=other)
    with pytest.raises(ArtifactError, match=said):
        chain.distances(tmp_path, results / "exp12.h5", results / "spectrum.h5", "angles", prompt=other)


def test_same_text_with_another_bos_policy(results: Path, chain: Any, tmp_path: Path) -> None:
    prompt = {"text": "The capital of France is", "bos": "always"}
    with pytest.raises(ArtifactError, match="starts from another input"):
        chain.boundary(tmp_path, results / "spectrum.h5", "angles", prompt=prompt)


def test_other_bits_of_the_input(results: Path, chain: Any, tmp_path: Path) -> None:
    x = read_hdf5(results / "spectrum.h5").array("x0").copy()
    x[3] = np.nextafter(x[3], np.float32(1))
    bad = edited(results / "spectrum.h5", tmp_path / "bad.h5", x0=x)
    with pytest.raises(ArtifactError, match="starts from another input"):
        chain.boundary(tmp_path / "out", bad, "angles")


def test_damaged_ancestor(results: Path, chain: Any, tmp_path: Path) -> None:
    content = bytearray((results / "exp12.h5").read_bytes())
    (tmp_path / "short.h5").write_bytes(content[: len(content) // 2])
    content[len(content) // 2] ^= 1
    (tmp_path / "edited.h5").write_bytes(content)
    for name in ("short.h5", "edited.h5", "missing.h5"):
        with pytest.raises(ArtifactError, match=name):
            chain.distances(tmp_path / "out", tmp_path / name, results / "spectrum.h5", "angles")
    assert not list((tmp_path / "out").iterdir())


def test_session_refuses_changed_weights(chain: Any, saved_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved_model("llama"), tmp_path / "model"))
    write_json(tmp_path / "manifest.json", chain.session.manifest)
    options: dict[str, Any] = {"dtype": "float32", "attention": "auto", "probe": chain.settings("probe")}
    same = open_session(manifest=tmp_path / "manifest.json", directory=folder, **options)
    assert same.loaded.digest == chain.session.manifest["weights_digest"]
    assert same.max_memory == 2 * 2**30
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(ArtifactError, match=r"model 'tiny': weights \(model\.safetensors\) changed since"):
        open_session(manifest=tmp_path / "manifest.json", directory=folder, **options)


def test_memory_of_a_session() -> None:
    assert memory_bytes(0.5, "cpu") == 2**29
    assert 2**20 < memory_bytes("auto", "cpu") < 2**50


def test_free_memory_that_cannot_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **options: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("builtins.open", missing)
    with pytest.raises(PlatformError, match=r"probe\.max_memory: auto cannot find out .* set a number of GiB"):
        memory_bytes("auto", "cpu")
