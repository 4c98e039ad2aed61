"""Where a value of the configuration was written: the file and its line, for error messages.

Only read after a mistake was found: PyYAML's marks cost as much as reading the file again.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

COMMAND_LINE = "--config"
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class Places:
    """What a configuration was put together from.

    Args:
        files: YAML files, a later one over an earlier one.
        command_line: What ``--config`` gives, over all files.
    """

    files: tuple[Path | str, ...] = ()
    command_line: Mapping[str, Any] = field(default_factory=dict)

    def of(self, path: str) -> str:
        """Where a value was written, or the innermost block around it that was written anywhere.

        Args:
            path: Its keys, such as ``exp12.angles`` or ``select.models[0]``.

        Returns:
            ``config/my.yaml:12``, ``--config``, or nothing where none of it was written.
        """
        found = self._written()
        while path:
            if path in found:
                return found[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return ""

    def _written(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for file in self.files:
            shown = _shown(file)
            lay(found, {path: f"{shown}:{line}" for path, line in lines(file)})
        lay(found, dict.fromkeys(_paths(self.command_line), COMMAND_LINE))
        return found


def lay(found: dict[str, str], above: Mapping[str, str]) -> None:
    """Put the places of one source over those of another; a list replaces the list below it.

    Args:
        found: Places by path, changed in place.
        above: Those of the source that wins.
    """
    lists = {path.partition("[")[0] for path in above if "[" in path}
    for path in [path for path in found if path.partition("[")[0] in lists and "[" in path]:
        del found[path]
    found.update(above)


def lines(file: Path | str) -> Iterator[tuple[str, int]]:
    """Every key and list item of a YAML file with its line, counted from 1.

    Args:
        file: A file that holds valid YAML.
    """
    root = yaml.compose(Path(file).read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    yield from _walk(root, "", ())


def _walk(node: Any, path: str, above: tuple[int, ...]) -> Iterator[tuple[str, int]]:
    if id(node) in above:  # anchors make the tree a graph, perhaps with a loop
        return
    above = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            here = f"{path}[{index}]"
            yield here, item.start_mark.line + 1
            yield from _walk(item, here, above)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag == _MERGE:
                for block in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    yield from _walk(block, path, above)
        for key, value in node.value:  # after the merged blocks, which they override
            if key.tag != _MERGE and isinstance(key, yaml.ScalarNode):
                here = f"{path}.{key.value}" if path else str(key.value)
                yield here, key.start_mark.line + 1
                yield from _walk(value, here, above)


def _paths(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            here = f"{path}.{key}" if path else str(key)
            yield here
            yield from _paths(below, here)
    elif isinstance(value, list | tuple):
        for index, below in enumerate(value):
            yield f"{path}[{index}]"
            yield from _paths(below, f"{path}[{index}]")


def _shown(file: Path | str) -> str:
    """A file below the working directory by its way from there, any other by its whole name."""
    near = os.path.relpath(file)
    return near if not near.startswith("..") else str(file)
