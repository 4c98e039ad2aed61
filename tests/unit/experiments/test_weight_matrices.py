"""exp9 on tiny models: every weight is measured, from one SVD a matrix, and the table says what numpy says."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from tremor.config import Config, block
from tremor.errors import ArtifactError, ModelError
from tremor.experiments import weight_components, weight_matrices
from tremor.experiments.session import Session
from tremor.models import manifest
from tremor.models.components import open_components
from tremor.statistics import weights
from tremor.store.documents import read_json, write_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}


class Runner:
    """The two steps in a folder of their own."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.model, self.folder = model, folder
        folder.mkdir(exist_ok=True)
        entry = {"source": "path", "path": str(model)}
        write_json(folder / "manifest.json", manifest.build("tiny", entry, model))

    def components(self, session: Session) -> Path:
        path = self.folder / "components.json"
        weight_components.measure(session, self.model, output=path, provenance=ORIGIN)
        return path

    def run(self, **changes: object) -> SimpleNamespace:
        names = {"data": "spectra.h5", "table": "m.csv", "by_component": "c.csv", "statistics": "s.json"}
        outputs = {key: self.folder / name for key, name in names.items()}
        weight_matrices.measure(
            self.folder / "manifest.json",
            self.folder / "components.json",
            self.model,
            {**block(Config(), "exp9"), **changes},
            **outputs,
            provenance=ORIGIN,
        )
        return SimpleNamespace(**outputs)


@pytest.fixture(scope="module")
def gpt2(
    saved_model: Callable[[str], Path],
    open_tiny: Callable[..., Session],
    tmp_path_factory: pytest.TempPathFactory,
) -> Runner:
    runner = Runner(saved_model("gpt2"), tmp_path_factory.mktemp("exp9"))
    runner.components(open_tiny("gpt2"))
    return runner


def test_the_table_is_numpys(gpt2: Runner) -> None:
    found = gpt2.run()
    table, spectra = read_csv(found.table), read_hdf5(found.data)
    tensors = load_file(gpt2.model / "model.safetensors")
    fused = tensors["transformer.h.1.attn.c_attn.weight"].double().numpy()
    row = table[(table["component"] == "k") & (table["block"] == 1)].iloc[0]
    width = fused.shape[0]
    key = fused[:, width : 2 * width].T
    assert row["name"] == "transformer.h.1.attn.c_attn.weight:k"
    assert (row["outputs"], row["inputs"], row["count"]) == (width, width, width * width)
    # Sums of 1024 terms and one SVD, all in float64.
    assert row["spectral_norm"] == pytest.approx(np.linalg.norm(key, 2), rel=1e-12)
    assert row["nuclear_norm"] == pytest.approx(np.linalg.norm(key, "nuc"), rel=1e-12)
    assert row["frobenius_norm"] == pytest.approx(np.linalg.norm(key), rel=1e-12)
    assert row["abs_p75"] == pytest.approx(np.percentile(np.abs(key), 75), rel=1e-12)
    start, stop = spectra.array("offsets")[row.name : row.name + 2]
    expected = np.linalg.svd(key, compute_uv=False)
    assert spectra.array("singular_values")[start:stop] == pytest.approx(expected, rel=1e-10)
    assert spectra.datasets["names"][row.name] == row["name"]
    assert table["svd_relative_error"].max() < 1e-13
    bias = table[(table["component"] == "up.bias") & (table["block"] == 0)].iloc[0]
    assert np.isnan(bias["spectral_norm"])
    assert pd.isna(bias["inputs"])


def test_nothing_is_left_out(gpt2: Runner) -> None:
    found = gpt2.run(fused=False)
    table, summary = read_csv(found.table), read_json(found.statistics)
    parameters = manifest.read(gpt2.folder / "manifest.json")["parameters"]
    assert int(table["count"].sum()) == summary["values"] == parameters
    assert summary["blocks"] == 2
    whole = read_csv(gpt2.run().table)
    assert set(whole.loc[whole["fused"], "component"]) == {"q+k+v", "q.bias+k.bias+v.bias"}


