"""The pdf study on a tiny Llama: a row for every word, whole-word sums, and going on after a kill."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tremor.config import Config, block
from tremor.documents import scoring
from tremor.documents.text import read_pdf
from tremor.errors import ConfigError
from tremor.experiments import document
from tremor.experiments.session import Session
from tremor.store.documents import read_json
from tremor.store.hdf5 import read_hdf5
from tremor.store.tables import read_csv

SAMPLE = Path(__file__).resolve().parents[3] / "resources/pdf/sample.pdf"
ORIGIN = {"config": {}, "code": "code-digest", "inputs": {}}
SMALL = {"batch_size": 4, "checkpoint": 2, "window": 32, "stride": 16}


def run(session: Session, folder: Path, **changes: object) -> SimpleNamespace:
    folder.mkdir(exist_ok=True)
    outputs = {"data": folder / "tokens.h5", "table": folder / "words.csv", "statistics": folder / "statistics.json"}
    settings = {**block(Config(), "pdf"), **SMALL, **changes}
    document.measure(session, SAMPLE, settings, **outputs, provenance=ORIGIN)
    return SimpleNamespace(**outputs)


@pytest.fixture(scope="module")
def tiny(open_tiny: Callable[..., Session]) -> Session:
    return open_tiny()


@pytest.fixture(scope="module")
def found(tiny: Session, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return run(tiny, tmp_path_factory.mktemp("pdf"))


def test_one_row_a_word(found: SimpleNamespace) -> None:
    """The original wrote every 25th position twice, once as a failure; no other column may hold an error either."""
    table = read_csv(found.table)
    words = read_pdf(SAMPLE).words
    assert table["text"].tolist() == [word.text for word in words]
    assert table["word"].tolist() == list(range(len(words)))
    assert table["page"].tolist() == [word.page for word in words]
    assert table["previous_word"].tolist()[1:] == [word.text for word in words[:-1]]
    assert {"1879", "€1.35;"} <= set(table["text"])
    assert (table["tokens"] > 0).all()


def test_words_sum_their_tokens(found: SimpleNamespace) -> None:
    table, arrays = read_csv(found.table), read_hdf5(found.data)
    token, word = arrays.array("position"), arrays.array("word")
    logs = pd.Series(arrays.array("log_probability")).groupby(word[token]).sum()
    scored = table["log_probability"].notna()
    # The same sum in another order: a few roundings of float64.
    assert table.loc[scored, "log_probability"].to_numpy() == pytest.approx(logs[scored].to_numpy(), rel=1e-14)
    several = table[(table["tokens"] > 1) & scored]
    assert len(several)
    assert (several["log_probability"] < several["first_token_log_probability"]).all()
    assert np.exp(table["log_probability"]).to_numpy() == pytest.approx(table["probability"].to_numpy(), nan_ok=True)
    first = np.searchsorted(word, table["word"])
    assert table["first_token_id"].dropna().tolist() == arrays.array("ids")[first][scored].tolist()


def test_statistics(found: SimpleNamespace) -> None:
    statistics, arrays, table = read_json(found.statistics), read_hdf5(found.data), read_csv(found.table)
    logs = arrays.array("log_probability")
    assert statistics["perplexity_per_token"] == pytest.approx(np.exp(-logs.mean()))
    assert statistics["scored_tokens"] == len(logs) == len(arrays.array("ids")) - (statistics["bos"] is None)
    bits = -logs.sum() / np.log(2)
    text = read_pdf(SAMPLE).text
    assert statistics["bits_per_byte"] == pytest.approx(bits / len(text.encode()))
    assert statistics["bits_per_character"] > statistics["bits_per_byte"]  # the text is not ASCII
    assert statistics["least_context_after_first_window"] >= 16
    lead = arrays.array("top_ids")[:, 0] == arrays.array("ids")[arrays.array("position")]
    assert statistics["token_accuracy"] == lead.mean()
    assert statistics["first_token"]["probability_max"] == table["first_token_probability"].max()


def test_without_a_begin_token_the_first_word_has_no_probability(tiny: Session, tmp_path: Path) -> None:
    found = run(tiny, tmp_path / "out", bos="never")
    row = read_csv(found.table).iloc[0]
    assert np.isnan(row["log_probability"])
    assert pd.isna(row["first_token_rank"])
    assert pd.isna(row["prediction_match"])
    statistics = read_json(found.statistics)
    assert statistics["scored_words"] == statistics["words"] - 1


def test_a_killed_job_goes_on(tiny: Session, tmp_path: Path, found: SimpleNamespace, monkeypatch) -> None:
    """Killed in the second part, then run again: the same bits, and no forward of the first part is repeated."""
    calls: list[int] = []
    states = scoring._states

    def dying(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 4:  # parts hold two forwards
            raise KeyboardInterrupt
        return states(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "_states", dying)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path / "out")
    partial = tmp_path / "out/tokens.partial"
    assert [path.name for path in partial.iterdir()] == ["000000.h5"]
    assert not (tmp_path / "out/tokens.h5").exists()
    again = run(tiny, tmp_path / "out")
    whole = read_hdf5(found.data)
    resumed = read_hdf5(again.data)
    assert {k: v.tobytes() for k, v in resumed.datasets.items() if v.dtype != object} == {
        k: v.tobytes() for k, v in whole.datasets.items() if v.dtype != object
    }
    forwards = -(-whole.attributes["windows"] // 4)
    assert len(calls) == 4 + forwards - 2
    assert not partial.exists()


def test_parts_of_other_settings_are_not_used(
    tiny: Session, tmp_path: Path, found: SimpleNamespace, monkeypatch
) -> None:
    monkeypatch.setattr("tremor.store.partial.Parts.clear", lambda self: None)
    first = run(tiny, tmp_path / "out", stride=8)
    assert (tmp_path / "out/tokens.partial/000000.h5").is_file()
    assert read_hdf5(first.data).attributes["stride"] == 8
    second = run(tiny, tmp_path / "out")
    assert read_hdf5(second.data).array("log_probability").tobytes() == (
        read_hdf5(found.data).array("log_probability").tobytes()
    )


def test_a_stride_that_does_not_fit_the_automatic_window(tiny: Session, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pdf.stride is 40; .* choose 1 to 32"):
        run(tiny, tmp_path / "out", window="auto", stride=40)


def test_more_context_is_a_smaller_stride(tiny: Session, tmp_path: Path) -> None:
    found = run(tiny, tmp_path / "out", stride=2, batch_size=64)
    # Every window of 32 (one of them the begin token, if there is one) keeps all but 2 as context.
    assert read_json(found.statistics)["least_context_after_first_window"] >= 29
