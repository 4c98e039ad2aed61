"""delta/jacobian on tiny models: tables that follow from the arrays, options with an effect, errors that name keys."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tremor.config import Config, block, load
from tremor.errors import ArtifactError, ConfigError, NumericsError
from tremor.experiments import delta_depths, delta_jacobian, summaries
from tremor.experiments.delta_texts import texts
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv, write_csv

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}
SMALL = {"num_texts": 9, "gain_texts": 2, "sensitivity_texts": 3, "draws": 4, "pairs": 5, "probes": 8}


def settings(**changes: Any) -> dict[str, Any]:
    return {**block(Config(), "delta")["jacobian"], **SMALL, **changes}


def run(current: Any, folder: Path, *, file: Path | None = None, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    delta_jacobian.measure(
        current,
        settings=settings(**changes),
        file=file,
        data=folder / "gain.h5",
        table=folder / "gain.csv",
        ranks=folder / "ranks.csv",
        statistics=folder / "gain.json",
        provenance=ORIGIN,
    )
    return folder


@pytest.fixture(scope="module")
def done(open_tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both architectures, measured once; tests only read."""
    folder = tmp_path_factory.mktemp("delta")
    return {family: run(open_tiny(family), folder / family) for family in ("mamba", "gpt2")}


@pytest.mark.parametrize("family", ["mamba", "gpt2"])
def test_the_tables_follow_from_the_arrays(done: dict[str, Path], family: str) -> None:
    table, data = read_csv(done[family] / "gain.csv"), read_hdf5(done[family] / "gain.h5")
    assert table["layer"].tolist() == [0, 1]
    assert table["relative_depth"].tolist() == [0.5, 1.0]
    assert set(table["mixer"]) == {"ssm" if family == "mamba" else "attention"}
    for source in ("last", "all"):
        for target in ("logits", "centred_logits", "final"):
            name = f"{source}_{target}"
            sigma = data.array(f"gain/spectral_{name}")
            assert sigma.shape == (2, 2)
            np.testing.assert_allclose(table[f"spectral_{name}"], np.median(sigma, axis=1))
            np.testing.assert_allclose(table[f"spectral_{name}_max"], sigma.max(axis=1))
            # Hutchinson's estimate of 8 probes may lie below the spectral norm, but not by many standard errors.
            slack = 5 * data.array(f"gain/frobenius_error_{name}")
            assert (data.array(f"gain/frobenius_{name}") + slack >= sigma).all()
    assert (table["spectral_all_logits"] >= table["spectral_last_logits"] * (1 - 1e-4)).all()
    assert (table["unconverged"] == 0).all()
    assert (table["max_residual"] <= 1e-3).all()
    ratio = data.array("sensitivity/ratio_absolute")
    assert ratio.shape == (2, 3, 4)
    np.testing.assert_allclose(table["sensitivity_absolute_mean"], ratio.mean(axis=(1, 2)))
    # The standard deviation is over texts, of the means over draws: a real one.
    np.testing.assert_allclose(table["sensitivity_absolute_std"], ratio.mean(axis=2).std(axis=1, ddof=1))
    assert (table["sensitivity_absolute_std"] > 0).all()
    told = read_json(done[family] / "gain.json")
    assert told["largest_spectral"]["last_logits"]["value"] == table["spectral_last_logits"].max()
    assert (told["texts"], told["gain_texts"], told["n_layers"]) == (9, 2, 2)


@pytest.mark.parametrize("family", ["mamba", "gpt2"])
def test_secants_and_variance_are_those_of_plain_forwards(done: dict[str, Path], open_tiny: Any, family: str) -> None:
    """A second implementation: the model's own forwards of the same texts."""
    import torch

    loaded = open_tiny(family).loaded
    logits, states = [], []
    for text in texts("prompts", 9):
        ids = torch.tensor([loaded.tokenizer(text)["input_ids"]])
        with torch.no_grad(), loaded.anatomy.record(("residual.1",)) as record:
            logits.append(loaded.model(input_ids=ids).logits[0, -1].double().numpy())
        states.append(record["residual.1"][0, -1].double().numpy())
    table = read_csv(done[family] / "gain.csv")
    slopes = [np.linalg.norm(logits[i] - logits[i + 1]) / np.linalg.norm(states[i] - states[i + 1]) for i in range(5)]
    # With and without a cache rounds differently.
    assert table["secant_mean"][0] == pytest.approx(np.mean(slopes), rel=1e-4)
    assert table["secant_max"][0] == pytest.approx(np.max(slopes), rel=1e-4)
    assert table["secant_pairs"].tolist() == [5, 5]
    variance = np.stack(logits).var(axis=0, ddof=1).mean()
    np.testing.assert_allclose(table["output_variance"], variance, rtol=1e-4)


