"""The commands `tremor` and `snakemake`: what they print, their errors, and that a table is there at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tremor import cli, command_line, surroundings
from tremor.config import generate

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_show_prints_few_digits_and_leaves_words_and_counts(tmp_path, capsys):
    path = tmp_path / "summary.csv"
    path.write_text("model,rays,mean_l2,note\nllama,123456789,3.8617831234e-12,\ngpt2,12,nan,two words\n")
    assert cli.main(["show", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "rays", "mean_l2", "note"]
    assert lines[1].split() == ["llama", "123456789", "3.862e-12"]
    assert lines[2].split() == ["gpt2", "12", "nan", "two", "words"]


def test_a_table_too_wide_for_the_screen_is_turned():
    header = [f"column_{i}" for i in range(20)]
    text = cli.table(header, [["1"] * 20, ["2"] * 20], width=80)
    assert [line.split() for line in text.splitlines()] == [[name, "1", "2"] for name in header]


def test_a_table_with_a_header_only_is_shown(tmp_path, capsys):
    (tmp_path / "empty.csv").write_text("a,b\n")
    assert cli.main(["show", str(tmp_path / "empty.csv")]) == 0
    assert capsys.readouterr().out == "a  b\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "make it first: snakemake"),
        (b"", "is no CSV table"),
        (b"a,b\n1\n", "rows of different lengths"),
        (b"\xff\xfe\x00", "is no CSV table"),
    ],
)
def test_show_says_what_is_wrong_with_a_file(tmp_path, capsys, content, message):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["show", str(path)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_show_knows_what_was_meant_and_condemns_no_file_that_is_no_table(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary = tmp_path / "results/exp15/summary.csv"
    summary.parent.mkdir(parents=True)
    summary.write_text("a\n1\n")
    for name in ("exp15", "results/exp15"):
        assert cli.main(["show", name]) == 1
        assert "; did you mean results/exp15/summary.csv?" in capsys.readouterr().err
    (tmp_path / "spectrum.h5").write_bytes(b"\x89HDF")
    assert cli.main(["show", "spectrum.h5"]) == 1
    error = capsys.readouterr().err
    assert error == "error: spectrum.h5 is no CSV file, and tremor show prints these only\n"


def test_packing_nothing_names_the_folder(tmp_path, capsys):
    arguments = ["--model", "llama", "--platform", "native", "--directory", str(tmp_path)]
    assert cli.main(["bundle", "pack", str(tmp_path / "a.tremor"), *arguments]) == 1
    error = capsys.readouterr().err
    assert f"no recordings lie in {tmp_path / 'results/recordings/llama/native'}; make them first" in error
    assert not (tmp_path / "a.tremor").exists()


def test_show_imports_nothing_heavy(tmp_path):
    """It answers in a tenth of a second since it imports the standard library only."""
    path = tmp_path / "table.csv"
    path.write_text("a\n1\n")
    heavy = "{'numpy', 'pandas', 'torch', 'pydantic', 'matplotlib'} & set(sys.modules)"
    done = run(
        "-c", f"import sys; from tremor import cli; cli.main(['show', {str(path)!r}]); assert not ({heavy}), {heavy}"
    )
    assert done.returncode == 0, done.stderr


def test_schema_lists_defaults_and_bounds(capsys):
    assert cli.main(["schema", "exp12", "models"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert rows["exp12.angles"].split()[1] == "1000"
    assert "whole number >= 1" in rows["exp12.angles"]
    assert "embedded or hub or path" in rows["models.<alias>.source"]
    assert not any(name.startswith("exp13") for name in rows)


def test_schema_refuses_an_unknown_block(capsys):
    assert cli.main(["schema", "exp99"]) == 1
    error = capsys.readouterr().err
    assert "no block or key 'exp99'" in error
    assert " (blocks: " in error


def test_schema_takes_keys_and_knows_the_one_meant(capsys):
    assert cli.main(["schema", "exp12.angles", "delta.jacobian"]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row for row in rows if not row.startswith("delta.jacobian.")] == ["exp12.angles"]
    assert cli.main(["schema", "exp12.angels"]) == 1
    assert "no block or key 'exp12.angels'; did you mean 'exp12.angles'? (blocks: " in capsys.readouterr().err


def test_schema_as_json_is_the_generated_one(capsys):
    assert cli.main(["schema", "--json"]) == 0
    assert capsys.readouterr().out == generate.schema_text()


def test_schema_names_every_key_of_the_defaults(capsys):
    import yaml

    assert cli.main(["schema"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    defaults = yaml.safe_load((ROOT / "config/config.default.yaml").read_text(encoding="utf-8"))
    # Of a block inside a block the keys are listed.
    listed |= {name.rpartition(".")[0] for name in listed} | {name.partition(".<")[0] for name in listed}
    for block in defaults.keys() - {"models", "prompts", "platforms", "pairs"}:
        assert {f"{block}.{key}" for key in defaults[block]} <= listed


def test_doctor_runs_both_controls_in_a_fresh_process():
    """A process of its own, since the platform is set before torch is imported."""
    done = run("-m", "tremor.cli", "doctor", "--device", "cpu", "--threads", "1")
    assert "A/A control, reference" in done.stdout, done.stderr
    assert "equal bits in 5 runs of 64 rows" in done.stdout
    assert "cpu" in done.stdout
    assert "/" not in done.stdout.replace("A/A", "").replace("docs/gotchas.md", ""), "no path of this machine"
    # Less than 2 GiB of disk is a problem of this machine that the report may rightly name.
    assert done.returncode == ("problem:" in done.stdout)


def test_doctor_names_a_device_that_is_not_there(capsys):
    assert cli.main(["doctor", "--device", "cuda:99"]) == 1
    assert "cuda:99" in capsys.readouterr().err


def test_doctor_reports_a_full_disk(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 2**20})
    monkeypatch.setattr(surroundings.shutil, "disk_usage", lambda folder: usage)
    assert "make room" in surroundings.disk(tmp_path).problem


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("--cores 8 --resources gpu=1 results/a.csv", "results/a.csv --cores 8 --resources gpu=1"),
        ("--res gpu=1 mem_mb=5 a.csv b.csv -n", "a.csv b.csv --res gpu=1 mem_mb=5 -n"),
        ("--configfile my.yaml other.yml results/a.csv -c1", "results/a.csv --configfile my.yaml other.yml -c1"),
        ("--configfile my.yaml results/a.json", "results/a.json --configfile my.yaml"),
        ("--config key=1 a.csv --resources gpu=1 b.csv", "a.csv b.csv --config key=1 --resources gpu=1"),
        ("--set-resources exp12:mem_mb=5 a.csv", "a.csv --set-resources exp12:mem_mb=5"),
        ("--resources gpu=1 -- a.csv", "--resources gpu=1 -- a.csv"),
        ("results/a.csv --cores 8", "results/a.csv --cores 8"),
        ("--forcerun exp12 --cores 2", "--forcerun exp12 --cores 2"),
        ("", ""),
    ],
)
def test_targets_are_told_from_values_of_options(given, wanted):
    assert command_line.targets_first(given.split()) == wanted.split()


def test_snakemake_reads_the_users_own_line_as_it_was_meant():
    """Snakemake's own parser takes the target for a resource in the order the line is written."""
    parser = pytest.importorskip("snakemake.cli").get_argument_parser()
    line = ["--cores", "8", "--resources", "gpu=1", "results/exp15/summary.csv"]
    with pytest.raises(ValueError, match="dictionary update sequence"):
        parser.parse_args(line)
    options = parser.parse_args(command_line.targets_first(line))
    assert options.targets == {"results/exp15/summary.csv"} or list(options.targets) == [line[-1]]


def test_a_config_file_that_is_no_yaml_is_named_with_its_line(tmp_path):
    """Snakemake's own message has neither."""
    from tremor.command_line import broken_files

    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("exp12: {angles: 8}\n")
    bad.write_text("exp12:\n  angles: [1, 2\nexp13: {}\n")
    (said,) = broken_files(["exp12", "--configfile", str(good), str(bad), str(tmp_path / "none.yaml"), "--cores", "2"])
    assert f"{bad}, line 3" in said
    assert broken_files([str(bad), "--cores", "2"]) == []
