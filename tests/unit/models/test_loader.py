"""Loading from a folder: what is loaded is what was saved; everything unsafe or damaged is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging as chatter

from families import EXPERTS, FAMILIES, save_tiny
from tremor.errors import ConfigError, ModelError, PlatformError
from tremor.models import loader, manifest
from tremor.models.loader import load

IDS = torch.tensor([[5, 9, 200]])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny Llama; tests that damage it work on a copy."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    save_tiny("llama", folder, layers=2)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def edit(folder: Path, **changes: Any) -> None:
    """Change keys of config.json; None removes a key."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def rewrite(folder: Path, change: Any) -> None:
    """Change the tensors of the weight file."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("family", FAMILIES)
def test_loaded_model_is_the_saved_one(family: str, tmp_path: Path) -> None:
    """Bit for bit the same logits, frozen, in eval mode."""
    layers = 2
    model = save_tiny(family, tmp_path, layers=layers)
    loaded = load(tmp_path, device="cpu")
    assert loaded.attention == ("sdpa" if type(model)._supports_sdpa else "eager")
    assert loaded.experts == ("eager" if family in EXPERTS else None)
    model.set_attn_implementation(loaded.attention)
    model.requires_grad_(False)  # torch multiplies matrices in other shapes where a gradient may be asked for
    if loaded.experts is not None:
        model.set_experts_implementation(loaded.experts)
    with torch.no_grad():
        assert torch.equal(loaded.model(IDS).logits, model(IDS).logits)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert (loaded.dtype, loaded.device) == (torch.float32, torch.device("cpu"))
    assert loaded.anatomy.n_layers == layers
    assert loaded.digest == manifest.weights_digest(tmp_path)
    assert loaded.tokenizer.decode(loaded.tokenizer("The capital é").input_ids) == "The capital é"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_dtype_is_applied(saved: Path, dtype: str) -> None:
    loaded = load(saved, dtype=dtype, device="cpu", digest="known")
    assert {p.dtype for p in loaded.model.parameters()} == {getattr(torch, dtype)}
    assert loaded.digest == "known"


def test_experts_load_in_float64(tmp_path: Path) -> None:
    """The default kernel of expert layers refuses float64."""
    save_tiny("mixtral", tmp_path, layers=1)
    loaded = load(tmp_path, dtype="float64", device="cpu")
    assert loaded.model(IDS).logits.dtype == torch.float64


def test_eager_on_request_and_sdpa_only_where_it_is(saved: Path, tmp_path: Path) -> None:
    loaded = load(saved, device="cpu", attention="eager")
    assert (loaded.attention, loaded.model.config._attn_implementation) == ("eager", "eager")
    save_tiny("bloom", tmp_path, layers=1)
    with pytest.raises(ModelError, match="BloomForCausalLM has no sdpa attention"):
        load(tmp_path, device="cpu", attention="sdpa")


def test_loading_says_nothing_and_restores_verbosity(
    saved: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_tiny("mamba", tmp_path, layers=1)
    verbosity, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    capfd.readouterr()
    load(saved, device="cpu")
    load(tmp_path, device="cpu")
    assert capfd.readouterr() == ("", "")
    assert (chatter.get_verbosity(), chatter.is_progress_bar_enabled()) == (verbosity, bars)


def test_unknown_options_are_refused(saved: Path) -> None:
    with pytest.raises(ConfigError, match="dtype 'int8' is unknown"):
        load(saved, dtype="int8")
    with pytest.raises(ConfigError, match="attention 'flash' is unknown"):
        load(saved, attention="flash")
    with pytest.raises(ConfigError, match="device 'abacus' is unknown"):
        load(saved, device="abacus")
    with pytest.raises(ConfigError, match="device 'meta' is not supported"):
        load(saved, device="meta")


def test_missing_hardware_and_helpers_are_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlatformError, match=r"'cuda:99' was asked for, but torch sees \d+ CUDA devices"):
        load(saved, device="cuda:99")
    monkeypatch.setattr(loader.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PlatformError, match="accelerate, which is not installed"):
        load(saved, max_memory={"cpu": "1GiB"})


def test_pickle_only_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(ModelError, match=r"pickle weights only \(pytorch_model\.bin\).*safe_serialization"):
        load(copy)


def test_missing_tokenizer_is_refused(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="has no tokenizer"):
        load(copy)


def test_damaged_tokenizer_is_refused(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot load the tokenizer in"):
        load(copy)


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_truncated_weights_are_refused(copy: Path, keep: int) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors is truncated or damaged"):
        load(copy)


@pytest.mark.parametrize(("value", "text"), [(float("nan"), "NaN"), (float("-inf"), "infinite values")])
def test_weights_that_are_not_finite_are_refused(copy: Path, value: float, text: str) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(copy, lambda tensors: tensors[name][3].fill_(value))
    with pytest.raises(ModelError, match=rf"tensor '{name}' has {text}"):
        load(copy, device="cpu")


def test_overflow_of_a_narrow_dtype_is_refused(copy: Path) -> None:
    """1e6 is finite in float32 and infinite in float16."""
    rewrite(copy, lambda tensors: tensors["model.norm.weight"].fill_(1e6))
    load(copy, device="cpu")
    with pytest.raises(ModelError, match=r"'model\.norm\.weight' has infinite values \(as torch\.float16\)"):
        load(copy, device="cpu", dtype="float16")


def test_missing_tensor_is_refused(copy: Path) -> None:
    rewrite(copy, lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(ModelError, match=r"lack 1 tensor\(s\) of LlamaForCausalLM: model\.norm\.weight"):
        load(copy, device="cpu")


def test_tensor_of_another_shape_is_refused(copy: Path) -> None:
    edit(copy, intermediate_size=40)
    with pytest.raises(ModelError, match=r"cannot load|another shape"):
        load(copy, device="cpu")


def test_remote_code_is_never_run(copy: Path) -> None:
    edit(copy, model_type="my_own", auto_map={"AutoModelForCausalLM": "modeling.Mine"})
    (copy / "modeling.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError, match=r"'my_own' is unknown to transformers .* \(auto_map\), which is never run"):
        load(copy)


def test_known_architecture_ignores_its_auto_map(copy: Path) -> None:
    """Falcon's own repositories carry an auto_map; transformers' class is used, the shipped code is not."""
    edit(copy, auto_map={"AutoConfig": "modeling.C", "AutoModelForCausalLM": "modeling.Mine"})
    (copy / "modeling.py").write_text("raise SystemExit('ran')")
    assert type(load(copy, device="cpu").model).__module__.startswith("transformers.")


def test_unknown_and_unfit_architectures_are_refused(copy: Path) -> None:
    edit(copy, model_type="nonesuch")
    with pytest.raises(ModelError, match=r"'nonesuch' is unknown to transformers [\d.]+; use a supported"):
        load(copy)
    edit(copy, model_type="vit")
    with pytest.raises(ModelError, match="'vit' is no causal language model"):
        load(copy)


def test_sharded_weights_load(tmp_path: Path, saved: Path) -> None:
    model = load(saved, device="cpu").model
    folder = Path(shutil.copytree(saved, tmp_path / "sharded"))
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")
    assert (folder / "model.safetensors.index.json").is_file()
    with torch.no_grad():
        assert torch.equal(load(folder, device="cpu").model(IDS).logits, model(IDS).logits)
    shard = sorted(folder.glob("*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(ModelError, match=f"weight file {shard.name}, named in"):
        load(folder)


def test_library_imports_without_the_workflow_parts() -> None:
    """Instruments work without pydantic, pyarrow and snakemake; the catalogue also without torch."""
    code = (
        "import sys\n"
        "for name in ('pydantic', 'pyarrow', 'snakemake'): sys.modules[name] = None\n"
        "import tremor.models.catalogue, tremor.models.manifest, tremor.models.hub\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "import tremor.models.loader\n"
    )
    root = Path(loader.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
