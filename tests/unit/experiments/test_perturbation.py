"""The perturbation tests: lattice cancellation bit for bit, unit noise, metrics by numpy, states normed once."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tremor.config import Config, block
from tremor.experiments import perturbation, summaries
from tremor.models.loader import LoadedModel
from tremor.probe.base import base_point, to_array
from tremor.statistics.perturbation import KINDS, noise_directions, state_metrics, token_metrics
from tremor.store.tables import read_csv

ORIGIN: dict[str, Any] = {"config": {}, "code": "code-digest", "inputs": {}}
PROMPTS = {"capital": {"text": "The capital of France is", "bos": "auto"}}
ORIGINAL_COLUMNS = {
    "power", "magnitude", "perturbation_type", "original_token", "new_token", "token_changed", "original_prob",
    "new_prob", "logit_diff", "embedding_diff", "diff_mean", "diff_std",
    *(f"per_token_{name}_{what}" for name in ("norm", "cosine") for what in ("mean", "std", "min", "max")),
    *(f"hidden_{what}_{side}_norm" for what in ("l2", "cosine") for side in ("before", "after")),
    *(f"hidden_norm_{side}_{which}" for side in ("before", "after") for which in ("orig", "pert")),
}  # fmt: skip


@pytest.fixture(scope="module")
def table(chain: Any, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("perturbation")
    settings = {**block(Config(), "perturbation"), "lattice_powers": [-10, 2, 30], "relative_powers": [-3, 0]}
    settings |= {"absolute_powers": [-4]}
    perturbation.measure(
        chain.session, PROMPTS, precision="float32", settings=settings, table=folder / "p.csv",
        statistics=folder / "s.json", provenance=ORIGIN,
    )  # fmt: skip
    rows = [{"model": "m", "precision": "float32"}]
    summaries.gather("perturbation", [folder / "s.json"], rows, output=folder / "sum.csv", provenance=ORIGIN)
    assert read_csv(folder / "sum.csv")["lattice_rows"].iloc[0] == 3
    return read_csv(folder / "p.csv")


def test_the_table_has_every_perturbation_and_the_originals_columns(table: pd.DataFrame) -> None:
    assert set(table.columns) >= ORIGINAL_COLUMNS
    assert len(table) == 3 + 4 * (2 + 1)
    assert set(table["perturbation_type"]) == {"constant_positive", *KINDS}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_cancellation_is_that_of_the_lattice(dtype: torch.dtype) -> None:
    embeddings = (0.02 * torch.randn(5, 64, generator=torch.Generator().manual_seed(0))).to(dtype)
    digits = {torch.bfloat16: 8, torch.float16: 11, torch.float32: 24}[dtype]
    for power in (-10, -3, 0, 5):
        left = perturbation.cancelled(embeddings, 2.0**power).double()
        # E + c lies in the binade of c or, for E < 0, the one below; what is left is a multiple of its spacing.
        spacing = 2.0 ** (power - digits)
        if power > -3:  # where c is the larger one throughout
            assert torch.equal((left / spacing).round() * spacing, left)
            assert float((left - embeddings.double()).abs().max()) <= spacing
    lost = perturbation.cancelled(embeddings, 2.0 ** (15 if dtype == torch.float16 else 30))
    assert not lost.any()  # nothing is left; not a test of small noise


def test_rows_are_single_forwards_normed_once(table: pd.DataFrame, chain: Any) -> None:
    loaded = chain.session.loaded
    embeddings = base_point(loaded, PROMPTS["capital"]["text"]).embeddings
    row = table[(table["scale"] == "lattice") & (table["power"] == 30)].iloc[0]
    with torch.no_grad():
        states = []
        for sequence in (embeddings, torch.zeros_like(embeddings)):
            out = loaded.model(inputs_embeds=sequence[None], output_hidden_states=True, use_cache=False)
            states.append(
                (to_array(out.hidden_states[-1][0, -1]).astype(float), to_array(out.logits[0, -1]).astype(float))
            )
    (before, first), (after, second) = states
    # transformers' last hidden state is normed already; norming it again was the original's "after norm".
    assert row["hidden_norm_after_orig"] == pytest.approx(np.linalg.norm(before), rel=1e-6)
    assert row["hidden_l2_after_norm"] == pytest.approx(np.linalg.norm(after - before), rel=1e-4)
    assert row["hidden_norm_before_orig"] != pytest.approx(np.linalg.norm(before), rel=1e-2)
    assert row["logit_diff"] == pytest.approx(np.linalg.norm(second - first), rel=1e-4)
    assert row["token_changed"] == (first.argmax() != second.argmax())
    assert row["new_prob"] == pytest.approx(np.exp(second - second.max()).max() / np.exp(second - second.max()).sum())


def test_noise_is_as_long_as_it_says(table: pd.DataFrame, chain: Any) -> None:
    embeddings = to_array(base_point(chain.session.loaded, PROMPTS["capital"]["text"]).embeddings).astype(np.float64)
    relative = table[table["scale"] == "relative"]
    # Rounding to float32: 1e-7 of an embedding, a ten-thousandth of noise of 1e-3.
    np.testing.assert_allclose(relative["relative_embedding_diff"], relative["magnitude"], rtol=1e-3)
    absolute = table[table["scale"] == "absolute"]
    np.testing.assert_allclose(absolute["per_token_norm_mean"], 2.0**-4, rtol=1e-4)
    np.testing.assert_allclose(absolute["embedding_diff"], 2.0**-4 * np.sqrt(len(embeddings)), rtol=1e-4)


def test_directions_are_seeded_unit_vectors_that_do_not_depend_on_the_other_kinds() -> None:
    found = noise_directions(KINDS, 7, 50, seed=1)
    for kind, rows in found.items():
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
        np.testing.assert_array_equal(noise_directions([kind], 7, 50, seed=1)[kind], rows)
        if kind != "single_dimension":
            assert np.abs(noise_directions([kind], 7, 50, seed=2)[kind] - rows).max() > 0
    assert np.count_nonzero(found["single_dimension"]) == 7
    np.testing.assert_allclose(np.abs(found["sign"]), 1 / np.sqrt(50))
    with pytest.raises(ValueError, match="unknown kind"):
        noise_directions(["pink"], 1, 2, seed=0)


def test_metrics_of_one_token_and_of_a_lost_one() -> None:
    one = token_metrics(np.array([[3.0, 4.0]]), np.array([[3.0, 4.5]]))
    assert one["per_token_norm_std"] == 0  # the original's was NaN
    assert one["embedding_diff"] == 0.5
    assert one["relative_embedding_diff"] == 0.1
    assert one["per_token_cosine_mean"] <= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lost = token_metrics(np.ones((2, 3)), np.zeros((2, 3)))
        assert lost["relative_embedding_diff"] == 1
        assert np.isnan(lost["per_token_cosine_mean"])
        assert np.isnan(state_metrics(np.ones(2), np.zeros(2), "after")["hidden_cosine_after_norm"])
    # float32 vectors whose float32 cosine exceeds 1
    v = np.full(1000, 0.1, dtype=np.float32)
    assert state_metrics(v, v, "before")["hidden_cosine_before_norm"] <= 1


def test_bfloat16_noise_is_rounded_once(loaded_model: Callable[..., LoadedModel]) -> None:
    loaded = loaded_model("llama", "bfloat16")
    embeddings = base_point(loaded, "Hello").embeddings
    settings = {
        "lattice_powers": [0],
        "kinds": ["gaussian"],
        "relative_powers": [-2],
        "absolute_powers": [-2],
        "seed": 0,
    }
    found = list(perturbation.noisy(embeddings, settings))
    assert [(kind, scale) for kind, scale, *_ in found] == [
        ("constant_positive", "lattice"), ("gaussian", "relative"), ("gaussian", "absolute"),
    ]  # fmt: skip
    assert all(sequence.dtype == torch.bfloat16 and sequence.shape == embeddings.shape for *_, sequence in found)
