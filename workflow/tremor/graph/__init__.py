"""What the rules need to know of the configuration: closed tables of names, files of models, params, code digests.

Read at parse time by every Snakemake process, so it imports neither torch nor numpy. `names` has what all rules share,
`comparisons` platforms and recordings, `studies` weights and neurons; here is what there is to make.
"""

from collections.abc import Iterable

from tremor.graph.names import PROBE_KEYS, RESOURCES, files
from tremor.graph.studies import CRITICAL_EFFECTS, CRITICAL_SCORES, Studies

__all__ = ["CRITICAL_EFFECTS", "CRITICAL_SCORES", "FIGURES", "PROBE_KEYS", "RESOURCES", "Graph", "alias", "files"]

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
    "noise_floors": ("{model}", ("floors",)),
    "pdf": ("{model}/{document}", ("course", "distributions", "cosines")),
    "esa/super-weights": ("{model}", ("effects", "peaks", "changes")),
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
# Tables that belong to an experiment's results beside its summary.
MORE_TABLES = {
    "lipschitz": ("results/lipschitz/reports.csv",),
    "noise_floors": ("results/noise_floors/floors.md",),
    "delta/jacobian": ("results/delta/jacobian/comparison.csv",),
}
UNDRAWN = ("spectrum", "recordings")  # summaries whose figures, if any, are not of the table above


def alias(experiment: str) -> str:
    """The rule that stands for an experiment's tables: ``esa_bit_level`` for ``esa/bit-level``."""
    return experiment.replace("/", "_").replace("-", "_")


class Graph(Studies):
    """One validated configuration, as the rule files ask for it.

    Args:
        raw: Snakemake's merged config.
        home: Folder of the workflow's own files (the one that holds ``resources/facts``).
        cache: File for digests of library modules.
        places: Files and command line that the config was put together from, for messages.
        place: Where a relative path of the workflow is put: below a prefix, in a module of another workflow.

    Raises:
        ConfigError: the configuration is wrong.
    """

    def figures(self, experiment: str) -> dict[str, list[str]]:
        """Figure files of an experiment by the figure's name."""
        folder, names = FIGURES[experiment]
        return {name: self.formats(f"results/{experiment}/{folder}/{name}") for name in names}

    def tables(self, experiment: str) -> list[str]:
        """Tables that ask for an experiment, its summary first; those of a whole group for its name (esa, delta)."""
        parts = [name for name in FIGURES if name.startswith(f"{experiment}/")]
        if experiment not in (*FIGURES, *UNDRAWN):
            return [path for name in parts for path in self.tables(name)]
        if experiment == "exp10/tensors" and not self.chain_rows():  # all recordings come from elsewhere
            return []
        return [f"results/{experiment}/summary.csv", *MORE_TABLES.get(experiment, ())]

    def targets(self) -> list[str]:
        """Everything ``rule all`` makes: each experiment's summary and figures."""
        wanted = [path for name in (*UNDRAWN, *FIGURES) for path in self.tables(name)]
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
        if experiment in ("exp3", "exp5", "exp9", "exp10", "regimes", "noise_floors", "cross"):
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
