"""The Lipschitz studies in process: a dense and a mixture-of-experts model, and the report against numpy."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tremor.config import Config, block
from tremor.experiments import lipschitz, summaries
from tremor.models.loader import LoadedModel
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv

ORIGIN: dict[str, Any] = {"config": {}, "code": "code-digest", "inputs": {}}
PROMPTS = Path(__file__).parents[3] / "resources/prompts/lipschitz.tsv"
PROMPT = {"text": "The capital of France is", "bos": "auto"}
SMALL = {
    "names": ["capital"], "archive_powers": [1, -2, -6, -15], "archive_ranks": [7, 4096, "last"],
    "gpt_oss_powers": [1, -3], "gpt_oss_ranks": [10], "floor_samples": 8,
}  # fmt: skip


def run(session: Any, chain: Any, folder: Path, study: str, **changes: Any) -> pd.DataFrame:
    folder.mkdir(exist_ok=True)
    lipschitz.measure(
        session,
        study=study,
        prompts=PROMPTS,
        probe=chain.settings("probe", batch_size="auto"),
        spectrum=chain.settings("spectrum"),
        settings={**block(Config(), "lipschitz"), **SMALL, **changes},
        data=folder / "spectra.h5",
        table=folder / "prompts.csv",
        quotients=folder / "quotients.csv",
        statistics=folder / "statistics.json",
        provenance=ORIGIN,
    )
    return read_csv(folder / "quotients.csv")


def test_archive_of_a_dense_model(chain: Any, tmp_path: Path) -> None:
    table = run(chain.session, chain, tmp_path, "archive")
    width = len(read_hdf5(tmp_path / "spectra.h5").array("capital/singular_values"))
    assert list(dict.fromkeys(table["dimension"])) == [1, 2, 3, 4, 5, 7, width]
    assert "router_flips" not in table.columns
    found = read_json(tmp_path / "statistics.json")
    assert found["router"] == {
        "layers": 0, "rows_flipped": None, "smallest_step_flipped": None, "largest_step_unflipped": None,
    }  # fmt: skip
    still = table["moved_coordinates"] == 0
    assert (table.loc[still, "output_diff_norm"] == 0).all()
    assert found["evaluated_inputs"] == 1 + (~still).sum()


@pytest.mark.parametrize("family", ["gpt_oss", "mixtral"])
def test_router_flips_are_recorded_by_layer(
    family: str, chain: Any, loaded_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    session = replace(chain.session, loaded=loaded_model(family))
    table = run(session, chain, tmp_path / "a", "gpt_oss")
    flips = read_hdf5(tmp_path / "a/spectra.h5").array("capital/router_flips")
    assert flips.shape == (len(table), 2)
    np.testing.assert_array_equal(table["router_flips"], flips.sum(axis=1))
    np.testing.assert_array_equal(table["router_layers_flipped"], (flips > 0).sum(axis=1))
    # A step of ten replaces the embedding, and other experts answer; one of 1e-3 hardly moves a router's scores.
    assert table.loc[table["epsilon_power"] == 1, "router_flips"].max() > 0
    found = read_json(tmp_path / "a/statistics.json")["router"]
    assert found["layers"] == 2
    assert found["rows_flipped"] == (table["router_flips"] > 0).sum()
    without = run(session, chain, tmp_path / "b", "gpt_oss", routing=False)
    assert "router_flips" not in without.columns


def test_the_report_is_numpys_and_says_whether_it_is_noise(chain: Any, tmp_path: Path) -> None:
    spectrum = chain.spectrum(tmp_path / "s")
    outputs = {"data": tmp_path / "v.h5", "text": tmp_path / "report.txt", "statistics": tmp_path / "r.json"}
    for size, above in ((1e-2, True), (1e-9, False)):
        settings = {**block(Config(), "lipschitz"), **SMALL, "report_step": size}
        lipschitz.report(
            chain.session, PROMPT, probe=chain.settings("probe"), settings=settings, spectrum=spectrum, **outputs,
            provenance=ORIGIN,
        )  # fmt: skip
        kept, found = read_hdf5(outputs["data"]), read_json(outputs["statistics"])
        x, p, v = (kept.array(name) for name in ("x0", "perturbed_input", "singular_direction"))
        np.testing.assert_array_equal(p, x + np.float32(size) * v)
        difference = kept.array("fx_pert_hidden_state").astype(np.float64) - kept.array("fx_hidden_state")
        np.testing.assert_array_equal(kept.array("hidden_state_diff"), difference)
        assert found["quotient_nominal"] == np.linalg.norm(difference) / size
        assert found["realised_l2"] == pytest.approx(np.linalg.norm(p.astype(np.float64) - x), rel=1e-12)
        assert found["above_floor"] is above
        text = outputs["text"].read_text(encoding="utf-8")
        assert f"is {'above' if above else 'not above'} the 95 %" in text
        assert f"{found['sigma']:.6g}" in text
    rows = [{"model": "m", "prompt": "capital"}]
    summaries.gather(
        "lipschitz_report", [outputs["statistics"]], rows, output=tmp_path / "reports.csv", provenance=ORIGIN
    )
    assert read_csv(tmp_path / "reports.csv")["epsilon"].iloc[0] == 1e-9


def test_summary_of_the_studies(chain: Any, tmp_path: Path) -> None:
    run(chain.session, chain, tmp_path, "gpt_oss")
    rows = [{"model": "m", "study": "gpt_oss"}]
    summaries.gather("lipschitz", [tmp_path / "statistics.json"], rows, output=tmp_path / "s.csv", provenance=ORIGIN)
    row = read_csv(tmp_path / "s.csv").iloc[0]
    assert row["router_layers"] == 0
    assert row["rows"] == 2 * 6
    shutil.rmtree(tmp_path)
