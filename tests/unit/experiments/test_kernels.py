"""exp8, part 7: given vectors through the model's own head, and two platforms' answers compared."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import staged
from synthetic import TOP
from tremor.compare.recording import SCHEMA
from tremor.errors import ArtifactError
from tremor.experiments import kernel_comparison, kernels, stage_divergence
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5, write_hdf5
from tremor.store.tables import read_csv

ORIGIN = {"config": {}, "code": "", "inputs": {}}
ROWS = 3


def recording(path: Path, session: Any) -> Path:
    """A recording whose logits are those of the model's head on its own final states."""
    anatomy = session.loaded.anatomy
    generator = np.random.default_rng(0)
    names = ("embedding", "block.0.mixer", "block.0.mlp.up_proj", "final_prenorm", "final")
    held = {
        name: generator.normal(size=(ROWS, 48 if name.endswith("up_proj") else anatomy.d_model)).astype(np.float32)
        for name in names
    }
    with torch.no_grad():
        rows = [anatomy.unembed(torch.from_numpy(row)[None, None]).reshape(-1).numpy() for row in held["final"]]
    logits = np.stack(rows)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    top = np.take_along_axis(logits, order, axis=1)
    datasets = {
        "prompt_ids": np.array([5], dtype=np.int64),
        "generated_ids": order[:, 0].astype(np.int64),
        "top_ids": order.astype(np.int64),
        "top_logits": top,
        "top_probs": np.ones_like(top, dtype=np.float64),
        "logsumexp": np.zeros(ROWS),
        "margin": top[:, 0] - top[:, 1],
        "ties": np.ones(ROWS, dtype=np.int64),
        **{f"states/{name}": values for name, values in held.items()},
    }
    attributes = {
        "question": "q01", "kind": "factual", "text": "Where?", "generated_text": "", "stopped": "length",
        "decode": "cached", "dtype": "float32", "taps": list(names), "n_layers": 2, "d_model": anatomy.d_model,
        "model": "tiny", "weights_digest": session.manifest["weights_digest"], "tokenizer_digest": "t",
        "pieces": ["x"] * ROWS, "schema": SCHEMA,
    }  # fmt: skip
    write_hdf5(path, datasets, attributes=attributes, provenance={})
    return path


@pytest.fixture(scope="module")
def answered(open_tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("kernels")
    session = open_tiny()
    path = recording(folder / "run.h5", session)
    stage_divergence.compare(
        [path], [path], divergence=folder / "divergence.csv", table=folder / "stages.csv",
        statistics=folder / "divergence.json", provenance=ORIGIN,
    )  # fmt: skip
    kernels.measure(session, [path], divergence=folder / "divergence.csv", data=folder / "a.h5", provenance=ORIGIN)
    return session, folder


def compare(folder: Path, b: Path) -> Path:
    kernel_comparison.compare(
        folder / "a.h5", b, [folder / "run.h5"], divergence=folder / "divergence.csv", table=folder / "kernels.csv",
        dots=folder / "dots.csv", statistics=folder / "kernels.json", provenance=ORIGIN,
    )  # fmt: skip
    return folder


def test_the_head_and_the_dots_against_plain_sums(answered: tuple[Any, Path]) -> None:
    session, folder = answered
    data, states = read_hdf5(folder / "a.h5"), read_hdf5(folder / "run.h5")
    matrix = session.loaded.anatomy.unembedding.weight.detach().double().numpy()
    assert data.array("row").tolist() == [2, 1]
    assert list(data.datasets["which"]) == ["decision", "before"]
    exact = states.array("states/final")[[2, 1]].astype(np.float64) @ matrix.T
    # Sums of 32 products of size one in float32.
    np.testing.assert_allclose(data.array("logits"), exact, atol=2e-5)
    head = read_csv(folder / "divergence.csv").iloc[0]
    tokens = [int(head["chosen_a"]), int(head["chosen_b"])]
    named = list(data.datasets["dot_stage"])
    assert "block.0.mlp.up_proj" not in named  # no vector of the stream's width
    for number, stage in enumerate(named):
        row = int(data.array("row")[data.array("dot_row")[number]])
        expected = states.array(f"states/{stage}")[row].astype(np.float64) @ matrix[tokens].T
        np.testing.assert_allclose(data.array("dots")[number], expected, atol=2e-5)


def test_one_platform_against_itself(answered: tuple[Any, Path]) -> None:
    _, folder = answered
    compare(folder, folder / "a.h5")
    table, dots, told = (
        read_csv(folder / "kernels.csv"),
        read_csv(folder / "dots.csv"),
        read_json(folder / "kernels.json"),
    )
    assert table["equal_bits"].all()
    assert (table[["n_changed_bits", "max_abs", "ulp_max"]].to_numpy() == 0).all()
    assert table["reproduces_recording"].all()
    assert dots["equal_bits"].all()
    assert (told["equal_rows"], told["rows"], told["other_argmax"], told["vectors_exact"]) == (2, 2, 0, True)


def test_another_kernel_is_told_by_the_same_tokens(answered: tuple[Any, Path], tmp_path: Path) -> None:
    """The original compared "top 1" of one row with "top 1" of another, and each machine's own vectors."""
    _, folder = answered
    found = read_hdf5(folder / "a.h5")
    logits = found.array("logits").copy()
    leader = int(np.argmax(logits[0]))
    staged.up(logits[1])
    logits[0, leader] -= 100.0
    write_hdf5(tmp_path / "b.h5", {**found.datasets, "logits": logits}, attributes=found.attributes, provenance={})
    table = read_csv(compare(folder, tmp_path / "b.h5") / "kernels.csv").set_index("which")
    assert table["n_changed_bits"].to_dict() == {"decision": 1, "before": 1}
    assert table.loc["before", "ulp_max"] == 1
    assert table["same_argmax"].to_dict() == {"decision": False, "before": True}
    assert table.loc["decision", ["favours_a", "favours_b"]].tolist() == ["a", "b"]
    assert table["reproduces_recording"].all()  # that is the first platform's


def test_different_vectors_are_refused(answered: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = answered
    found = read_hdf5(folder / "a.h5")
    attributes = {**found.attributes, "vectors_sha256": "0" * 64}
    write_hdf5(tmp_path / "b.h5", found.datasets, attributes=attributes, provenance={})
    with pytest.raises(ArtifactError, match="different vectors"):
        compare(folder, tmp_path / "b.h5")


def test_another_model_is_refused(answered: tuple[Any, Path], open_tiny: Any, tmp_path: Path) -> None:
    _, folder = answered
    with pytest.raises(ArtifactError, match="other weights"):
        kernels.measure(
            open_tiny("gpt2"), [folder / "run.h5"], divergence=folder / "divergence.csv", data=tmp_path / "x.h5",
            provenance=ORIGIN,
        )  # fmt: skip


def test_a_narrower_type_says_that_vectors_were_rounded(answered: tuple[Any, Path], open_tiny: Any) -> None:
    _, folder = answered
    kernels.measure(
        open_tiny("llama", "bfloat16"), [folder / "run.h5"], divergence=folder / "divergence.csv",
        data=folder / "narrow.h5", provenance=ORIGIN,
    )  # fmt: skip
    told = read_json(compare(folder, folder / "narrow.h5") / "kernels.json")
    assert not told["vectors_exact"]
    assert told["equal_rows"] == 0
