"""The configuration as the Snakefile would read it, without Snakemake."""

from collections.abc import Sequence
from pathlib import Path

from tremor import config as configuration
from tremor.config import Places, read_yaml
from tremor.errors import ConfigError
from tremor.graph import Graph


def graph(*, home: Path, directory: Path, configfiles: Sequence[Path] = ()) -> Graph:
    """The graph's tables for the files that a run in a folder would take.

    Args:
        home: Folder of the workflow.
        directory: Folder the results are in; its ``config/config.yaml`` takes the place of the workflow's own.
        configfiles: As given to Snakemake, the last one winning.

    Raises:
        ConfigError: a file is missing or wrong.
    """
    own = directory / "config/config.yaml"
    user = own if own.is_file() else home / "config/config.yaml"
    for file in configfiles:
        if not file.is_file():
            raise ConfigError(f"--configfile {file} does not exist; give the path of a YAML file")
    raw: dict[str, object] = {}
    for file in (home / "config/config.default.yaml", user, *configfiles):
        raw = configuration.merged(raw, read_yaml(file) or {})
    return Graph(raw, home=home, places=Places((user, *configfiles)))
