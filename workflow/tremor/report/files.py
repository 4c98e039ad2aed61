"""Which files the page is made of, and which experiment, model, prompt or platform each belongs to.

A rule names them from the configuration (:func:`wanted`); the command ``tremor page`` takes what lies in a folder
(:func:`present`). Both give lists of paths, which :func:`entries` sorts by their names.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from tremor.errors import ArtifactError
from tremor.graph import FIGURES, Graph
from tremor.report.contents import CHAPTERS, about, chapter

SPECTRUM = ("{model}/{prompt}/{dtype}", ("spectrum",))
FOLDERS: Mapping[str, tuple[str, tuple[str, ...]]] = {"spectrum": SPECTRUM, **FIGURES}
DATA: Mapping[str, tuple[str, ...]] = {  # what the figures that can be moved about in are drawn from
    "exp7": ("planes.h5",),
    "exp12": ("boundary.h5",),
    "regimes": ("steps.parquet", "avalanche.parquet", "crossovers.csv"),
}
TEMPLATE, STYLE, PROGRAM = "page.html", "page.css", ("page-tables.js", "page-plots.js", "page.js")
PICTURE = ".png"
SUFFIXES = (PICTURE, ".pdf")
_WILDCARD = re.compile(r"\{(\w+)\}")


@dataclass
class Case:
    """Files of one model, prompt, ... of an experiment."""

    labels: dict[str, str]
    files: list[Path] = field(default_factory=list)

    def named(self, name: str) -> Path:
        """The file of a name.

        Raises:
            ArtifactError: there is none.
        """
        for path in self.files:
            if path.name == name:
                return path
        raise ArtifactError(f"{name} is missing beside {self.files[0]}; run snakemake to make it")


@dataclass
class Entry:
    """One experiment on the page."""

    name: str
    tables: list[Path] = field(default_factory=list)
    figures: list[Case] = field(default_factory=list)  # the key figure, in every format
    data: list[Case] = field(default_factory=list)


def key_figure(experiment: str) -> str:
    """Name of the figure that shows an experiment best."""
    return about(experiment).figure or FOLDERS[experiment][1][0]


def wanted(graph: Graph) -> dict[str, list[str]]:
    """The page's input files, by the kinds that :func:`entries` takes, and the models' manifests.

    Args:
        graph: The configuration.

    Returns:
        Lists ``tables``, ``figures``, ``data`` and ``manifests``.
    """
    found: dict[str, list[str]] = {"tables": [path for path in graph.targets() if path.endswith("summary.csv")]}
    figures, data = [], []
    for name, (folder, _) in FOLDERS.items():
        rows = graph.rows(dtype=True) if name == "spectrum" else graph.rows(more=graph.axes(name))
        stem = f"results/{name}/{folder}"
        figures += [path.format(**row) for row in rows for path in graph.formats(f"{stem}/{key_figure(name)}")]
        data += [f"{stem}/{file}".format(**row) for row in rows for file in DATA.get(name, ())]
    found["figures"], found["data"] = list(dict.fromkeys(figures)), list(dict.fromkeys(data))
    models = dict.fromkeys([*graph.models, *(row["model"] for row in graph.delta_rows())])
    found["manifests"] = [graph.manifest(SimpleNamespace(model=alias)) for alias in models]
    return found


def assets() -> list[str]:
    """The page's own files, which are inputs of its rule: template, style and program."""
    return [str(Path(__file__).with_name(name)) for name in (TEMPLATE, STYLE, *PROGRAM)]


def names(graph: Graph) -> dict[str, dict[str, object]]:
    """What the selected prompts, platforms and pairs of platforms stand for."""
    return {
        "prompts": {alias: graph.plain["prompts"][alias]["text"] for alias in graph.prompts},
        "platforms": {alias: graph.plain["platforms"][alias] for alias in graph.platforms},
        "pairs": {alias: list(graph.pair(alias)) for alias in graph.pairs},
    }


def present(folder: Path) -> dict[str, list[Path]]:
    """What there is to show in a folder that Snakemake ran in; the lists of :func:`wanted`.

    Args:
        folder: The folder that holds ``results``.

    Raises:
        ArtifactError: no summary is there.
    """
    results = folder / "results"
    found: dict[str, list[Path]] = {"tables": sorted(results.rglob("summary.csv")), "figures": [], "data": []}
    if not found["tables"]:
        raise ArtifactError(f"no summary lies below {results}; run snakemake first, or name the folder it ran in")
    for name, (stem, _) in FOLDERS.items():
        below = _WILDCARD.sub("*", stem)
        for suffix in SUFFIXES:
            found["figures"] += sorted(results.glob(f"{name}/{below}/{key_figure(name)}{suffix}"))
        for file in DATA.get(name, ()):
            found["data"] += sorted(results.glob(f"{name}/{below}/{file}"))
    found["manifests"] = sorted((folder / "resources/models").glob("*/manifest.json"))
    return found


def entries(results: Path, tables: Iterable[Path], figures: Iterable[Path], data: Iterable[Path]) -> list[Entry]:
    """Files sorted by experiment, experiments in the order of the page.

    Args:
        results: The folder ``results``.
        tables: Summaries.
        figures: Key figures, in any formats.
        data: Files of :data:`DATA`.

    Raises:
        ArtifactError: a file lies where no experiment has any.
    """
    found: dict[str, Entry] = {}
    for path in tables:
        name = path.relative_to(results).parent.as_posix()
        found.setdefault(name, Entry(name)).tables.append(path)
    for kind, paths in (("figures", figures), ("data", data)):
        for path in paths:
            name, labels = _place(path.relative_to(results))
            cases: list[Case] = getattr(found.setdefault(name, Entry(name)), kind)
            case = next((case for case in cases if case.labels == labels), None)
            if case is None:
                cases.append(case := Case(labels))
            case.files.append(path)
    order = [name for chapter in CHAPTERS.values() for name in chapter]
    chapters = [*CHAPTERS]

    def rank(name: str) -> tuple[int, int, str]:
        title = chapter(name)
        place = chapters.index(title) if title in chapters else len(chapters)
        return place, order.index(name) if name in order else len(order), name

    return [found[name] for name in sorted(found, key=rank)]


def _place(path: Path) -> tuple[str, dict[str, str]]:
    """Experiment of a file below ``results``, and the names in its path."""
    parts = path.parent.as_posix()
    for name, (folder, _) in FOLDERS.items():
        pattern = "".join(
            f"(?P<{text}>[^/]+)" if place % 2 else re.escape(text) for place, text in enumerate(_WILDCARD.split(folder))
        )
        ours = (*DATA.get(name, ()), *(key_figure(name) + suffix for suffix in SUFFIXES))
        if path.name in ours and (match := re.fullmatch(f"{re.escape(name)}/{pattern}", parts)):
            return name, match.groupdict()
    raise ArtifactError(f"results/{path.as_posix()} belongs to no experiment of the page; name files of the rules")
