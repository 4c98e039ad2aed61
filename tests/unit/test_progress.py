"""Progress of long loops."""

import io
import logging
import sys

import pytest

from tremor.progress import Progress, track


def test_track_gives_every_item() -> None:
    assert list(track(3, "rays")) == [0, 1, 2]
    assert list(track("ab", "letters")) == ["a", "b"]
    assert list(track(iter([1, 2]), "things")) == [1, 2]


def test_a_line_each_thirty_seconds(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    with caplog.at_level(logging.INFO, "tremor"), Progress(100, "rays", clock=lambda: now[0]) as progress:
        for _ in range(8):
            now[0] += 10
            progress.advance(10)
    assert [record.message for record in caplog.records] == [
        "rays: 30 of 100 done, 1/s, 70 s left",
        "rays: 60 of 100 done, 1/s, 40 s left",
        "rays: 80 of 100 done, 1/s, 20 s left",
    ]


def test_short_work_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tremor"):
        list(track(5, "rays"))
    assert caplog.records == []


def test_unknown_totals() -> None:
    now = [0.0]
    progress = Progress(None, "rows", clock=lambda: now[0])
    now[0] = 2.0
    progress.advance(8)
    assert progress.line(2.0) == "rows: 8 done, 4/s"
    assert Progress(5, "rows", clock=lambda: 0.0).line(1.0) == "rows: 0 of 5 done, 0/s, time left unknown"


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("tqdm", reason="tqdm is not installed")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    list(track(3, "rays"))
    assert "rays" in screen.getvalue()
    assert caplog.records == []


def test_a_line_says_done_total_rate_and_what_remains() -> None:
    progress = Progress(200, "rays", clock=lambda: 0.0)
    progress.done = 50
    assert progress.line(10.0) == "rays: 50 of 200 done, 5/s, 30 s left"


def test_a_notebook_gets_a_bar_for_long_work_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There stderr is no terminal, and short work leaves nothing below the cell."""
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    for delay, shown in ((0.0, True), (60.0, False)):
        screen = stream()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr("tremor.progress.NOTEBOOK_DELAY_S", delay)
        list(track(3, "rays"))
        assert ("rays" in screen.getvalue()) == shown
    assert caplog.records == []
