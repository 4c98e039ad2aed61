"""Where a value was written: files and lines by eye, and what wins where several sources write the same."""

from pathlib import Path

import pytest

from tremor.config import Places, load, load_files, located
from tremor.config.places import lines
from tremor.errors import ConfigError

FIRST = """\
# a comment
exp12:
  angles: 9

  plane: [1,
          2]
select: {models: [llama,
    gpt2]}
base: &base
  s_max: 1
exp13:
  <<: *base
  signs: both
"""


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    path = tmp_path / "config/my.yaml"
    path.write_text(FIRST)
    return path


def test_every_key_and_item_has_its_line(first: Path) -> None:
    assert dict(lines(first)) == {
        "exp12": 2, "exp12.angles": 3, "exp12.plane": 5, "exp12.plane[0]": 5, "exp12.plane[1]": 6,
        "select": 7, "select.models": 7, "select.models[0]": 7, "select.models[1]": 8,
        "base": 9, "base.s_max": 10, "exp13": 11, "exp13.s_max": 10, "exp13.signs": 13,
    }  # fmt: skip


def test_anchors_that_lead_back_to_themselves_end(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text("a: &a\n  b: *a\n")
    assert dict(lines(path)) == {"a": 1, "a.b": 2}


def test_the_last_source_wins_and_a_list_replaces_a_list(first: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.yaml"
    second.write_text("\nexp12: {angles: 8}\nselect: {models: [mamba]}\n")
    places = Places((first, second), {"exp13": {"signs": "plus"}})
    assert places.of("exp12.angles") == "second.yaml:2"
    assert places.of("exp12.plane[1]") == "config/my.yaml:6"
    assert places.of("select.models[0]") == "second.yaml:3"
    assert places.of("select.models[1]") == "second.yaml:3"  # the first file's second item is gone: its list's line
    assert places.of("exp13.signs") == "--config"
    assert places.of("exp13.s_max") == "config/my.yaml:10"


def test_what_nobody_wrote_is_placed_at_the_block_around_it(first: Path) -> None:
    places = Places((first,))
    assert places.of("exp12.nothing.below[3]") == "config/my.yaml:2"
    assert places.of("exp99.angles") == ""
    assert located("exp99", "is unknown", places) == "exp99: is unknown"
    assert Places().of("exp12") == ""


def test_a_file_elsewhere_is_named_in_full(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert Places((first,)).of("exp12") == f"{first}:2"


def test_mistakes_name_their_lines(first: Path) -> None:
    first.write_text("models:\n  mine: {source: path}\nexp12:\n  angels: 9\nselect:\n  models:\n    - llama\n    - 7\n")
    with pytest.raises(ConfigError) as caught:
        load_files([first])
    said = str(caught.value).splitlines()
    assert any(line.startswith("config/my.yaml:2: models.mine.path: is missing") for line in said)
    assert any(line.startswith("config/my.yaml:4: exp12.angels: unknown key; did you mean 'angles'?") for line in said)
    assert any(line.startswith("config/my.yaml:8: select.models[1]: got 7") for line in said)
    assert len(said) == 3


def test_the_command_line_has_no_lines() -> None:
    given = {"exp7": {"points": -3}}
    with pytest.raises(ConfigError, match=r"^--config: exp7\.points: got -3"):
        load(given, places=Places((), given))
