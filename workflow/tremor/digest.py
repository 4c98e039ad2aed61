"""Digest of the library code a rule uses: a change of maths reruns its jobs, a comment or layout does not.

Snakemake sees the text of a script only. A rule therefore has `code=graph.code("probe.boundary", ...)` among
its params; the digest covers the syntax trees of the named modules and of every Tremor module they import,
however deep.
"""

import ast
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tremor.errors import ArtifactError, ConfigError
from tremor.store.atomic import write_bytes

PACKAGE = "tremor"

PLUMBING = (
    "tremor",  # the package's __init__ holds the version: a release shall not rerun what it did not change
    "tremor.errors",  # the texts of messages
    "tremor.job",  # passes values from Snakemake to the library, which are params of the rule
    "tremor.digest",
    "tremor.cli",
    "tremor.progress",  # what is shown while waiting
    "tremor.config",  # and everything in it: values reach a job as params, which Snakemake compares by itself
)
"""Modules left out of every closure because they cannot change a number in an artifact."""

_FORMAT = 1
_log = logging.getLogger(__name__)
_memory: dict[tuple[str, str], "_Summary"] = {}


@dataclass(frozen=True)
class _Summary:
    """Digest of one file's syntax tree, and the modules it may import."""

    tree: str
    imports: tuple[str, ...]

    @cached_property
    def wanted(self) -> tuple[str, ...]:
        """The imports and their packages, without what cannot change a number."""
        names = (part for name in self.imports for part in _with_parents(name) if not _is_plumbing(part))
        return tuple(dict.fromkeys(names))


class Sources:
    """The package's files as they are when first looked at: each is read once, however many rules ask.

    Args:
        cache: file that keeps digests of unchanged files between runs; a damaged one is replaced.
        root: folder of the package; by default the one this module lies in.
    """

    def __init__(self, *, cache: Path | None = None, root: Path | None = None) -> None:
        self._root = Path(__file__).resolve().parent if root is None else root
        self._cache = cache
        self._stored = _read_cache(cache)
        self._used: dict[str, _Summary] = {}
        self._seen: dict[str, _Summary | None] = {}

    def digest(self, *modules: str) -> str:
        """sha256 over the code of modules and of all they import from Tremor; see `code_digest`."""
        trees = [(name, summary.tree) for name, summary in self._closure(modules)]
        if _write_cache(self._cache, self._stored, self._used):
            self._stored = {**self._stored, **self._used}
        return hashlib.sha256(json.dumps(trees).encode()).hexdigest()

    def closure(self, *modules: str) -> tuple[str, ...]:
        """Full names of the modules a digest covers, sorted."""
        return tuple(name for name, _ in self._closure(modules))

    def _closure(self, modules: Iterable[str]) -> list[tuple[str, _Summary]]:
        pending = [found for name in modules for found in _named(name, self._root)]
        found: dict[str, _Summary] = {}
        while pending:
            name = pending.pop()
            summary = None if name in found else self._summary(name)
            if summary is None:
                continue
            found[name] = summary
            pending += summary.wanted
        return sorted(found.items())

    def _summary(self, name: str) -> _Summary | None:
        if name not in self._seen:
            path = _path_of(name, self._root)
            self._seen[name] = None if path is None else _summary(name, path, self._stored, self._used)
        return self._seen[name]


def code_digest(*modules: str, cache: Path | None = None, root: Path | None = None) -> str:
    """sha256 over the code of modules and of all they import from Tremor.

    Comments, layout, docstrings, type annotations of functions and variables, and `if TYPE_CHECKING` blocks
    do not count. A package stands for all modules in it when named here, and for its `__init__` when it is
    imported.

    Args:
        modules: names relative to the package, such as "probe.boundary".
        cache: as of `Sources`.
        root: as of `Sources`.

    Returns:
        64 hexadecimal digits.

    Raises:
        ConfigError: no such module, or one that is not valid Python.
    """
    return Sources(cache=cache, root=root).digest(*modules)


def closure(*modules: str, root: Path | None = None) -> tuple[str, ...]:
    """Full names of the modules a digest covers, sorted; for tests and for `tremor doctor`."""
    return Sources(root=root).closure(*modules)


def _is_plumbing(name: str) -> bool:
    return name in PLUMBING or any(name.startswith(f"{part}.") for part in PLUMBING[1:])


