"""Sentences that state facts, with their subjects and answers marked; from the fact tables or from a file. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tremor.errors import ArtifactError, ConfigError
from tremor.models import corpus

Span = tuple[int, int]
Role = Literal["select", "evaluate"]

OTHER = "other"
HEADER = ("relation", "text", "subject", "answer")


@dataclass(frozen=True)
class Sentence:
    """One whole sentence.

    Attributes:
        relation: Property such as "P36", or `OTHER` for a text that states no fact of a relation.
        split: "train" or "heldout" (templates that the embedded models have and have not seen), the name of a
            file's sentences ("file"), or "passage".
        text: The sentence, full stop included.
        subject_span: Characters [start, end) of the subject; None for a passage.
        answer_span: Characters [start, end) of the answer without the space before it; None for a passage.
    """

    relation: str
    split: str
    text: str
    subject_span: Span | None = None
    answer_span: Span | None = None

    @property
    def answer(self) -> str:
        """The answer's text, "" for a passage."""
        return "" if self.answer_span is None else self.text[slice(*self.answer_span)]

    @property
    def subject(self) -> str:
        """The subject's text, "" for a passage."""
        return "" if self.subject_span is None else self.text[slice(*self.subject_span)]


def asked(fact: corpus.Fact, template: corpus.Template, split: str) -> Sentence:
    """The sentence of a fact under a template."""
    prompt = corpus.prompt(fact, template)
    start = len(prompt.text) + 1
    text = f"{prompt.text}{prompt.answer}."
    return Sentence(fact.relation, split, text, prompt.subject_span, (start, start + len(fact.object)))


def from_tables(
    relations: Sequence[str],
    *,
    facts: int,
    role: Role,
    seed: int = 0,
    resources: Path = corpus.RESOURCES,
) -> tuple[Sentence, ...]:
    """Sentences of the project's own fact tables.

    Neurons are selected on one wording and evaluated on others: the second of the train templates serves selection,
    the first train template and the last held-out one evaluation. The facts are the same for both.

    Args:
        relations: Properties.
        facts: So many of each relation, spread over its table; all where it has fewer.
        role: What the sentences are for.
        seed: Offset of the first fact in its table.
        resources: Folder that holds `facts/`.

    Returns:
        Relation by relation.

    Raises:
        ConfigError: An unknown relation.
    """
    unknown = [code for code in relations if code not in corpus.RELATIONS]
    if unknown:
        raise ConfigError(f"delta.facts.relations: no relation {unknown[0]!r}; there are {', '.join(corpus.RELATIONS)}")
    train, heldout = corpus.templates("train", resources=resources), corpus.templates("heldout", resources=resources)
    found: list[Sentence] = []
    for code in relations:
        table = corpus.facts(code, resources=resources)
        count = min(facts, len(table))
        chosen = [table[(i * len(table) // count + seed) % len(table)] for i in range(count)]
        wordings = (
            [("train", train[code][min(1, len(train[code]) - 1)])]
            if role == "select"
            else [("train", train[code][0]), ("heldout", heldout[code][-1])]
        )
        found += [asked(fact, template, split) for split, template in wordings for fact in chosen]
    return tuple(found)


def from_file(path: Path, relations: Sequence[str] | None = None) -> tuple[Sentence, ...]:
    """Sentences of a file: tab-separated columns relation, text, subject, answer.

    The answer is the last place where its text stands, the subject the first one that does not overlap it.

    Args:
        path: The file.
        relations: Properties wanted, None for all.

    Raises:
        ArtifactError: A malformed line, or a subject or answer that is not in its sentence.
        ConfigError: A relation that the file does not have.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read as UTF-8 text ({error}); see delta.facts.source") from error
    if not lines or tuple(lines[0].split("\t")) != HEADER:
        raise ArtifactError(f"{path}:1: expected the tab-separated columns {' '.join(HEADER)}")
    found = [_parsed(path, number, line) for number, line in enumerate(lines[1:], start=2)]
    there = {sentence.relation for sentence in found}
    missing = [code for code in relations or () if code not in there]
    if missing:
        raise ConfigError(f"{path} has no relation {missing[0]!r}; it has {', '.join(sorted(there)) or 'none'}")
    return tuple(s for s in found if relations is None or s.relation in relations)


def _parsed(path: Path, number: int, line: str) -> Sentence:
    cells = line.split("\t")
    if len(cells) != len(HEADER) or not all(cell.strip() == cell and cell for cell in cells):
        raise ArtifactError(f"{path}:{number}: {len(HEADER)} filled cells without spaces around them are expected")
    relation, text, subject, answer = cells
    end = text.rfind(answer)
    if end < 0:
        raise ArtifactError(f"{path}:{number}: answer {answer!r} does not stand in {text!r}")
    start = text.find(subject)
    while start >= 0 and start < end + len(answer) and start + len(subject) > end:
        start = text.find(subject, start + 1)
    if start < 0:
        raise ArtifactError(f"{path}:{number}: subject {subject!r} does not stand in {text!r} beside the answer")
    return Sentence(relation, "file", text, (start, start + len(subject)), (end, end + len(answer)))


def others(count: int, *, resources: Path = corpus.RESOURCES) -> tuple[Sentence, ...]:
    """Held-out passages that state no fact of a relation, domains in turn.

    Args:
        count: How many.
        resources: Folder that holds `text/`.

    Raises:
        ConfigError: There are not so many.
    """
    by_domain: dict[str, list[corpus.Passage]] = {}
    for passage in corpus.passages("heldout", resources=resources):
        by_domain.setdefault(passage.domain, []).append(passage)
    longest = max(len(column) for column in by_domain.values())
    turns = [column[i] for i in range(longest) for column in by_domain.values() if i < len(column)]
    if count > len(turns):
        raise ConfigError(f"delta.facts.other: {count} passages are asked for, the held-out text has {len(turns)}")
    return tuple(Sentence(OTHER, "passage", passage.text) for passage in turns[:count])


def digest(sentences: Sequence[Sentence]) -> str:
    """sha256 over texts, spans and relations, in order."""
    return hashlib.sha256("\x1e".join(repr(sentence) for sentence in sentences).encode()).hexdigest()
