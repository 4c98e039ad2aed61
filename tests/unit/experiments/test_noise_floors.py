"""noise_floors on a tiny Llama: distances by hand, sizes by the type's rounding, controls, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tremor.config import Config
from tremor.errors import ArtifactError, ConfigError, PlatformError, PromptError
from tremor.experiments import floor_page, noise_floors, summaries
from tremor.experiments.columns import COLUMNS
from tremor.experiments.prompt_set import read_prompts
from tremor.experiments.session import Session
from tremor.graph import Graph
from tremor.models import loader, true64
from tremor.probe.base import base_point
from tremor.probe.response import Response
from tremor.statistics.floors import UNIT_ROUNDOFF, distances
from tremor.store.tables import read_csv, table_provenance

PROMPTS = Path(__file__).resolve().parents[3] / "resources/prompts/lipschitz.tsv"
SETTINGS = {
    "names": ["capital", "bank", "sum"], "bos": "auto", "dtypes": ["float32", "bfloat16", "float16"],
    "modes": ["reference", "batched"], "batch_size": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(
    open_tiny: Callable[..., Session], saved_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("floors")
    session = open_tiny(dtype="float16")
    noise_floors.measure(
        session,
        directory=saved_model("llama"),
        prompts=PROMPTS,
        settings=SETTINGS,
        table=folder / "floors.csv",
        details=folder / "prompts.csv",
        provenance={"config": {}, "code": "code-digest", "inputs": {}},
    )
    return SimpleNamespace(folder=folder, table=read_csv(folder / "floors.csv"), rows=read_csv(folder / "prompts.csv"))


def by_hand(folder: Path, dtype: str, ids: Any) -> tuple[Any, Any, Any, Any]:
    """State and logits in a type and in true float64 of the same weights, through the model's public interface."""
    loaded = loader.load(folder, dtype=dtype, device="cpu", attention="sdpa")
    with torch.no_grad():
        inner = loaded.model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
        outer = loaded.model(input_ids=ids, use_cache=False).logits[0, -1]
        wide = true64.convert(loaded)
        truth = wide.model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
        logits = wide.model(input_ids=ids, use_cache=False).logits[0, -1]
    return tuple(value.double().numpy() for value in (inner, outer, truth, logits))


@pytest.mark.parametrize("dtype", SETTINGS["dtypes"])
def test_a_floor_is_the_distance_computed_by_hand(
    dtype: str, measured: SimpleNamespace, saved_model: Callable[[str], Path]
):
    folder = saved_model("llama")
    (prompt,) = read_prompts(PROMPTS, ["bank"])
    tokenizer = loader.load(folder, dtype="float32", device="cpu", attention="sdpa").tokenizer
    state, logits, truth, exact = by_hand(folder, dtype, torch.tensor([tokenizer(prompt.text)["input_ids"]]))
    row = measured.rows.set_index(["dtype", "mode", "prompt"]).loc[dtype, "reference", "bank"]
    # The state is the same call of the same model; only the float64 sums of the norms may be ordered otherwise.
    wanted = np.sqrt(((state - truth) ** 2).sum()) / np.sqrt((truth**2).sum())
    np.testing.assert_allclose(row["state_relative_l2"], wanted, rtol=1e-12)
    # Logits of one row or of all positions are other shapes of a product: they differ by a rounding or two of theirs.
    far = np.abs(logits - exact).max()
    slack = 4 * UNIT_ROUNDOFF[dtype] * np.abs(exact).max()
    assert abs(row["logit_error"] - far) <= slack
    assert row["logit_error"] <= far + slack


def test_floors_are_some_roundings_of_each_type(measured: SimpleNamespace):
    table = measured.table.set_index(["dtype", "mode"])
    assert list(table.index) == [(d, m) for d in SETTINGS["dtypes"] for m in SETTINGS["modes"]]
    # Two blocks of width 32 round some ten times one after the other: between a fifth of a rounding and twenty.
    assert table["state_median_roundoffs"].between(0.2, 20).all()
    for what in ("state_median", "logits_median"):
        single, half, brain = (table.loc[(d, "reference"), what] for d in ("float32", "float16", "bfloat16"))
        # Roundoffs are as 1 : 2^13 : 2^16; sums in float32 inside make the narrow types up to ten times better.
        assert 2**13 / 20 < half / single < 2**13 * 4
        assert 2 < brain / half < 32  # 8 but for accumulation
    assert (table["state_median"] <= table["state_max"]).all()
    assert (table["logit_error_median"] <= table["logit_error_max"]).all()


def test_rounding_the_weights_is_told_apart(measured: SimpleNamespace):
    """The tiny model is stored in float32: its own type rounds nothing, bfloat16 more than float16."""
    table = measured.table.set_index(["dtype", "mode"])["weights_median"].xs("reference", level="mode")
    assert table["float32"] == 0.0
    assert 0 < table["float16"] < table["bfloat16"] < 0.1


