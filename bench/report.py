"""Rows of the table, and the page they are written to."""

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- bench:{name} -->", "<!-- /bench:{name} -->"


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, against what target."""

    what: str
    measured: str
    target: str = ""
    ok: bool | None = None  # None where there is no target

    @property
    def verdict(self) -> str:
        """The last column."""
        return "" if self.ok is None else "ok" if self.ok else "miss"


def at_least(what: str, value: float, target: float, *, unit: str = "", note: str = "") -> Row:
    """A row whose number must reach the target."""
    return Row(what, f"{value:.3g}{unit}{f' ({note})' if note else ''}", f"≥ {target:g}{unit}", value >= target)


def at_most(what: str, value: float, target: float, *, unit: str = "", note: str = "") -> Row:
    """A row whose number must not pass the target."""
    return Row(what, f"{value:.3g}{unit}{f' ({note})' if note else ''}", f"≤ {target:g}{unit}", value <= target)


def table(rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = ["| what | measured | target | |", "|---|---|---|---|"]
    lines += [f"| {row.what} | {row.measured} | {row.target} | {row.verdict} |" for row in rows]
    return "\n".join(lines)


def processor() -> str:
    """The CPU's model name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()


def write(page: Path, sections: Mapping[str, str]) -> None:
    """Replace what stands between the markers of each section; the prose around them stays.

    Raises:
        ValueError: the page lacks the markers of a section.
    """
    text = page.read_text(encoding="utf-8")
    for name, content in sections.items():
        begin, end = BEGIN.format(name=name), END.format(name=name)
        if begin not in text or end not in text:
            raise ValueError(f"{page.name} has no markers {begin} and {end}; put them where the table belongs")
        head, rest = text.split(begin, 1)
        text = f"{head}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}"
    page.write_text(text, encoding="utf-8")
