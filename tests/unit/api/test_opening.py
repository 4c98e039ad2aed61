"""What `import tremor` costs, what it offers, and what it says where a model is not there."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import tremor
from tremor.api import places
from tremor.config import Config
from tremor.config.boundary import Exp12
from tremor.errors import ArtifactError, ConfigError, ModelError

LIGHT = """
import sys
import tremor, tremor.graph
heavy = {"torch", "numpy", "pandas", "transformers", "matplotlib", "h5py"} & set(sys.modules)
assert not heavy, heavy
import tremor.api.opening
assert "torch" not in sys.modules, "a platform's environment would come too late"
"""


def test_importing_loads_neither_torch_nor_numpy() -> None:
    """Every Snakemake process imports the package, and a platform is set up before torch is imported."""
    subprocess.run([sys.executable, "-c", LIGHT], check=True, timeout=120)


def test_every_public_name_is_there() -> None:
    assert {*tremor.__all__} == {*tremor._HOMES, "__version__"}
    for name in tremor.__all__:
        assert getattr(tremor, name) is not None
        assert name in dir(tremor)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        tremor.lode  # noqa: B018


def test_a_project_is_found_upwards(project: Path, tmp_path: Path) -> None:
    inside = project / "docs/notebooks"
    inside.mkdir(parents=True)
    assert places.find_project(inside) == project
    assert places.find_project(tmp_path) in (places.HOME, *tmp_path.parents)


def test_what_is_not_built_is_said_with_its_target(project: Path) -> None:
    with pytest.raises(ModelError, match=r"'llama' has not been built .*resources/models/llama/manifest.json.*train"):
        tremor.load("llama", project=project)
    hub = {"models": {"big": {"source": "hub", "repo": "a/b", "revision": "c0ffee"}}}
    with pytest.raises(ModelError, match=r"'big' has not been fetched yet.*network"):
        tremor.load("big", project=project, config=hub)


def test_a_mistake_in_a_file_is_told_with_its_line(project: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("select: {models: [llama]}\nexp12: {angels: 8}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml:2: exp12\.angels: unknown key; did you mean 'angles'"):
        places.read_config(project, mine)


def test_wrong_names_and_settings(model: tremor.Model, project: Path) -> None:
    with pytest.raises(ConfigError, match="no model 'tiney'; did you mean 'tiny'"):
        tremor.load("tiney", project=project)
    with pytest.raises(ModelError, match="does not exist"):
        tremor.load(project / "nowhere")
    with pytest.raises(ConfigError, match="no platform 'x'"):
        tremor.load("tiny", project=project, platform_name="x")
    with pytest.raises(ConfigError, match="leave these out"):
        tremor.load("tiny", project=project, platform_name="native", threads=1)
    with pytest.raises(ConfigError, match="no embedded model 'tiny'"):
        tremor.train("tiny", project=project)
    point = model.at("The capital")
    with pytest.raises(ConfigError, match="spectrum has no setting 'methd'; did you mean 'method'"):
        point.spectrum(methd="lanczos")
    with pytest.raises(ConfigError, match=r"exp12.s_max: .*got -1"):
        point.boundary(np.ones(32), s_max=-1)
    with pytest.raises(ConfigError, match=r"must be \[32\]"):
        point.boundary(np.ones(31))
    # Rank 0 would be the last vector, without a word.
    with pytest.raises(ConfigError, match=r"exp12\.plane.*greater than or equal to 1"):
        point.boundary_in_plane(np.eye(32), plane=(0, 1))
    with pytest.raises(ConfigError, match="names the singular vector 2 twice"):
        point.boundary_in_plane(np.eye(32), plane=(2, 2))
    with pytest.raises(ConfigError, match="finite number, not nan; where a ray is censored"):
        point.step(np.ones(32), np.nan)
    with pytest.raises(ConfigError, match="decode 'other' is unknown"):
        model.record("The capital", decode="other")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least one text"):
        model.gain([])
    with pytest.raises(ConfigError, match="no split 'test' of the text; use train, calibration or heldout"):
        tremor.passages("test")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="arithmetic 'exact' is unknown"):
        point.step(np.ones(32), 1e-6, arithmetic="exact")
    with pytest.raises(ConfigError, match="top_k is 200, but there are 32"):
        point.spectrum(method="lanczos", top_k=200)
    with pytest.raises(ConfigError, match="at least one weight"):
        model.ablate(pd.DataFrame(columns=["tensor", "flat_index"]), ["text"])
    with pytest.raises(ConfigError, match="operation 'halve'"):
        model.ablate(model.score("magnitude", k=1), ["a text"], operation="halve")  # type: ignore[arg-type]
    first, other = (model.record(text, tokens=1, taps="final") for text in ("The capital", "Water"))
    with pytest.raises(ArtifactError, match="different prompts"):
        first.compare(other)
    with pytest.raises(ArtifactError, match="'embedding' was not recorded"):
        first.compare(first, tap="embedding")


def test_models_in_memory_that_cannot_be_measured(model: tremor.Model, private_model, process: None) -> None:
    own = private_model("llama")
    with pytest.raises(ConfigError, match="needs its tokenizer"):
        tremor.load(own.model)
    with pytest.raises(ConfigError, match="has its type"):
        tremor.load(own.model, own.tokenizer, dtype="float64")
    with pytest.raises(ModelError, match="of transformers, not Linear"):
        tremor.load(torch.nn.Linear(2, 2), own.tokenizer)
    own.model.lm_head.half()
    with pytest.raises(ModelError, match=r"parameters of torch.float16, torch.float32"):
        tremor.load(own.model, own.tokenizer)
    own.model.float().lm_head.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"tensor 'lm_head.weight' has NaN"):
        tremor.load(own.model, own.tokenizer)


def test_each_measurement_is_on_its_models_platform(model: tremor.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another model, or the user, may have changed the threads; and the network is left to the notebook."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(False)
    model.at("The capital").spectrum(method="lanczos", top_k=1)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    import os

    assert "HF_HUB_OFFLINE" not in os.environ


def test_results_are_short_in_print_and_show_the_workflows_figures(model: tremor.Model) -> None:
    point = model.at("The capital of France is")
    found = point.spectrum()
    assert repr(model).startswith("Model('tiny', LlamaForCausalLM")
    assert repr(point).startswith("Point('tiny', 'The capital of France is'")
    assert "right=float32[32, 32]" in repr(found)
    assert len(repr(found)) < 400
    picture = found.plot()._repr_png_()
    assert picture.startswith(b"\x89PNG")
    assert picture == found.plot()._repr_png_()


def test_settings_come_from_the_configuration() -> None:
    config = Config()
    assert places.block(config, "exp12", {})["angles"] == config.exp12.angles
    assert places.block(config, "exp12", {"angles": 5})["angles"] == 5
    assert places.block(config, "delta.jacobian", {"method": "dense"})["method"] == "dense"


def test_the_plane_is_the_configurations(model: tremor.Model) -> None:
    point = model.at("The capital")
    other = dataclasses.replace(model, config=model.config.model_copy(update={"exp12": Exp12(angles=4, plane=(3, 1))}))
    given = point.boundary_in_plane(np.eye(32), plane=(3, 1), angles=4, s_max=1e-4)
    found = dataclasses.replace(point, model=other).boundary_in_plane(np.eye(32), s_max=1e-4)
    np.testing.assert_array_equal(found.direction, given.direction)
    np.testing.assert_array_equal(found.direction[0], np.eye(32)[2])
