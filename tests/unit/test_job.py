"""Between Snakemake and the library, with stand-ins for Snakemake's objects and with the real ones."""

import logging
import os
import re
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tremor import job
from tremor.errors import ArtifactError, ConfigError


class Named(list[Any]):
    """As Snakemake's Namedlist: a list of all items, some of them under names."""

    def __init__(self, *unnamed: Any, **named: Any) -> None:
        super().__init__(unnamed)
        self._named = named
        for value in named.values():
            self.extend(value if isinstance(value, list) else [value])

    def items(self) -> Iterator[tuple[str, Any]]:
        return iter(self._named.items())


class Text(str):
    """As Snakemake's annotated strings."""


def snakemake(tmp_path: Path, **changes: Any) -> SimpleNamespace:
    parts: dict[str, Any] = {
        "input": Named(manifest=Text("m.json"), rows=["a.h5", "b.h5"]),
        "output": Named(data="out.h5"),
        "params": Named(cfg={"angles": 4, "list": (1, Text("x"))}, code=Text("abc"), on=True, none=None, x=1.5),
        "wildcards": Named(model="tiny"),
        "threads": 3,
        "resources": Named(_cores=8, gpu=1, tmpdir="t"),
        "log": Named(str(tmp_path / "logs" / "job.log")),
        "rule": "demo",
    }
    return SimpleNamespace(**{**parts, **changes})


def log_of(tmp_path: Path) -> str:
    return (tmp_path / "logs" / "job.log").read_text()


def test_unpack(tmp_path: Path) -> None:
    cfg = {"angles": 4}
    inputs, params, outputs = job.unpack(snakemake(tmp_path))
    assert inputs.manifest == Path("m.json")
    assert inputs.rows == [Path("a.h5"), Path("b.h5")]
    assert outputs.data == Path("out.h5")
    assert params.cfg == {"angles": 4, "list": [1, "x"]}
    assert type(params.cfg["list"][1]) is str
    assert type(params.code) is str
    assert (params.on, params.none, params.x, params.threads) == (True, None, 1.5, 3)
    assert params.wildcards.model == "tiny"
    assert vars(params.resources) == {"gpu": 1, "tmpdir": "t"}
    _, params, _ = job.unpack(snakemake(tmp_path, params=Named(cfg=cfg)))
    params.cfg["angles"] = 5
    assert cfg == {"angles": 4}  # a copy


def test_unpack_the_real_containers(tmp_path: Path) -> None:
    containers = pytest.importorskip("snakemake.iocontainers", reason="snakemake is not installed")
    files = containers.InputFiles(["m", "a", "b", "c"])
    files._set_name("manifest", 0)
    files._set_name("rows", 1, end=3)
    files._set_name("one", 3, end=4)
    inputs, _, _ = job.unpack(snakemake(tmp_path, input=files))
    assert vars(inputs) == {"manifest": Path("m"), "rows": [Path("a"), Path("b")], "one": [Path("c")]}
    files.append("unnamed")
    with pytest.raises(ConfigError, match=r"rule demo: 1 item\(s\) of input have no name"):
        job.unpack(snakemake(tmp_path, input=files))


def test_unpack_refuses(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rule demo: 2 item.*of input have no name, name them"):
        job.unpack(snakemake(tmp_path, input=Named("a", "b", c="c")))
    with pytest.raises(ConfigError, match="cannot be called 'threads', rename it"):
        job.unpack(snakemake(tmp_path, params=Named(threads=3)))
    with pytest.raises(ConfigError, match=r"demo.params.f is a builtin_function_or_method"):
        job.unpack(snakemake(tmp_path, params=Named(f=len)))


def test_a_good_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(inputs: Any, params: Any, outputs: Any) -> None:
        logging.getLogger("tremor.probe").info("hello %s", params.wildcards.model)
        logging.getLogger("tremor.probe").debug("details")
        logging.getLogger("matplotlib").debug("fonts")
        warnings.warn("careful", stacklevel=1)

    handlers = list(logging.getLogger().handlers)
    job.main(run, snakemake(tmp_path))
    text = log_of(tmp_path)
    assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO tremor.probe: hello tiny$", text, re.MULTILINE)
    assert "details" in text
    assert "careful" in text
    assert "fonts" not in text
    console = capsys.readouterr().err
    assert "hello tiny\n" in console
    assert "details" not in console
    assert logging.getLogger().handlers == handlers


def test_an_error_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(inputs: Any, params: Any, outputs: Any) -> None:
        raise ArtifactError("a.h5 is truncated;\n  delete it and run snakemake again")

    with pytest.raises(SystemExit) as stopped:
        job.main(run, snakemake(tmp_path))
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "error: a.h5 is truncated; delete it and run snakemake again\n"
    text = log_of(tmp_path)
    assert "ERROR tremor.job: a.h5 is truncated; delete it and run snakemake again\n" in text
    assert "Traceback (most recent call last)" in text


def test_a_bad_rule_is_reported_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        job.main(lambda *_: None, snakemake(tmp_path, input=Named("unnamed")))
    assert capsys.readouterr().err.startswith("error: rule demo: 1 item(s) of input have no name")


def test_a_defect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(inputs: Any, params: Any, outputs: Any) -> None:
        raise ZeroDivisionError("oops")

    with pytest.raises(ZeroDivisionError, match="oops"):
        job.main(run, snakemake(tmp_path))
    assert "Traceback (most recent call last)" in log_of(tmp_path)
    assert "oops" not in capsys.readouterr().err  # Python itself prints it once, on the way out


def test_termination_unwinds(tmp_path: Path) -> None:
    cleaned = []

    def run(inputs: Any, params: Any, outputs: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        job.main(run, snakemake(tmp_path))
    assert stopped.value.code == 143
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_no_log_file(tmp_path: Path) -> None:
    job.main(lambda *_: None, snakemake(tmp_path, log=Named()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_under_the_log_too_leaves_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(inputs: Any, params: Any, outputs: Any) -> None:
        raise ArtifactError("cannot write out.h5: no space is left on that disk")

    with pytest.raises(SystemExit) as stopped:
        job.main(run, snakemake(tmp_path, log=Named("/dev/full")))
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "error: cannot write out.h5: no space is left on that disk\n"
    job.main(lambda *_: logging.getLogger("tremor").info("done"), snakemake(tmp_path, log=Named("/dev/full")))
    assert capsys.readouterr().err == "done\n"


def test_a_log_that_cannot_be_opened_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    job.main(lambda *_: None, snakemake(tmp_path, log=Named(str(tmp_path / "file" / "job.log"))))
    assert re.search(r"warning: cannot write the log \S+job\.log \(.+\); its messages", capsys.readouterr().err)
