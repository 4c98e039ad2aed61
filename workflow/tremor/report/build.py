"""Build the page: read what it shows, keep to its size, render it. The same files give the same bytes."""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from PIL import Image

from tremor import __version__
from tremor.errors import ArtifactError, ConfigError
from tremor.report import cells, contents, files, interactive
from tremor.report.files import PROGRAM, STYLE, TEMPLATE, Case, Entry
from tremor.store.atomic import write_bytes
from tremor.store.documents import read_json
from tremor.store.provenance import read_provenance

NOTE_BYTES = 400  # of a sentence about what found no room
_PACKAGE = resources.files("tremor.report")
_dumps = partial(json.dumps, separators=(",", ":"), allow_nan=False, sort_keys=False)


@dataclass(frozen=True)
class Sources:
    """What the page is made of.

    Attributes:
        results: The folder ``results``; links are relative to it.
        tables: Summaries.
        figures: Key figures, in any formats; png ones are shown.
        data: Files of ``files.DATA``.
        manifests: Of the models.
        names: Prompts, platforms and pairs by alias, and what they stand for; {} where only their names are known.
        docs: Address of the documentation relative to ``results``; None for no links.
    """

    results: Path
    tables: Sequence[Path]
    figures: Sequence[Path] = ()
    data: Sequence[Path] = ()
    manifests: Sequence[Path] = ()
    names: Mapping[str, Mapping[str, Any]] | None = None
    docs: str | None = None


def write(output: Path, sources: Sources, *, max_mb: float, map_cells: int) -> None:
    """Build the page and write it.

    Args:
        output: The file, in the folder ``results``.
        sources: What to show.
        max_mb: Largest size, megabytes (10^6 bytes).
        map_cells: Most cells along an axis of a map.

    Raises:
        ArtifactError: a file is missing, damaged, or belongs to no experiment.
        ConfigError: the tables alone are larger than the page may be.
    """
    write_bytes(output, page(sources, max_mb=max_mb, map_cells=map_cells).encode("utf-8"))


def page(sources: Sources, *, max_mb: float = 15.0, map_cells: int = 201) -> str:
    """The page as text; arguments and errors as of :func:`write`."""
    found = files.entries(sources.results, sources.tables, sources.figures, sources.data)
    shown = [_experiment(entry, sources.results) for entry in found]
    document = {"pairs": dict((sources.names or {}).get("pairs", {})), "experiments": [each["data"] for each in shown]}
    program, library = _program(), plotly()
    values = {
        "version": __version__,
        "models": [read_json(path) for path in sources.manifests],
        "names": _names(sources.names, shown),
        "docs": sources.docs,
        "style": Markup(_asset(STYLE)),
        "library": base64.b64encode(gzip.compress(library.encode(), mtime=0)).decode("ascii"),
        "program": Markup(program),
        "policy": policy(library, program),
    }
    template = _template()
    without = template.render(**values, chapters=_chapters(shown), data=_embedded(document))
    room = int(max_mb * 1e6) - len(without.encode("utf-8")) - NOTE_BYTES * len(shown)
    if room < 0:
        raise ConfigError(f"page.max_mb: the tables and programs alone need {max_mb - room / 1e6:.1f} MB; allow more")
    _fill(found, shown, room, map_cells, sources.results)
    return template.render(**values, chapters=_chapters(shown), data=_embedded(document))


def _embedded(document: Mapping[str, Any]) -> Markup:
    """JSON that can stand in an element of a page: no letter in it can end the element."""
    return htmlsafe_json_dumps(document, dumps=_dumps)


def plotly() -> str:
    """The JavaScript of plotly, as its Python package carries it: it draws, pans, zooms and shows values."""
    return resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")


def _program() -> str:
    parts = "".join(_asset(name) for name in PROGRAM)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


def _asset(name: str) -> str:
    return _inline(_PACKAGE.joinpath(name).read_text(encoding="utf-8"), name)


def _inline(text: str, name: str) -> str:
    """A program or style that can stand in a page as it is: nothing in it ends its element or opens another."""
    for mark in ("</script", "</style", "<!--", "\r"):
        if mark in text.lower():
            raise ArtifactError(f"{name} holds {mark!r} and cannot stand in a page; use the pinned version")
    return text


def policy(*programs: str) -> str:
    """Content security policy: these programs and no others run, and nothing is fetched from anywhere.

    Args:
        programs: The texts of the script elements.
    """
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii") for text in programs)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _PACKAGE.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return environment.get_template(TEMPLATE)


def _experiment(entry: Entry, results: Path) -> dict[str, Any]:
    """What is known of an experiment before its pictures: ``data`` for the program, ``frame`` for the template."""
    about = contents.about(entry.name)
    tables: list[dict[str, Any]] = [
        {"title": _below(path, results), "columns": cells.table(path)} for path in entry.tables
    ]
    data = {
        "id": entry.name.replace("/", "-"),
        "name": entry.name,
        "question": about.question,
        "tables": tables,
        "figure": files.key_figure(entry.name) if entry.figures else None,
        "cases": [],
        "views": [],
        "note": "",
    }
    rows = sum(len(table["columns"][0]["full"]) if table["columns"] else 0 for table in tables)
    frame = {
        "page": about.page or entry.name,
        "rows": rows,
        "links": [link for path in entry.tables for link in _links(path, results)],
        "figures": [(case.labels, [_below(path, results) for path in case.files]) for case in entry.figures],
        "files": [(case.labels, [_below(path, results) for path in case.files]) for case in entry.data],
        "summaries": [(_below(path, results), _origin(read_provenance(path))) for path in entry.tables],
        "measured": _measured(entry),
    }
    return {"name": entry.name, "data": data, "frame": frame, "prompts": _prompts(entry)}