def _named(name: str, root: Path) -> list[str]:
    full = f"{PACKAGE}.{name.removeprefix(f'{PACKAGE}.')}"
    path = _path_of(full, root)
    if path is None or not name:
        raise ConfigError(f"code digest: there is no module {name!r} in {PACKAGE}; correct the name in the rule")
    found = [part for part in _with_parents(full) if not _is_plumbing(part)] + [full]
    if path.name == "__init__.py":
        for file in sorted(path.parent.rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found.append(".".join((PACKAGE, *parts)).removesuffix(".__init__"))
    return found


def _path_of(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split(".")[1:])
    for path in (base / "__init__.py", base.with_name(base.name + ".py")):
        if path.is_file() and path.is_relative_to(root):
            return path
    return None


def _with_parents(name: str) -> Iterator[str]:
    """A module and its packages, whose __init__ runs when it is imported."""
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _summary(name: str, path: Path, stored: dict[str, _Summary], used: dict[str, _Summary]) -> _Summary:
    source = path.read_bytes()
    # The content decides alone: times differ between checkouts, and coarse clocks miss a quick edit.
    key = hashlib.sha256(f"{_FORMAT}:{name}:{path.name}:".encode() + source).hexdigest()
    summary = _memory.get((name, key)) or stored.get(key)
    if summary is None:
        try:
            tree = ast.parse(source, filename=path.name)
        except (SyntaxError, ValueError) as error:
            raise ConfigError(f"code digest: module {name} is not valid Python ({error}); correct it") from error
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        text: list[str] = []
        imports: set[str] = set()
        _render(tree, text, imports, package)
        digest = hashlib.sha256("\x1f".join(text).encode("utf-8", errors="backslashreplace")).hexdigest()
        summary = _Summary(digest, tuple(sorted(imports)))
    _memory[(name, key)] = used[key] = summary
    return summary


# What does not change a result: where a node stands, how a text was quoted, types told to checkers.
_IGNORED = {"ctx", "kind", "type_comment", "type_ignores", "returns", "lineno"}
_FIELDS = {
    kind: tuple(name for name in kind._fields if name not in _IGNORED)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
_BODIES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _render(node: Any, out: list[str], imports: set[str], package: str) -> None:
    """Write a syntax tree as a flat list of texts; ast.dump is slow and differs between versions."""
    kind = type(node)
    if kind is list:
        out.append("[")
        for item in node:
            _render(item, out, imports, package)
        out.append("]")
        return
    if not isinstance(node, ast.AST):
        out.append(f"{kind.__name__}:{node!r}")
        return
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.Call)):
        imports.update(_imported(node, package))
    out.append(kind.__name__)
    for name in _FIELDS[kind]:
        value = getattr(node, name, None)
        if value is None or value == []:  # so that a field new in some Python version changes nothing
            continue
        if name == "annotation" and kind is ast.arg:
            continue
        out.append(name)
        if name == "body" and isinstance(value, list):
            value = list(_statements(value, node))
        elif name == "orelse" and isinstance(value, list):
            value = list(_statements(value, None))
        _render(value, out, imports, package)
    out.append(";")


def _statements(body: list[ast.stmt], owner: ast.AST | None) -> Iterator[ast.stmt]:
    """Statements that act: no docstring, no TYPE_CHECKING block, no annotation outside a class."""
    for position, statement in enumerate(body):
        if position == 0 and isinstance(owner, _BODIES) and _is_text(statement):
            continue
        if isinstance(statement, ast.If) and _is_type_checking(statement.test):
            yield from _statements(statement.orelse, None)
        elif isinstance(statement, ast.AnnAssign) and not isinstance(owner, ast.ClassDef):
            # In a class an annotation may declare a field; elsewhere it only tells the checker.
            if statement.value is not None:
                yield ast.Assign(targets=[statement.target], value=statement.value)
        elif not _is_text(statement):  # a text standing alone documents the name above it
            yield statement


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _imported(node: ast.Import | ast.ImportFrom | ast.Call, package: str) -> Iterable[str]:
    """Tremor modules a node may import; names that turn out to be no module are dropped by the caller."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = package.split(".")
            parent = parts[: len(parts) - node.level + 1]
            base = ".".join([*parent, *([node.module] if node.module else [])])
        names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
    else:
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        first = node.args[0] if node.args else None
        literal = isinstance(first, ast.Constant) and isinstance(first.value, str)
        names = [str(first.value)] if name == "import_module" and literal and isinstance(first, ast.Constant) else []
    return [name for name in names if name == PACKAGE or name.startswith(f"{PACKAGE}.")]


def _own_digest() -> str:
    """The cache is of no use after a change of this module."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def _read_cache(cache: Path | None) -> dict[str, _Summary]:
    if cache is None:
        return {}
    try:
        document = json.loads(cache.read_bytes())
        if document["format"] != _own_digest():
            return {}
        return {
            str(key): _Summary(str(tree), tuple(str(name) for name in imports))
            for key, (tree, imports) in document["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # A cache that is missing or damaged costs a quarter of a second; it is written anew.
        return {}


def _write_cache(cache: Path | None, stored: dict[str, _Summary], used: dict[str, _Summary]) -> bool:
    """Keep the digests, where there are new ones; whether there were."""
    if cache is None or used.keys() <= stored.keys():
        return False
    files = {key: [summary.tree, summary.imports] for key, summary in sorted({**_alive(stored), **used}.items())}
    with suppress(OSError):
        try:
            write_bytes(cache, json.dumps({"format": _own_digest(), "files": files}).encode())
        except ArtifactError as error:
            _log.debug("the cache of code digests is not kept: %s", error)
    return True


def _alive(stored: dict[str, _Summary]) -> dict[str, _Summary]:
    """Old entries, unless they have piled up over many edits."""
    return stored if len(stored) < 2000 else {}
