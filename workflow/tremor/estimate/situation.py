"""What an entry of the cost table may look at, and the expected numbers that no configuration tells.

The constants were read off finished runs with the embedded models.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tremor.estimate.plan import Job
from tremor.estimate.shape import Shape
from tremor.estimate.work import Work
from tremor.graph import Graph

CHARACTERS_A_TOKEN = 4.0
PASSAGE_TOKENS = 80  # of a passage of the workflow's own text
FACT_TOKENS = 14  # of a sentence that states a fact
WORDINGS = 3  # of a relation
SET_PROMPTS = 42  # of resources/prompts/lipschitz.tsv
QUESTIONS = 10  # of resources/questions/default.tsv
RAY_INPUTS = 7.0  # distinct inputs of a ray up to its boundary (4.4 in exp12's plane, 8.9 along exp13's vectors)
WALK_DISTINCT = 0.1  # of the steps of a fine walk, those that change a float32 input
TAIL_CALLS = 2  # batches with few rays left, at the end of a search
CONTROL_CALLS = 5  # base point, prefix, and the A/A control in the shape of the batches
LANCZOS_STEPS = 12  # of one leading singular value to 1e-3
RECORD_SECONDS = 2.5e-3  # of taking down one step, on the reference machine
PRODUCTS_A_TENSOR = 9  # tensors of a block that an optimiser or a mutation goes through


@dataclass(frozen=True)
class Situation:
    """What an entry may look at."""

    job: Job
    graph: Graph
    shape: Shape

    def block(self, *path: str) -> dict[str, Any]:
        """A block of the configuration."""
        found: Any = self.graph.plain
        for name in path:
            found = found[name]
        return dict(found)

    @property
    def tokens(self) -> int:
        """Positions of the job's prompt; of the longest one where it takes several."""
        named = self.job.wildcards.get("prompt")
        chosen = [named] if named else self.graph.prompts
        texts = [str(self.graph.plain["prompts"][name]["text"]) for name in chosen]
        return 1 + max(math.ceil(len(text) / CHARACTERS_A_TOKEN) for text in texts)

    @property
    def dtype(self) -> str:
        """Type the model runs in."""
        wild = self.job.wildcards
        own = wild.get("precision") or wild.get("dtype")
        if wild.get("numerics") == "true_float64":
            return "true_float64"
        if own is None and wild.get("platform") in self.graph.plain["platforms"]:
            own = self.graph.platform_dtype(wild["platform"])
        return own or (self.graph.dtype(wild["model"]) if "model" in wild else "float32")

    @property
    def batch(self) -> int:
        """Rows of a batch of the probe."""
        probe = self.graph.config.probe
        if probe.mode == "reference":
            return 1
        if probe.batch_size != "auto":
            return int(probe.batch_size)
        limit = 2.0 if probe.max_memory == "auto" else float(probe.max_memory)
        fitting = limit * 2**30 / (4 * (6 * self.shape.inner + 12 * self.shape.width))
        return max(1, min(512, 1 << int(math.log2(max(1.0, fitting)))))


Entry = Callable[[Situation], Work]


def count(wanted: Any, all_of_them: int) -> int:
    """Length of a list of the configuration, where a word (all, auto) takes everything."""
    return all_of_them if wanted is None or isinstance(wanted, str) else len(wanted)


@dataclass(frozen=True)
class Names:
    """Wildcards as the graph's functions read them."""

    of: Mapping[str, str]

    def __getattr__(self, name: str) -> str:
        return self.of[name]
