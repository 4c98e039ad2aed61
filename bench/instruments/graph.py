"""What the workflow costs before and after the science: planning the graph, and drawing a figure."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from bench import ROOT, timing
from bench.context import Context
from bench.report import Row, at_most
from tremor.store.tables import write_csv

ORDER = 40
DEVICES = ("cpu",)

# What Snakemake does with a script, without Snakemake: a fresh interpreter, the script's run, its files.
_FIGURE = """
import runpy, sys
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, "workflow")
folder = Path(sys.argv[1])
script = runpy.run_path("scripts/exp15_figures.py")
script["run"](
    SimpleNamespace(table=folder / "distances.csv"),
    SimpleNamespace(
        wildcards=SimpleNamespace(model="random", prompt="none", arithmetic="float64", variant="angles"),
        figures={"dpi": 200},
    ),
    SimpleNamespace(distances=[folder / "distances.png", folder / "distances.pdf"]),
)
assert (folder / "distances.png").stat().st_size > 0
"""


def _distances(folder: Path) -> None:
    """A table of exp15 with a thousand angles; the numbers are drawn, the columns are the real ones."""
    random = np.random.default_rng(0)
    size = 1000
    step = 1e-8 * random.uniform(1, 3, size)
    frame = pd.DataFrame(
        {
            "theta": np.linspace(0, 2 * np.pi, size, endpoint=False),
            "max_s": step,
            "min_t": step,
            "embedding_l2": step,
            "hidden_l2": 1e-6 * random.uniform(1, 3, size),
            "smooth_prediction_l2": 1e-8 * random.uniform(1, 3, size),
            "noise_floor_l2": np.full(size, 2e-6),
            "embedding_ulps": random.integers(1, 9, size),
        }
    )
    write_csv(folder / "distances.csv", frame, provenance={"code": "bench"})


def measure(context: Context) -> list[Row]:
    """Dry run of everything in an empty folder; one figure job."""
    with tempfile.TemporaryDirectory() as name:
        dry = [sys.executable, "-m", "snakemake", "-n", "--quiet", "all", "--cores", "2"]
        dry += ["--snakefile", str(ROOT / "Snakefile"), "--directory", name]
        planned, _ = timing.command(dry, str(ROOT), 5)
        imported = "import sys; sys.path.insert(0, 'workflow'); import tremor.graph"
        started, _ = timing.command([sys.executable, "-c", imported], str(ROOT), 5)
        _distances(Path(name))
        drawn, _ = timing.command([sys.executable, "-c", _FIGURE, name], str(ROOT), 5)
    return [
        Row("start of the library that the rules import, interpreter included", started.text()),
        at_most("parse and dry run of the whole graph", planned.best, 2.5, unit=" s", note=planned.text()),
        at_most("a figure job (exp15, 1000 angles, PNG and PDF)", drawn.best, 2, unit=" s", note=drawn.text()),
    ]
