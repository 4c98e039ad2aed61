"""exp3 in process: two precisions of one tiny model, its tables against numpy, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tremor.config import Config, block
from tremor.errors import ArtifactError, ConfigError
from tremor.experiments import precision, precision_states, summaries
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv

ORIGIN: dict[str, Any] = {"config": {}, "code": "code-digest", "inputs": {}}
PROMPTS = {
    "capital": {"text": "The capital of France is", "bos": "auto"},
    "other": {"text": "The bank is by", "bos": "auto"},
}
OUTPUTS = ("coordinates", "survival", "levels", "precisions", "top")


def states(chain: Any, folder: Path, name: str, prompts: Any = PROMPTS) -> tuple[Path, Path]:
    data, table = folder / f"{name}.h5", folder / f"{name}.csv"
    precision_states.measure(
        chain.session, prompts, precision=name, probe=chain.settings("probe"), top_tokens=10, data=data, table=table,
        provenance=ORIGIN,
    )  # fmt: skip
    return data, table


def measure(folder: Path, answers: list[tuple[Path, Path]], spectrum: Path, **changes: Any) -> None:
    precision.measure(
        "capital",
        settings={**block(Config(), "exp3"), "powers": [-2, -6, -9], **changes},
        spectrum=spectrum,
        states=[data for data, _ in answers],
        tops=[table for _, table in answers],
        data=folder / "survivors.h5",
        **{name: folder / f"{name}.csv" for name in OUTPUTS},
        statistics=folder / "statistics.json",
        provenance=ORIGIN,
    )


@pytest.fixture(scope="module")
def measured(chain: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exp3")
    # The session's model is float32; converted to true float64 it holds the same weights.
    answers = [states(chain, folder, name) for name in ("float32", "true_float64")]
    measure(folder, answers, chain.spectrum(folder))
    return folder


def test_the_originals_table_is_exact(measured: Path) -> None:
    table = read_csv(measured / "coordinates.csv")
    source = read_hdf5(measured / "spectrum.h5")
    x, v, sigma = source.array("x0"), source.array("right")[0], source.array("singular_values")[0]
    np.testing.assert_array_equal(table["dim_index"], np.arange(len(x)))
    np.testing.assert_array_equal(table["original_value"], x)
    step = np.float32(1e-6 * sigma) * v
    np.testing.assert_array_equal(table["eps_1e-6_perturbation"], step)
    np.testing.assert_array_equal(table["eps_1e-6_new_value"], x + step)
    np.testing.assert_array_equal(table["eps_1e-6_difference"], np.abs((x + step).astype(np.float64) - x))


def test_survival_by_format_and_by_bits_agree(measured: Path) -> None:
    survival, levels = read_csv(measured / "survival.csv"), read_csv(measured / "levels.csv")
    bits = {"float32": 24, "float16": 11, "bfloat16": 8}
    for fmt, level in bits.items():
        own = survival[survival["format"] == fmt].set_index(["variant", "epsilon_power"])["moved_coordinates"]
        same = levels[levels["significant_bits"] == level].set_index(["variant", "epsilon_power"])["moved_coordinates"]
        # Random entries may lie below float16's normal range, where it has fewer bits.
        assert (own - same).abs().max() <= (2 if fmt == "float16" else 0)
    counts = survival[survival["variant"] == "vector"].pivot(
        index="format", columns="epsilon_power", values="moved_coordinates"
    )
    assert (counts.loc["float64"] >= counts.loc["float32"]).all()
    assert counts.loc["bfloat16", -9] == 0
    moved = read_hdf5(measured / "survivors.h5").array("moved")
    assert moved.shape[:3] == (2, 3, 24)
    assert moved[0, 1, 0].sum() == counts.loc["float32", -6]


def test_precisions_are_compared_with_the_widest(measured: Path) -> None:
    table = read_csv(measured / "precisions.csv").set_index(["precision", "state"])
    assert set(table["reference"]) == {"true_float64"}
    assert (table.loc["true_float64", "l2"] == 0).all()
    narrow, wide = (read_hdf5(measured / f"{name}.h5") for name in ("float32", "true_float64"))
    a, b = narrow.array("capital/h0"), wide.array("capital/h0")
    assert (a.dtype, b.dtype) == (np.float32, np.float64)
    row = table.loc[("float32", "hidden")]
    assert row["l2"] == np.linalg.norm(a.astype(np.float64) - b)
    assert 0 < row["relative_l2"] < 1e-5  # two layers of float32
    assert row["ulps_max"] == np.abs(a.view(np.int32).astype(int) - b.astype(np.float32).view(np.int32)).max()
    assert table.loc[("float32", "embedding"), "l2"] == 0  # the same weights
    assert wide.attributes["gate_relative_error"] < 1e-3


def test_top_tokens_are_those_of_the_logits(measured: Path) -> None:
    table = read_csv(measured / "top.csv")
    assert set(table["prompt"]) == {"capital"}
    logits = read_hdf5(measured / "float32.h5").array("capital/logits").astype(np.float64)
    own = table[table["precision"] == "float32"]
    np.testing.assert_array_equal(own["token_id"], np.argsort(-logits, kind="stable")[:10])
    shares = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(own["probability"], np.sort(shares)[::-1][:10])


def test_summary_leaves_unmeasured_precisions_empty(measured: Path, tmp_path: Path) -> None:
    rows = [{"model": "m", "prompt": "capital"}]
    summaries.gather("exp3", [measured / "statistics.json"], rows, output=tmp_path / "s.csv", provenance=ORIGIN)
    row = read_csv(tmp_path / "s.csv").iloc[0]
    assert bool(row["against_float32_same_token"])
    assert row["against_float32_top_overlap"] == 10
    assert np.isnan(row["against_bfloat16_hidden_relative_l2"])
    assert row["smallest_surviving_float64"] == -9


def test_answers_to_another_prompt_are_refused(chain: Any, measured: Path, tmp_path: Path) -> None:
    swapped = {"capital": PROMPTS["other"]}
    answer = states(chain, tmp_path, "float32", swapped)
    with pytest.raises(ArtifactError, match="another prompt"):
        measure(tmp_path, [answer], measured / "spectrum.h5")
    with pytest.raises(ConfigError, match=r"exp3\.vector asks for singular vector 9999"):
        measure(tmp_path, [(measured / "float32.h5", measured / "float32.csv")], measured / "spectrum.h5", vector=9999)
