"""What the rules need to know of the configuration: closed tables of names, files of models, params, code digests.

Read at parse time by every Snakemake process, so it imports neither torch nor numpy.
"""

import math
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tremor import config as configuration
from tremor import offers
from tremor.config import Config
from tremor.digest import code_digest
from tremor.errors import ConfigError
from tremor.evaluate.tasks import data_files, read_task
from tremor.models import catalogue
from tremor.models import manifest as manifests
from tremor.record.questions import Question, read_questions
from tremor.shards import NOTHING, WHOLE, Layout, Shard
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
# Keys of the block critical_weights that scores depend on, and those that effects depend on.
CRITICAL_SCORES = ("metrics", "topk", "layers", "components", "calibration", "bos", "scores")
CRITICAL_EFFECTS = (
    "metrics", "topk", "mask_ratios", "control_ratios", "controls", "control_match", "magnitude_bins", "control_seed",
    "operation", "noise", "bit", "texts", "batch_size", "bos", "bootstrap", "bootstrap_seed", "confidence",
)  # fmt: skip
FIGURES = {  # folder of an experiment's figures below results/<experiment>, and their names
    "exp1": ("{model}/{prompt}/{numerics}", ("layers", "heatmap", "sweep", "walk")),
    "exp2": ("{model}/{precision}", ("distribution", "quotients", "averages")),
    "exp3": ("{model}/{prompt}", ("precision",)),
    "exp4": ("{model}/{pair}", ("dimensions", "drift", "embeddings", "logits")),
    "exp4/angles": ("{model}/{platform}", ("angles", "histograms", "questions")),
    "exp5": ("{model}/{prompt}", ("norms", "chain", "modules")),
    "exp6": ("{model}/{prompt}/{tie}/{arithmetic}", ("search", "flips")),
    "exp7": ("{model}/{prompt}/{tie}/{arithmetic}", ("maps", "signs", "enlarged", "zoom", "texture", "nulls")),
    "exp8": ("{model}/{pair}", ("overview", "heatmaps", "decades", "path", "growth", "angles")),
    "exp9": ("{model}", ("norms", "moments", "shapes", "magnitudes", "heatmaps", "distributions", "spectra")),
    "exp10": ("{model}/{prompt}", ("sweeps",)),
    "exp10/tensors": ("{pair}", ("tensors",)),
    "exp11": ("{model}/{prompt}/{arithmetic}", ("counts", "indices")),
    "exp12": ("{model}/{prompt}/{arithmetic}", ("polar", "cartesian", "radar", "plane")),
    "exp13": ("{model}/{prompt}/{arithmetic}", ("stability",)),
    "exp14": ("{model}/{prompt}/{arithmetic}", ("differences", "distributions", "scaling")),
    "exp15": ("{model}/{prompt}/{arithmetic}/{variant}", ("distances",)),
    "perturbation": ("{model}/{precision}", ("perturbation",)),
    "lipschitz": ("{model}/{study}", ("quotients",)),
    "regimes": ("{model}/{prompt}", ("regimes", "directions", "avalanche")),
    "pdf": ("{model}/{document}", ("course", "distributions", "cosines")),
    "esa/super-weights": ("{model}", ("effects", "peaks")),
    "esa/compare-sensitivity": ("{model}", ("agreement", "runtime")),
    "esa/sensitivity": ("{model}", ("components", "ranking")),
    "esa/targeted-perturbation": ("{model}", ("response",)),
    "esa/selective-weight-pruning": ("{model}", ("effects",)),
    "esa/pruning": ("{model}", ("curves",)),
    "esa/robustness": ("{model}", ("noise",)),
    "esa/adversarial": ("{model}", ("success",)),
    "esa/bit-level": ("{model}", ("positions", "attack", "precision", "statistics")),
    "esa/evaluate": ("{model}", ("calibration", "domains")),
    "esa/train": ("{model}", ("losses", "likelihood")),
    "esa/attribution": ("{model}", ("ranking", "agreement")),
    "esa/integrated": ("figures", ("overview",)),
    "cross": ("{model}/{prompt}", ("changes", "effects")),
    "critical_weights": ("{model}", ("effects", "controls", "overlap", "stability", "depth", "tails")),
    "delta/jacobian": ("comparison", ("gain", "rank", "sensitivity")),
    "delta/percentage": ("figures", ("percentage", "layers")),
    "delta/factual": ("figures", ("matrix", "patterns")),
    "delta/tracing": ("figures", ("roles", "example")),
}
CHEAP = ("magnitude", "taylor_abs", "activation_spike", "spikes")  # scores of one pass or less
TUNED = {  # tables of esa/integrated on each model and on its fine-tuned version
    "before": "results/esa/super-weights/{model}/weights.csv",
    "after": "results/esa/integrated/{model}/weights.csv",
    "effects_before": "results/esa/super-weights/{model}/effects.csv",
    "effects_after": "results/esa/integrated/{model}/effects.csv",
}
EMBEDDED_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "training.json",
)


