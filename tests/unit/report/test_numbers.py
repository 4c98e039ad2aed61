"""The three numbers of every summary: columns that exist, folds by hand, and tables that cannot be read."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from tremor.experiments.columns import COLUMNS
from tremor.graph import FIGURES
from tremor.report import numbers

WITHOUT = {"esa/integrated"}  # a table of main numbers itself


@pytest.mark.parametrize("experiment", sorted({*FIGURES, "spectrum", "recordings"} - WITHOUT))
def test_every_experiment_has_three_numbers_of_columns_that_exist(experiment: str) -> None:
    chosen = numbers.NUMBERS[experiment]
    assert len(chosen) == 3
    if experiment in COLUMNS:  # exp7's come from the statistics of its maps
        known = {column.replace(".", "_") for column in COLUMNS[experiment]}
        assert {column for column, _, _ in chosen} <= known
    assert {fold for _, fold, _ in chosen} <= set(numbers.FOLDS)


def table(folder: Path, experiment: str, text: str) -> Path:
    path = folder / "results" / experiment / "summary.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


ROWS = "model,embedding_l2_median,hidden_l2_median,noise_floor_l2\na,1,4,\nb,2,nan,\nc,9,6,\n"


def test_rows_become_one_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path, "exp15", ROWS)
    said = numbers.lines([Path("results/exp15/summary.csv")])
    assert said[:2] == ["Results:", "  results/exp15/summary.csv  (docs/exp15.md)"]
    # Medians of 1, 2, 9 and of 4, 6; a column without any number says so.
    assert [line.split()[0] for line in said[2:]] == ["2", "5", "-"]


def test_what_cannot_be_read_is_said_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path, "exp12", "a,b\n1,2\n")
    table(tmp_path, "exp15", ROWS.replace("9", "nine"))
    paths = [Path(f"results/{name}/summary.csv") for name in ("exp12", "exp13", "exp15")]
    said = numbers.lines(paths)
    assert said[1] == "  results/exp12/summary.csv (cannot be read: no column max_s_median)"
    assert "No such file" in said[2]
    assert "nine" in said[3]


def test_many_summaries_have_a_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path, "exp15", ROWS)
    said = numbers.lines([Path("results/exp15/summary.csv")] * (numbers.MANY + 1))
    assert len(said) == 1 + numbers.MANY + 1
    assert "jump of the answer: 5" in said[1]


def workflow(*outputs: str, quiet: tuple[str, ...] = (), dryrun: bool = False) -> SimpleNamespace:
    settings = SimpleNamespace(quiet=[SimpleNamespace(name=name) for name in quiet])
    jobs = [SimpleNamespace(output=[path]) for path in outputs]
    return SimpleNamespace(dag=SimpleNamespace(jobs=jobs), output_settings=settings, dryrun=dryrun)


def test_it_is_said_once_to_those_who_listen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path, "exp15", ROWS)
    run = ("results/exp15/summary.csv", "results/exp15/a/distances.csv", "results/exp99/summary.csv")
    for each in (workflow(*run, quiet=("ALL",)), workflow(*run, dryrun=True), workflow("results/x.csv")):
        numbers.say(each)
    assert capsys.readouterr().err == ""
    numbers.say(workflow(*run, quiet=("HOST",)))
    said = capsys.readouterr()
    assert said.err.count("results/exp15/summary.csv") == 1
    assert said.out == ""
    assert "exp99" not in said.err
    handler = numbers.WhenNothingIsLeft(workflow(*run), "Nothing to be done")
    for message in ("Nothing to be done", "Something else"):
        handler.emit(logging.LogRecord("snakemake", logging.INFO, "", 0, message, (), None))
    assert capsys.readouterr().err.count("results/exp15/summary.csv") == 1