def test_effective_ranks_say_how_many_states_they_are_of(done: dict[str, Path]) -> None:
    ranks, table = read_csv(done["gpt2"] / "ranks.csv"), read_csv(done["gpt2"] / "gain.csv")
    assert len(ranks) == 2 * 2 * 2 * 2
    last = ranks[(ranks["level"] == "last") & (ranks["centring"] == "centred")]
    assert (last["samples"] == 9).all()
    assert (last["limit"] == 8).all()
    assert (last["effective_rank"] < last["limit"]).all()
    np.testing.assert_allclose(last["saturation"], last["effective_rank"] / last["limit"])
    tokens = ranks[ranks["level"] == "token"]
    assert (tokens["samples"] > 9).all()
    row = ranks[(ranks["layer"] == 1) & (ranks["level"] == "token") & (ranks["centring"] == "uncentred")]
    wide = row[row["spectrum"] == "sigma2"]["effective_rank"].iloc[0]
    assert table["erank_token_uncentred_sigma2"][1] == wide


def test_layers_and_texts_are_options_with_an_effect(open_tiny: Any, done: dict[str, Path], tmp_path: Path) -> None:
    folder = run(open_tiny("gpt2"), tmp_path, layers=["last"], num_texts=5, targets=["final"], skip_first=False)
    table, whole = read_csv(folder / "gain.csv"), read_csv(done["gpt2"] / "gain.csv")
    assert table["layer"].tolist() == [1]
    assert table["texts"].tolist() == [5]
    assert table["last_states"].tolist() == [5]
    # Start vectors, probes and graph do not depend on which layers are asked for.
    assert table["spectral_last_final"][0] == pytest.approx(whole["spectral_last_final"][1], rel=1e-6)
    assert table["spectral_last_logits"].isna().all()
    assert table["sensitivity_relative_last_over_derivative"].isna().all()


def test_finite_differences_agree_with_the_derivative_where_steps_are_small(open_tiny: Any, tmp_path: Path) -> None:
    folder = run(open_tiny("gpt2"), tmp_path, epsilon=1e-3, draws=60, probes=100, gain_texts=3)
    table = read_csv(folder / "gain.csv")
    for source in ("last", "all"):
        # 60 draws and 100 probes of quadratic forms: some percent each; the median of three texts.
        np.testing.assert_allclose(table[f"sensitivity_relative_{source}_over_derivative"], 1.0, rtol=0.15)


def test_dense_and_lanczos_agree(open_tiny: Any, done: dict[str, Path], tmp_path: Path) -> None:
    table = read_csv(run(open_tiny("mamba"), tmp_path, method="dense") / "gain.csv")
    other = read_csv(done["mamba"] / "gain.csv")
    for name in ("last_logits", "all_logits", "last_centred_logits", "all_final"):
        # A residual of 1e-3 leaves the value within its square, float32 products within 1e-6.
        np.testing.assert_allclose(table[f"spectral_{name}"], other[f"spectral_{name}"], rtol=1e-5)
        error = 5 * other[f"frobenius_{name}_error"]
        assert (abs(table[f"frobenius_{name}"] - other[f"frobenius_{name}"]) < error).all()
        assert (table[f"frobenius_{name}_error"] == 0).all()
    assert (table["max_residual"] < 1e-9).all()


