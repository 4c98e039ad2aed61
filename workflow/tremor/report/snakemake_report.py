"""Snakemake's own HTML report of some finished files, from inside a job."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tremor.errors import TremorError
from tremor.store.atomic import replacing


def write(output: Path, targets: Sequence[Path], *, snakefile: str, configfiles: Sequence[str], config: str) -> None:
    """Ask Snakemake for its report.

    Args:
        output: HTML file to write.
        targets: Finished files; the report has what is marked among them and what they were made of.
        snakefile: Of the workflow that runs.
        configfiles: As that run was given.
        config: What that run's ``--config`` was given, one ``key=value`` a line.

    Raises:
        TremorError: Snakemake refuses; the message has the end of what it said.
    """
    command = [sys.executable, "-m", "snakemake", *map(str, targets), "--snakefile", snakefile]
    for option, values in (("--configfile", list(configfiles)), ("--config", config.splitlines())):
        command += [option, *values] if values else []
    with replacing(output) as part:
        # The report's name says its format.
        page = part.with_name(f"{part.name}.html")
        done = subprocess.run([*command, "--report", str(page)], capture_output=True, text=True, check=False)
        if done.returncode or not page.is_file():
            said = "\n".join((done.stderr + done.stdout).strip().splitlines()[-12:])
            raise TremorError(f"snakemake could not write its report:\n{said}")
        page.replace(part)
