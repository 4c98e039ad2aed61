"""Platforms, pairs of them, and the recordings that experiments 4, 8 and 10 compare."""

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from tremor import offers
from tremor.errors import PromptError
from tremor.graph.names import Names
from tremor.models import manifest as manifests
from tremor.record.questions import Question, read_questions
from tremor.shards import WHOLE, Shard
from tremor.sizes import memory_mb, recording_mb

NO_ARITHMETIC = ("dtype", "decode", "batch")  # keys of a platform that noise_floors measures itself, or has no use for


class Comparisons(Names):
    """What rules ask of platforms and recordings."""

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
        try:
            return read_questions(Path(self.questions_file), names if names == "all" else list(names))
        except PromptError as error:
            raise self.wrong("recorder.questions" if names == "all" else "recorder", str(error)) from error

    def recording(self, model: str, platform: str, shard: Shard = WHOLE) -> list[str]:
        """Recordings of a model on a platform, one file for each question, or for each of a shard."""
        step = math.lcm(*(entry["batch"] for entry in self.plain["platforms"].values()))
        rows = shard.rows(len(self.questions), key="shards.recordings", step=step)
        stems = [self.questions[row].stem for row in rows]
        return [f"results/recordings/{model}/{platform}/{stem}.h5" for stem in stems]

    def recording_disk(self, shard: Shard = WHOLE) -> Callable[..., int]:
        """Resource of a rule that records: disk in MB, from the model's manifest; not known before that is made."""

        def found(wildcards: Any, input: Any) -> int:
            path = Path(input.manifest)
            if not path.is_file():
                raise FileNotFoundError(2, "no manifest yet", str(path))
            stems = {Path(file).stem for file in self.recording("{model}", "{platform}", shard)}
            return recording_mb(
                manifests.read(path),
                dtype=self.platform_dtype(wildcards.platform),
                settings=self.plain["recorder"],
                names=[question.name for question in self.questions if question.stem in stems],
            )

        return found

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

    @cached_property
    def floor_platforms(self) -> list[str]:
        """The platforms whose noise floors are measured: the named ones, or each arithmetic that can be had here."""
        named = self.config.noise_floors.platforms
        if named != "auto":
            return list(named)
        found: dict[str, dict[str, Any]] = {}
        for alias, entry in self.plain["platforms"].items():
            own = {key: value for key, value in entry.items() if key not in NO_ARITHMETIC}
            known = own in found.values() or any(offers.same_here(own, other) for other in found.values())
            if not known and not entry["imported"] and offers.why_not(entry) is None:
                found[alias] = own
        return list(found)

    def floor_platform(self, wildcards: Any) -> dict[str, Any]:
        """What changes the arithmetic of a rule's platform, but for what noise_floors measures itself."""
        return {key: value for key, value in self.platform(wildcards).items() if key not in NO_ARITHMETIC}

    def floor_rows(self) -> list[dict[str, str]]:
        """Every selected model on every platform of the noise floors."""
        return self.rows(prompts=False, more={"platform": self.floor_platforms})

    def floor_memory(self, wildcards: Any, input: Any, attempt: int) -> int:
        """Main memory in MB of a job of the noise floors: one type is held while another is widened to float64."""
        path = Path(input.manifest)
        if not path.is_file():  # Snakemake asks again before it submits the job
            raise FileNotFoundError(2, "no manifest yet", str(path))
        needed = memory_mb(manifests.read(path), dtypes=["float32", "true_float64"], transient_gib=2.0)
        return math.ceil(needed * 1.5 ** (attempt - 1))

    def runs_here(self, pair: str) -> bool:
        """Whether jobs run on both platforms of a pair; recordings that were imported cannot be computed with again."""
        return not any(self.plain["platforms"][alias]["imported"] for alias in self.pair(pair))

    def stage_statistics(self, wildcards: Any) -> dict[str, str]:
        """Statistics of all parts of exp8 at a rule's model and pair."""
        folder = f"results/exp8/{wildcards.model}/{wildcards.pair}"
        parts = ["divergence", "angles", "path", "values", *(["kernels"] if self.runs_here(wildcards.pair) else [])]
        return {part: f"{folder}/{part}.json" for part in parts}
