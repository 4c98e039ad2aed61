"""exp5 on a tiny model: the chain agrees, equal inputs are accounted for, a lost path is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tremor.errors import ConfigError, NumericsError
from tremor.experiments import local_jacobians
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}
PROMPT = {"text": "The capital of France is", "bos": "auto"}


def run(chain: Any, source: Path, folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    local_jacobians.measure(
        chain.session,
        PROMPT,
        probe=chain.settings("probe"),
        settings=chain.settings("exp5", **changes),
        spectrum=source,
        data=folder / "local.h5",
        stages=folder / "stages.csv",
        modules=folder / "modules.csv",
        statistics=folder / "statistics.json",
        provenance=ORIGIN,
    )
    return folder


def test_dense(chain: Any, results: Path, tmp_path: Path) -> None:
    # Steps of 1e-14 stay within one ulp of every coordinate: the first two pairs are of equal inputs.
    folder = run(chain, results / "spectrum.h5", tmp_path, step=1e-14, jumps=[1, 10, 10**10], layers=[0, 1, "last"])
    told, table = read_json(folder / "statistics.json"), read_csv(folder / "stages.csv")
    modules = read_csv(folder / "modules.csv")
    assert not modules.duplicated(["arithmetic", "block", "module", "jump"]).any()
    assert told["modules"]["requested_inputs"] == 2 * 4 * 2  # the last block is block 1: two, not three
    sigma = read_hdf5(results / "spectrum.h5").array("singular_values")[0]
    assert told["sigma_1"] == pytest.approx(sigma)
    assert told["chain_agrees"]
    # Rounding of two blocks of float32 stays below 1e-5 of sigma; the a-priori bound is larger and says so.
    assert told["chain_relative_difference"] < 1e-5
    assert told["chain_relative_difference"] <= told["chain_bound"] < 1e-3
    assert told["norm_product"] >= told["chain_sigma_1"]
    chained = table[np.isfinite(table["gain_of_v1"])]
    assert chained["stage"].tolist() == ["embedding", "block.0", "block.1", "final"]
    assert np.prod(chained["gain_of_v1"]) == pytest.approx(sigma, rel=1e-5)
    assert set(table["part"]) == {"embedding", "block", "mixer", "mlp", "final"}
    assert (table["frobenius_norm"] >= table["spectral_norm"] * (1 - 1e-12)).all()
    assert (table["max_residual"] < 1e-12).all()
    np.testing.assert_allclose(table["stable_rank"], (table["frobenius_norm"] / table["spectral_norm"]) ** 2)
    data = read_hdf5(folder / "local.h5")
    np.testing.assert_allclose(data.array("singular_values")[:, 0], table["spectral_norm"])


def test_equal_inputs_are_said_to_be_equal_and_not_run_again(chain: Any, results: Path, tmp_path: Path) -> None:
    folder = run(chain, results / "spectrum.h5", tmp_path, step=1e-14, jumps=[1, 10, 10**10])
    told, table = read_json(folder / "statistics.json")["modules"], read_csv(folder / "modules.csv")
    assert told["pairs"] == 6  # three jumps, two arithmetics
    equal = table[table["inputs_equal"]]
    assert told["pairs_of_equal_inputs"] == len(equal.drop_duplicates(["arithmetic", "jump"])) >= 2
    assert (equal["num_changed"] == 0).all()
    assert equal["gain"].isna().all()
    other = table[~table["inputs_equal"]]
    assert (other["input_changed"] > 0).all()
    assert (other[other["module"] == "model.layers.1"]["num_changed"] > 0).all()
    assert told["evaluated_inputs"] < told["requested_inputs"] == 8
    # Full names; nothing is cut at an underscore.
    assert {"model.layers.1.self_attn.q_proj", "model.layers.1.mlp.down_proj"} <= set(table["module"])
    assert table.groupby("module")["width"].nunique().eq(1).all()


def test_lanczos(chain: Any, results: Path, tmp_path: Path) -> None:
    dense = read_csv(run(chain, results / "spectrum.h5", tmp_path / "dense", jumps=[1]) / "stages.csv")
    folder = run(chain, results / "spectrum.h5", tmp_path / "lanczos", jumps=[1], method="lanczos", top_k=2)
    told, table = read_json(folder / "statistics.json"), read_csv(folder / "stages.csv")
    # The norm is known to the square of the residual of 1e-5, and to float32 rounding of the products.
    np.testing.assert_allclose(table["spectral_norm"], dense["spectral_norm"], rtol=1e-5)
    np.testing.assert_allclose(table["gain_of_v1"], dense["gain_of_v1"], rtol=1e-5)
    assert table["frobenius_norm"].isna().all()
    assert told["chain_relative_difference"] < 1e-5
    assert told["chain_matrix_difference"] is None


def test_layers_and_vectors_that_are_not_there(chain: Any, results: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"exp5\.layers asks for block 7, but the model has blocks 0 to 1"):
        run(chain, results / "spectrum.h5", tmp_path, layers=[7])
    with pytest.raises(ConfigError, match=r"exp5\.vector asks for singular vector 99"):
        run(chain, results / "spectrum.h5", tmp_path, vector=99)


def test_a_path_past_the_stream_is_refused(
    chain: Any, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain that lacks a block stands for a model whose blocks are not all there is."""
    original = local_jacobians.LocalJacobians.__init__

    def short(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        self.chain = (self.chain[0], *self.chain[2:])

    monkeypatch.setattr(local_jacobians.LocalJacobians, "__init__", short)
    with pytest.raises(NumericsError, match=r"some path in this model passes by the residual stream"):
        run(chain, results / "spectrum.h5", tmp_path, jumps=[1])


@pytest.mark.parametrize(
    ("family", "dtype", "parts"),
    [
        ("mamba", "float32", {"embedding", "block", "mixer", "final"}),  # no MLP
        ("gpt_neox", "float32", {"embedding", "block", "mixer", "mlp", "final"}),  # parallel
        ("llama", "bfloat16", {"embedding", "block", "mixer", "mlp", "final"}),
    ],
)
def test_other_families_and_formats(
    open_tiny: Any, chain: Any, tmp_path: Path, family: str, dtype: str, parts: set[str]
) -> None:
    own = type(chain)(open_tiny(family, dtype))
    source = own.spectrum(tmp_path)
    folder = run(own, source, tmp_path, jumps=[10**8])
    told, table = read_json(folder / "statistics.json"), read_csv(folder / "stages.csv")
    assert set(table["part"]) == parts
    assert told["chain_agrees"]
    assert told["mlp"]["stages"] == (0 if family == "mamba" else 2)
    # Bfloat16 keeps 8 bits, and its Jacobians are off by some percent; the chain by a few times that.
    assert told["chain_relative_difference"] < (0.1 if dtype == "bfloat16" else 1e-5)