def test_controls_and_bits(measured: SimpleNamespace, open_tiny: Callable[..., Session]):
    table = measured.table
    assert (table["prompts"] == 3).all()
    reference = table[table["mode"] == "reference"]
    assert (reference["controls_exact"] == 3).all()  # one row, twice, on a CPU
    assert (reference["logits_exact"] == 3).all()
    assert (reference["controls_worst_ulps"] == 0).all()
    assert set(reference["batch_size"]) == {1}
    assert set(table["batch_size"][table["mode"] == "batched"]) == {3}
    assert reference["bits"].nunique() == 3
    assert list(table.columns) == list(COLUMNS["noise_floors"])
    assert table_provenance(measured.folder / "floors.csv")["model"]["alias"] == "tiny"
    # Whether three rows of a batch get equal bits is the machine's affair; what is told is what a response finds.
    session = open_tiny()
    for prompt in read_prompts(PROMPTS, SETTINGS["names"]):
        base = base_point(session.loaded, prompt.text)
        found = Response(session.loaded, base, mode="batched", batch_size=3, require_exact=False).control
        row = measured.rows.set_index(["dtype", "mode", "prompt"]).loc["float32", "batched", prompt.name]
        assert (row["control_exact"], row["control_worst_ulps"]) == (found.exact, found.worst_ulps)


def test_distances():
    far, largest = distances(np.array([3.0, 4.5], dtype=np.float32), np.array([3.0, 4.0]))
    assert far == 0.1  # 0.5 / 5
    assert largest == 0.5


def test_auto_takes_each_arithmetic_once():
    plain = Config().model_dump(mode="json")
    found = Graph(plain, home=PROMPTS.parents[2]).floor_platforms
    assert {"native", "baseline", "mkl_compatible", "eager", "one_thread"} <= set(found)
    assert not {"again", "uncached", "bfloat16"} & set(found)  # native by another name, decoding, or type
    plain["platforms"]["far"] = {**plain["platforms"]["native"], "imported": True, "threads": 7}
    assert "far" not in Graph(plain, home=PROMPTS.parents[2]).floor_platforms
    plain["noise_floors"]["platforms"] = ["nativ"]
    with pytest.raises(ConfigError, match=r"noise_floors\.platforms: 'nativ' is not defined under `platforms`"):
        Graph(plain, home=PROMPTS.parents[2])


def test_an_unknown_prompt_is_refused(chain: Any, tmp_path: Path):
    with pytest.raises(PromptError, match="no prompt is called 'nobody'"):
        noise_floors.measure(
            chain.session,
            directory=tmp_path,
            prompts=PROMPTS,
            settings={**SETTINGS, "names": ["nobody"]},
            table=tmp_path / "a.csv",
            details=tmp_path / "b.csv",
            provenance={},
        )


def test_a_failed_control_is_a_result_only_here(chain: Any, monkeypatch: pytest.MonkeyPatch):
    """A kernel that adds noise to every second call: an exact experiment stops, the floor says so."""
    plain, calls = Response._forward, iter(range(10**6))

    def noisy(self: Response, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        found = plain(self, rows)
        return {k: v * (1 + 1e-6 * (next(calls) % 2)) for k, v in found.items()}

    monkeypatch.setattr(Response, "_forward", noisy)
    (prompt,) = read_prompts(PROMPTS, ["capital"])
    told = noise_floors.answer(chain.session.loaded, prompt, mode="batched", batch_size=2, bos="auto")
    assert not told.control.exact
    assert told.control.worst_ulps > 0
    base = base_point(chain.session.loaded, prompt.text)
    with pytest.raises(PlatformError, match="the A/A control failed at batch size 2"):
        Response(chain.session.loaded, base, mode="batched", batch_size=2)


def test_the_table_of_a_page(measured: SimpleNamespace):
    summary = measured.table.assign(model="tiny", platform="native")
    lines = floor_page.markdown(summary).splitlines()
    assert len(lines) == 2 + len(summary)
    first = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert first[:4] == ["tiny", "native", "float32", "reference"]
    assert first[4] == f"{measured.table['state_median'][0]:.1e}"
    page = f"a\n{floor_page.BEGIN}\nold\n{floor_page.END}\nb\n"
    assert floor_page.replaced(page, "new\n") == f"a\n{floor_page.BEGIN}\nnew\n{floor_page.END}\nb\n"
    with pytest.raises(ArtifactError, match="put them in"):
        floor_page.replaced("a\n", "new\n")


def test_the_page_is_rewritten_from_a_summary(measured: SimpleNamespace, tmp_path: Path):
    summary, page = tmp_path / "summary.csv", tmp_path / "page.md"
    names = [{"model": "tiny", "platform": "native"}]
    origin = {"config": {}, "code": "", "inputs": {}}
    summaries.stack("noise_floors", [measured.folder / "floors.csv"], names, output=summary, provenance=origin)
    page.write_text(f"{floor_page.BEGIN}\n{floor_page.END}\n", encoding="utf-8")
    assert floor_page.main([str(summary), str(page)]) == 0
    assert page.read_text(encoding="utf-8").count("| tiny | native |") == 6
    assert isinstance(read_csv(summary), pd.DataFrame)
