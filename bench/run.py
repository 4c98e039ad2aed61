"""Run every instrument's bench, print the table, and write it into docs/performance.md."""

import argparse
import importlib
import logging
import os
import pkgutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python bench/run.py`

from bench import ROOT, instruments, report
from tremor import platform


def _modules(device: str, only: list[str]) -> list[Any]:
    names = [module.name for module in pkgutil.iter_modules(instruments.__path__)]
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise SystemExit(f"no instrument named {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    found = [importlib.import_module(f"bench.instruments.{name}") for name in names if not only or name in only]
    fitting = [module for module in found if device in getattr(module, "DEVICES", ("cpu", "cuda"))]
    return sorted(fitting, key=lambda module: int(module.ORDER))


def _section(device: str, only: list[str], threads: int, clock: str) -> tuple[str, bool]:
    """The text between the markers for one device, and whether every target was met."""
    import torch

    from bench import llama, timing
    from bench.context import Context

    context = Context(torch.device(device), llama.LLAMA_8B if device == "cuda" else llama.SMALL)
    before, rows = timing.load(), []
    for module in _modules(device, only):
        found = module.measure(context)
        print(report.table(found), flush=True)
        rows += found
    where = torch.cuda.get_device_name() if device == "cuda" else f"{report.processor()}, {os.cpu_count()} cores"
    about = (
        f"{where}; {threads} thread(s), {clock} clock, float32 without TF32; torch {torch.__version__}. "
        f"Model: random Llama, {context.shape.text()}. Load average {before:.1f} before and {timing.load():.1f} after. "
        "Times are the best of several runs, the median in brackets."
    )
    return f"\n{about}\n\n{report.table(rows)}\n", all(row.ok is not False for row in rows)


def main() -> None:
    """Entry point; exits with 1 where a target is missed and ``--strict`` was given."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="names of instruments; the page is then left alone")
    parser.add_argument("--device", choices=("cpu", "cuda"), nargs="*", help="default: cpu, and cuda if there is one")
    parser.add_argument("--strict", action="store_true", help="fail where a target is missed")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads within an operation")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu, with --threads 1, is for a machine that others are using",
    )
    options = parser.parse_args()
    if options.clock == "cpu" and options.threads != 1:
        parser.error("--clock cpu needs --threads 1: two threads that wait for each other burn time")
    logging.disable(logging.WARNING)
    # One call serves both devices: a GPU adds its own settings to the same threads.
    platform.apply(platform.Request(device="auto", threads=options.threads))
    import torch

    from bench import timing

    timing.use_clock(options.clock)

    devices = options.device or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    sections, met = {}, True
    for device in devices:
        sections[device], fine = _section(device, options.only, options.threads, options.clock)
        met &= fine
    if not options.only:
        report.write(ROOT / "docs" / "performance.md", sections)
    if options.strict and not met:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
