"""The generated files are those in the repository, and say what the blocks say."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

import tremor.config
from tremor.config import Config, load, read_yaml
from tremor.config.generate import CONFIG_FOLDER, main, schema, write_defaults, write_schema

README = (CONFIG_FOLDER / "README.md").read_text(encoding="utf-8")


def test_committed_files_are_up_to_date() -> None:
    assert main(["--check"]) == 0, "run python -m tremor.config.generate"


def test_check_finds_drift_and_writing_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--directory", str(tmp_path)]) == 1
    assert "out of date: config.default.yaml, config.schema.json" in capsys.readouterr().err
    assert main(["--directory", str(tmp_path)]) == 0
    assert main(["--check", "--directory", str(tmp_path)]) == 0
    with (tmp_path / "config.default.yaml").open("a", encoding="utf-8") as file:
        file.write("# edited\n")
    assert main(["--check", "--directory", str(tmp_path)]) == 1


def test_default_yaml_is_the_default_config(tmp_path: Path) -> None:
    write_defaults(tmp_path / "d.yaml")
    assert load(read_yaml(tmp_path / "d.yaml")) == Config()


def test_default_yaml_explains_every_key_and_its_bounds(tmp_path: Path) -> None:
    write_defaults(tmp_path / "d.yaml")
    lines = (tmp_path / "d.yaml").read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 110
    for name, field in Config.model_fields.items():
        if isinstance(getattr(Config(), name), BaseModel):
            for key in getattr(Config(), name).model_dump():
                after = range(lines.index(f"{name}:"), len(lines))
                # A nested block's key has its own keys below it, not a value behind it.
                here = next(i for i in after if f"{lines[i]} ".startswith(f"  {key}: "))
                assert lines[here - 1].startswith("  # "), f"{name}.{key} has no comment"
        else:
            assert field.description
    assert "Allowed: a whole number >= 1." in "\n".join(lines)


def test_schema_is_strict_json_with_descriptions(tmp_path: Path) -> None:
    write_schema(tmp_path / "s.json")
    written = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert written == schema()
    for block in [written, *written["$defs"].values()]:
        assert block["additionalProperties"] is False
        assert block["description"]
    exp12 = written["$defs"]["Exp12"]["properties"]
    assert exp12["angles"]["minimum"] == 1
    assert exp12["s_max"]["exclusiveMinimum"] == 0
    assert exp12["method"]["enum"] == ["exact", "bisection"]


def keys(document: dict[str, Any]) -> Iterator[str]:
    for definition in document["$defs"].values():
        yield from definition["properties"]
    yield from document["properties"]


@pytest.mark.parametrize("key", sorted(set(keys(schema()))))
def test_manual_names_every_key(key: str) -> None:
    assert f"`{key}`" in README or f".{key}`" in README


def test_examples_of_the_manual_load() -> None:
    examples = [part.partition("```")[0] for part in README.split("```yaml\n")[1:]]
    assert len(examples) == 2
    for example in examples:
        raw = tremor.config.merged(Config().model_dump(mode="json"), yaml.safe_load(example))
        if "gpt2-small" in raw["models"]:
            raw["models"]["gpt2-small"]["revision"] = "0" * 40  # the manual has a place holder here
        assert load(raw).select.models[0] in ("mine", "gpt2-small")


def test_import_is_light() -> None:
    # Snakemake imports the package at each start and in each job. How long that takes is the benchmark's (graph).
    code = "import sys, tremor.config; print(*{'torch', 'numpy', 'pandas', 'transformers'} & set(sys.modules))"
    source = str(Path(tremor.config.__file__).parents[2])
    run = [sys.executable, "-c", f"import sys; sys.path.insert(0, {source!r}); {code}"]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "\n"
