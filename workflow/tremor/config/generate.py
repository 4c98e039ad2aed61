"""Write config.default.yaml and config.schema.json from the blocks: `python -m tremor.config.generate`."""

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from tremor.config.describe import Schema, allowed, resolve
from tremor.config.root import Config

CONFIG_FOLDER = Path(__file__).resolve().parents[3] / "config"
"""The folder config/ of the checkout that this module lies in."""

_WIDTH = 110
_HEADER = """\
# yaml-language-server: $schema=config.schema.json
#
# All settings of Tremor with their defaults. This file is generated (python -m tremor.config.generate):
# do not edit it. Write what you want to change into config.yaml, or into a file passed with --configfile.
# The manual is README.md in this folder.
"""


def schema() -> dict[str, Any]:
    """Give the JSON schema of the configuration.

    Returns:
        The schema (draft 2020-12).
    """
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    plain: dict[str, Any] = _without_titles(document)
    return plain


def defaults_text() -> str:
    """Give the default configuration as commented YAML.

    Returns:
        The text of config.default.yaml.
    """
    config, root = Config(), schema()
    lines = [_HEADER]
    for name in Config.model_fields:
        node = resolve(root["properties"][name], root)
        lines += _comment(node["description"], "")
        value = getattr(config, name)
        body = _fields(value, node, root) if isinstance(value, BaseModel) else _entries(value, node, root)
        lines += [f"{name}:", *body, ""]
    return "\n".join(lines)


def schema_text() -> str:
    """Give the JSON schema as text.

    Returns:
        The text of config.schema.json.
    """
    return json.dumps(schema(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_defaults(path: Path | str) -> None:
    """Write the default configuration.

    Args:
        path: the YAML file.
    """
    Path(path).write_text(defaults_text(), encoding="utf-8", newline="\n")


def write_schema(path: Path | str) -> None:
    """Write the JSON schema.

    Args:
        path: the JSON file.
    """
    Path(path).write_text(schema_text(), encoding="utf-8", newline="\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write both files, or check that they are up to date.

    Args:
        arguments: the command line without the program; None takes the real one.

    Returns:
        The exit status: 1 if `--check` finds a difference.
    """
    parser = argparse.ArgumentParser(prog="python -m tremor.config.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    parser.add_argument("--directory", type=Path, default=CONFIG_FOLDER, help="folder of the files")
    options = parser.parse_args(arguments)
    stale = []
    for name, text in (("config.default.yaml", defaults_text()), ("config.schema.json", schema_text())):
        path = options.directory / name
        if options.check:
            current = path.read_text(encoding="utf-8") if path.exists() else None
            stale += [name] if current != text else []
        else:
            path.write_text(text, encoding="utf-8", newline="\n")
    if stale:
        sys.stderr.write(f"out of date: {', '.join(stale)}; run python -m tremor.config.generate\n")
    return 1 if stale else 0


def _without_titles(node: Any) -> Any:
    # Pydantic titles every key with its own name, which says nothing; a key called "title" is no text there.
    if isinstance(node, dict):
        return {
            key: _without_titles(value)
            for key, value in node.items()
            if not (key == "title" and isinstance(value, str))
        }
    return [_without_titles(item) for item in node] if isinstance(node, list) else node


def _comment(text: str, indent: str) -> list[str]:
    prefix = f"{indent}# "
    return textwrap.wrap(
        " ".join(text.split()),
        width=_WIDTH,
        initial_indent=prefix,
        subsequent_indent=prefix,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _described(node: Schema, root: Schema) -> str:
    phrase = allowed(node, root)
    # "Allowed: text" says nothing, and a fixed word is named by its description already.
    return str(node["description"]) + ("" if phrase == "text" or "const" in node else f" Allowed: {phrase}.")


def _fields(block: BaseModel, node: Schema, root: Schema, indent: str = "  ") -> Iterator[str]:
    bases = (base for base in type(block).__mro__[1:] if issubclass(base, BaseModel))
    inherited = {name for base in bases for name in base.model_fields}
    values = block.model_dump(mode="json")
    # What an experiment has for itself comes before what it shares with others.
    for name in sorted(values, key=inherited.__contains__):
        field = resolve(node["properties"][name], root)
        part = getattr(block, name)
        if isinstance(part, BaseModel):  # a block of a block: its keys are described like any others
            yield from _comment(str(field["description"]), indent)
            yield f"{indent}{name}:"
            yield from _fields(part, field, root, indent + "  ")
            continue
        if isinstance(part, Mapping) and any(isinstance(entry, BaseModel) for entry in part.values()):
            yield from _comment(str(field["description"]), indent)
            yield f"{indent}{name}:"
            yield from _entries(part, field, root, indent + "  ")
            continue
        yield from _comment(_described(field, root), indent)
        yield from _pair(name, values[name], indent)


def _pair(name: str, value: Any, indent: str) -> list[str]:
    """A key and its value: on one line, or a long list on several, which YAML reads as one."""
    line = f"{indent}{name}: {_flow(value)}"
    if not isinstance(value, list | tuple):
        return [line]
    below = f"{indent}  "
    return textwrap.wrap(line, width=_WIDTH, subsequent_indent=below, break_on_hyphens=False, break_long_words=False)


def _entries(entries: Mapping[str, Any], node: Schema, root: Schema, indent: str = "  ") -> Iterator[str]:
    """Write a dictionary of blocks: first what an entry may hold, then one line for each entry."""
    patterns = list(node.get("patternProperties", {}).values())
    entry = resolve(patterns[0] if patterns else node["additionalProperties"], root)
    if "properties" not in entry and "oneOf" not in entry:
        yield from _comment(_described(entry, root), indent)
        yield from (f"{indent}{_flow(alias)}: {_flow(list(value))}" for alias, value in entries.items())
        return
    members = [resolve(option, root) for option in entry.get("oneOf", [entry])]
    shared = {
        name: field
        for name, field in members[0]["properties"].items()
        if len(members) > 1 and all(member["properties"].get(name) == field for member in members)
    }
    for member in members:
        own = {name: field for name, field in member["properties"].items() if name not in shared}
        yield from _keys(member["description"], own, root, indent)
    if shared:
        yield from _keys("Each of them may also have:", shared, root, indent)
    for alias, value in entries.items():
        yield f"{indent}{_flow(alias)}: {_flow(value.model_dump(mode='json', exclude_defaults=True))}"


def _keys(heading: str, fields: Mapping[str, Schema], root: Schema, indent: str) -> Iterator[str]:
    yield from _comment(heading, indent)
    for name, field in fields.items():
        default = f" Default: {_flow(field['default'])}." if "default" in field else ""
        lines = _comment(f"{name}: {_described(resolve(field, root), root)}{default}", indent + "  ")
        yield from (line.replace(f"{indent}  # ", f"{indent}#   ", 1) for line in lines)


def _flow(value: Any) -> str:
    """Write a value on one line; text of several words in quotes, as a user should write it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str) and " " in value:
        return json.dumps(value, ensure_ascii=False)
    # A scalar at the top level is followed by YAML's end-of-document marker.
    return str(yaml.safe_dump(value, allow_unicode=True)).removesuffix("\n").removesuffix("\n...")


if __name__ == "__main__":
    sys.exit(main())
