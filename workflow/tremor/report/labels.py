"""Where Snakemake's report shows a figure or a table: chapter, experiment, and what tells it from its siblings."""

import string
from collections.abc import Callable
from typing import Any

from tremor.graph import Graph, alias
from tremor.report.contents import chapter


def place(experiment: str, name: str, path: str) -> dict[str, Any]:
    """Arguments of Snakemake's ``report(...)`` beside the caption.

    Args:
        experiment: Name as in :data:`tremor.graph.FIGURES`.
        name: Of the figure, or ``summary``.
        path: Its file, with wildcards.

    Returns:
        Category (the chapter), subcategory (the experiment) and labels: each wildcard, and the figure. All are short:
        the report's menu is as wide as its longest line.
    """
    wildcards = dict.fromkeys(field for _, field, _, _ in string.Formatter().parse(path) if field)
    return {
        "category": chapter(experiment),
        "subcategory": experiment,
        "labels": {**{key: f"{{{key}}}" for key in wildcards}, "figure": name},
    }


def shown_format(paths: list[str]) -> str:
    """The file of a figure that a browser shows best: the first that is no PDF, else the first."""
    return next((path for path in paths if not path.endswith(".pdf")), paths[0])


class Marks:
    """Outputs of rules, marked for the report.

    Args:
        graph: The configured workflow.
        report: Snakemake's function of that name.
    """

    def __init__(self, graph: Graph, report: Callable[..., Any]) -> None:
        self._graph = graph
        self._report = report

    def shown(self, paths: list[str], experiment: str, name: str) -> list[Any]:
        """Files of one figure or table in several formats, one of them marked.

        Args:
            paths: The files, with wildcards.
            experiment: Whose caption and place in the report they have.
            name: Of the figure.
        """
        best = shown_format(paths)
        caption = f"../workflow/report/{alias(experiment)}.rst"  # as seen from rules/
        marked = self._report(best, caption=caption, **place(experiment, name, best))
        return [marked if path == best else path for path in paths]

    def figures(self, experiment: str) -> dict[str, list[Any]]:
        """Figure files of an experiment by the figure's name."""
        found = self._graph.figures(experiment)
        return {name: self.shown(paths, experiment, name) for name, paths in found.items()}

    def summary(self, experiment: str) -> Any:
        """The summary of an experiment."""
        return self.shown([f"results/{experiment}/summary.csv"], experiment, "summary")[0]
