"""Rates of this machine, and the command that prints an estimate."""

import json
import time
from dataclasses import fields

import pytest

from tremor import cli
from tremor.errors import PlatformError
from tremor.estimate import machine, report, work
from tremor.estimate.machine import Rates

COST = work.Cost(jobs=3, forwards=12, backwards=1, evaluated=700, flops=2.5e9, seconds=41.6, memory=5e8, disk=2e6)


def rates():
    return Rates(**{field.name: 1.0 for field in fields(Rates)})


def test_every_rate_is_measured_and_in_its_range():
    """Bounds are those of any machine on which torch runs: a start takes a tenth of a second to two minutes."""
    found = machine.measure(width=32)
    assert 0.1 < found.start_arrays < found.start_model < 120
    assert found.start_arrays < 2 * found.start_figures
    for name in ("attention_call", "attention_backward", "scan_call", "scan_step", "scan_backward"):
        assert 1e-7 < getattr(found, name) < 0.1, name
    assert 1e8 < found.flops < 1e16
    assert 1e7 < found.svd < 1e15
    assert 1e8 < found.bandwidth < 1e14


def test_a_machine_that_cannot_be_measured_is_an_error_with_what_it_said(monkeypatch, tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'PlatformError: device cuda:99 was asked for' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(machine.sys, "executable", str(program))
    with pytest.raises(PlatformError, match=r"cuda:99 was asked for.*tremor doctor"):
        machine.measure(width=32, device="cuda:99")


def test_the_best_round_counts(monkeypatch):
    """A neighbour slows most rounds; the machine can do what its best round did."""
    monkeypatch.setattr(machine, "SECONDS", 0.05)
    naps = iter([0.0, 0.01, 0.001, 0.01, 0.01, 0.01, 0.01])
    took = machine._each(lambda: time.sleep(next(naps, 0.01)), lambda: None)
    assert 0.001 <= took < 0.008


def test_slowness_is_relative_to_the_reference():
    assert rates().slowness == pytest.approx(1 / machine.REFERENCE_START)


def _answering(monkeypatch, **changes):
    found = report.Estimate({"results/exp15/summary.csv": COST}, work.Cost(**{**COST.__dict__, **changes}),
                            {"exp12_measure": COST}, rates())  # fmt: skip
    asked = []
    monkeypatch.setattr(report, "estimate", lambda targets, **named: asked.append((targets, named)) or found)
    return asked


def test_the_command_prints_a_line_for_each_target(monkeypatch, capsys, tmp_path):
    asked = _answering(monkeypatch)
    given = ["estimate", "results/exp15/summary.csv", "--directory", str(tmp_path), "--configfile", "a.yaml", "b.yaml"]
    assert cli.main(given) == 0
    text = capsys.readouterr().out
    line = next(line.split() for line in text.splitlines() if line.startswith("results/exp15"))
    assert line[1:] == ["3", "12", "1", "700", "2.5e+09", "42", "500", "2.0"]
    assert "no cost model" not in text
    targets, named = asked[0]
    assert targets == ["results/exp15/summary.csv"]
    assert [path.name for path in named["configfiles"]] == ["a.yaml", "b.yaml"]


def test_the_command_owns_up_to_guesses(monkeypatch, capsys):
    _answering(monkeypatch, generic=2)
    assert cli.main(["estimate", "--rules"]) == 0
    text = capsys.readouterr().out
    assert "2 of 3 jobs have no cost model of their own" in text
    assert text.splitlines()[0].startswith("rule ")


def test_the_command_prints_json_for_programs(monkeypatch, capsys):
    _answering(monkeypatch)
    assert cli.main(["estimate", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["everything"]["seconds"] == COST.seconds
    assert set(found) == {"targets", "everything", "rules", "rates"}


def test_the_measuring_child_prints_numbers_only(monkeypatch, capsys):
    monkeypatch.setattr(machine, "_child", lambda width, device, threads: {"width": width, "threads": threads})
    assert machine.main(["64", "cpu", "2"]) == 0
    assert json.loads(capsys.readouterr().out) == {"width": 64, "threads": 2}
