"""How far `tremor estimate` is from what the demo's target then takes, the training of its model included."""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import ROOT
from bench.context import Context
from bench.report import Row, at_most
from tremor.estimate import report

ORDER = 90
DEVICES = ("cpu",)
TARGETS = ("results/exp15/summary.csv", "results/exp2/summary.csv")
CONFIG = "probe: {threads: 1}\nselect: {prompts: [capital]}\n"


def _spent() -> float:
    """Processor seconds of finished children, and of theirs: on a busy machine the clock on the wall says nothing."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _off(expected: float, found: float) -> float:
    return max(expected / found, found / expected)


def measure(context: Context) -> list[Row]:
    """Estimate in an empty folder, then run what was estimated."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "bench.yaml"
        config.write_text(CONFIG)
        found = report.estimate(TARGETS, home=ROOT, directory=folder, configfiles=[config])
        command = [sys.executable, "-m", "snakemake", *TARGETS, "--snakefile", str(ROOT / "Snakefile")]
        command += ["--directory", name, "--configfile", str(config), "--cores", "1", "--quiet", "all"]
        began = _spent()
        subprocess.run(command, check=True, capture_output=True)
        spent = _spent() - began
        written = sum(p.stat().st_size for top in ("results", "resources") for p in (folder / top).rglob("*.*"))
    cost = found.everything
    note = f"{cost.seconds:.0f} s told, {spent:.0f} processor seconds taken by {cost.jobs} jobs and Snakemake"
    return [
        at_most("estimate of two targets, times off in seconds", _off(cost.seconds, spent), 2, unit="×", note=note),
        at_most("estimate of two targets, times off in disk", _off(cost.disk, written), 2, unit="×",
                note=f"{cost.disk / 1e6:.1f} MB told, {written / 1e6:.1f} MB written"),
    ]  # fmt: skip
