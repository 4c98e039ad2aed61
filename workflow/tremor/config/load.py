"""From YAML to a checked configuration; every mistake is reported at once, with a suggestion."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tremor.config.describe import Schema, allowed, choices, resolve
from tremor.config.places import Places
from tremor.config.root import Config, Problem, undefined
from tremor.config.spelling import listing, suggestion
from tremor.errors import ConfigError


def load(raw: Mapping[str, Any], *, places: Places | None = None) -> Config:
    """Check a configuration.

    Args:
        raw: the configuration as YAML or Snakemake gives it. What is missing takes its default; `models` and
            `prompts`, where given, are taken as they are (the workflow has merged the defaults in already).
        places: what the configuration was put together from, for the messages.

    Returns:
        The configuration.

    Raises:
        ConfigError: something is wrong; one line for each problem, with the file and its line where known.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError(f"the configuration must be a block of keys, but it is {_shown(raw)}")
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        problems = _problems(error, raw)
    raise ConfigError("\n".join(located(path, message, places) for path, message in problems))


def located(path: str, message: str, places: Places | None) -> str:
    """A problem as one line, behind the place where its value was written.

    Args:
        path: the keys of the value.
        message: what is wrong with it.
        places: what the configuration was put together from.

    Returns:
        "config/my.yaml:12: exp12.angels: unknown key ...", or without the place where it is not known.
    """
    place = places.of(path) if places else ""
    return f"{place}: {path}: {message}" if place else f"{path}: {message}"


def load_files(paths: Iterable[Path | str], *, defaults: bool = True) -> Config:
    """Check the configuration that some YAML files give together.

    Args:
        paths: the files; a later one overrides an earlier one (see `merged`).
        defaults: whether the files lie on top of the defaults, as in the workflow.

    Returns:
        The configuration.

    Raises:
        ConfigError: a file cannot be read, is no YAML, or its content is wrong.
    """
    raw: dict[str, Any] = Config().model_dump(mode="json") if defaults else {}
    files = tuple(paths)
    for path in files:
        raw = merged(raw, read_yaml(path))
    return load(raw, places=Places(files))


