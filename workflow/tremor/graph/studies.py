"""Weights and neurons: what rules of critical_weights, cross, esa and delta ask for."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tremor.evaluate.tasks import data_files, read_task
from tremor.graph.comparisons import Comparisons
from tremor.graph.names import files
from tremor.sizes import copies

# Keys of the block critical_weights that scores depend on, and those that effects depend on.
CRITICAL_SCORES = ("metrics", "topk", "layers", "components", "calibration", "bos", "scores")
CRITICAL_EFFECTS = (
    "metrics", "topk", "mask_ratios", "control_ratios", "controls", "control_match", "magnitude_bins", "control_seed",
    "operation", "noise", "bit", "components", "texts", "batch_size", "bos", "bootstrap", "bootstrap_seed",
    "confidence",
)  # fmt: skip
CUT_BY_TENSOR = ("critical_rankings", "esa_super_weights", "esa_compare_sensitivity")  # shards of their scores
CHEAP = ("magnitude", "taylor_abs", "activation_spike", "spikes")  # scores of one pass or less
TUNED = {  # tables of esa/integrated on each model and on its fine-tuned version
    "before": "results/esa/super-weights/{model}/weights.csv",
    "after": "results/esa/integrated/{model}/weights.csv",
    "effects_before": "results/esa/super-weights/{model}/effects.csv",
    "effects_after": "results/esa/integrated/{model}/effects.csv",
}


class Studies(Comparisons):
    """What rules ask of the analyses of weights and neurons."""

    def scores_memory(self, experiment: str) -> Callable[..., int]:
        """Main memory of a job that scores weights: gradients and sums beside the model, a shard's share of them.

        Args:
            experiment: One of those that do, as in the block ``shards`` and the names of rules.
        """
        own, weights = self.config.esa, self.config.critical_weights
        pruning = own.selective_weight_pruning
        selected = [pruning.selections[name].score for name in pruning.select or pruning.selections]
        targets = [own.robustness.score] if "targeted" in own.robustness.kinds else []
        held = {
            "critical_rankings": copies(weights.metrics),
            "critical_stability": copies(weights.metrics),
            "esa_super_weights": copies(own.super_weights.methods, changed=True),
            "esa_compare_sensitivity": copies(own.compare_sensitivity.methods),
            "esa_tuned_super_weights": copies(own.super_weights.methods, changed=True),
            "esa_targeted_perturbation": copies(own.targeted_perturbation.scores, ordered=True),
            "esa_selective_weight_pruning": copies(selected, ordered=True),
            "esa_pruning": copies(own.pruning.scores, ordered=True),
            "esa_robustness": copies(targets, changed=True),
        }[experiment]

        def memory(wildcards: Any, input: Any, attempt: int) -> int:
            cut = wildcards.get("shard") and experiment in CUT_BY_TENSOR
            shared = self.plain["shards"][experiment] if cut else 1
            return self._memory(input, attempt, [self.dtype(wildcards.model), *["float32"] * math.ceil(held / shared)])

        return memory

    def training_memory(self, wildcards: Any, input: Any, attempt: int) -> int:
        """Main memory of fine-tuning: weights, gradients and the two moments of AdamW in float32, and the model."""
        return self._memory(input, attempt, [self.dtype(wildcards.model), *["float32"] * 4])

    def changing_memory(self, wildcards: Any, input: Any, attempt: int) -> int:
        """Main memory of a job that changes all weights and puts them back."""
        return self._memory(input, attempt, [self.dtype(wildcards.model), *["float32"] * copies(changed=True)])

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
        return [self._own_or_home(source), *plain]

    def delta_texts(self, wildcards: Any) -> list[str]:
        """Files that the texts of delta/jacobian come from: the user's own, or the workflow's tables."""
        kind = self.config.delta.jacobian.texts
        if kind not in ("prompts", "statements", "passages"):
            return [self._own_or_home(kind)]
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
        return [self._own(f) for f in dict.fromkeys(f for p in paths for f in (str(p), *data_files(read_task(p))))]

    def training_file(self, wildcards: Any) -> str:
        """Text that esa/train trains on."""
        return self._own_or_home(self.config.esa.train.file)

    def judge(self, wildcards: Any) -> SimpleNamespace:
        """The model that esa/attribution asks about a rule's model, as wildcards.

        Raises:
            ConfigError: It is not defined.
        """
        alias = self.config.esa.attribution.judge or wildcards.model
        if alias not in self.plain["models"]:
            message = f"'{alias}' is not defined in models; choose one of them or null"
            raise self.wrong("esa.attribution.judge", message)
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
            raise self.wrong(
                "esa.integrated.tuned_methods",
                f"needs methods that esa.super_weights.methods names ({', '.join(used)}), "
                f"not {missing[0] if missing else 'an empty list'}",
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
        return [self._own(name) for name in dict.fromkeys(entry["file"] for entry in entries if entry["file"])]

    def text_files(self, *splits: str) -> list[str]:
        """Files of plain text: ``train``, ``calibration``, ``heldout``."""
        return sorted(str(p) for name in splits for p in (self.home / "resources/text" / name).glob("*.txt"))
