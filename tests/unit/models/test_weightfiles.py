"""Weights straight from the files: exact values of every type, nothing that is not finite, nothing misread."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tremor.errors import ModelError
from tremor.models.weightfiles import WeightFiles

TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}


def folder_of(path: Path, tensors: dict[str, torch.Tensor], **config: object) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    save_file(tensors, path / "model.safetensors")
    return path


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {kind: torch.randn(5, 3, generator=generator, dtype=torch.float64).to(t) for kind, t in TYPES.items()}
    # Denormals, the largest number and both zeros must come through too.
    found["BF16"][0] = torch.tensor([1e-40, -0.0, 3.3e38], dtype=torch.bfloat16)
    found["F16"][0] = torch.tensor([6e-8, -0.0, 65504.0], dtype=torch.float16)
    return found


def test_values_are_exact(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    files = WeightFiles(folder_of(tmp_path / "m", tensors))
    assert files.names == tuple(sorted(TYPES))
    for kind in TYPES:
        wide = np.float64 if kind == "F64" else np.float32
        expected = tensors[kind].to(torch.float64).numpy().astype(wide)
        assert files.read(kind).dtype == wide
        assert files.read(kind).tobytes() == expected.tobytes()
        assert files.rows(kind, 1, 3).tobytes() == expected[1:3].tobytes()
        assert (files.kind(kind), files.shape(kind)) == (kind, (5, 3))


def test_all_tensors_of_a_model(saved_model: Callable[[str], Path]) -> None:
    from safetensors.torch import load_file

    folder = saved_model("gpt2")
    files, expected = WeightFiles(folder), load_file(folder / "model.safetensors")
    assert set(files.names) == set(expected)
    for name, tensor in expected.items():
        assert files.read(name).tobytes() == tensor.numpy().tobytes()


def test_shards_and_what_is_no_weight(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    save_file({"a": torch.ones(2), "mask": torch.ones(2, dtype=torch.bool)}, folder / "one.safetensors")
    save_file({"b": torch.zeros(0, 4), "n": torch.ones(2, dtype=torch.int64)}, folder / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    files = WeightFiles(folder)
    assert files.names == ("a", "b")
    assert files.read("b").shape == (0, 4)


@pytest.mark.parametrize(("value", "what"), [(float("nan"), "NaN"), (float("-inf"), "infinite values")])
def test_not_finite(tmp_path: Path, tensors: dict[str, torch.Tensor], value: float, what: str) -> None:
    tensors["BF16"][4, 2] = value
    files = WeightFiles(folder_of(tmp_path / "m", tensors))
    with pytest.raises(ModelError, match=f"tensor 'BF16' has {what}"):
        files.read("BF16")
    with pytest.raises(ModelError, match="BF16"):
        files.rows("BF16", 4, 5)
    assert files.rows("BF16", 0, 4).shape == (4, 3)  # nothing else is read


def test_refusals(tmp_path: Path) -> None:
    one = {"w": torch.ones(4, 4)}
    with pytest.raises(ModelError, match="F8_E4M3, which is not read"):
        WeightFiles(folder_of(tmp_path / "a", {"w": torch.ones(4).to(torch.float8_e4m3fn)}))
    with pytest.raises(ModelError, match="quantised"):
        WeightFiles(folder_of(tmp_path / "b", one, quantization_config={"quant_method": "mxfp4"}))
    folder = folder_of(tmp_path / "c", one)
    path = folder / "model.safetensors"
    shutil.copy(path, folder / "other.safetensors")
    index = {"weight_map": {"w": "other.safetensors", "v": "third.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    path.rename(folder / "third.safetensors")
    with pytest.raises(ModelError, match="stands in"):
        WeightFiles(folder)
    folder = folder_of(tmp_path / "d", one)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b"[4,4]", b"[4,3]"))
    with pytest.raises(ModelError, match="do not fit its shape"):
        WeightFiles(folder)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match="truncated"):
        WeightFiles(folder)
    files = WeightFiles(folder_of(tmp_path / "e", one))
    with pytest.raises(ModelError, match="no tensor 'x'"):
        files.read("x")
    for rows in ((0, 0), (3, 5), (-1, 2)):
        with pytest.raises(ModelError, match="has no rows"):
            files.rows("w", *rows)
