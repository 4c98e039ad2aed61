"""Texts of the delta studies: facts of all relations in turn, held-out passages, or a user's file."""

from pathlib import Path

from tremor.errors import ConfigError
from tremor.models import corpus


def texts(kind: str, count: int, file: Path | None = None) -> list[str]:
    """The first texts of a kind.

    Args:
        kind: ``prompts`` (facts cut before the answer), ``statements`` (whole sentences), ``passages`` (held-out
            plain text), or anything else for a file. Fact i of every relation comes before fact i + 1 of any.
        count: How many.
        file: Where kind names a file: one text a line, blank lines left out; of a .tsv the column `text`.

    Raises:
        ConfigError: there are fewer.
    """
    if kind == "passages":
        found = [passage.text for passage in corpus.passages("heldout")]
    elif kind in ("prompts", "statements"):
        found = _facts(whole=kind == "statements")
    else:
        assert file is not None
        found = _lines(file)
    if len(found) < count:
        raise ConfigError(
            f"delta.jacobian.num_texts asks for {count} texts, but '{kind}' has {len(found)}; lower it or name others"
        )
    return found[:count]


def _lines(file: Path) -> list[str]:
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ConfigError(f"delta.jacobian.texts: {file} is not UTF-8 ({error.reason}); save it as UTF-8") from error
    if file.suffix != ".tsv":
        return [line.strip() for line in lines]
    names = lines[0].split("\t") if lines else []
    if "text" not in names:
        raise ConfigError(f"delta.jacobian.texts: {file} has no column 'text' in its first line; name one")
    place = names.index("text")
    cells = [line.split("\t") for line in lines[1:]]
    short = [number for number, row in enumerate(cells, start=2) if len(row) != len(names)]
    if short:
        raise ConfigError(f"delta.jacobian.texts: row {short[0]} of {file} has not as many cells as its first line")
    return [row[place].strip() for row in cells]


def _facts(*, whole: bool) -> list[str]:
    templates = corpus.templates("train")
    by_relation = {code: corpus.facts(code) for code in corpus.RELATIONS}
    found = []
    for number in range(max(len(facts) for facts in by_relation.values())):
        for code, facts in by_relation.items():
            if number < len(facts):
                template = templates[code][0]
                fact = facts[number]
                found.append(corpus.statement(fact, template) if whole else corpus.prompt(fact, template).text)
    return found
