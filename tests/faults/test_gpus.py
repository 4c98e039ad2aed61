"""One GPU per local job: locks that exclude other processes and die with their holder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tremor import gpus, platform
from tremor.errors import PlatformError

CARDS = ("GPU-a", "GPU-b", "GPU-c", "GPU-d")
HOLDER = (
    "import sys, pathlib\n"
    "from tremor import gpus\n"
    "print(gpus.claim(sys.argv[2].split(','), folder=pathlib.Path(sys.argv[1])), flush=True)\n"
    "sys.stdin.read()\n"
)


class Job:
    """Another process that holds a card until its end."""

    def __init__(self, folder: Path, cards: tuple[str, ...] = CARDS) -> None:
        library = str(Path(gpus.__file__).parents[1])
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), ",".join(cards)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": library},
        )
        assert self.process.stdout is not None
        self.card = int(self.process.stdout.readline())

    def end(self, number: int | None = None) -> str:
        """Let it end by itself, or by a signal; returns what it said on stderr."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.communicate()[1]


def test_four_jobs_take_four_cards_and_a_fifth_shares(tmp_path: Path) -> None:
    jobs = [Job(tmp_path) for _ in CARDS]
    try:
        assert [job.card for job in jobs] == [0, 1, 2, 3]
        extra = Job(tmp_path)
        assert extra.card == 0
        assert gpus.claim(CARDS, folder=tmp_path) == 1
        assert jobs[2].end() == ""
        # What an ended job frees is taken before anything is shared again.
        assert Job(tmp_path).end() == ""
    finally:
        for job in jobs:
            job.process.kill()
    extra.process.kill()


def test_sharing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job = Job(tmp_path, CARDS[:1])
    assert gpus.claim(CARDS[:1], folder=tmp_path) == 0
    assert "every GPU has 1 job(s) of Tremor; number 0 is shared: use `--resources gpu=1`" in caplog.text
    job.end()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, None])
def test_a_lock_dies_with_its_process(tmp_path: Path, number: int | None) -> None:
    first, second = Job(tmp_path), Job(tmp_path)
    assert (first.card, second.card) == (0, 1)
    first.end(number)
    assert gpus.claim(CARDS, folder=tmp_path) == 0
    second.end()


def test_one_job_keeps_its_card(tmp_path: Path) -> None:
    assert gpus.claim(CARDS, folder=tmp_path) == 0
    assert gpus.claim(CARDS, folder=tmp_path) == 0
    # Cards are told by what they are: a job that sees them in another order finds its own again, ...
    assert gpus.claim(CARDS[::-1], folder=tmp_path) == 3
    # ... and another one that sees them so does not take this one.
    other = Job(tmp_path, CARDS[::-1][2:])
    assert other.card == 0
    other.end()


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(PlatformError, match="is not a folder of yours; remove it, or set TMPDIR"):
        gpus.claim(CARDS, folder=tmp_path / "link")
    (tmp_path / "file").touch()
    with pytest.raises(PlatformError, match=r"cannot make .*file for the locks of GPUs"):
        gpus.claim(CARDS, folder=tmp_path / "file")


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_device_is_claimed_where_there_are_several(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(platform, "_cards", lambda count: list(CARDS[:count]))
    other = Job(tmp_path / f"tremor-gpus-{os.getuid()}")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert platform.resolve_device("cuda:3") == "cuda:3"  # named: taken as it was said, without a lock
    assert platform.resolve_device(device) == "cuda:1"
    # A scheduler shows each job its own card: there is nothing to choose, and nothing to lock.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert platform.resolve_device(device) == "cuda:0"
    other.end()


def test_the_cards_number_is_no_part_of_the_numerics(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    import torch

    card = SimpleNamespace(name="NVIDIA H100", major=9, minor=0, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    request = platform.Request(device="cuda")
    first, fourth = (platform.fingerprint(request, f"cuda:{index}") for index in (0, 3))
    assert first == fourth
    platform.require_same(first, fourth, path="a.h5")