def on_defaults(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a configuration over the defaults, as the workflow does with its files.

    Args:
        raw: the blocks and keys that differ from the defaults.

    Returns:
        A new dictionary, not checked yet.

    Raises:
        ConfigError: it is no block of keys.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError(f"the configuration must be a block of keys, but it is {_shown(raw)}")
    return merged(Config().model_dump(mode="json"), raw)


def merged(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one configuration over another, as Snakemake does: blocks merge, lists and values replace.

    Args:
        base: the lower configuration.
        override: the upper one.

    Returns:
        A new dictionary.
    """
    result = dict(base)
    for key, value in override.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def _refuse_repeated_keys(root: Any) -> None:
    """Refuse a key written twice in one block: YAML would silently drop the first."""
    todo, done = [root], set()
    while todo:
        node = todo.pop()
        # Anchors make the tree a graph, perhaps with a loop.
        if id(node) in done:
            continue
        done.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += node.value
        elif isinstance(node, yaml.MappingNode):
            todo += [value for _, value in node.value]
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} is written twice in one block",
                        problem_mark=key.start_mark,
                    )
                seen |= {key.value} if isinstance(key, yaml.ScalarNode) else set()


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML file that holds a block of keys.

    Args:
        path: the file.

    Returns:
        Its content; an empty file gives an empty dictionary.

    Raises:
        ConfigError: the file cannot be read, is no YAML (with the line), or holds something else.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read the config file {path}: {reason}") from error
    try:
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader))
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line_number = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}, line {line_number}: not valid YAML: {error.reason}") from error
    except (ValueError, RecursionError) as error:
        # A date such as 2026-13-45, or brackets nested without end.
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a block of keys (key: value), but it holds {_shown(content)}")
    return content


def effective_dtype(config: Config, model_alias: str) -> str:
    """Give the type that a model runs in.

    Args:
        config: the configuration.
        model_alias: the model.

    Returns:
        "float32", "bfloat16" or "float16".

    Raises:
        ConfigError: no such model.
    """
    if model_alias not in config.models:
        [problem] = undefined("models", [model_alias], config.models)
        raise ConfigError(problem.message)
    return config.models[model_alias].dtype or config.probe.dtype


def block(config: Config, name: str, *keys: str) -> dict[str, Any]:
    """Give one block as plain data, for the params of a rule and for provenance.

    Args:
        config: the configuration.
        name: the block, such as "exp12".
        keys: the keys wanted; all if none is named. A rule names those it uses, and reruns for those only.

    Returns:
        The keys and their values, of JSON's types.

    Raises:
        ConfigError: no such block or key.
    """
    fields = list(Config.model_fields)
    if name not in fields:
        raise ConfigError(f"{name}: no such config block{suggestion(name, fields)} (blocks: {listing(fields)})")
    content: dict[str, Any] = config.model_dump(mode="json", include={name})[name]
    for key in keys:
        if key not in content:
            raise ConfigError(f"{name}.{key}: no such config key{suggestion(key, content)}")
    return {key: content[key] for key in keys} if keys else content


def _problems(error: ValidationError, raw: Mapping[str, Any]) -> list[Problem]:
    schema = Config.model_json_schema()
    details = error.errors(include_url=False)
    if details[0]["type"] == "tremor_blocks":
        return [Problem(*problem) for problem in details[0]["ctx"]["problems"]]
    # A union reports once for each member, always at the same path: the first names all that is allowed.
    by_path: dict[str, Problem] = {}
    for detail in details:
        # A list whose only items are wrong counts as too short as well; the items say what is the matter.
        own = detail["loc"]
        within = (other is not detail and other["loc"][: len(own)] == own for other in details)
        if detail["type"] == "too_short" and any(within):
            continue
        problem = _problem(detail, schema)
        by_path.setdefault(problem.path, problem)
    # Pydantic stops before the checks between blocks; a misspelt alias should be reported all the same.
    return [*by_path.values(), *_undefined_in(raw)]


def _undefined_in(raw: Mapping[str, Any]) -> list[Problem]:
    select = raw.get("select", {})
    problems: list[Problem] = []
    for kind in ("models", "prompts"):
        defined = raw.get(kind, getattr(Config(), kind))
        selected = select.get(kind, []) if isinstance(select, Mapping) else []
        if isinstance(defined, Mapping) and isinstance(selected, list | tuple):
            names = [alias for alias in selected if isinstance(alias, str)]
            problems += undefined(kind, names, [alias for alias in defined if isinstance(alias, str)])
    return problems


def _problem(detail: Any, schema: Schema) -> Problem:
    path, parent, node = _locate(detail["loc"], schema)
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        key, known = detail["loc"][-1], list(parent.get("properties", {}))
        hint = _owner(detail["loc"], schema) or suggestion(key, known)
        return Problem(path, f"unknown key{hint} (keys here: {', '.join(known)})")
    if kind == "invalid_key" or detail["loc"][-1:] == ("[key]",):
        if kind == "tremor":
            return Problem(path, detail["msg"])
        if kind in ("string_type", "invalid_key"):
            return Problem(path, f"a key must be text, but {_shown(value)} is not; put it in quotes")
        return Problem(path, f"{_shown(value)} cannot be a name here; allowed: {_key_rule(parent, schema)}")
    if kind == "missing":
        return Problem(path, f"is missing; allowed: {allowed(node, schema)}")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        sources = list(node["discriminator"]["mapping"])
        if kind == "union_tag_not_found":
            return Problem(f"{path}.source", f"is missing; allowed: {listing(sources)}")
        tag = detail["ctx"]["tag"]
        return Problem(
            f"{path}.source",
            f"unknown source {tag!r}{suggestion(tag, sources)} (allowed: {listing(sources)})",
        )
    if kind == "tremor":
        return Problem(path, detail["msg"])
    hint = suggestion(value, choices(node, schema))
    if value is None and node.get("type") == "object":
        hint = "; remove the line, or write keys below it"
    elif not hint and isinstance(value, str) and node.get("type") == "array":
        hint = f"; write it as a list: [{value}]"
    elif node.get("type") == "string" and isinstance(value, bool | int | float):
        hint = "; put it in quotes"
    return Problem(path, f"got {_shown(value)}{hint} (allowed: {allowed(node, schema)})")


def _locate(location: tuple[int | str, ...], schema: Schema) -> tuple[str, Schema, Schema]:
    """Walk the schema along pydantic's location, leaving out the names of union members in it."""
    path, parent, node = "", schema, schema
    for part in location:
        here = resolve(node, schema)
        if "discriminator" in here and part in here["discriminator"]["mapping"]:
            # Pydantic names the member of the union here, which is no key of the user's.
            node = {"$ref": here["discriminator"]["mapping"][part]}
            continue
        if isinstance(part, int):
            items = here.get("prefixItems")
            child = items[part] if items and part < len(items) else here.get("items")
            step = f"[{part}]"
        elif here.get("type") == "object" and part != "[key]":
            named = {**here.get("properties", {})}
            patterns = list(here.get("patternProperties", {}).values())
            child = named.get(part) or (patterns[0] if patterns else here.get("additionalProperties")) or {}
            step = f".{part}" if path else str(part)
        else:
            break
        if child is None:
            break
        path, parent, node = path + step, here, child
    return path or "config", parent, resolve(node, schema)


def _key_rule(parent: Schema, schema: Schema) -> str:
    return allowed(parent.get("propertyNames", {"type": "string"}), schema)


def _owner(location: tuple[int | str, ...], schema: Schema) -> str:
    """Explain a key that belongs to another source: a default entry of the same alias was merged in."""
    if len(location) != 4 or location[0] != "models":
        return ""
    _, alias, source, key = location
    for definition in schema["$defs"].values():
        properties = definition.get("properties", {})
        owner = properties.get("source", {}).get("const")
        if owner not in (None, source) and key in properties:
            return (
                f"; {key!r} belongs to source {owner!r}: if you redefine the default model {alias!r}, choose "
                "another alias, because entries of the same alias are merged"
            )
    return ""


def _shown(value: Any) -> str:
    if value is None:
        return "nothing (null)"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
