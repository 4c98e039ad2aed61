"""The table of docs/reliability.md names tests that there are, and every test of this folder."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TABLE)
ELSEWHERE = {
    # Details of what a named test promises.
    "test_table.py", "test_gpus.py",
}  # fmt: skip
DETAILS = {"test_the_real_errors_are_known"}


def defined(path: Path) -> set[str]:
    """Names of the tests of a file."""
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def test_every_named_test_exists() -> None:
    assert len(NAMED) > 30
    missing = [f"{file}::{name}" for file, name in NAMED if name not in defined(ROOT / file)]
    assert missing == []


def test_every_row_has_a_test() -> None:
    rows = [line for line in TABLE.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 20
    assert [row for row in rows if "::test_" not in row] == []


def test_every_fault_tested_here_is_in_the_table() -> None:
    named = {name for _, name in NAMED}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path.name not in ELSEWHERE:
            tests = {name for name in defined(path) if name.startswith("test_")}
            assert tests - named - DETAILS == set(), path.name