def _below(path: Path, results: Path) -> str:
    return path.relative_to(results).as_posix()


def _links(table: Path, results: Path) -> list[str]:
    """The table and the files it was gathered from, as far as they lie below ``results``."""
    inputs = read_provenance(table)["inputs"]
    marked = [name.partition("results/") for name in inputs]
    return [_below(table, results), *sorted(rest for before, mark, rest in marked if mark)]


def _origin(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a provenance that is the same for the same work."""
    keys = ("code", "config", "seeds", "model", "platform", "libraries", "python", "tremor")
    return {key: provenance[key] for key in keys if provenance.get(key)}


def _measured(entry: Entry) -> list[dict[str, Any]]:
    """What the pictures say of the measurements they show; one entry for those that differ in prompt or names alone."""
    found: dict[str, dict[str, Any]] = {}
    for case in entry.figures:
        for path in case.files:
            origin = comment(path) if path.suffix == files.PICTURE else {}
            if origin:
                config = {key: value for key, value in origin.get("config", {}).items() if key not in _VARYING}
                key = json.dumps({**origin, "config": config}, sort_keys=True)
                found.setdefault(key, {**origin, "config": config, "cases": []})["cases"].append(case.labels)
    return list(found.values())


def _prompts(entry: Entry) -> dict[str, str]:
    """Texts of prompts by alias, as far as the pictures name both."""
    found = {}
    for case in entry.figures:
        for path in case.files:
            config = comment(path).get("config", {}) if path.suffix == files.PICTURE else {}
            prompt = config.get("prompt")
            if "prompt" in case.labels and isinstance(prompt, dict) and "text" in prompt:
                found[case.labels["prompt"]] = str(prompt["text"])
    return found


_VARYING = ("wildcards", "prompt", "directory")


def comment(picture: Path) -> dict[str, Any]:
    """The provenance that a png of Tremor carries; {} for none.

    Raises:
        ArtifactError: the file is no png, or says something else.
    """
    try:
        with Image.open(picture, formats=["PNG"]) as image:
            text = image.info.get("Comment", "")
            found = json.loads(text) if text else {}
    except (OSError, ValueError, SyntaxError) as error:
        raise ArtifactError(f"{picture} cannot be read ({error}); delete it and run snakemake again") from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{picture} was not drawn by Tremor; delete it and run snakemake again")
    return found


def _fill(found: Iterable[Entry], shown: Sequence[dict[str, Any]], room: int, map_cells: int, results: Path) -> None:
    """Put pictures and interactive figures on the page while there is room, one round of all experiments after another.

    What finds no room is counted in the experiment's note; its files are linked all the same.
    """
    queues = []
    for entry, each in zip(found, shown, strict=True):
        views = [(case, each["data"]["views"]) for case in entry.data]
        pictures = [(case, each["data"]["cases"]) for case in entry.figures]
        queues.append((entry.name, each["data"], [*_alternating(views, pictures)]))
    left: dict[str, int] = {}
    for place in range(max((len(queue) for _, _, queue in queues), default=0)):
        for name, data, queue in queues:
            if place >= len(queue):
                continue
            case, target = queue[place]
            if target is data["views"]:
                item: dict[str, Any] | None = {"labels": case.labels, **interactive.READERS[name](case, map_cells)}
            else:
                item = _picture(case, results)
                if item is None:
                    data["note"] = "No picture: figures.formats has no png."
                    continue
            size = len(_dumps(item))
            if size > room:
                left[name] = left.get(name, 0) + 1
                continue
            room -= size
            target.append(item)
    for name, data, _ in queues:
        if name in left:
            data["note"] = f"{left[name]} more in the files below: the page is limited in size (page.max_mb)."


def _alternating(first: Sequence[Any], second: Sequence[Any]) -> Iterable[Any]:
    for place in range(max(len(first), len(second))):
        yield from first[place : place + 1]
        yield from second[place : place + 1]


def _picture(case: Case, results: Path) -> dict[str, Any] | None:
    """A png as it lies on the disk, and its size in pixels."""
    for path in case.files:
        if path.suffix == files.PICTURE:
            content = path.read_bytes()
            with Image.open(path, formats=["PNG"]) as image:
                width, height = image.size
            text = base64.b64encode(content).decode("ascii")
            return {"labels": case.labels, "file": _below(path, results), "size": [width, height], "png": text}
    return None


def _chapters(shown: Iterable[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for each in shown:
        found.setdefault(contents.chapter(each["name"]), []).append({**each["data"], **each["frame"]})
    return list(found.items())


def _names(names: Mapping[str, Mapping[str, Any]] | None, shown: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Prompts, platforms and pairs; where only results are known, the names and prompts that these hold."""
    found: dict[str, dict[str, Any]] = {kind: dict((names or {}).get(kind, {})) for kind in _KINDS}
    if names is not None:
        return found
    for each in shown:
        found["prompts"] |= each["prompts"]
        for table in each["data"]["tables"]:
            columns = {column["name"]: column["full"] for column in table["columns"]}
            if {"pair", "platform_a", "platform_b"} <= columns.keys():
                rows = zip(columns["pair"], columns["platform_a"], columns["platform_b"], strict=True)
                found["pairs"] |= {pair: [first, second] for pair, first, second in rows}
            found["platforms"] |= {alias: {} for alias in columns.get("platform", [])}
    return found


_KINDS = ("prompts", "platforms", "pairs")
