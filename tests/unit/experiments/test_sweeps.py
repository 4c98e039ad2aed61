"""exp10, parts 3 to 5: steps are accounted for as they were realised."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tremor.errors import ArtifactError, ConfigError
from tremor.experiments import sweeps
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv, write_csv

ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}
PROMPT = {"text": "The capital of France is", "bos": "auto"}


def spectral_norms(chain: Any, folder: Path, **changes: float) -> Path:
    """A table as exp9 writes it, with the norms of the tiny model's first block by an SVD."""
    anatomy = chain.session.loaded.anatomy
    rows = []
    for component in ("q", "gate"):
        piece = getattr(anatomy.block_parts[0].projections, component)
        norm = float(np.linalg.norm(anatomy.select(piece).double().numpy(), 2))
        rows.append((piece.parameter, piece.parameter, 0, component, False, changes.get(component, norm)))
    frame = pd.DataFrame(rows, columns=["name", "tensor", "block", "component", "fused", "spectral_norm"])
    write_csv(folder / "matrices.csv", frame.astype({"block": "Int64"}), provenance={})
    return folder / "matrices.csv"


def run(chain: Any, folder: Path, *, norms: dict[str, float] | None = None, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    sweeps.measure(
        chain.session,
        PROMPT,
        settings=chain.settings("exp10", **{"powers": [-2, -4, -7, -9, -11], "noise_samples": 4, **changes}),
        matrices=spectral_norms(chain, folder, **(norms or {})),
        data=folder / "sweep.h5",
        sweep=folder / "sweep.csv",
        subjects=folder / "subjects.csv",
        statistics=folder / "statistics.json",
        provenance=ORIGIN,
    )
    return folder


@pytest.fixture(scope="module")
def swept(chain: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(chain, tmp_path_factory.mktemp("sweeps"))


def test_a_step_of_which_nothing_is_left_has_no_magnification(swept: Path) -> None:
    """The original counted coordinates of the intended step: at 1e-11 all of them, with magnification 0."""
    table = read_csv(swept / "sweep.csv")
    still = table[table["moved_coordinates"] == 0]
    assert len(still) > 0
    assert still["magnification_realised"].isna().all()
    assert (still[["realised_l2", "output_l2", "changed_outputs", "smooth_l2"]].to_numpy() == 0).all()
    assert set(table["epsilon"]) == {1e-2, 1e-4, 1e-7, 1e-9, 1e-11}


def test_realised_steps_by_hand(swept: Path) -> None:
    table, data = read_csv(swept / "sweep.csv"), read_hdf5(swept / "sweep.h5")
    for _, row in table.iterrows():
        x, direction = data.array(f"{row['subject']}/x"), data.array(f"{row['subject']}/{row['direction']}")
        step = np.float32(row["epsilon"]) * direction
        moved = (x + step).astype(np.float32)
        assert row["moved_coordinates"] == np.sum(moved != x)
        length = np.linalg.norm(moved.astype(np.float64) - x.astype(np.float64))
        # The direction's own length is 1 to float32 rounding.
        assert row["realised_l2"] == pytest.approx(length, rel=1e-12, abs=0)


def test_large_steps_meet_the_jacobian_and_the_top_direction_its_norm(swept: Path) -> None:
    """The original stepped along a random direction only, which never meets the norm it printed."""
    table, subjects = read_csv(swept / "sweep.csv"), read_csv(swept / "subjects.csv").set_index("subject")
    assert subjects.index.tolist() == ["matrices", "weight", "mlp"]
    assert subjects["converged"].all()
    linear = table[(table["subject"] == "matrices") & (table["epsilon"] == 1e-2)].set_index("direction")
    sigma = subjects.loc["matrices", "spectral_norm"]
    # Rounding of the chain (noise floor 1e-5 at worst) over a step of 1e-2.
    assert linear.loc["top", "magnification_realised"] == pytest.approx(sigma, rel=1e-3)
    assert linear.loc["random", "magnification_realised"] < 0.8 * sigma
    assert (subjects["gain_top"] - subjects["spectral_norm"]).abs().max() < 1e-3 * subjects["spectral_norm"].max()
    assert (subjects["gain_random"] <= subjects["spectral_norm"] * (1 + 1e-6)).all()
    moderate = table[table["epsilon"] == 1e-4]
    assert (moderate["residual_l2"] < 0.05 * moderate["output_l2"]).all()
    assert subjects.loc["weight", "norm"] == subjects.loc["mlp", "norm"] == "LlamaRMSNorm"
    assert np.isnan(subjects.loc["mlp", "weight_spectral_norm"])
    assert subjects.loc["weight", "weight_spectral_norm"] > 0


def test_equal_seeds_do_not_make_direction_and_input_parallel(chain: Any, tmp_path: Path) -> None:
    folder = run(chain, tmp_path, subjects=["matrices"], input_seed=3, direction_seed=3, dim=64, powers=[-3])
    data = read_hdf5(folder / "sweep.h5")
    x, direction = data.array("matrices/x"), data.array("matrices/random")
    # Independent vectors of 64 entries: the cosine has standard deviation 1/8.
    assert abs(x @ direction) / np.linalg.norm(x) < 0.6


def test_another_matrix_than_that_of_exp9_is_refused(chain: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="spectral norm"):
        run(chain, tmp_path, norms={"q": 123.0}, subjects=["weight"], powers=[-3])
    with pytest.raises(ArtifactError, match="has no spectral norm"):
        run(chain, tmp_path, subjects=["weight"], weight="k", powers=[-3])


def test_settings_that_fit_no_model(chain: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"exp10\.block"):
        run(chain, tmp_path, block=9)


def test_what_is_left_out_is_said(open_tiny: Any, chain: Any, tmp_path: Path) -> None:
    session = open_tiny("mamba")
    table = pd.DataFrame(
        [("x", "x", 0, "q", False, 1.0)], columns=["name", "tensor", "block", "component", "fused", "spectral_norm"]
    )
    write_csv(tmp_path / "m.csv", table, provenance={})
    settings = chain.settings("exp10", subjects=["matrices", "mlp"], powers=[-3], noise_samples=2)
    sweeps.measure(
        session, PROMPT, settings=settings, matrices=tmp_path / "m.csv", data=tmp_path / "d.h5",
        sweep=tmp_path / "s.csv", subjects=tmp_path / "t.csv", statistics=tmp_path / "j.json", provenance=ORIGIN,
    )  # fmt: skip
    assert list(read_json(tmp_path / "j.json")["left_out"]) == ["mlp"]
    with pytest.raises(ConfigError, match=r"exp10\.subjects"):
        sweeps.measure(
            session, PROMPT, settings={**settings, "subjects": ["mlp"]}, matrices=tmp_path / "m.csv",
            data=tmp_path / "d.h5", sweep=tmp_path / "s.csv", subjects=tmp_path / "t.csv",
            statistics=tmp_path / "j.json", provenance=ORIGIN,
        )  # fmt: skip
