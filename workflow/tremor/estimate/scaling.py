"""Scale on paper: what the default experiments cost on large models, by the cost table's own functions.

``python -m tremor.estimate.scaling`` writes the tables between the markers of docs/scaling.md; a test compares them.
"""

import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tremor import config as configuration
from tremor.estimate import costs, situation, work
from tremor.estimate.machine import Rates
from tremor.estimate.plan import Job
from tremor.estimate.shape import Shape, from_config
from tremor.graph import Graph

HOME = Path(__file__).resolve().parents[3]
PAGE = HOME / "docs" / "scaling.md"
_MARKS = re.compile(r"(<!-- scaling:begin -->\n).*?(<!-- scaling:end -->)", re.DOTALL)
GPU_BYTES = 80e9  # of one card; nine tenths of it are counted on
_LLAMA = {"model_type": "llama", "vocab_size": 128256, "num_key_value_heads": 8, "max_position_embeddings": 131072,
          "tie_word_embeddings": False}  # fmt: skip
# Sizes as published with Llama 3.1.
MODELS: Mapping[str, Mapping[str, Any]] = {
    "8B": {**_LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
           "num_attention_heads": 32},
    "70B": {**_LLAMA, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
            "num_attention_heads": 64},
    "405B": {**_LLAMA, "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126,
             "num_attention_heads": 128},
}  # fmt: skip
# An assumption, not a measurement: one data-centre card at float32 without TF32, its weights read at 2.5 TB/s.
ASSUMED = Rates(
    start_model=10.0, start_arrays=0.6, start_figures=1.1, attention_call=3e-4, attention_backward=5e-4, scan_call=4e-4,
    scan_step=3e-5, scan_backward=1.5e-4, flops=3e13, svd=1e12, bandwidth=2.5e12,
)  # fmt: skip
RULES = {
    "spectrum_measure": {}, "exp12_measure": {"arithmetic": "float64"}, "exp13_measure": {"arithmetic": "float64"},
    "exp7_measure": {"arithmetic": "float64", "tie": "geometric"}, "record": {"platform": "native"},
    "critical_weights_measure": {},
}  # fmt: skip


def shapes() -> dict[str, Shape]:
    """The models in numbers."""
    return {name: from_config(config, source=name) for name, config in MODELS.items()}


def graph() -> Graph:
    """The default configuration, with one large model in it."""
    models = {"large": {"source": "path", "path": "large"}}
    changes = {"models": models, "select": {"models": ["large"], "prompts": ["capital"], "pairs": ["repeat"]}}
    return Graph(configuration.merged(configuration.Config().model_dump(mode="json"), changes), home=HOME)


def cost(rule: str, shape: Shape, settings: Graph) -> work.Cost:
    """One job of a rule on a large model, at the assumed rates."""
    outputs = tuple(settings.recording("large", "native")) if rule == "record" else ("x",)
    job = Job(rule, {"model": "large", "prompt": "capital", **RULES[rule]}, (), outputs, gpu=1)
    return work.price(costs.entry(rule)(situation.Situation(job, settings, shape)), shape, ASSUMED)


def gpus(needed: float) -> int:
    """Cards that hold so many bytes."""
    return math.ceil(needed / (0.9 * GPU_BYTES))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.0f} s"


def tables() -> str:
    """Both tables as Markdown."""
    settings, found = graph(), shapes()
    models = [
        [
            name,
            f"{s.parameters / 1e9:.1f}",
            f"{s.weights('bfloat16') / 1e9:.0f} / {gpus(s.weights('bfloat16'))}",
            f"{s.weights('float32') / 1e9:.0f} / {gpus(s.weights('float32'))}",
            f"{s.weights('float64') / 1e9:.0f} / {gpus(s.weights('float64'))}",
            f"{s.flops(6):.2g}",
            f"{22.0 * s.width**3:.2g}",
            f"{4 * s.width**2 / 1e9:.2g}",
        ]
        for name, s in found.items()
    ]
    first = _table(
        ("model", "10⁹ parameters", "bfloat16: GB / cards", "float32: GB / cards", "float64: GB / cards",
         "FLOPs of a forward, 6 tokens", "FLOPs of the SVD", "Jacobian, GB"), models,
    )  # fmt: skip
    rows = []
    for rule in RULES:
        prices = [cost(rule, s, settings) for s in found.values()]
        cells = [
            f"{p.flops:.1e}, {_duration(p.seconds)}, {p.memory / 1e9:.0f} GB, {p.disk / 1e9:.2g} GB" for p in prices
        ]
        rows.append([f"`{rule}`", *cells])
    second = _table(("one job: FLOPs, time, memory, disk", *found), rows)
    return f"{first}\n\n{second}\n"


def page(text: str) -> str:
    """The page with fresh tables.

    Raises:
        ValueError: the page has no markers.
    """
    fresh, number = _MARKS.subn(lambda m: f"{m[1]}\n{tables()}\n{m[2]}", text)
    if number != 1:
        raise ValueError("docs/scaling.md needs the markers scaling:begin and scaling:end once each")
    return fresh


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
