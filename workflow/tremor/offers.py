"""What this machine can offer of the platforms of a configuration, judged without loading torch.

Read at parse time by every Snakemake process. A platform on another machine (a SLURM partition or constraint) and one
whose recordings were imported are not judged here; a job judges its own machine again, and strictly.
"""

import os
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tremor.platform import CAPABILITIES, cpu_flags

WIDEST_FIRST = ("avx512", "avx2")  # what torch takes by itself: the first that the CPU has


def why_not(platform: Mapping[str, Any]) -> str | None:
    """Why this machine cannot be a platform.

    Args:
        platform: The platform's entry in the configuration, as plain values.

    Returns:
        The reason; None if it can, or if it is not for this machine to say.
    """
    if elsewhere(platform):
        return None
    if platform["device"] != "cpu":
        wanted, found = int(platform["device"].partition(":")[2] or 0), cuda_devices()
        return None if wanted < found else f"{platform['device']} is not here ({found} CUDA devices that torch can use)"
    asked = platform["environment"].get("ATEN_CPU_CAPABILITY", "default")
    missing = [flag for flag in CAPABILITIES.get(asked, ()) if flag not in cpu_flags()]
    return f"this CPU lacks {', '.join(missing)}" if missing else None


def elsewhere(platform: Mapping[str, Any]) -> bool:
    """Whether a platform's jobs run on machines that this one cannot speak for."""
    return bool(platform["imported"] or platform["slurm_partition"] or platform["constraint"])


def same_here(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two platforms are asked for in different words but are one arithmetic on this machine.

    That is so for an instruction set that the CPU's default is anyhow. Two entries with equal words are a control,
    and wanted.
    """
    if first == second or elsewhere(first) or elsewhere(second):
        return False
    return _effective(first) == _effective(second)


def _effective(platform: Mapping[str, Any]) -> dict[str, Any]:
    environment = dict(platform["environment"])
    environment.setdefault("ATEN_CPU_CAPABILITY", default_capability())
    return {**platform, "environment": environment}


def default_capability() -> str:
    """The instruction set that torch takes on this CPU when nothing is asked for."""
    flags = cpu_flags()
    return next((name for name in WIDEST_FIRST if all(flag in flags for flag in CAPABILITIES[name])), "default")


def cuda_devices() -> int:
    """Number of CUDA devices that torch would see: none with a build for the CPU alone."""
    try:
        if metadata.version("torch").endswith("+cpu"):
            return 0
    except metadata.PackageNotFoundError:
        return 0
    here = sum(bool(re.fullmatch(r"nvidia\d+", entry.name)) for entry in _devices())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return here
    return min(here, len([name for name in visible.split(",") if name.strip() and name.strip() != "-1"]))


def _devices() -> list[Path]:
    try:
        return list(Path("/dev").iterdir())
    except OSError:
        return []
