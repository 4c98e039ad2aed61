"""Docstrings as the library has them, for Sphinx.

The library's docstrings are for people who read the source: ``|w|`` is a modulus there and ``*`` a product, and a
field's shape stands in the comment behind it. Here they become what reStructuredText means by the same.
"""

import ast
import builtins
import io
import re
import tokenize
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

from tremor import errors

MARKED = re.compile(r"(:[\w:]+:`[^`]+`|``.+?``|`[^`]+`)")
# What `numpy.typing.NDArray[...]` and `numpy.typing.ArrayLike` are behind their names, as Sphinx writes them.
ARRAY = re.compile(r"~?numpy\.ndarray\[tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[([^\[\]]*)\]\]")
ANY_ARRAY = re.compile(r"~?[\w.]*_Buffer \|.*?_NestedSequence\[[^\[\]]*str\]")
FIELDS = ("attribute", "data", "property")
_KEPT: dict[str, list[str]] = {}
ENTRY = re.compile(r"    (\w+)(?: \([^)]*\))?: (.*)")


def escaped(lines: list[str]) -> list[str]:
    """Lines in which bars and asterisks outside of code are what they are; code of an example is a literal block.

    Args:
        lines: a docstring.

    Returns:
        The lines.
    """
    found: list[str] = []
    inside: int | None = None  # indentation of the line that a literal block belongs to
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if inside is not None and line.strip() and indent <= inside:
            inside = None
        if inside is not None:
            found.append(line)
            continue
        plain = MARKED.split(line)
        plain[::2] = [re.sub(r"([|*])", r"\\\1", part) for part in plain[::2]]
        text = "".join(plain)
        found.append(text)
        if text.strip() in ("Example:", "Examples:"):
            found[-1:] = [f"{text}:", ""]
            inside = indent
        elif text.endswith("::"):
            inside = indent
    return found


def fields(lines: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """A class's docstring without its section "Attributes", and what that says of each.

    Args:
        lines: the docstring.

    Returns:
        The other lines, and the text by the attribute's name.
    """
    rest: list[str] = []
    found: dict[str, list[str]] = {}
    inside = False
    name = ""
    for line in lines:
        if line == "Attributes:":
            inside = True
        elif inside and (line.startswith("    ") or not line):
            entry = ENTRY.fullmatch(line)
            if entry:
                name = entry[1]
                found[name] = [entry[2]]
            elif line and name:
                found[name].append(line.strip())
        else:
            inside = False
            rest.append(line)
    return rest, found


def descriptions(source: str) -> dict[tuple[str, str], list[str]]:
    """What a module says of its fields and constants: in a class's section "Attributes", or in the comment behind one.

    Args:
        source: text of the module.

    Returns:
        The text by the class ("" for the module itself) and the name.
    """
    behind = {
        token.start[0]: token.string.lstrip("#: ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip()
    }
    found: dict[tuple[str, str], list[str]] = {}

    def visit(body: list[ast.stmt], owner: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                name = f"{owner}.{node.name}".lstrip(".")
                visit(node.body, name)
                told = fields((ast.get_docstring(node) or "").splitlines())[1]
                found.update({(name, attribute): text for attribute, text in told.items()})
            elif isinstance(node, (ast.AnnAssign, ast.Assign)):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                text = behind.get(node.end_lineno or 0) or behind.get(node.lineno)
                if isinstance(target, ast.Name) and text:
                    found[owner, target.id] = [text]

    visit(ast.parse(source).body, "")
    return found


def describe(module: str) -> None:
    """Let autodoc have the descriptions of a module's fields as if they were comments of its own kind."""
    analyzer = ModuleAnalyzer.for_module(module)
    analyzer.analyze()
    for key, text in descriptions(analyzer.code).items():
        analyzer.attr_docs.setdefault(key, [*text, ""])


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Rewrite one docstring before Napoleon reads it."""
    if what == "class":
        lines[:] = fields(lines)[0]
    lines[:] = escaped(lines)
    if what in FIELDS:
        # Napoleon would take what stands before a colon for the type.
        _KEPT[name] = lines[:]
        lines.clear()


def restore(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Behind Napoleon."""
    if what in FIELDS:
        lines[:] = _KEPT.pop(name)


def shorten(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Arrays in signatures by the name they have in the source."""

    def short(text: str | None) -> str | None:
        return text and ANY_ARRAY.sub("~numpy.typing.ArrayLike", ARRAY.sub(r"~numpy.typing.NDArray[\1]", text))

    return short(signature), short(returned)


def relink(app: Sphinx, tree: nodes.document) -> None:
    """Names that docstrings leave short: errors are Tremor's; `bytes` is the type, and no attribute of that name."""
    for reference in list(tree.findall(addnodes.pending_xref)):
        target = reference.get("reftarget", "")
        if reference.get("refdomain") != "py":
            continue
        if hasattr(errors, target):
            reference["reftarget"] = f"tremor.errors.{target}"
        elif hasattr(builtins, target):
            reference.replace_self(reference.children)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the hooks; Napoleon's own has priority 500."""
    app.connect("autodoc-process-docstring", process, priority=400)
    app.connect("autodoc-process-docstring", restore, priority=600)
    app.connect("autodoc-process-signature", shorten)
    app.connect("doctree-read", relink)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
