"""Sets of questions in a file, for the recorder (no torch; the rule files count them)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tremor.errors import PromptError

COLUMNS = ("name", "kind", "text")
KINDS = ("factual", "unknowable")
MOST = 99  # files are numbered with two digits
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        number: Its place in the selection, from 1: `q01.h5` holds number 1.
        name: Letters, digits, ".", "_", "-".
        kind: "factual" or "unknowable" (about things that nobody can know, because they do not exist).
        text: What the model is given.
    """

    number: int
    name: str
    kind: str
    text: str

    @property
    def stem(self) -> str:
        """Name of its recording without the suffix."""
        return f"q{self.number:02d}"


def read_questions(path: Path, names: Sequence[str] | Literal["all"] = "all") -> list[Question]:
    """Read a question set: tab separated, UTF-8, with the header name, kind, text; nothing is quoted.

    Args:
        path: The file.
        names: Questions to keep, in this order; ``all`` keeps all, in the order of the file.

    Raises:
        PromptError: the file is missing or malformed, a question is empty, a name occurs twice, or a wanted one
            does not occur.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"the question set {path} cannot be read ({error}); name a UTF-8 file with tabs") from error
    if tuple(lines[0].rstrip("\r").split("\t")) != COLUMNS:
        raise PromptError(f"{path} must begin with the line {'<tab>'.join(COLUMNS)}")
    found: dict[str, tuple[str, str, str]] = {}
    for row, line in enumerate(lines[1:], start=2):
        line = line.rstrip("\r")
        if not line:
            continue
        cells = line.split("\t")
        if len(cells) != len(COLUMNS) or not all(cell.strip() for cell in cells):
            raise PromptError(f"{path}, line {row}: needs {len(COLUMNS)} cells that are not blank, separated by tabs")
        name, kind, text = cells
        if not _NAME.fullmatch(name):
            raise PromptError(f"{path}, line {row}: the name {name!r} may hold letters, digits, '.', '_', '-'")
        if kind not in KINDS:
            raise PromptError(f"{path}, line {row}: the kind {kind!r} is none of {', '.join(KINDS)}")
        if name in found:
            raise PromptError(f"{path}, line {row}: the name {name!r} occurs twice; rename one")
        found[name] = (name, kind, text)
    wanted = list(found) if names == "all" else list(names)
    for name in wanted:
        if name not in found:
            raise PromptError(f"no question is called {name!r} in {path}; it has {', '.join(found)}")
    if not 0 < len(wanted) <= MOST:
        raise PromptError(f"{path}: {len(wanted)} questions are selected; take 1 to {MOST} (recorder.names)")
    return [Question(number, *found[name]) for number, name in enumerate(wanted, start=1)]
