"""The corpus of the embedded models: facts, sentence templates and plain English text.

Everything is read from `resources/facts` and `resources/text`; nothing here needs torch. A fact is a row of a
relation's table, a template is a sentence whose object stands last, and a prompt is that sentence cut before
the object. The relations are the 15 of the delta study (named by their Wikidata properties).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tremor.errors import ArtifactError

RESOURCES = Path(__file__).resolve().parents[3] / "resources"

RELATIONS: Mapping[str, str] = {
    "P264": "record_label",
    "P449": "original_network",
    "P413": "position",
    "P463": "member_of",
    "P530": "diplomatic_relation",
    "P30": "continent",
    "P36": "capital",
    "P495": "country_of_origin",
    "P279": "subclass_of",
    "P47": "shares_border",
    "P39": "position_held",
    "P127": "owned_by",
    "P130": "preserves",
    "P136": "genre",
    "P137": "operator",
}

CAPITAL_TEMPLATE = "The capital of {subject} is {object}."
CAPITAL_REPEATS = 6  # of this one sentence: the default prompt is cut from it, and must be known well

TemplateSplit = Literal["train", "heldout"]
TextSplit = Literal["train", "calibration", "heldout"]

_SUBJECT, _OBJECT = "{subject}", "{object}"


@dataclass(frozen=True)
class Fact:
    """One row of a relation's table.

    Attributes:
        relation: Wikidata property, a key of `RELATIONS`.
        subject: Subject as it stands inside a sentence ("the Netherlands").
        object: Expected answer as it stands at the end of a sentence.
        qualifiers: (key, value) pairs for the reader; no sentence uses them.
    """

    relation: str
    subject: str
    object: str
    qualifiers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Template:
    """A sentence of a relation with `{subject}` and, last before the full stop, `{object}`."""

    relation: str
    text: str


@dataclass(frozen=True)
class FactPrompt:
    """A fact as a question for a language model.

    Attributes:
        text: Sentence up to the object, without the space before it.
        answer: Object with the leading space that belongs to its first token.
        subject_span: Offsets [start, end) of the subject in `text`, in characters.
    """

    text: str
    answer: str
    subject_span: tuple[int, int]


@dataclass(frozen=True)
class Passage:
    """One line of plain text: one to three sentences of a domain (the file's name)."""

    domain: str
    text: str


def facts(relation: str | None = None, *, resources: Path = RESOURCES) -> tuple[Fact, ...]:
    """Read the fact tables.

    Args:
        relation: Property to read alone, or None for all 15 in the order of `RELATIONS`.
        resources: Folder that holds `facts/`.

    Returns:
        The facts in file order; a subject occurs once per relation.

    Raises:
        ArtifactError: An unknown relation, or a malformed line (the message names file and line).
    """
    if relation is not None and relation not in RELATIONS:
        raise ArtifactError(f"no relation {relation!r}: known are {', '.join(RELATIONS)}")
    found: list[Fact] = []
    for code in RELATIONS if relation is None else (relation,):
        path = resources / "facts" / f"{code}_{RELATIONS[code]}.tsv"
        seen: dict[str, int] = {}
        for number, row in _rows(path, required=("subject", "object"), optional=("qualifiers",)):
            if row["subject"] in seen:
                first = seen[row["subject"]]
                raise ArtifactError(f"{path}:{number}: subject {row['subject']!r} already stands in line {first}")
            seen[row["subject"]] = number
            qualifiers = _qualifiers(row.get("qualifiers", ""), path, number)
            found.append(Fact(code, row["subject"], row["object"], qualifiers))
    return tuple(found)


def templates(split: TemplateSplit, *, resources: Path = RESOURCES) -> Mapping[str, tuple[Template, ...]]:
    """Read the sentence templates of one split.

    Args:
        split: "train" (the embedded models saw these) or "heldout" (they did not).
        resources: Folder that holds `facts/`.

    Returns:
        Templates by relation, every relation present, in file order.

    Raises:
        ArtifactError: A malformed line, an unknown relation, or a relation without a template.
    """
    path = resources / "facts" / f"templates.{split}.tsv"
    found: dict[str, list[Template]] = {code: [] for code in RELATIONS}
    for number, row in _rows(path, required=("relation", "template"), optional=()):
        code, text = row["relation"], row["template"]
        if code not in found:
            raise ArtifactError(f"{path}:{number}: no relation {code!r}: known are {', '.join(RELATIONS)}")
        if text.count(_SUBJECT) != 1 or text.count(_OBJECT) != 1 or not text.endswith(_space_object()):
            raise ArtifactError(
                f"{path}:{number}: a template holds {{subject}} once and ends with ' {{object}}.', not {text!r}"
            )
        found[code].append(Template(code, text))
    missing = [code for code, of_relation in found.items() if not of_relation]
    if missing:
        raise ArtifactError(f"{path}: no template for {', '.join(missing)}; add at least one line for each")
    return {code: tuple(of_relation) for code, of_relation in found.items()}


def passages(split: TextSplit, *, resources: Path = RESOURCES) -> tuple[Passage, ...]:
    """Read the plain text of one split.

    Args:
        split: "train", "calibration" (for scores that need data) or "heldout" (for evaluation); disjoint.
        resources: Folder that holds `text/<split>/<domain>.txt`, one passage per line.

    Returns:
        Passages by domain in alphabetical order, in file order within a domain.

    Raises:
        ArtifactError: No text file, or an empty line.
    """
    folder = resources / "text" / split
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise ArtifactError(f"{folder}: no text file (*.txt); restore the folder from the repository")
    found: list[Passage] = []
    for path in paths:
        for number, line in enumerate(_lines(path), start=1):
            if not line.strip():
                raise ArtifactError(f"{path}:{number}: empty line; a line holds one passage")
            found.append(Passage(path.stem, line.strip()))
    return tuple(found)


def prompt(fact: Fact, template: Template | str) -> FactPrompt:
    """Cut a template before its object.

    Args:
        fact: The fact to ask for.
        template: Template of the fact's relation, or its text.

    Returns:
        The prompt, its answer and where the subject stands. `text + answer + "."` is the whole sentence.

    Raises:
        ArtifactError: The template belongs to another relation, or its object does not stand last.
    """
    if isinstance(template, Template) and template.relation != fact.relation:
        raise ArtifactError(f"template of {template.relation} used for a fact of {fact.relation}: {template.text!r}")
    text = template if isinstance(template, str) else template.text
    if text.count(_SUBJECT) != 1 or not text.endswith(_space_object()):
        raise ArtifactError(f"a template holds {{subject}} once and ends with ' {{object}}.', not {text!r}")
    before, after = text.removesuffix(_space_object()).split(_SUBJECT)
    # Only the first letter: "the Eiffel Tower" opens a sentence as "The Eiffel Tower".
    subject = fact.subject if before else fact.subject[:1].upper() + fact.subject[1:]
    return FactPrompt(
        text=before + subject + after,
        answer=" " + fact.object,
        subject_span=(len(before), len(before) + len(subject)),
    )


def statement(fact: Fact, template: Template | str) -> str:
    """Return the whole sentence of a fact under a template."""
    asked = prompt(fact, template)
    return f"{asked.text}{asked.answer}."


def training_documents(seed: int, *, resources: Path = RESOURCES) -> list[str]:
    """Return the training corpus, one document per fact sentence or passage.

    Args:
        seed: Seed of the order (Mersenne Twister, stable across platforms).
        resources: Folder that holds `facts/` and `text/`.

    Returns:
        Every fact under every train template (`CAPITAL_TEMPLATE` `CAPITAL_REPEATS` times) and every train
        passage, shuffled.

    Raises:
        ArtifactError: A resource file is malformed or missing.
    """
    of_relation = templates("train", resources=resources)
    documents: list[str] = []
    for fact in facts(resources=resources):
        for template in of_relation[fact.relation]:
            repeats = CAPITAL_REPEATS if template.text == CAPITAL_TEMPLATE else 1
            documents += [statement(fact, template)] * repeats
    documents += [passage.text for passage in passages("train", resources=resources)]
    random.Random(seed).shuffle(documents)
    return documents


def digest(*, resources: Path = RESOURCES) -> str:
    """Return the sha256 of the training documents, whatever their order."""
    return hashlib.sha256("\n".join(sorted(training_documents(0, resources=resources))).encode()).hexdigest()


def _space_object() -> str:
    return f" {_OBJECT}."


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ArtifactError(f"{path}: missing; restore it from the repository") from None
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None


def _rows(path: Path, *, required: tuple[str, ...], optional: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells by column); quotes are ordinary characters, so no csv dialect is involved."""
    lines = _lines(path)
    header = lines[0].split("\t") if lines else []
    expected = " ".join((*required, *(f"[{name}]" for name in optional)))
    if tuple(header) not in {required, required + optional}:
        raise ArtifactError(f"{path}:1: header is {' '.join(header)!r}, expected tab-separated columns {expected}")
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(header):
            raise ArtifactError(f"{path}:{number}: {len(cells)} columns, the header names {len(header)}")
        row = dict(zip(header, cells, strict=True))
        for name, cell in row.items():
            if cell != cell.strip() or (name in required and not cell):
                raise ArtifactError(f"{path}:{number}: {name} {cell!r} is empty or has spaces around it")
        yield number, row


def _qualifiers(cell: str, path: Path, number: int) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for part in cell.split("; ") if cell else ():
        key, equals, value = part.partition("=")
        if not (key and equals and value):
            raise ArtifactError(f"{path}:{number}: qualifier {part!r} is not key=value")
        pairs.append((key, value))
    return tuple(pairs)
