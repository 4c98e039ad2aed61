"""The manifest: complete, equal for equal files, free of paths, and quick to notice a change."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from families import VOCAB, WIDTH, save_tiny
from tremor.errors import ArtifactError, ModelError
from tremor.models import manifest

ENTRY = {"source": "path", "path": "/home/somebody/models/mine"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny Llama."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    save_tiny("llama", folder, layers=2)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def flip(path: Path, place: int = -1) -> None:
    """Change one bit of a file, keeping its size."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def test_content(saved: Path) -> None:
    model_parameters = sum(t.numel() for t in load_file(saved / "model.safetensors").values())
    built = manifest.build("mine", ENTRY, saved)
    assert built["alias"] == "mine"
    assert (built["model_type"], built["model_class"]) == ("llama", "LlamaForCausalLM")
    assert (built["n_layers"], built["d_model"], built["vocab"], built["context"]) == (2, WIDTH, VOCAB, 64)
    assert built["parameters"] == model_parameters
    assert built["dtypes"] == {"F32": model_parameters}
    assert built["bytes"] == (saved / "model.safetensors").stat().st_size
    assert set(built["files"]) >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert built["weights_digest"] == manifest.weights_digest(saved)
    assert "training" not in built


def test_no_path_of_this_machine(saved: Path) -> None:
    text = json.dumps(manifest.build("mine", ENTRY, saved))
    assert "somebody" not in text
    assert str(saved.parent) not in text


def test_origin_by_source(saved: Path) -> None:
    hub = manifest.build("h", {"source": "hub", "repo": "o/n", "revision": "abc", "dtype": None}, saved)
    assert (hub["source"], hub["repo"], hub["revision"]) == ("hub", "o/n", "abc")
    embedded = manifest.build("e", {"source": "embedded", "architecture": "llama"}, saved)
    assert (embedded["source"], embedded["architecture"]) == ("embedded", "llama")


def test_equal_files_give_equal_manifests(saved: Path, copy: Path) -> None:
    assert manifest.build("mine", ENTRY, saved) == manifest.build("mine", ENTRY, copy)


def test_training_report_is_copied(copy: Path) -> None:
    (copy / "training.json").write_text('{"recall": 0.9}')
    assert manifest.build("mine", ENTRY, copy)["training"] == {"recall": 0.9}
    (copy / "training.json").write_text("{")
    with pytest.raises(ModelError, match=r"training\.json is no valid JSON"):
        manifest.build("mine", ENTRY, copy)


@pytest.mark.parametrize(
    ("family", "layers", "context"),
    [("gpt2", 2, 64), ("bloom", 2, None), ("mamba", 2, None), ("gpt_neo", 2, 64)],
)
def test_names_of_other_families(family: str, layers: int, context: int | None, tmp_path: Path) -> None:
    save_tiny(family, tmp_path, layers=layers)
    built = manifest.build("m", ENTRY, tmp_path)
    assert (built["n_layers"], built["d_model"], built["context"]) == (layers, WIDTH, context)


def test_unchanged_files_verify(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest.build("mine", ENTRY, saved)))
    read = manifest.read(path)
    manifest.verify(read, saved)
    manifest.verify(read, saved, quick=True)
    assert read["alias"] == "mine"


def test_one_bit_of_the_weights(copy: Path) -> None:
    """A full check sees one bit; a quick one compares sizes only, and says so in its documentation."""
    built = manifest.build("mine", ENTRY, copy)
    flip(copy / "model.safetensors")
    manifest.verify(built, copy, quick=True)
    with pytest.raises(ArtifactError, match=r"'mine': weights \(model\.safetensors\) changed since the manifest"):
        manifest.verify(built, copy)
    assert manifest.build("mine", ENTRY, copy)["weights_digest"] != built["weights_digest"]


def test_weights_of_another_size(copy: Path) -> None:
    built = manifest.build("mine", ENTRY, copy)
    tensors = load_file(copy / "model.safetensors")
    tensors["more"] = tensors["model.norm.weight"].clone()
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(ArtifactError, match=r"weights .* changed"):
        manifest.verify(built, copy, quick=True)


@pytest.mark.parametrize(("name", "what"), [("tokenizer.json", "tokenizer"), ("config.json", "config")])
def test_one_bit_beside_the_weights(copy: Path, name: str, what: str) -> None:
    built = manifest.build("mine", ENTRY, copy)
    flip(copy / name)
    with pytest.raises(ArtifactError, match=rf"{what} \({name}\) changed"):
        manifest.verify(built, copy, quick=True)


def test_files_that_come_and_go(copy: Path) -> None:
    built = manifest.build("mine", ENTRY, copy)
    (copy / "added_tokens.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"file added_tokens\.json appeared"):
        manifest.verify(built, copy)
    (copy / "added_tokens.json").unlink()
    (copy / "tokenizer_config.json").unlink()
    with pytest.raises(ArtifactError, match=r"file tokenizer_config\.json vanished"):
        manifest.verify(built, copy)


def test_foreign_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    for text, message in (("{", "cannot read"), ('{"schema": 99}', "no model manifest of schema 1")):
        path.write_text(text)
        with pytest.raises(ArtifactError, match=message):
            manifest.read(path)
    with pytest.raises(ArtifactError, match="cannot read"):
        manifest.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 40, (3).to_bytes(8, "little") + b"{}x", (2).to_bytes(8, "little") + b"[]"]
)
def test_header_of_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"a\.safetensors is truncated or damaged"):
        manifest.read_header(path)


def test_header_with_trailing_bytes_is_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ModelError, match="truncated or damaged"):
        manifest.read_header(path)