def test_one_svd_a_matrix(gpt2: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The original ran two full ones for each."""
    seen: list[str] = []
    before = weights.singular_values
    monkeypatch.setattr(weights, "singular_values", lambda m, name, dtype: seen.append(name) or before(m, name=name))
    table = read_csv(gpt2.run(embeddings=False).table)
    assert len(seen) == len(set(seen)) == int(table["spectral_norm"].notna().sum())
    assert set(table.loc[table["component"] == "embedding", "spectral_norm"].isna()) == {True}
    assert table.loc[table["component"] == "embedding", "kurtosis"].notna().all()


def test_by_component(gpt2: Runner) -> None:
    found = gpt2.run()
    table, grouped = read_csv(found.table), read_csv(found.by_component)
    own = table[table["component"] == "up"]["frobenius_norm"]
    row = grouped[grouped["component"] == "up"].iloc[0]
    assert row["matrices"] == 2
    assert row["frobenius_norm_mean"] == pytest.approx(own.mean())
    assert row["frobenius_norm_std"] == pytest.approx(own.std(ddof=0))
    assert row["frobenius_norm_argmax_block"] == int(np.argmax(own))
    assert "q+k+v" not in set(grouped["component"])
    assert pd.isna(grouped[grouped["component"] == "embedding"].iloc[0]["mean_argmin_block"])


@pytest.fixture
def copied(gpt2: Runner, tmp_path: Path) -> Runner:
    """A model and a map of its own, for tests that change the weights after the map was made."""
    runner = Runner(Path(shutil.copytree(gpt2.model, tmp_path / "model")), tmp_path / "out")
    shutil.copy(gpt2.folder / "components.json", runner.folder)
    return runner


def change(runner: Runner, name: str, value: float) -> None:
    path = runner.model / "model.safetensors"
    tensors = load_file(path)
    tensors[name].view(-1)[0] = value
    save_file(tensors, path, {"format": "pt"})


def test_other_weights_are_refused(copied: Runner) -> None:
    change(copied, "transformer.ln_f.weight", 2.5)
    with pytest.raises(ArtifactError, match=r"tensor 'transformer.ln_f.weight' is not the one"):
        copied.run()
    write_json(copied.folder / "manifest.json", manifest.build("tiny", {"source": "path"}, copied.model))
    with pytest.raises(ArtifactError, match="made from other weights"):
        copied.run()


def test_nan_is_refused_with_its_tensor(copied: Runner) -> None:
    name = "transformer.h.0.mlp.c_fc.weight"
    change(copied, name, float("nan"))
    files = open_components(copied.folder / "components.json", copied.model).files
    document = read_json(copied.folder / "components.json")
    document["tensors"][name]["sha256"] = files.digest(name)
    document["weights_digest"] = manifest.weights_digest(copied.model)
    write_json(copied.folder / "components.json", document)
    write_json(copied.folder / "manifest.json", manifest.build("tiny", {"source": "path"}, copied.model))
    with pytest.raises(ModelError, match=f"'{name}' has NaN"):
        copied.run()
    assert not (copied.folder / "m.csv").exists()


def test_experts(saved_model: Callable[[str], Path], open_tiny: Callable[..., Session], tmp_path: Path) -> None:
    runner = Runner(saved_model("gpt_oss"), tmp_path / "out")
    runner.components(open_tiny("gpt_oss"))
    table = read_csv(runner.run().table)
    gates = table[(table["component"] == "gate") & (table["block"] == 1)]
    assert gates["expert"].tolist() == [0, 1, 2, 3]
    stacked = load_file(runner.model / "model.safetensors")["model.layers.1.mlp.experts.gate_up_proj"]
    assert isinstance(stacked, torch.Tensor)
    expected = [float(torch.linalg.matrix_norm(stacked[e, :, ::2].double(), 2)) for e in range(4)]
    assert gates["spectral_norm"].tolist() == pytest.approx(expected, rel=1e-12)
