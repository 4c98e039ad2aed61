"""The component map: what it calls q is the anatomy's q, bit for bit, and no weight is left out or counted twice."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tremor.errors import ArtifactError, ModelError
from tremor.models import component_map
from tremor.models.components import Components, document, open_components
from tremor.models.loader import LoadedModel, load
from tremor.models.weightfiles import WeightFiles
from tremor.store.documents import write_json

# Plain, transposed, fused by thirds, by head, by group, in shards; experts alone, stacked, interleaved; no attention.
FAMILIES = (
    "llama", "gpt2", "gpt_neox", "bloom", "falcon_new", "codegen", "gpt_bigcode", "mixtral", "gpt_oss", "gemma2",
    "mamba", "rwkv", "opt_350m",
)  # fmt: skip
PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")


def mapped(loaded: LoadedModel, folder: Path, target: Path) -> Components:
    files = WeightFiles(folder)
    write_json(target, document(component_map.build(loaded, files), files, loaded.digest))
    return open_components(target, folder)


@pytest.fixture(scope="module")
def components(
    saved_model: Callable[..., Path], loaded_model: Callable[..., LoadedModel], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Components]:
    """Family -> its map, made once."""

    @cache
    def get(family: str) -> Components:
        return mapped(loaded_model(family), saved_model(family), tmp_path_factory.mktemp(family) / "components.json")

    return get


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_those_of_the_anatomy(
    family: str, components: Callable[[str], Components], loaded_model: Callable[..., LoadedModel]
) -> None:
    loaded, found = loaded_model(family), components(family)
    parameters = dict(loaded.model.named_parameters())
    for block in loaded.anatomy.block_parts:
        for name in PROJECTIONS:
            part = getattr(block, name)
            if part is None:
                continue
            weight = part.take(parameters[part.parameter])
            for expert in range(len(weight)) if weight.ndim == 3 else (None,):
                matrix = weight if expert is None else weight[expert]
                matrix = matrix.T if part.parameter in loaded.anatomy.transposed else matrix
                read = found.read(found.find(component=name, block=block.index, expert=expert))
                assert np.array_equal(read, matrix.detach().numpy())
            if part.bias is not None and weight.ndim == 2:
                bias = part.take_bias(parameters[part.bias]).detach().numpy()
                assert np.array_equal(found.read(found.find(component=f"{name}.bias", block=block.index)), bias)
    embedding = loaded.anatomy.embedding.weight
    assert isinstance(embedding, torch.Tensor)
    assert np.array_equal(found.read(found.find(component="embedding")), embedding.detach().numpy())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_is_in_one_part(family: str, components: Callable[[str], Components]) -> None:
    """Fused tensors come as a whole besides; of experts that are stacked each is a part."""
    found = components(family)
    assert len({part.name for part in found.parts}) == len(found.parts)
    counts = dict.fromkeys(found.files.names, 0)
    for part in found.parts:
        if not part.fused:
            counts[part.tensor] += found.read(part).size
    assert counts == {name: int(np.prod(found.files.shape(name))) for name in found.files.names}
    fused = [part for part in found.parts if part.fused]
    assert {part.name for part in fused} <= set(found.files.names)
    assert bool(fused) == (family in ("gpt2", "gpt_neox", "bloom", "falcon_new", "codegen", "gpt_bigcode"))


def test_norms_have_their_roles(
    components: Callable[[str], Components], loaded_model: Callable[..., LoadedModel]
) -> None:
    """exp10 puts the norm before q_proj: it must be the one that stands there."""
    loaded, found = loaded_model("llama"), components("llama")
    gain = loaded.model.get_parameter("model.layers.1.input_layernorm.weight").detach().numpy()
    assert np.array_equal(found.read(found.find(component="norm_mixer_in", block=1)), gain)
    assert found.find(component="norm_mlp_in", block=0).tensor == "model.layers.0.post_attention_layernorm.weight"
    assert found.find(component="final_norm").tensor == "model.norm.weight"


def test_names_without_the_prefix(saved_model: Callable[..., Path], tmp_path: Path) -> None:
    """As the files of openai-community/gpt2 have them; there the unembedding may stand too, though it is tied."""
    folder = Path(shutil.copytree(saved_model("gpt2"), tmp_path / "model"))
    path = folder / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    tensors["lm_head.weight"] = tensors["wte.weight"].clone()
    save_file(tensors, path, {"format": "pt"})
    found = mapped(load(folder, device="cpu"), folder, tmp_path / "c.json")
    assert found.find(component="q", block=0).tensor == "h.0.attn.c_attn.weight"
    assert found.find(component="embedding").tensor == "wte.weight"
    assert found.find(component="unembedding").tensor == "lm_head.weight"


def test_bfloat16_files(saved_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved_model("mixtral"), tmp_path / "model"))
    path = folder / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    found = mapped(load(folder, dtype="bfloat16", device="cpu"), folder, tmp_path / "c.json")
    part = found.find(component="gate", block=1, expert=2)
    assert part.tensor == "model.layers.1.block_sparse_moe.experts.2.w1.weight"
    assert not [part for part in found.parts if part.component == "other"]


def test_a_parameter_that_is_not_its_file(
    saved_model: Callable[..., Path], private_model: Callable[..., LoadedModel]
) -> None:
    loaded = private_model("llama")
    with torch.no_grad():
        loaded.model.get_parameter("model.layers.0.mlp.up_proj.weight")[0, 0] += 1
    with pytest.raises(ModelError, match=r"'model.layers.0.mlp.up_proj.weight' of the loaded model is not what"):
        component_map.build(loaded, WeightFiles(saved_model("llama")))


@pytest.fixture
def project(
    saved_model: Callable[..., Path], loaded_model: Callable[..., LoadedModel], tmp_path: Path
) -> tuple[Path, Path]:
    folder = Path(shutil.copytree(saved_model("llama"), tmp_path / "model"))
    mapped(loaded_model("llama"), folder, tmp_path / "components.json")
    return tmp_path / "components.json", folder


def test_other_bits_are_refused(project: tuple[Path, Path]) -> None:
    path, folder = project
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    found = open_components(path, folder)
    last = max(found.files.names, key=lambda name: found.files._entry(name).offset)
    with pytest.raises(ArtifactError, match=f"'{last}' is not the one"):
        found.tensor(last)
    assert found.tensor("model.embed_tokens.weight").size  # the others are as they were


def test_maps_that_do_not_fit(project: tuple[Path, Path], tmp_path: Path) -> None:
    path, folder = project
    content: dict[str, Any] = json.loads(path.read_text())
    del content["tensors"]["model.norm.weight"], content["content_sha256"]
    write_json(path, content)
    with pytest.raises(ArtifactError, match=r"disagree about tensor 'model.norm.weight'"):
        open_components(path, folder)
    path.write_text('{"schema": 7}')
    with pytest.raises(ArtifactError, match="no component map of schema 1"):
        open_components(path, folder)


def test_find_says_what_there_is(project: tuple[Path, Path]) -> None:
    found = open_components(*project)
    with pytest.raises(ModelError, match=r"0 parts are component 'w1' of block 0.*down, gate, k"):
        found.find(component="w1", block=0)
    with pytest.raises(ModelError, match="no such block"):
        found.find(component="q", block=99)
