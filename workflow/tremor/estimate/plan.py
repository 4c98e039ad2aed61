"""The jobs that Snakemake would run for some targets: its own plan, taken from the events of a dry run.

Run as a program of its own (``python -m tremor.estimate.plan``), because Snakemake changes the working directory, the
import path and the loggers of its process. Finished jobs are no part of the plan, as in a real run.
"""

import argparse
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tremor import errors
from tremor.errors import TremorError

_PLANNED = "tremor-plan "  # in front of the one line of the child's output that is the answer
_REFUSED = "tremor-plan-refused "  # in front of the one that says what is wrong with the targets


@dataclass(frozen=True)
class Job:
    """One job of a plan; those of `all`, `exp12` and their like stand for other files: no outputs, no cost."""

    rule: str
    wildcards: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    gpu: int  # of the resource gpu: 1 for what runs a model
    local: bool = False

    @property
    def model(self) -> str | None:
        """Alias of the model the job is about."""
        return self.wildcards.get("model")


def plan(
    targets: Sequence[str], *, home: Path, directory: Path, configfiles: Sequence[Path] = ()
) -> tuple[list[Job], list[str]]:
    """Ask Snakemake which jobs it would run.

    Args:
        targets: Files or rules; none takes every summary of the configuration.
        home: Folder of the workflow (the one with the Snakefile).
        directory: Folder the results are in.
        configfiles: As given to Snakemake.

    Returns:
        The jobs, none for what is finished already, and the targets.

    Raises:
        TremorError: Snakemake refuses; the message has the end of what it said.
    """
    command = [sys.executable, "-m", "tremor.estimate.plan", "--home", str(home), "--directory", str(directory)]
    for file in configfiles:
        command += ["--configfile", str(file)]
    done = subprocess.run([*command, "--", *targets], capture_output=True, text=True, check=False)
    answer = [line for line in done.stdout.splitlines() if line.startswith(_PLANNED)]
    refused = [line.removeprefix(_REFUSED) for line in done.stdout.splitlines() if line.startswith(_REFUSED)]
    if refused:
        raise TremorError(f"snakemake could not plan {' '.join(targets)}: {refused[-1]}")
    if done.returncode or not answer:
        said = "\n".join((done.stderr + done.stdout).strip().splitlines()[-12:])
        raise TremorError(f"snakemake could not plan {' '.join(targets) or 'the summaries'}:\n{said}")
    found = json.loads(answer[-1].removeprefix(_PLANNED))
    return [_job(entry) for entry in found["jobs"]], list(found["targets"])


def _job(entry: Mapping[str, Any]) -> Job:
    return Job(
        rule=entry["rule"],
        wildcards=dict(entry["wildcards"]),
        inputs=tuple(entry["inputs"]),
        outputs=tuple(entry["outputs"]),
        gpu=int(entry["gpu"]),
        local=bool(entry["local"]),
    )


def needed(jobs: Iterable[Job], target: str) -> list[Job]:
    """The jobs of a plan that one target needs, itself included.

    Args:
        jobs: The plan.
        target: A file or the name of a rule without wildcards.
    """
    found = list(jobs)
    makers = {path: job for job in found for path in job.outputs}
    pending = [job for job in found if target in job.outputs or job.rule == target]
    reached: dict[int, Job] = {}
    while pending:
        job = pending.pop()
        if id(job) not in reached:
            reached[id(job)] = job
            pending += [makers[path] for path in job.inputs if path in makers]
    return [job for job in found if id(job) in reached]


class _Events(logging.Handler):
    """Keeps the jobs that a dry run announces (the events of Snakemake's logger plugins)."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[int, Job] = {}

    def emit(self, record: logging.LogRecord) -> None:
        from snakemake_interface_logger_plugins.common import LogEvent

        if getattr(record, "event", None) != LogEvent.JOB_INFO:
            return
        said: Any = record
        gpu = said.resources.get("gpu", 0)
        self.jobs[said.jobid] = Job(
            rule=said.rule_name,
            wildcards={name: str(value) for name, value in dict(said.wildcards or {}).items()},
            inputs=tuple(str(path) for path in said.input),
            outputs=tuple(str(path) for path in said.output),
            # A resource that is only known later (from a manifest that is still to be made) is no number yet.
            gpu=int(gpu) if isinstance(gpu, int) else 0,
            local=bool(said.local),
        )


def _dry_run(options: argparse.Namespace) -> dict[str, Any]:
    """Snakemake's dry run in this process."""
    from snakemake.api import SnakemakeApi
    from snakemake.logging import logger
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

    events = _Events()
    settings = OutputSettings(dryrun=True, quiet={Quietness.PROGRESS, Quietness.HOST})
    with SnakemakeApi(settings) as api:
        logger.addHandler(events)
        flow = api.workflow(
            # As many as there may be: a plan must not shrink what a job asks for.
            resource_settings=ResourceSettings(cores=1024),
            config_settings=ConfigSettings(configfiles=[file.resolve() for file in options.configfile]),
            snakefile=options.home / "Snakefile",
            workdir=options.directory,
        )
        targets = options.targets or summaries(options)
        flow.dag(dag_settings=DAGSettings(targets=set(targets))).execute_workflow(executor="dryrun")
    return {"targets": targets, "jobs": [asdict(job) for job in events.jobs.values()]}


def _own_message(text: str) -> str | None:
    """The message of an error of ours within what Snakemake makes of it: its name and message, among much else."""
    found = re.findall(r"(?m)^\s*(\w+Error): (.+)$", text)
    return next((message for name, message in found if hasattr(errors, name)), None)


def summaries(options: argparse.Namespace) -> list[str]:
    """The summary of every experiment of the configuration."""
    from tremor.estimate.settings import graph

    found = graph(home=options.home, directory=options.directory, configfiles=options.configfile)
    return [path for path in found.targets() if path.endswith("/summary.csv")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the plan as one line of JSON; Snakemake's own words go wherever it sends them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--configfile", type=Path, action="append", default=[])
    from snakemake.exceptions import MissingRuleException, WorkflowError

    try:
        found = _dry_run(parser.parse_args(arguments))
    except WorkflowError as error:
        message = _own_message(str(error))
        if message is None:
            raise
        print(f"{_REFUSED}{message}")
        return 1
    except MissingRuleException as error:
        target = str(error).removeprefix("No rule to produce ").partition(" (")[0]
        print(
            f"{_REFUSED}nothing makes the target {target}; `snakemake --list` prints the names, docs/index.md the files"
        )
        return 1
    print(_PLANNED + json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
