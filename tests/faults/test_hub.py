"""A download cut in half, for real: a hub on this machine that drops the line, or is slow while the fetch is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tremor.models import catalogue, hub

COMMIT = "0" * 39 + "1"
FETCH = (
    "import sys\n"
    "from pathlib import Path\n"
    "from tremor.errors import TremorError\n"
    "from tremor.models import hub\n"
    "try:\n"
    "    print(hub.fetch('owner/name', 'main', Path(sys.argv[1])))\n"
    "except TremorError as error:\n"
    "    sys.exit(f'error: {error}')\n"
)


class Hub(ThreadingHTTPServer):
    """The part of the hub's interface that a fetch asks, over the files of one folder."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.cuts = 0  # so many bodies of weights end in the middle
        self.stall = threading.Event()  # the next body of weights stops in the middle until `go`
        self.halfway, self.go = threading.Event(), threading.Event()
        self.asked: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        files = sorted(self.server.folder.iterdir())
        if path.startswith("/api/models/owner/name/tree/"):
            self._json([{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": p.name} for p in files])
        elif path.startswith("/api/models/owner/name"):
            self._json({"id": "owner/name", "sha": COMMIT, "siblings": [{"rfilename": p.name} for p in files]})
        elif "/resolve/" in path:
            self._file(self.server.folder / path.rsplit("/", 1)[-1], body)
        else:  # the client also asks about other things than models, and does without
            self.send_error(404)

    def _json(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _file(self, path: Path, body: bool) -> None:
        content, span = path.read_bytes(), self.headers.get("Range")
        if body:
            self.server.asked.append((path.name, span))
        start = int(span.removeprefix("bytes=").partition("-")[0]) if span else 0
        self.send_response(206 if span else 200)
        self.send_header("ETag", f'"{path.name}-1"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if span:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        middle = start + (len(content) - start) // 2
        weights = path.suffix == ".safetensors"
        self.wfile.write(content[start:middle])
        self.wfile.flush()
        if weights and self.server.stall.is_set():
            self.server.halfway.set()
            self.server.go.wait(60)
        if weights and self.server.cuts:
            self.server.cuts -= 1
            self.close_connection = True
            return
        self.wfile.write(content[middle:])


@pytest.fixture
def server(tiny_model: Path) -> Iterator[Hub]:
    found = Hub(tiny_model)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.go.set()
    found.shutdown()
    found.server_close()
    thread.join()


def start(server: Hub, target: Path, cache: Path) -> subprocess.Popen[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if "OFFLINE" not in name and "proxy" not in name.lower()},
        "HF_ENDPOINT": server.address,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(Path(hub.__file__).parents[2]),
    }
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(target)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def same_files(folder: Path, server: Hub) -> bool:
    wanted = {p.name: p.read_bytes() for p in server.folder.iterdir() if p.suffix in (".json", ".safetensors")}
    return {p.name: p.read_bytes() for p in folder.iterdir()} == wanted


def test_a_line_that_drops_once_still_gives_the_whole_model(server: Hub, tmp_path: Path) -> None:
    server.cuts = 1
    process = start(server, tmp_path / "models/name", tmp_path / "cache")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert same_files(tmp_path / "models/name", server)
    spans = [span for name, span in server.asked if name.endswith(".safetensors")]
    assert len(spans) == 2
    assert spans[0] is None  # and the second asks for the rest, or for all where nothing was written down yet
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["name"]


def test_a_killed_download_is_no_model_and_the_next_fetch_starts_again(server: Hub, tmp_path: Path) -> None:
    """kill -9 in the middle of the weights. What lies there has no name of a model, and goes with the next fetch."""
    target = tmp_path / "models/name"
    server.stall.set()
    process = start(server, target, tmp_path / "cache")
    assert server.halfway.wait(60)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.stall.clear()
    server.go.set()
    assert not target.exists()
    left = list((tmp_path / "models").iterdir())
    assert len(left) == 1
    assert left[0].name.startswith(".name.")
    again = start(server, target, tmp_path / "cache")
    assert again.wait(timeout=120) == 0, again.communicate()[1]
    assert same_files(target, server)
    catalogue.check(target)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["name"]


def test_a_living_download_is_not_swept(server: Hub, tmp_path: Path) -> None:
    target = tmp_path / "models/name"
    server.stall.set()
    first = start(server, target, tmp_path / "cache")
    assert server.halfway.wait(60)
    hub._sweep(target)
    assert len(list((tmp_path / "models").iterdir())) == 1
    server.go.set()
    assert first.wait(timeout=60) == 0, first.communicate()[1]
    assert same_files(target, server)


def test_the_only_copy_is_not_swept(tmp_path: Path) -> None:
    """Killed between the two renames that replace a model: the old one stays until the new one is there."""
    old = tmp_path / ".name.old.abcd1234"
    (old / "name").mkdir(parents=True)
    hub._sweep(tmp_path / "name")
    assert old.exists()
    (tmp_path / "name").mkdir()
    hub._sweep(tmp_path / "name")
    assert not old.exists()
