"""A JSON schema in words: one description of what is allowed, for comments and for error messages."""

from collections.abc import Mapping
from typing import Any

from tremor.config.spelling import listing

Schema = Mapping[str, Any]


def resolve(node: Schema, root: Schema) -> Schema:
    """Follow a reference inside the schema.

    Args:
        node: a schema, perhaps a reference.
        root: the schema that holds the definitions.

    Returns:
        The schema meant; what stands beside the reference (description, default) wins.
    """
    if "$ref" not in node:
        return node
    target = root["$defs"][node["$ref"].rpartition("/")[2]]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def choices(node: Schema, root: Schema) -> list[str]:
    """List the words that a value may be.

    Args:
        node: the schema of the value.
        root: the schema that holds the definitions.

    Returns:
        The words, empty where the value is no choice of words.
    """
    node = resolve(node, root)
    words = [*node.get("enum", []), *([node["const"]] if "const" in node else [])]
    for option in node.get("anyOf", []):
        words += choices(option, root)
    return [word for word in words if isinstance(word, str)]


def allowed(node: Schema, root: Schema) -> str:
    """Say what a value may be.

    Args:
        node: the schema of the value.
        root: the schema that holds the definitions.

    Returns:
        A phrase such as "a whole number >= 1" or "exact or bisection".
    """
    node = resolve(node, root)
    if "x-allowed" in node:
        return str(node["x-allowed"])
    if "anyOf" in node:
        options = [resolve(option, root) for option in node["anyOf"]]
        others = [allowed(option, root) for option in options if not choices(option, root)]
        return listing([*choices(node, root), *others])
    if "enum" in node or "const" in node:
        return listing(choices(node, root))
    if "discriminator" in node:
        return f"a block {{source: {listing(node['discriminator']['mapping'])}, ...}}"
    kind = node.get("type")
    if kind in ("integer", "number"):
        return _number(node)
    if kind == "array":
        return _list(node, root)
    if kind == "object":
        keys = node.get("properties")
        return f"a block with keys from: {', '.join(keys)}" if keys else "a block of aliases"
    return {"string": "text", "null": "null", "boolean": "true or false"}.get(str(kind), "any value")


def _number(node: Schema) -> str:
    bounds = [
        f"{sign} {node[key]:.6g}" if isinstance(node[key], float) else f"{sign} {node[key]}"
        for key, sign in (
            ("exclusiveMinimum", ">"),
            ("minimum", ">="),
            ("exclusiveMaximum", "<"),
            ("maximum", "<="),
        )
        if key in node
    ]
    name = "a whole number" if node["type"] == "integer" else "a number"
    return f"{name} {' and '.join(bounds)}".rstrip()


def _list(node: Schema, root: Schema) -> str:
    if "prefixItems" in node:
        return f"a list of {len(node['prefixItems'])}, each {allowed(node['prefixItems'][0], root)}"
    items = resolve(node.get("items", {}), root)
    # A choice of words reads well after "from"; anything else is described by its kind.
    what = f"from: {', '.join(choices(items, root))}" if choices(items, root) else f"of: {allowed(items, root)}"
    least = "at least one, " if node.get("minItems") else ""
    unique = "none twice, " if node.get("uniqueItems") else ""
    return f"a list, {least}{unique}{what}"