class Graph:
    """One validated configuration, as the rule files ask for it.

    Args:
        raw: Snakemake's merged config.
        home: Folder of the workflow's own files (the one that holds ``resources/facts``).
        cache: File for digests of library modules.

    Raises:
        ConfigError: the configuration is wrong.
    """

    def __init__(self, raw: Mapping[str, Any], *, home: Path, cache: Path | None = None) -> None:
        self.config: Config = configuration.load(raw)
        self.plain: dict[str, Any] = self.config.model_dump(mode="json")
        self.home = home
        self._cache = cache

    def block(self, name: str, *keys: str) -> dict[str, Any]:
        """The config keys that a rule uses, as its params: reruns follow these and no others."""
        return configuration.block(self.config, name, *keys)

    def code(self, *modules: str) -> str:
        """Digest of the library modules a rule runs, and of all they import."""
        return code_digest(*modules, cache=self._cache)

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
        """Folder with a model's weights."""
        return str(catalogue.directory(wildcards.model, self.entry(wildcards), RESOURCES))

    def model_files(self, wildcards: Any) -> list[str]:
        """Files whose change makes a model another model: the inputs of its manifest.

        For a model of the hub the list is only known once it is fetched; its config stands for it.
        """
        entry = self.entry(wildcards)
        folder = Path(self.directory(wildcards))
        if entry["source"] == "path":
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

    def passages(self, split: str) -> list[str]:
        """Files of a split of the plain text."""
        return sorted(str(p) for p in (self.home / "resources" / "text" / split).glob("*.txt"))

    def top_tables(self) -> list[str]:
        """Tables of the best weights of critical_weights, for each metric and each K."""
        own = self.config.critical_weights
        folder = "results/critical_weights/{model}"
        return [f"{folder}/top_{k}_weights_{metric}.csv" for metric in own.metrics for k in own.topk]

    def cross_lists(self, wildcards: Any) -> dict[str, str]:
        """Files with the lists of weights that the cross-examination changes."""
        own, model = self.cross(), wildcards.model
        found = {"rankings": f"results/critical_weights/{model}/rankings.parquet"} if own["scores"] else {}
        return {**found, **({"supers": f"results/esa/super-weights/{model}/weights.csv"} if own["methods"] else {})}

    def cross(self) -> dict[str, Any]:
        """The block ``cross`` with the lists that ``auto`` stands for."""
        names = self.config.critical_weights.metrics, self.config.esa.super_weights.methods
        scores, methods = self.config.cross.chosen(*names)
        return {**self.block("cross"), "scores": list(scores), "methods": list(methods)}

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
        path = Path(input.manifest)
        if not path.is_file():
            raise FileNotFoundError(2, "no manifest yet", str(path))
        double = "true_float64" in (wildcards.get("numerics"), wildcards.get("precision"))
        platform = wildcards.get("platform")
        own = self.platform_dtype(platform) if platform else wildcards.get("dtype", self.dtype(wildcards.model))
        needed = memory_mb(
            manifests.read(path),
            dtypes=[own, *(["true_float64"] if double else [])],
            transient_gib=self.plain["probe"]["max_memory"],
        )
        return math.ceil(needed * 1.5 ** (attempt - 1))

    def model_dtype(self, wildcards: Any) -> str:
        """Type a rule's model runs in."""
        return self.dtype(wildcards.model)

    def boundary(self, wildcards: Any) -> str:
        """The boundary artifact whose rays a variant of exp15 takes up."""
        experiment = {"angles": "exp12", "vectors": "exp13"}[wildcards.variant]
        names = f"{wildcards.model}/{wildcards.prompt}/{wildcards.arithmetic}"
        return f"results/{experiment}/{names}/boundary.h5"

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Pairs that ``select.pairs: auto`` does not take, and why; empty if the pairs are named."""
        if self.config.select.pairs != "auto":
            return {}
        found = {}
        for name, pair in self.plain["pairs"].items():
            entries = [self.plain["platforms"][alias] for alias in pair]
            reasons = [f"{alias}: {why}" for alias, e in zip(pair, entries, strict=True) if (why := offers.why_not(e))]
            if not reasons and offers.same_here(*entries):
                reasons = [f"{pair[0]} and {pair[1]} are the same arithmetic on this CPU"]
            if reasons:
                found[name] = reasons[0]
        return found

    @property
    def pairs(self) -> list[str]:
        """The selected pairs of platforms."""
        if self.config.select.pairs != "auto":
            return list(self.config.select.pairs)
        return [name for name in self.config.pairs if name not in self.left_out]

    def pair(self, name: str) -> tuple[str, str]:
        """The two platforms of a pair."""
        first, second = self.config.pairs[name]
        return first, second

    @property
    def platforms(self) -> list[str]:
        """All platforms of the selected pairs, each once."""
        return list(dict.fromkeys(alias for name in self.pairs for alias in self.pair(name)))

    def platform(self, wildcards: Any) -> dict[str, Any]:
        """What changes the arithmetic of a rule's platform: its entry without the place where it is to be found."""
        entry = self.plain["platforms"][wildcards.platform]
        return {key: value for key, value in entry.items() if key not in ("slurm_partition", "constraint", "imported")}

    def platform_threads(self, wildcards: Any) -> int:
        """Threads of a rule's platform."""
        return int(self.plain["platforms"][wildcards.platform]["threads"])

    def platform_dtype(self, platform: str) -> str:
        """Type a model runs in on a platform."""
        return str(self.plain["platforms"][platform]["dtype"])

    def platform_gpus(self, wildcards: Any) -> int:
        """GPUs that a platform's job asks for: none where it is a CPU on machines of its own, else the one there is."""
        entry = self.plain["platforms"][wildcards.platform]
        return 0 if entry["device"] == "cpu" and entry["slurm_partition"] else 1

    def placement(self) -> dict[str, Any]:
        """Resources that send a platform's job to its machines; none where no platform names any."""
        entries = self.plain["platforms"]

        def place(key: str) -> Any:
            return lambda wildcards: entries[wildcards.platform][key] or ""

        keys = ("slurm_partition", "constraint")
        return {key: place(key) for key in keys if any(entry[key] for entry in entries.values())}

    @property
    def questions_file(self) -> str:
        """File of the recorder's questions: the user's own where there is one, else the workflow's."""
        return self.prompt_set("recorder", "questions")

    @cached_property
    def questions(self) -> list[Question]:
        """The recorder's selected questions."""
        names = self.config.recorder.names
        return read_questions(Path(self.questions_file), names if names == "all" else list(names))

    def recording(self, model: str, platform: str, shard: Shard = WHOLE) -> list[str]:
        """Recordings of a model on a platform, one file for each question, or for each of a shard."""
        step = math.lcm(*(entry["batch"] for entry in self.plain["platforms"].values()))
        rows = shard.rows(len(self.questions), key="shards.recordings", step=step)
        stems = [self.questions[row].stem for row in rows]
        return [f"results/recordings/{model}/{platform}/{stem}.h5" for stem in stems]

    def recording_shards(self) -> list[tuple[Shard, str]]:
        """The shards of the questions where there are several, and what tells their rules apart."""
        shards = self.shards.of("recordings")
        return [(shard, f"_{shard.number}_of_{shard.count}") for shard in shards] if len(shards) > 1 else []

    def recorded(self) -> list[dict[str, str]]:
        """Every selected model on every platform of the selected pairs."""
        return [{"model": model, "platform": platform} for model in self.models for platform in self.platforms]

    def unembedding(self, model: str, dtype: str) -> str:
        """The unembedding of a model in a type."""
        return f"results/unembedding/{model}/{dtype}/unembedding.h5"

    def first_recordings(self, wildcards: Any) -> list[str]:
        """Recordings of a rule's model on the first platform of its pair."""
        return self.recording(wildcards.model, self.pair(wildcards.pair)[0])

    def second_recordings(self, wildcards: Any) -> list[str]:
        """Recordings of a rule's model on the second platform of its pair."""
        return self.recording(wildcards.model, self.pair(wildcards.pair)[1])

    def platforms_of(self, wildcards: Any) -> list[str]:
        """Names of the two platforms of a rule's pair."""
        return list(self.pair(wildcards.pair))

    def platform_recordings(self, wildcards: Any) -> list[str]:
        """Recordings of a rule's model on its platform."""
        return self.recording(wildcards.model, wildcards.platform)

    def platform_unembedding(self, wildcards: Any) -> str:
        """The unembedding of a rule's model in the type of its platform."""
        return self.unembedding(wildcards.model, self.platform_dtype(wildcards.platform))

    def pair_angles(self, wildcards: Any) -> list[str]:
        """Statistics of the angles to the unembedding vectors (exp4) on both platforms of a rule's pair."""
        return [f"results/exp4/angles/{wildcards.model}/{name}/angles.json" for name in self.pair(wildcards.pair)]

    def first_unembedding(self, wildcards: Any) -> str:
        """The unembedding in the type of the pair's first platform."""
        return self.unembedding(wildcards.model, self.platform_dtype(self.pair(wildcards.pair)[0]))

    def arithmetic_of(self, wildcards: Any) -> dict[str, Any]:
        """What changes the arithmetic of a rule's platform where no text is generated."""
        return {key: value for key, value in self.platform(wildcards).items() if key not in ("decode", "batch")}

    def pair_rows(self, *, models: bool = True) -> list[dict[str, str]]:
        """One dictionary of names for each selected pair, for each selected model unless told otherwise."""
        found = [{"pair": p, "platform_a": self.pair(p)[0], "platform_b": self.pair(p)[1]} for p in self.pairs]
        return [{"model": m, **row} for m in self.models for row in found] if models else found

    def chain_rows(self) -> list[dict[str, str]]:
        """The pairs whose platforms may multiply matrices in two ways (exp10), and those that are a control.

        Attention, type and way of decoding belong to a model: pairs that differ in nothing else have one chain, and are
        taken only where no other pair is selected.
        """
        left = ("attention", "dtype", "decode", "batch")
        here = [row for row in self.pair_rows(models=False) if self.runs_here(row["pair"])]
        found = []
        for row in here:
            first, second = (self.plain["platforms"][row[side]] for side in ("platform_a", "platform_b"))
            differ = any(first[key] != second[key] for key in first if key not in left)
            if differ or first == second:
                found.append(row)
        return found or here

    def pair_of(self, wildcards: Any) -> list[str]:
        """The two platforms of a rule's pair."""
        return list(self.pair(wildcards.pair))

    def chains(self, wildcards: Any) -> dict[str, str]:
        """The chains of products (exp10) of a pair's two platforms."""
        names = zip("ab", self.pair(wildcards.pair), strict=True)
        return {side: f"results/exp10/chains/{platform}/chain.h5" for side, platform in names}

    def kernels(self, wildcards: Any) -> dict[str, str]:
        """What the kernels of a pair's two platforms make of the same vectors (exp8)."""
        folder = f"results/exp8/{wildcards.model}/{wildcards.pair}/kernels"
        return {side: f"{folder}/{platform}.h5" for side, platform in zip("ab", self.pair(wildcards.pair), strict=True)}

    def runs_here(self, pair: str) -> bool:
        """Whether jobs run on both platforms of a pair; recordings that were imported cannot be computed with again."""
        return not any(self.plain["platforms"][alias]["imported"] for alias in self.pair(pair))

    def stage_statistics(self, wildcards: Any) -> dict[str, str]:
        """Statistics of all parts of exp8 at a rule's model and pair."""
        folder = f"results/exp8/{wildcards.model}/{wildcards.pair}"
        parts = ["divergence", "angles", "path", "values", *(["kernels"] if self.runs_here(wildcards.pair) else [])]
        return {part: f"{folder}/{part}.json" for part in parts}

    def prompt_set(self, experiment: str, key: str = "prompts") -> str:
        """File of an experiment's prompt set: the user's own where there is one, else the workflow's."""
        name = Path(self.plain[experiment][key])
        return str(name if name.is_file() else self.home / name)

    def document(self, wildcards: Any) -> str:
        """A PDF file: the user's own where there is one, else the workflow's."""
        name = Path(self.plain["pdf"]["documents"][wildcards.document]).expanduser()
        return str(name if name.is_file() or not (self.home / name).is_file() else self.home / name)

    def study_keys(self, study: str) -> list[str]:
        """Keys of the block ``lipschitz`` that one of its studies uses."""
        shared = ("names", "bos", "arithmetic", "top_k", "routing", "floor_samples", "noise_seed")
        return [*shared, f"{study}_powers", f"{study}_ranks"]

    def delta_rows(self) -> list[dict[str, str]]:
        """One dictionary of names for each model that the delta studies compare."""
        return [{"model": alias} for alias in self.config.delta.models]

    def delta_jacobian(self) -> dict[str, Any]:
        """Keys of the block ``delta.jacobian`` that the measurement of one model uses."""
        return {k: v for k, v in self.block("delta", "jacobian")["jacobian"].items() if k != "depths"}

    def delta(self, name: str, *keys: str) -> dict[str, Any]:
        """Keys of a block below ``delta``, all of them where none is named."""
        found: dict[str, Any] = self.block("delta", name)[name]
        return {key: found[key] for key in keys or found}

    def delta_fact_files(self, wildcards: Any) -> list[str]:
        """Files that facts and other text come from; a file of sentences first, the user's own or the workflow's."""
        source = self.config.delta.facts.source
        plain = sorted(str(p) for p in (self.home / "resources/text/heldout").glob("*.txt"))
        if source == "tables":
            return [*sorted(str(p) for p in (self.home / "resources/facts").glob("*.tsv")), *plain]
        return [source if Path(source).is_file() else str(self.home / source), *plain]

    def delta_texts(self, wildcards: Any) -> list[str]:
        """Files that the texts of delta/jacobian come from: the user's own, or the workflow's tables."""
        kind = self.config.delta.jacobian.texts
        if kind not in ("prompts", "statements", "passages"):
            return [kind if Path(kind).is_file() else str(self.home / kind)]
        pattern = "text/heldout/*.txt" if kind == "passages" else "facts/*.tsv"
        return sorted(str(p) for p in (self.home / "resources").glob(pattern))

    def esa(self, name: str, *keys: str) -> dict[str, Any]:
        """A block of the block ``esa``, or some of its keys."""
        part = dict(self.block("esa", name)[name])
        return {key: part[key] for key in keys} if keys else part

    def evaluation_files(self, wildcards: Any) -> list[str]:
        """Files that esa/evaluate reads: the user's own, or the held-out text."""
        own = self.config.esa.evaluate.file
        return [self._own_or_home(own)] if own is not None else self.text_files("calibration", "heldout")

    def task_files(self, wildcards: Any) -> list[str]:
        """Task files of lm-evaluation-harness and their data files.

        Raises:
            ConfigError: A task file cannot be used.
        """
        paths = [Path(name) for name in self.config.esa.evaluate.tasks]
        return list(dict.fromkeys(f for path in paths for f in (str(path), *data_files(read_task(path)))))

    def training_file(self, wildcards: Any) -> str:
        """Text that esa/train trains on."""
        return self._own_or_home(self.config.esa.train.file)

    def _own_or_home(self, name: str) -> str:
        """The user's own file where there is one, else the workflow's."""
        return name if Path(name).expanduser().is_file() else str(self.home / name)

    def judge(self, wildcards: Any) -> SimpleNamespace:
        """The model that esa/attribution asks about a rule's model, as wildcards.

        Raises:
            ConfigError: It is not defined.
        """
        alias = self.config.esa.attribution.judge or wildcards.model
        if alias not in self.plain["models"]:
            raise ConfigError(f"esa.attribution.judge: '{alias}' is not defined in models; choose one of them or null")
        return SimpleNamespace(model=alias)

    def tuned_settings(self) -> dict[str, Any]:
        """Settings of the super weights of a fine-tuned model: those of the model before, with fewer methods."""
        return {**self.esa("super_weights"), "methods": self.tuned_methods}

    @property
    def tuned_methods(self) -> list[str]:
        """Methods of super weights that esa/integrated compares before and after fine-tuning.

        Raises:
            ConfigError: The model before is not looked at by one of them.
        """
        used, named = self.config.esa.super_weights.methods, self.config.esa.integrated.tuned_methods
        found: list[str] = [name for name in CHEAP if name in used] if named is None else list(named)
        missing = [name for name in found if name not in used]
        if missing or not found:
            raise ConfigError(
                f"esa.integrated.tuned_methods needs methods that esa.super_weights.methods names ({', '.join(used)}), "
                f"not {missing[0] if missing else 'an empty list'}"
            )
        return found

    def integrated(self) -> dict[str, list[str]]:
        """What esa/integrated joins: summaries, and super weights before and after fine-tuning."""
        own = self.config.esa.integrated
        found: dict[str, list[str]] = {"summaries": [f"results/esa/{name}/summary.csv" for name in own.analyses]}
        if own.tuned:
            for name, pattern in TUNED.items():
                found[name] = files(pattern, self.rows(prompts=False))
        return found

    def selection_files(self) -> list[str]:
        """JSON files that selections of esa/selective-weight-pruning come from."""
        own = self.esa("selective_weight_pruning")
        entries = [own["selections"][name] for name in own["select"] or own["selections"]]
        return list(dict.fromkeys(entry["file"] for entry in entries if entry["file"]))

    def text_files(self, *splits: str) -> list[str]:
        """Files of plain text: ``train``, ``calibration``, ``heldout``."""
        return sorted(str(p) for name in splits for p in (self.home / "resources/text" / name).glob("*.txt"))

    def formats(self, stem: str) -> list[str]:
        """A figure's files, one for each format of the config."""
        return [f"{stem}.{suffix}" for suffix in self.config.figures.formats]

    def figures(self, experiment: str) -> dict[str, list[str]]:
        """Figure files of an experiment by the figure's name."""
        folder, names = FIGURES[experiment]
        return {name: self.formats(f"results/{experiment}/{folder}/{name}") for name in names}

    def targets(self) -> list[str]:
        """Everything ``rule all`` makes: each experiment's summary and figures."""
        wanted = ["results/spectrum/summary.csv", *(f"results/{name}/summary.csv" for name in FIGURES)]
        if not self.chain_rows():  # all recordings come from elsewhere
            wanted.remove("results/exp10/tensors/summary.csv")
        wanted.append("results/lipschitz/reports.csv")
        wanted.append("results/recordings/summary.csv")
        wanted.append("results/delta/jacobian/comparison.csv")
        for row in self.rows(dtype=True):
            wanted += [p.format(**row) for p in self.formats("results/spectrum/{model}/{prompt}/{dtype}/spectrum")]
        for experiment in FIGURES:
            for row in self.rows(more=self.axes(experiment)):
                wanted += [path.format(**row) for paths in self.figures(experiment).values() for path in paths]
        return list(dict.fromkeys(wanted))  # some experiments measure all their prompts in one job

    def axes(self, experiment: str) -> dict[str, Iterable[str]]:
        """What tells an experiment's results at one model and prompt apart: names and their selected values."""
        if experiment == "exp1":
            return {"numerics": self.numerics}
        if experiment == "lipschitz":
            return {"study": self.config.lipschitz.studies}
        if experiment == "perturbation":
            return {"precision": self.config.perturbation.precisions}
        if experiment == "exp2":
            return {"precision": self.config.exp2.precisions}
        if experiment in ("exp3", "exp5", "exp9", "exp10", "regimes", "cross"):
            return {}
        if experiment.startswith("esa/") or experiment == "critical_weights":
            return {}
        if experiment in ("exp4", "exp8"):
            return {"pair": self.pairs}
        if experiment == "exp4/angles":
            return {"platform": self.platforms}
        if experiment == "exp10/tensors":
            return {"pair": [row["pair"] for row in self.chain_rows()]}
        if experiment == "pdf":
            return {"document": self.config.pdf.select}
        if experiment == "exp6":
            return {"tie": self.config.exp6.methods, "arithmetic": self.arithmetics}
        if experiment == "exp7":
            return {"tie": self.config.exp7.methods, "arithmetic": self.config.exp7.arithmetic}
        axes: dict[str, Iterable[str]] = {"arithmetic": self.arithmetics}
        return {**axes, "variant": self.config.exp15.variants} if experiment == "exp15" else axes

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
