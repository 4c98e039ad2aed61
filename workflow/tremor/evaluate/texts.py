"""Which texts scores read and which effects are measured on: disjoint, from all domains, with a digest. No torch."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tremor.errors import ArtifactError, ConfigError
from tremor.models import corpus
from tremor.models.corpus import Passage, TextSplit


def balanced(passages: Sequence[Passage], count: int | None) -> tuple[Passage, ...]:
    """The first passages of every domain in turn.

    Args:
        passages: In file order.
        count: How many; None for all of them.

    Returns:
        `count` passages, by domain in the order given, so that domains differ by one passage at most.

    Raises:
        ConfigError: There are fewer.
    """
    if count is None:
        return tuple(passages)
    if count > len(passages):
        raise ConfigError(f"{count} passages were asked for, but there are only {len(passages)}; ask for fewer or null")
    return tuple(passages[number] for number in sorted(_turns(passages)[:count]))


def in_turn(passages: Sequence[Passage]) -> tuple[Passage, ...]:
    """The first passage of every domain, then the second of every domain, and so on: any beginning is balanced."""
    return tuple(passages[number] for number in _turns(passages))


def _turns(passages: Sequence[Passage]) -> list[int]:
    seen: dict[str, int] = {}
    turns = []
    for number, passage in enumerate(passages):
        turn = seen.get(passage.domain, 0)
        seen[passage.domain] = turn + 1
        turns.append((turn, number))
    return [number for _, number in sorted(turns)]


def passages(split: TextSplit, count: int | None = None, *, resources: Path = corpus.RESOURCES) -> tuple[Passage, ...]:
    """Passages of a split, from all domains in turn.

    Args:
        split: "calibration" for scores, "heldout" for effects.
        count: How many; None for all.
        resources: Folder that holds `text/`.

    Raises:
        ConfigError: There are fewer.
        ArtifactError: A passage stands in another split too, so that effects would be measured on what scores read.
    """
    found = corpus.passages(split, resources=resources)
    other: TextSplit = "heldout" if split == "calibration" else "calibration"
    shared = {p.text for p in found} & {p.text for p in corpus.passages(other, resources=resources)}
    if shared:
        raise ArtifactError(f"text/{split} and text/{other} share the passage {min(shared)!r}; remove it from one")
    return balanced(found, count)


def digest(texts: Sequence[str]) -> str:
    """sha256 over texts in order."""
    made = hashlib.sha256()
    for text in texts:
        made.update(len(text.encode()).to_bytes(8, "little") + text.encode())
    return made.hexdigest()
