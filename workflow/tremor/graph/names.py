"""Names, blocks, files and sizes that every rule may ask for; no torch, no numpy: each Snakemake process reads it."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tremor import config as configuration
from tremor.config import Config, Places
from tremor.digest import Sources
from tremor.errors import ConfigError
from tremor.models import catalogue
from tremor.models import manifest as manifests
from tremor.shards import NOTHING, Layout
from tremor.sizes import memory_mb

RESOURCES = Path("resources")  # relative to where Snakemake runs: models built or fetched there
PROBE_KEYS = (
    "mode",
    "batch_size",
    "device",
    "threads",
    "max_memory",
    "aa_repeats",
)  # what a job of the probe uses
EMBEDDED_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "training.json",
)


class Names:
    """One validated configuration: closed tables of names, and what every family of rules shares.

    Args:
        raw: Snakemake's merged config.
        home: Folder of the workflow's own files (the one that holds ``resources/facts``).
        cache: File for digests of library modules.
        places: Files and command line that the config was put together from, for messages.
        place: Where a relative path of the workflow is put: below a prefix, in a module of another workflow.

    Raises:
        ConfigError: the configuration is wrong.
    """

    def __init__(
        self,
        raw: Mapping[str, Any],
        *,
        home: Path,
        cache: Path | None = None,
        places: Places | None = None,
        place: Callable[[str], str] = str,
    ) -> None:
        self.config: Config = configuration.load(raw, places=places)
        self._places = places
        self._place = place
        self.plain: dict[str, Any] = self.config.model_dump(mode="json")
        self.home = home
        self._sources = Sources(cache=cache)

    def block(self, name: str, *keys: str) -> dict[str, Any]:
        """The config keys that a rule uses, as its params: reruns follow these and no others."""
        return configuration.block(self.config, name, *keys)

    def code(self, *modules: str) -> str:
        """Digest of the library modules a rule runs, and of all they import."""
        return self._sources.digest(*modules)

    def wrong(self, path: str, message: str) -> ConfigError:
        """The error that a value of the configuration is, with the line that it was written in."""
        return ConfigError(configuration.located(path, message, self._places))

    @property
    def shards(self) -> Layout:
        """Into how many jobs the long experiments are cut."""
        return Layout(self.plain["shards"])

    def whole(self, experiment: str) -> str:
        """Regular expression of the models, for the rule of an experiment's single job; none where it is cut."""
        return self.shards.unless(experiment, self.names("models"))

    def sharded(self, experiment: str) -> str:
        """Regular expression of the models, for the rules of an experiment's shards; none where it is one job."""
        return self.shards.when(experiment, self.names("models"))

    def experiment_block(self, wildcards: Any) -> dict[str, Any]:
        """The config block of the experiment that a rule's wildcard names."""
        return self.block(wildcards.experiment)

    @property
    def models(self) -> list[str]:
        """Aliases of the selected models."""
        return list(self.config.select.models)

    @property
    def prompts(self) -> list[str]:
        """Aliases of the selected prompts."""
        return list(self.config.select.prompts)

    @property
    def arithmetics(self) -> list[str]:
        """The selected ways of adding a nudge."""
        return list(self.config.probe.arithmetic)

    @property
    def numerics(self) -> list[str]:
        """What exp1 is measured in: the selected arithmetics on the model's own format, and true float64."""
        return [*self.arithmetics, *(["true_float64"] if self.config.exp1.true_float64 else [])]

    def names(self, kind: str, **where: Any) -> str:
        """Regular expression of the defined models or prompts, for wildcard constraints.

        Args:
            kind: ``models``, ``prompts``, ``platforms``, ``pairs`` or ``documents``.
            where: Field values that an entry must have, such as ``source="embedded"``.
        """
        entries = self.plain["pdf"]["documents"] if kind == "documents" else self.plain[kind]
        found = [alias for alias, entry in entries.items() if all(entry.get(k) == v for k, v in where.items())]
        return "|".join(re.escape(alias) for alias in found) or NOTHING

    def entry(self, wildcards: Any) -> dict[str, Any]:
        """Config entry of a rule's model."""
        return dict(self.plain["models"][wildcards.model])

    def prompt(self, wildcards: Any) -> dict[str, Any]:
        """Config entry of a rule's prompt."""
        return dict(self.plain["prompts"][wildcards.prompt])

    def attention(self, wildcards: Any) -> str:
        """Attention kernel asked for a rule's model."""
        return str(self.plain["models"][wildcards.model]["attention"])

    def dtype(self, model: str) -> str:
        """Type a model runs in."""
        return configuration.effective_dtype(self.config, model)

    def directory(self, wildcards: Any) -> str:
        """Folder with a model's weights, as its jobs find it."""
        entry = self.entry(wildcards)
        folder = str(catalogue.directory(wildcards.model, entry, RESOURCES))
        return self._own(folder) if entry["source"] == "path" else str(self._place(folder))

    def model_files(self, wildcards: Any) -> list[str]:
        """Files whose change makes a model another model: the inputs of its manifest.

        For a model of the hub the list is only known once it is fetched; its config stands for it.
        """
        entry = self.entry(wildcards)
        folder = catalogue.directory(wildcards.model, entry, RESOURCES)
        if entry["source"] == "path":
            folder = Path(self._own(str(folder)))
            catalogue.check(folder)
            found = [
                folder / catalogue.CONFIG,
                *catalogue.weight_files(folder),
                *catalogue.tokenizer_files(folder),
            ]
            return [str(p) for p in found]
        if entry["source"] == "hub":
            return [str(folder / "config.json")]
        return [str(folder / name) for name in EMBEDDED_FILES]

    def corpus(self) -> list[str]:
        """Files an embedded model is trained and tested on."""
        patterns = ("facts/*.tsv", "text/train/*.txt", "text/heldout/*.txt")
        return sorted(str(p) for pattern in patterns for p in (self.home / "resources").glob(pattern))

    def manifest(self, wildcards: Any) -> str:
        """Manifest of a rule's model."""
        return str(RESOURCES / "models" / wildcards.model / "manifest.json")

    def spectrum(self, wildcards: Any) -> str:
        """Spectrum of a rule's model and prompt, in the type the model runs in."""
        dtype = self.dtype(wildcards.model)
        return f"results/spectrum/{wildcards.model}/{wildcards.prompt}/{dtype}/spectrum.h5"

    def memory(self, wildcards: Any, input: Any, attempt: int) -> int:
        """Main memory in MB that a rule's job asks a cluster for; half as much again at each retry.

        Raises:
            FileNotFoundError: the manifest is not made yet; Snakemake then asks again before it submits the job.
        """
        double = "true_float64" in (wildcards.get("numerics"), wildcards.get("precision"))
        platform = wildcards.get("platform")
        own = self.platform_dtype(platform) if platform else wildcards.get("dtype", self.dtype(wildcards.model))
        return self._memory(input, attempt, [own, *(["true_float64"] if double else [])])

    def regimes_memory(self, wildcards: Any, input: Any, attempt: int) -> int:
        """The same for regimes, where one job holds the model in its own format and in others beside it."""
        own = self.dtype(wildcards.model)
        others = [name.replace("float64", "true_float64") for name in self.config.regimes.precisions if name != own]
        return self._memory(input, attempt, [own, *others])

    def _memory(self, input: Any, attempt: int, dtypes: Sequence[str]) -> int:
        path = Path(input.manifest)
        if not path.is_file():
            raise FileNotFoundError(2, "no manifest yet", str(path))
        manifest, transient = manifests.read(path), self.plain["probe"]["max_memory"]
        return math.ceil(memory_mb(manifest, dtypes=dtypes, transient_gib=transient) * 1.5 ** (attempt - 1))

    def platform_dtype(self, platform: str) -> str:
        """Type a model runs in on a platform."""
        return str(self.plain["platforms"][platform]["dtype"])

    def model_dtype(self, wildcards: Any) -> str:
        """Type a rule's model runs in."""
        return self.dtype(wildcards.model)

    def boundary(self, wildcards: Any) -> str:
        """The boundary artifact whose rays a variant of exp15 takes up."""
        experiment = {"angles": "exp12", "vectors": "exp13"}[wildcards.variant]
        names = f"{wildcards.model}/{wildcards.prompt}/{wildcards.arithmetic}"
        return f"results/{experiment}/{names}/boundary.h5"

    def prompt_set(self, experiment: str, key: str = "prompts") -> str:
        """File of an experiment's prompt set: the user's own where there is one, else the workflow's."""
        return self._own_or_home(self.plain[experiment][key])

    def document(self, wildcards: Any) -> str:
        """A PDF file: the user's own where there is one, else the workflow's."""
        name = Path(self.plain["pdf"]["documents"][wildcards.document]).expanduser()
        return str(self.home / name) if not name.is_file() and (self.home / name).is_file() else self._own(str(name))

    def study_keys(self, study: str) -> list[str]:
        """Keys of the block ``lipschitz`` that one of its studies uses."""
        shared = ("names", "bos", "arithmetic", "top_k", "routing", "floor_samples", "noise_seed")
        return [*shared, f"{study}_powers", f"{study}_ranks"]

    def _own_or_home(self, name: str) -> str:
        """The user's own file, or the workflow's of that name; where neither is there, messages name the user's."""
        own, home = Path(name).expanduser(), self.home / name
        return str(home) if home.is_file() and not own.is_file() else self._own(str(own))

    def _own(self, name: str) -> str:
        """A file or folder of the user's, which a module's prefix must not move."""
        return name if self._place(name) == name else str(Path(name).absolute())

    def formats(self, stem: str) -> list[str]:
        """A figure's files, one for each format of the config."""
        return [f"{stem}.{suffix}" for suffix in self.config.figures.formats]

    def rows(
        self,
        *,
        dtype: bool = False,
        arithmetic: bool = False,
        prompts: bool = True,
        more: Mapping[str, Iterable[str]] | None = None,
    ) -> list[dict[str, str]]:
        """One dictionary of names for each row of a summary: selected models x prompts x what is asked for.

        Args:
            dtype: Add the type each model runs in.
            arithmetic: Cross with the selected arithmetics.
            prompts: Cross with the selected prompts; False for experiments with a prompt set of their own.
            more: Further names and their values to cross with.
        """
        rows = [{"model": m, "prompt": p} for m in self.models for p in self.prompts]
        if not prompts:
            rows = [{"model": m} for m in self.models]
        if dtype:
            rows = [{**row, "dtype": self.dtype(row["model"])} for row in rows]
        axes: dict[str, Iterable[str]] = {"arithmetic": self.arithmetics} if arithmetic else {}
        for name, values in {**axes, **(more or {})}.items():
            rows = [{**row, name: value} for row in rows for value in values]
        return rows


def files(pattern: str, rows: Iterable[Mapping[str, str]]) -> list[str]:
    """A file pattern filled in with the names of each row."""
    return [pattern.format(**row) for row in rows]
