"""The blocks of the documentation: what stands between fences, page by page, and what is to be done with each.

Every fence names its language. `python` is run, `sh` is run or dry-run line by line, `yaml` is held against the
configuration's schema, `json` must parse, `text` is output or a drawing. A block that cannot be one of these says why
in a comment before it: ``<!-- not run: needs a cluster -->``.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "config/README.md", *(ROOT / "docs").glob("*.md")])
LANGUAGES = {"python", "sh", "yaml", "json", "text"}
MARKER = re.compile(r"<!-- not run: (\S.*?) -->")
# First words of a line that is a command; behind them a colon or an equals sign would make it something else.
COMMAND = re.compile(r"\s*(?:\$ )?(?:snakemake|tremor|make|python3?|pip|git|cd|source|export|hf|sbatch)(?: [^:=]|$)")
# What makes more than one command of a line, or a program of a block; a test reads neither.
SHELL = {"|", "||", "&&", ";", "<<", "<", ">", ">>", "for", "if", "while"}


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str  # below the root of the repository
    line: int  # of the opening fence, from 1
    language: str  # "" if it has none
    text: str
    reason: str | None  # why it is not run; None if it is

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def tokens(page: Path) -> tuple[Token, ...]:
    return tuple(MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")))


@cache
def blocks() -> tuple[Block, ...]:
    """All fences of all pages but directives of Sphinx, which the build of the site checks."""
    found = []
    for page in PAGES:
        before = ""
        for token in tokens(page):
            if token.type == "fence" and not token.info.startswith("{"):
                marker = MARKER.search(before)
                name = page.relative_to(ROOT).as_posix()
                assert token.map is not None
                reason = marker[1] if marker else None
                found.append(Block(name, token.map[0] + 1, token.info.strip(), token.content, reason))
            before = token.content if token.type == "html_block" else ""
    return tuple(found)


def indented(page: Path) -> Iterator[str]:
    """Lines of blocks that are set apart by indentation alone: formulas, which nobody runs."""
    for token in tokens(page):
        if token.type == "code_block":
            yield from token.content.splitlines()


def inline(page: Path) -> Iterator[str]:
    """Code within the text of a page."""
    for token in tokens(page):
        for child in token.children or ():
            if child.type == "code_inline":
                yield child.content


@dataclass(frozen=True)
class Command:
    """One command of a block."""

    block: Block
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        return self.words[0]

    @property
    def arguments(self) -> list[str]:
        return list(self.words[1:])


def commands(block: Block) -> Iterator[Command]:
    """The commands of a block, without comments, assignments before them and the line breaks within them."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        if words:
            assert not set(words) & SHELL, f"{block.place}: one command a line"
            yield Command(block, tuple(words))


@cache
def shell() -> tuple[Command, ...]:
    """Commands of all blocks of the shell that are run."""
    chosen = [block for block in blocks() if block.language == "sh" and block.reason is None]
    return tuple(command for block in chosen for command in commands(block))


def settings_before(block: Block) -> str | None:
    """The last configuration that the page shows above a block."""
    above = [
        each.text
        for each in blocks()
        if each.page == block.page and each.line < block.line and each.language == "yaml" and each.reason is None
    ]
    return above[-1] if above else None
