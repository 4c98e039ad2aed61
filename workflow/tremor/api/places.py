"""Where models, configuration and texts are, for use without Snakemake. No torch here."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from tremor import config as configuration
from tremor import memory, platform
from tremor.config import Config, Places
from tremor.config.spelling import listing, suggestion
from tremor.errors import ConfigError, ModelError
from tremor.evaluate import texts
from tremor.models import catalogue, manifest
from tremor.models.corpus import TextSplit

HOME = Path(__file__).resolve().parents[3]  # the workflow's own files
USER_CONFIG = "config/config.yaml"
# Set for jobs, which never use the network; a notebook may want to.
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
Settings = Path | str | Mapping[str, Any] | None
T = TypeVar("T")


def find_project(start: Path | None = None) -> Path:
    """The folder that Snakemake would be run in: the nearest one upwards that has models or a configuration.

    Args:
        start: Where to begin; the current folder unless told otherwise.

    Returns:
        That folder, or the workflow's own where there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "resources/models").is_dir() or (folder / USER_CONFIG).is_file():
            return folder
    return HOME


def read_config(project: Path, settings: Settings = None) -> Config:
    """The configuration as the workflow has it: the defaults, below the user's file, below `settings`.

    Args:
        project: Folder of the project.
        settings: A mapping of blocks, or another YAML file instead of ``config/config.yaml``.

    Raises:
        ConfigError: something in it is wrong; with its line where a file has it.
    """
    raw: dict[str, Any] = Config().model_dump(mode="json")
    file = Path(settings) if isinstance(settings, (str, Path)) else project / USER_CONFIG
    read = isinstance(settings, (str, Path)) or file.is_file()
    if read:
        raw = configuration.merged(raw, configuration.read_yaml(file))
    if isinstance(settings, Mapping):
        # No lines then: a mistake may be of either, and what Python gives has none.
        return configuration.load(configuration.merged(raw, settings))
    return configuration.load(raw, places=Places((file,)) if read else None)


def block(config: Config, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A block of the configuration with some settings changed.

    Args:
        config: The configuration.
        name: Such as ``exp12`` or ``delta.jacobian``.
        changes: Setting to value.

    Returns:
        The settings as the workflow hands them to its jobs.

    Raises:
        ConfigError: no such setting, or a value out of bounds.
    """
    own: Any = config
    for part in name.split("."):
        own = getattr(own, part)
    plain = own.model_dump(mode="json")
    for key in changes:
        if key not in plain:
            raise ConfigError(f"{name} has no setting {key!r}{suggestion(key, plain)} (it has {listing(plain)})")
    try:
        checked = type(own).model_validate({**plain, **changes})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join([name, *(str(part) for part in first["loc"])])
        raise ConfigError(f"{place}: {first['msg']} (got {first['input']!r})") from None
    found: dict[str, Any] = checked.model_dump(mode="json")
    return found


@dataclass(frozen=True)
class Place:
    """A model on disk.

    Attributes:
        name: Its alias, or the name of its folder.
        folder: Where its files are.
        manifest: What it is, with its digests.
        attention: Attention kernel its entry asks for.
        dtype: Type its entry runs it in.
    """

    name: str
    folder: Path
    manifest: Mapping[str, Any]
    attention: str
    dtype: str


def locate(source: str | Path, project: Path, config: Config) -> Place:
    """Find a model by its alias in the configuration, or in a folder.

    Raises:
        ConfigError: no such alias.
        ModelError: the model has not been built yet, or its files are damaged.
        ArtifactError: the files are not those of the manifest.
    """
    if isinstance(source, str) and source in config.models:
        return _named(source, project, config)
    folder = Path(source).expanduser()
    if isinstance(source, str) and not folder.is_dir() and os.sep not in source:
        raise ConfigError(
            f"there is no model {source!r}{suggestion(source, config.models)} (the configuration has "
            f"{listing(config.models)}); name one of them, or give a folder"
        )
    catalogue.check(folder)
    name = folder.resolve().name
    return Place(name, folder, manifest.build(name, {"source": "path"}, folder), "auto", config.probe.dtype)


def _named(alias: str, project: Path, config: Config) -> Place:
    entry = config.models[alias].model_dump(mode="json")
    folder = project / catalogue.directory(alias, entry, Path("resources"))
    if entry["source"] != "path" and not (folder / catalogue.CONFIG).is_file():
        raise ModelError(not_built(alias, entry, project))
    catalogue.check(folder)
    written = project / "resources/models" / alias / "manifest.json"
    if written.is_file():
        found: Mapping[str, Any] = manifest.read(written)
        manifest.verify(found, folder)
    else:
        found = manifest.build(alias, entry, folder)
    dtype = configuration.effective_dtype(config, alias)
    return Place(alias, folder, found, str(entry["attention"]), dtype)


def not_built(alias: str, entry: Mapping[str, Any], project: Path) -> str:
    """What to do where a model of the configuration is not there yet."""
    command = f"snakemake --cores 2 resources/models/{alias}/manifest.json"
    if entry["source"] == "hub":
        return f"the model {alias!r} has not been fetched yet: run `{command}` in {project} (it needs the network)"
    return (
        f"the model {alias!r} has not been built yet: run `{command}` in {project} (a minute or two), "
        f"or call tremor.train({alias!r})"
    )


def passages(split: TextSplit = "heldout", count: int | None = None) -> list[str]:
    """Passages of plain text that come with the workflow, from all domains in turn.

    Args:
        split: ``calibration`` is what scores read, ``heldout`` what effects are measured on.
        count: How many; None for all.

    Raises:
        ConfigError: there are fewer, or no such split.
    """
    if split not in get_args(TextSplit):
        raise ConfigError(f"there is no split {split!r} of the text; use {listing(get_args(TextSplit))}")
    return [passage.text for passage in texts.passages(split, count)]


def restarted(job: Callable[[], T]) -> T:
    """What a job gives; it starts again with smaller batches where memory runs out and their size is left to Tremor."""
    found: list[T] = []
    memory.restarting(lambda: found.append(job()))
    return found[-1]


def apply(request: platform.Request) -> None:
    """Set this process up for a platform, but leave it the network.

    Raises:
        PlatformError: the platform cannot be had, or not any more.
    """
    with _network():
        platform.apply(request)


@contextmanager
def _network() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _OFFLINE}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
