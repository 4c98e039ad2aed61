"""Real files: models saved in one piece and in shards, with tied and own embeddings, and `tremor verify`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from families import save_tiny
from tremor import cli
from tremor.models import catalogue, manifest
from tremor.models.loader import load
from tremor.verify import run

IDS = torch.tensor([[5, 9, 200, 31, 7], [11, 300, 2, 40, 9]])
ROOT = Path(__file__).resolve().parents[3]


def shard(folder: Path, target: Path, size: str) -> list[Path]:
    """Save a loaded model again in pieces, as its owner would."""
    loaded = load(folder, device="cpu")
    loaded.model.save_pretrained(target, max_shard_size=size)
    loaded.tokenizer.save_pretrained(target)
    return catalogue.weight_files(target)


@pytest.mark.parametrize("family", ["llama3", "gpt2", "mixtral", "mamba", "gemma3", "phi3", "qwen3_5", "olmoe"])
def test_shards_hold_the_same_model(family: str, saved_model, tmp_path: Path) -> None:
    """Tied embeddings are stored once, experts one by one; the answer has the same bits."""
    whole = saved_model(family)
    pieces = shard(whole, tmp_path / family, "40KB")
    assert len(pieces) > 1
    assert (tmp_path / family / catalogue.INDEX).is_file()
    one, other = load(whole, device="cpu"), load(tmp_path / family, device="cpu")
    assert other.anatomy.tied is one.anatomy.tied is (family in ("llama3", "gpt2", "mamba", "gemma3"))
    assert torch.equal(one.model(IDS).logits, other.model(IDS).logits)
    entry = {"source": "path", "path": str(tmp_path / family)}
    assert catalogue.directory("mine", entry, Path("resources")) == tmp_path / family
    assert {path.name for path in pieces} <= {file.name for file in (tmp_path / family).iterdir()}
    assert other.digest == manifest.weights_digest(tmp_path / family)


def test_a_missing_shard_is_named(saved_model, tmp_path: Path) -> None:
    pieces = shard(saved_model("llama"), tmp_path / "model", "40KB")
    pieces[1].unlink()
    with pytest.raises(Exception, match=f"weight file {pieces[1].name}, named in .*, is missing"):
        run.verify_folder(tmp_path / "model")


def test_bits_do_not_depend_on_where_a_file_puts_its_weights(saved_model, tmp_path: Path) -> None:
    """A longer header moves every weight in memory, and some kernels round otherwise at another alignment."""
    whole = saved_model("qwen2_moe")
    expected = load(whole, device="cpu").model(IDS).logits
    tensors = load_file(whole / "model.safetensors")
    for length in (1, 9, 17, 25):
        folder = tmp_path / str(length)
        shutil.copytree(whole, folder)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt", "note": "x" * length})
        loaded = load(folder, device="cpu")
        assert torch.equal(loaded.model(IDS).logits, expected)
        assert all(parameter.data_ptr() % 64 == 0 for parameter in loaded.model.parameters())


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    line = [sys.executable, "-m", "tremor.cli", "verify", *arguments]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_command_prints_a_table(saved_model, tmp_path: Path) -> None:
    """An alias of a configuration, a few checks, and the status."""
    (tmp_path / "config").mkdir()
    entry = {"source": "path", "path": str(saved_model("mixtral"))}
    (tmp_path / "config/config.yaml").write_text(
        json.dumps({"models": {"mine": entry}, "select": {"models": ["mine"]}})
    )
    done = command("mine", "--only", "super_weights", "resume", "--device", "cpu", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.split(None, 2) for line in done.stdout.splitlines()]
    assert [line[:2] for line in lines[:3]] == [["anatomy", "pass"], ["resume", "pass"], ["super_weights", "refused"]]
    assert "mine (mixtral) can be measured, but not super_weights, for the reasons given." in done.stdout


def test_what_the_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "nobody", "--directory", str(tmp_path)]) == 1
    assert "'nobody' is neither a folder nor one of the models gpt2, llama, mamba" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["verify", "nobody", "--dtype", "bfloat16"])
    save_tiny("qwen4_exp", tmp_path / "qwen4", layers=2)
    assert not run.verify_folder(tmp_path / "qwen4", device="cpu").sound
