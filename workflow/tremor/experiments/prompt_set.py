"""A set of prompts in a file, grouped by kind: what exp2 and the Lipschitz studies measure in one job."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tremor.errors import PromptError

COLUMNS = ("name", "kind", "source", "text")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class SetPrompt:
    """One prompt of a set."""

    name: str
    kind: str
    source: str
    text: str


def read_prompts(path: Path, names: Sequence[str] | Literal["all"] = "all") -> list[SetPrompt]:
    """Read a prompt set: tab separated, UTF-8, with the header name, kind, source, text; nothing is quoted.

    Args:
        path: The file.
        names: Prompts to keep, in this order; ``all`` keeps all, in the order of the file.

    Raises:
        PromptError: the file is missing or malformed, a name occurs twice, or a wanted one does not occur.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"the prompt set {path} cannot be read ({error}); name a UTF-8 file with tabs") from error
    if tuple(lines[0].rstrip("\r").split("\t")) != COLUMNS:
        raise PromptError(f"{path} must begin with the line {'<tab>'.join(COLUMNS)}")
    found: dict[str, SetPrompt] = {}
    for number, line in enumerate(lines[1:], start=2):
        line = line.rstrip("\r")
        if not line:
            continue
        cells = line.split("\t")
        if len(cells) != len(COLUMNS) or not all(cell.strip() for cell in cells):
            raise PromptError(
                f"{path}, line {number}: needs {len(COLUMNS)} cells that are not blank, separated by tabs"
            )
        prompt = SetPrompt(*cells)
        if not _NAME.fullmatch(prompt.name):
            raise PromptError(
                f"{path}, line {number}: the name {prompt.name!r} may hold letters, digits, '.', '_', '-'"
            )
        if prompt.name in found:
            raise PromptError(f"{path}, line {number}: the name {prompt.name!r} occurs twice; rename one")
        found[prompt.name] = prompt
    if not found:
        raise PromptError(f"{path} holds no prompt; add at least one line")
    return list(found.values()) if names == "all" else select(list(found.values()), names, where=str(path))


def select(prompts: Sequence[SetPrompt], names: Sequence[str] | Literal["all"], *, where: str) -> list[SetPrompt]:
    """The prompts of these names, in the order of the names.

    Raises:
        PromptError: a name does not occur.
    """
    if names == "all":
        return list(prompts)
    known = {prompt.name: prompt for prompt in prompts}
    for name in names:
        if name not in known:
            raise PromptError(f"no prompt is called {name!r} in {where}; it has {', '.join(known)}")
    return [known[name] for name in names]