def test_texts_take_turns_and_come_from_files(tmp_path: Path) -> None:
    found = texts("prompts", 20)
    assert len(set(found)) == 20
    assert texts("statements", 15)[0].startswith(found[0])
    assert len(texts("passages", 4)) == 4
    lines = tmp_path / "mine.txt"
    lines.write_text("One text.\n\nAnother text.\n")
    assert texts("mine.txt", 2, lines) == ["One text.", "Another text."]
    table = tmp_path / "mine.tsv"
    table.write_text("relation\ttext\nP36\tFrance's capital is Paris.\n")
    assert texts("mine.tsv", 1, table) == ["France's capital is Paris."]
    with pytest.raises(ConfigError, match=r"num_texts asks for 3 texts, but 'mine.txt' has 2"):
        texts("mine.txt", 3, lines)
    table.write_text("relation\tsentence\nP36\tFrance.\n")
    with pytest.raises(ConfigError, match="no column 'text'"):
        texts("mine.tsv", 1, table)
    table.write_text("relation\ttext\nP36\n")
    with pytest.raises(ConfigError, match=r"row 2 of .* has not as many cells"):
        texts("mine.tsv", 1, table)


def test_layers_that_are_not_there(open_tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"delta\.jacobian\.layers asks for block 7, but the model has blocks 0 to 1"):
        run(open_tiny("gpt2"), tmp_path, layers=[0, 7])
    with pytest.raises(ConfigError, match=r"gives 2 states for an effective rank; raise it"):
        run(open_tiny("gpt2"), tmp_path, num_texts=2)


def test_another_function_is_not_differentiated(open_tiny: Any) -> None:
    loaded = open_tiny("gpt2").loaded
    plain = np.ones(50)
    delta_jacobian._same_function(plain * (1 + 1e-5), plain, loaded)
    with pytest.raises(NumericsError, match="differ from the model's own"):
        delta_jacobian._same_function(plain * 1.05, plain, loaded)


def test_the_comparison_is_over_depth(done: dict[str, Path], tmp_path: Path) -> None:
    tables = [done[family] / "gain.csv" for family in done]
    rows = [{"model": family} for family in done]
    delta_depths.compare(tables, rows, depths=3, output=tmp_path / "comparison.csv", provenance=ORIGIN)
    found = read_csv(tmp_path / "comparison.csv")
    assert sorted(set(found["relative_depth"])) == [0.5, 0.75, 1.0]
    one = found[found["measure"] == "spectral_last_logits"].set_index(["model", "relative_depth"])["value"]
    mamba, gpt2 = (read_csv(path)["spectral_last_logits"].to_numpy() for path in tables)
    assert one["mamba", 0.5] == pytest.approx(mamba[0])
    assert one["mamba", 0.75] == pytest.approx(np.sqrt(mamba[0] * mamba[1]))  # halfway in the logarithm
    ratio = found[(found["measure"] == "spectral_last_logits") & (found["model"] == "gpt2")]["ratio_to_first"]
    assert ratio.iloc[-1] == pytest.approx(gpt2[1] / mamba[1])
    assert found[found["model"] == "mamba"]["ratio_to_first"].dropna().eq(1.0).all()


def test_models_without_a_common_depth_are_not_compared(done: dict[str, Path], tmp_path: Path) -> None:
    frame = read_csv(done["gpt2"] / "gain.csv")
    frame["relative_depth"] = [0.1, 0.2]
    write_csv(tmp_path / "other.csv", frame, provenance={})
    with pytest.raises(ArtifactError, match="share no relative depth"):
        delta_depths.compare(
            [done["mamba"] / "gain.csv", tmp_path / "other.csv"], [{"model": "a"}, {"model": "b"}], depths=3,
            output=tmp_path / "comparison.csv", provenance=ORIGIN,
        )  # fmt: skip


def test_the_summary_has_a_row_for_each_model_and_layer(done: dict[str, Path], tmp_path: Path) -> None:
    tables = [done[family] / "gain.csv" for family in done]
    rows = [{"model": family} for family in done]
    summaries.stack("delta/jacobian", tables, rows, output=tmp_path / "summary.csv", provenance=ORIGIN)
    found = read_csv(tmp_path / "summary.csv")
    assert found[["model", "layer"]].to_numpy().tolist() == [["mamba", 0], ["mamba", 1], ["gpt2", 0], ["gpt2", 1]]
    assert isinstance(found, pd.DataFrame)


def test_models_that_nobody_defined_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"delta\.models: 'mambo' is not defined under `models`"):
        load({"delta": {"models": ["mambo", "gpt2"]}})
    assert load({"models": {"m": {"source": "path", "path": "x"}}, "select": {"models": ["m"]}}).delta.models
