"""Every key of the configuration in one table, taken from the JSON schema."""

import json
from collections.abc import Iterator
from typing import Any

from tremor.config.describe import Schema, allowed, resolve


def keys(root: Schema) -> list[tuple[str, str, str]]:
    """List the keys a user may write.

    Args:
        root: the JSON schema of the configuration.

    Returns:
        For each key its dotted name (`<alias>` where the user chooses one), its default as JSON ("" where it must
        be given), and what is allowed.
    """
    return list(_walk("", root, root))


def _walk(path: str, node: Schema, root: Schema) -> Iterator[tuple[str, str, str]]:
    for name, field in node["properties"].items():
        found = resolve(field, root)
        where = f"{path}{name}"
        if "properties" in found:
            yield from _walk(f"{where}.", found, root)
        elif found.get("type") == "object":
            yield from _entries(f"{where}.<alias>.", found, root)
        else:
            default = json.dumps(found["default"]) if "default" in found else ""
            yield where, default, allowed(found, root)


def _entries(path: str, node: Schema, root: Schema) -> Iterator[tuple[str, str, str]]:
    """Keys of an entry under an alias; entries of several kinds share some of their keys."""
    patterns: list[Any] = list(node.get("patternProperties", {}).values())
    entry = resolve(patterns[0] if patterns else node["additionalProperties"], root)
    if "properties" not in entry and "oneOf" not in entry:
        yield path.removesuffix("."), "", allowed(entry, root)
        return
    seen: dict[str, tuple[str, str, str]] = {}
    for member in entry.get("oneOf", [entry]):
        for key, default, phrase in _walk(path, resolve(member, root), root):
            before = seen.get(key)
            # What tells the kinds apart is allowed to be any of them.
            joined = phrase if before is None or before[2] == phrase else f"{before[2]} or {phrase}"
            seen[key] = (key, default, joined)
    yield from seen.values()
